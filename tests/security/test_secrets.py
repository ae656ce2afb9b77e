"""What the environment's variables hold gets nowhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_cli import TINY

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("secrets")]

SECRETS = {
    name: f"SECRET-{number}-DO-NOT-TELL"
    for number, name in enumerate(
        ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
         "AWS_SESSION_TOKEN", "GITHUB_TOKEN", "OPENAI_API_KEY", "MY_OWN_PASSWORD"]
    )
}  # fmt: skip


def told(folder: Path, *arguments: str, code: int = 0) -> str:
    """What the command says to stdout and stderr."""
    environment = {k: v for k, v in os.environ.items() if k != "WORLD_SIZE"} | SECRETS
    command = [sys.executable, "-m", "avil_fast.cli", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder in which a run was trained and exported, and all that the commands said."""
    folder = tmp_path_factory.mktemp("ran")
    said = told(folder, "train", *TINY, "checkpoints.minutes=0", "task_vectors=true", "baselines=[]")
    said += told(folder, "export", "runs/digits")
    said += told(folder, "inspect", "runs/digits")
    said += told(folder, "train", *TINY, "rounds=none", code=2)
    return folder, said + told(folder, "env")


def test_commands_do_not_tell_secrets(ran: tuple[Path, str]) -> None:
    _, said = ran
    assert "report: " in said
    assert "torch" in said
    assert "SECRET-" not in said
    assert not [name for name in SECRETS if name in said]


def test_no_file_holds_a_secret(ran: tuple[Path, str]) -> None:
    folder, _ = ran
    files = [path for path in folder.rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert {"config.yaml", "report.html", "summary.json", "manifest.json", "README.md"} <= names
    for path in files:
        content = path.read_bytes()
        assert b"SECRET-" not in content, path
        assert not [name for name in SECRETS if name.encode() in content], path
