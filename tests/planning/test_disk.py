"""A plan says what a run's checkpoints take on the disk."""

from pathlib import Path

import pytest

from avil_fast.config import load
from avil_fast.planning.plan import plan
from avil_fast.run import launch

DIGITS = Path(__file__).parents[2] / "configs" / "digits.yaml"
SHORT = ["rounds=2", "steps_per_task=2", "alpha.steps=2", "baselines=[]", "log.tensorboard=false"]
AT_EVERY_POINT = ["checkpoints.minutes=0", "checkpoints.background=false", "checkpoints.keep=500"]


@pytest.mark.parametrize(
    "settings",
    [
        ["alpha.rounds=null"],
        ["alpha.rounds=null", "deltas.dtype=int8", "optimizer.moments=reset"],
        ["rounds=3", "alpha.rounds=2"],
        ["method=single"],
        ["alpha.rounds=null", "optimizer.name=sgd", "optimizer.momentum=0.0", "alpha.target_head=scaled"],
    ],
    ids=" ".join,
)
def test_the_largest_checkpoint_is_as_planned(settings: list[str], tmp_path: Path) -> None:
    given = [*SHORT, *AT_EVERY_POINT, *settings, "finetune.epochs=1", f"output_dir={tmp_path / 'run'}"]
    launch.train(DIGITS, given, None, None)
    found = plan(load(DIGITS, given), 1, None, None).disk
    sizes = [
        sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        for folder in (tmp_path / "run" / "checkpoints").iterdir()
    ]
    assert 0.92 * found.checkpoint < max(sizes) <= found.checkpoint


@pytest.mark.parametrize(("epochs", "minutes", "number"), [(2, 5, 5), (0, 5, 4), (2, "null", 4)])
def test_so_many_are_there_at_a_time(epochs: int, minutes: object, number: int) -> None:
    given = ["checkpoints.keep=3", f"finetune.epochs={epochs}", f"checkpoints.minutes={minutes}"]
    found = plan(load(DIGITS, given), 1, None, None).disk
    assert found.number == number
    assert found.nbytes == number * found.checkpoint
