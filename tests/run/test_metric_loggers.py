"""What logs a run's rounds elsewhere: it must not end the run."""

import shutil
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

from avil_fast.run.metric_loggers import TensorBoard

pytest.importorskip("tensorboard")

ROW: dict[str, Any] = {"dev_loss": 0.5, "dev_metric": None, "test_loss": None, "test_metric": None}


def test_a_board_whose_folder_cannot_be_made_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    board = TensorBoard(tmp_path / "file" / "tensorboard")
    with pytest.warns(UserWarning, match=r"cannot be written: Not a directory; training goes on"):
        board.round(ROW | {"round": 1})
    board.round(ROW | {"round": 2})  # another warning would be an error
    board.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of the writer's own thread
def test_a_board_that_fails_later_is_told_once_and_leaves_no_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    board = TensorBoard(tmp_path / "tensorboard")
    board.round(ROW | {"round": 1})
    shutil.rmtree(tmp_path / "tensorboard")
    with pytest.warns(UserWarning, match=r"cannot be written: .*; training goes on without TensorBoard"):
        board.round(ROW | {"round": 2})
    board.round(ROW | {"round": 3})
    board.close()
    assert threading.active_count() == before


def test_a_board_that_fails_at_the_end_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = TensorBoard(tmp_path / "tensorboard")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        board.round(ROW | {"round": 1})
    with monkeypatch.context() as patch:
        patch.setattr("torch.utils.tensorboard.SummaryWriter.close", lambda self: 1 / 0)
        with pytest.warns(UserWarning, match="training goes on without TensorBoard"):
            board.close()
