"""Under ZeRO stage 3 a model of transformers is never whole on one rank."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import BertModel

from tests.tasks import made_up

pytest.importorskip("deepspeed", reason="the extra zero is not installed")


@pytest.mark.slow
def test_two_ranks_load_half_of_a_model_each(tmp_path: Path) -> None:
    made_up.encoder(tmp_path / "encoder")
    made_up.causal_lm(tmp_path / "causal_lm")
    made_up.encoder(tmp_path / "no_pooler")
    BertModel.from_pretrained(tmp_path / "encoder", add_pooling_layer=False).save_pretrained(
        tmp_path / "no_pooler"
    )
    for seed, name in enumerate(("news", "tweets")):
        made_up.task(tmp_path / name, seed=seed)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run = subprocess.run(
        [sys.executable, *launcher, "-m", "tests.tasks.zero3_load", str(tmp_path)],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert run.returncode == 0, run.stderr[-3000:]
