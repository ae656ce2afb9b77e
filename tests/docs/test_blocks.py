"""Every block of every page is run; what cannot be run here says why, and is checked as far as it goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from avil_fast.config import from_settings
from tests.docs.blocks import LANGUAGES, PAGES, ROOT, Block, blocks, blocks_in
from tests.docs.commands import as_avil_fast, check, commands, config_of, run
from tests.speed import slow_but
from tests.tasks.made_up import encoder

DIGITS = ["tasks.train=20", "tasks.auxiliary_train=20", "tasks.dev=10", "tasks.test=10", "device=cpu"]
SHORT = ["rounds=1", "finetune.epochs=0", "overwrite=true"]
TINY_ENCODER = ["model.path=tiny", "model.max_length=16", "steps_per_task=1", "alpha.steps=1", "device=cpu"]

SMALL = {
    "configs/digits.yaml": [*DIGITS, *SHORT],
    "configs/paper.yaml": [*DIGITS, *SHORT],
    "tickets.yaml": [*TINY_ENCODER, *SHORT],
    None: [*DIGITS, *SHORT],  # no file: the bundled digits
}
"""Settings that come after those of a page, by the run's file, so that its commands take no minutes."""

NOT_RUN = {
    "CONTRIBUTING.md": "runs the tests, of which this is one, and benchmarks",
    "docs/examples/pairs.md": "needs the data of the sentiment example, and six minutes",
}
"""Pages of which all commands are only checked."""

TAKE_SETTINGS = ("train", "compare", "data")
"""Verbs whose runs are made small."""

ids: Any = lambda value: value.place if isinstance(value, Block) else str(value.relative_to(ROOT))  # noqa: E731


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a reader who has the checkout before them, but neither data nor runs."""
    for name in ("avil_fast", "benchmarks", "configs", "docs", "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    return tmp_path


@pytest.mark.filterwarnings("ignore:'pin_memory' argument:UserWarning")  # Trainer's, where there is no GPU
@pytest.mark.parametrize("page", slow_but(ROOT / "README.md", of=PAGES), ids=ids)
def test_the_blocks_of_a_page_run_one_after_the_other(page: Path, reader: Path) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks(page):
        if block.language == "yaml":
            write(block)
        if block.language == "python" and not block.checked:
            exec(compile(block.text, block.place, "exec", dont_inherit=True), names)
        if block.language == "sh":
            for command in commands(block.text):
                if not block.only_checked(command.text) and str(page.relative_to(ROOT)) not in NOT_RUN:
                    run(command, smaller(command.words))


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_the_blocks_of_a_page_are_what_programs_take(page: Path, reader: Path) -> None:
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{block.place}: nobody knows how to test {block.language!r}"
        if block.language == "python":
            compile(block.text, block.place, "exec", dont_inherit=True)
        if block.language == "yaml":
            assert from_settings(yaml.safe_load(block.text)).warnings() == [], block.place
            write(block)
        if block.language == "sh":
            for command in commands(block.text):
                write_heredoc(command.text)
                try:
                    check(command.words)
                except (Exception, SystemExit) as error:
                    pytest.fail(f"{block.place}: {command.text.strip()}\n{type(error).__name__}: {error}")


def test_a_mark_belongs_to_something() -> None:
    for page in PAGES:
        found = blocks(page)
        assert page.read_text(encoding="utf-8").count("<!-- checked") == sum(len(block.marks) for block in found)
        for block in found:
            for beginning in block.marks:
                assert not beginning or any(c.text.startswith(beginning) for c in commands(block.text)), (
                    block.place
                )
                assert block.language in ("sh", "python"), f"{block.place}: a {block.language} block is not run"


def write(block: Block) -> None:
    """A block of YAML whose first line is a comment with a file's name is that file on the reader's disk."""
    first = block.text.partition("\n")[0].removeprefix("# ")
    if first.endswith(".yaml") and " " not in first:
        Path(first).write_text(block.text, encoding="utf-8")


def write_heredoc(text: str) -> None:
    """What `cat > name.yaml <<'EOF'` writes, for the commands after it that are only checked."""
    first, _, rest = text.partition("\n")
    words = first.split()
    if words[:2] == ["cat", ">"] and words[2].endswith(".yaml"):
        Path(words[2]).write_text(rest.rstrip().rpartition("\n")[0], encoding="utf-8")


def smaller(words: list[str]) -> list[str]:
    """Settings that make the run of a command small."""
    arguments = as_avil_fast(words)
    if not arguments or arguments[0] not in TAKE_SETTINGS:
        return []
    more = SMALL[config_of(arguments)]
    if "model.path=tiny" in more and not Path("tiny").exists():
        encoder(Path("tiny"))
    return more


MISTAKES = {
    "a verb": "avil-fast trian configs/digits.yaml",
    "an option": "avil-fast train --resum auto",
    "a setting": "avil-fast train configs/digits.yaml alpha.rate=0.1",
    "a value": "avil-fast train rounds=0",
    "a file": "avil-fast train configs/digit.yaml",
    "DeepSpeed's file": "avil-fast train --deepspeed_config configs/zero9.json",
    "an option of deepspeed": "deepspeed --num_gpu_cards 8 avil_fast/train.py",
    "a setting after a launcher": "torchrun --nproc-per-node 8 avil_fast/train.py configs/digits.yaml round=10",
    "an option of torchrun": "torchrun --processes 8 avil_fast/train.py",
    "a target of make": "make trian",
    "a module": "python -m benchmarks.kernel",
    "a test": "python -m pytest tests/engine/test_rank.py",
    "an extra": "pip install 'avil-fast[txt]'",
    "a program": "avilfast train",
}


@pytest.mark.parametrize("line", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_a_command_is_found(line: str, reader: Path) -> None:
    (command,) = commands(line)
    with pytest.raises((Exception, SystemExit)):
        check(command.words)


@pytest.mark.parametrize("line", ["pip install torch", "make test", "deepspeed avil_fast/train.py"])
def test_what_is_not_for_this_machine_is_never_run(line: str, reader: Path) -> None:
    (command,) = commands(line)
    with pytest.raises(ValueError, match="is not run here"):
        run(command, [])


def test_a_page_is_taken_apart() -> None:
    page = """
<!-- checked: why -->
<!-- checked b: why b -->
```sh
a \\
  one   # a comment
python - <<'END'
b = "```"
END
# nothing
b two
```
1. item
   ```yaml
   x: 1
   ```
"""
    first, second = blocks_in(page, ROOT / "README.md")
    assert (first.language, first.line, first.marks) == ("sh", 4, {"": "why", "b": "why b"})
    assert [command.words for command in commands(first.text)] == [["a", "one"], ["python", "-"], ["b", "two"]]
    assert next(c for c in commands(first.text) if "-" in c.words).text.endswith("END\n")
    assert (second.language, second.text, second.checked) == ("yaml", "x: 1\n", False)
