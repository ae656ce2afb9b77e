"""What a launcher leaves in the environment, where it is not what a launcher leaves."""

import pytest
import torch

from avil_fast.engine.process_group import joined_ranks, local_device
from avil_fast.errors import AvilError

LAUNCHER = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LAUNCHER:
        monkeypatch.delenv(name, raising=False)


def join() -> None:
    with joined_ranks(torch.device("cpu"), 5.0):
        pass


@pytest.mark.parametrize("size", ["", "0", "-1", "two", "2.0"])
def test_a_world_size_that_is_no_number_of_ranks_is_refused(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(AvilError, match=f"WORLD_SIZE is {size!r}, but must be a whole number from 1 on; start"):
        join()


def test_a_local_rank_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "")
    with pytest.raises(AvilError, match="LOCAL_RANK is '', but must be"):
        local_device(torch.device("cuda"))


def test_ranks_that_have_nowhere_to_meet_do_not_train_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(AvilError, match="WORLD_SIZE is 4, but MASTER_ADDR, MASTER_PORT is not set, so"):
        join()
