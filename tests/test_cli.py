"""The command line as a user meets it: a good run, the schema, warnings."""

import importlib.metadata
import io
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from avil_fast import cli
from avil_fast.config import Config
from avil_fast.report.live import Live
from avil_fast.verbs.arguments import completions, split_arguments
from tests.speed import slow_but

CONFIGS = Path(__file__).parents[1] / "configs"

TINY = [
    "rounds=1",
    "finetune.epochs=0",
    "tasks.train=20",
    "tasks.auxiliary_train=20",
    "tasks.dev=10",
    "tasks.test=10",
    "device=cpu",
]
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "WORLD_SIZE"} | {"OMP_NUM_THREADS": "1"}


def started(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", *arguments]
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=60)


def verb(monkeypatch: pytest.MonkeyPatch, main: Callable[[], None], *arguments: str) -> int:
    """The exit code of a command, run in this process."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr("warnings.showwarning", None)  # main() sets it; this restores it
    monkeypatch.setattr(sys, "argv", ["avil-fast", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_train_ends_with_the_results_and_where_the_report_lies(tmp_path: Path) -> None:
    run = started(tmp_path, "-m", "avil_fast.train", *TINY)
    assert (run.returncode, run.stderr) == (0, "")
    assert "report: runs/digits/report.html" in run.stdout
    assert "single: 1 round of about " in run.stdout
    assert "avil: round 1 of 1, dev loss " in run.stdout
    for word in ("avil", "single", "upper_left", "random_labels", "deltas", "memory beyond training: "):
        assert word in run.stdout
    summary = json.loads((tmp_path / "runs/digits/summary.json").read_text(encoding="utf-8"))
    assert list(summary["baselines"]) == ["single"]  # one round, in which α is learned


def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    run = started(tmp_path, "-m", "avil_fast.train", "rounds=0")
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("avil-fast: ")
    assert len(run.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_schema_prints_the_schema_as_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verb(monkeypatch, cli.main, "schema") == 0
    assert json.loads(capsys.readouterr().out) == Config.model_json_schema()


def test_train_takes_a_file_and_overrides_in_this_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text("{rounds: 3, seed: 5, output_dir: out, baselines: []}", encoding="utf-8")
    assert verb(monkeypatch, cli.main, "train", "run.yaml", *TINY) == 0
    summary = json.loads(Path("out/summary.json").read_text(encoding="utf-8"))
    assert (summary["rounds"], summary["seed"], summary["baselines"]) == (1, 5, {})
    assert "report: out/report.html" in capsys.readouterr().out


def test_a_file_whose_path_looks_like_a_setting_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As folders of runs are called after what differs between them."""
    monkeypatch.chdir(tmp_path)
    Path("lr=0.1").mkdir()
    Path("lr=0.1/run.yaml").write_text("rounds: 3", encoding="utf-8")
    assert split_arguments(["lr=0.1/run.yaml", "rounds=4"]) == (Path("lr=0.1/run.yaml"), ["rounds=4"])
    assert split_arguments(["rounds=4"]) == (None, ["rounds=4"])
    assert verb(monkeypatch, cli.main, "compare", "lr=0.1/run.yaml", "rounds=4") == 2
    assert "compare needs two configs or more, but was given 1" in capsys.readouterr().err


@pytest.mark.filterwarnings("default")
def test_a_combination_known_to_fail_is_one_line_on_stderr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert verb(monkeypatch, cli.train_main, *TINY, "weights.rule=additive", "alpha.init=1/n", "baselines=[]") == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("avil-fast: warning: alpha.init: 1/n")


COMMAND = typer.main.get_command(cli.app)
VERBS = sorted(COMMAND.commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("arguments", [["--help"], *([verb, "--help"] for verb in VERBS)])
def test_help_is_there_for_every_verb(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verb(monkeypatch, cli.main, *arguments) == 0
    assert "Usage" in capsys.readouterr().out


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_letters_that_a_locale_does_not_have_are_replaced(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = io.TextIOWrapper(io.BytesIO(), encoding), io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    assert verb(monkeypatch, cli.main, "--help") == 0
    out.seek(0)
    assert "weighted by a learned ? (?VIL)" in " ".join(out.read().split())
    assert verb(monkeypatch, cli.main, "train", "target=αVIL", *TINY) == 2
    err.seek(0)
    assert err.read().startswith("avil-fast: target is '?VIL'")


def test_the_version_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert verb(monkeypatch, cli.main, "--version") == 0
    assert capsys.readouterr().out.strip() == importlib.metadata.version("avil-fast")


def test_help_needs_nothing_that_takes_long_to_import() -> None:
    slow = {"torch", "transformers", "deepspeed", "pydantic", "rich.progress"}
    code = f"import sys, avil_fast.cli; print(*{slow} & sys.modules.keys())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.split() == []


def examples() -> list[list[str]]:
    """The commands that the verbs' help gives as examples."""
    found = []
    for name in (name for name in VERBS if name not in ("prepare", "data")):
        text = COMMAND.commands[name].help or ""  # type: ignore[attr-defined]
        lines = [line for line in text.splitlines() if line.startswith("Example: avil-fast ")]
        assert lines, name
        found += [shlex.split(line.removeprefix("Example: avil-fast ")) for line in lines]
    return found


@pytest.mark.xdist_group("the examples of verbs")  # which share a run
@pytest.mark.parametrize(
    "arguments",
    slow_but(*(own for own in examples() if own[0] != "compare"), of=examples()),
    ids=" ".join,
)
def test_the_example_of_a_verb_works(
    arguments: list[str], finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a folder with the project's configs and a finished run in runs/digits."""
    monkeypatch.chdir(finished)
    name, *_ = arguments = list(arguments)
    if name in ("train", "compare"):  # smaller, and train beside the run that is there
        arguments += [*TINY, "baselines=[]"]
        arguments += ["output_dir=runs/other", "overwrite=true"] if name == "train" else []
    assert verb(monkeypatch, cli.main, *arguments) == 0
    assert capsys.readouterr().out


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where `avil-fast train` has been run."""
    folder = tmp_path_factory.mktemp("finished")
    shutil.copytree(CONFIGS, folder / "configs")
    run = started(folder, "-m", "avil_fast.train", *TINY, "task_vectors=true")
    assert run.returncode == 0, run.stderr
    return folder


def test_json_is_a_line_for_each_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert verb(monkeypatch, cli.main, "train", *TINY, "rounds=2", "baselines=[]", "--json") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["round", "round", "result"]
    assert events[-1]["summary"]["rounds"] == 2
    assert events[-1]["output_dir"] == "runs/digits"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="for Linux")
@pytest.mark.parametrize("format_", [[], ["--json"]], ids=["for people", "as JSON"])
def test_a_run_goes_on_where_stdout_cannot_be_written(format_: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "avil_fast.train", *TINY, "rounds=2", "baselines=[]", *format_]
    with open("/dev/full", "w", encoding="utf-8") as full:
        run = subprocess.run(
            command, cwd=tmp_path, env=ENVIRONMENT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    said = "stdout cannot be written: No space left on device; the run goes on without it"
    assert (run.returncode, run.stderr) == (0, f"avil-fast: warning: {said}\n")
    assert (tmp_path / "runs/digits/summary.json").is_file()


def test_a_run_goes_on_where_nobody_reads_any_more(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "avil_fast.train", *TINY, "rounds=2", "baselines=[]", "--json"]
    reads, writes = os.pipe()
    os.close(reads)
    with open(writes, "w", encoding="utf-8") as pipe:  # stderr, too: 2>&1 | head
        run = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, stdout=pipe, stderr=pipe, timeout=60)
    assert run.returncode == 0
    assert (tmp_path / "runs/digits/summary.json").is_file()


def test_a_finished_run_is_not_run_again(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(finished)
    before = Path("runs/digits/summary.json").stat().st_mtime_ns
    again = ["train", *TINY, "task_vectors=true", "--resume", "auto"]
    assert verb(monkeypatch, cli.main, *again) == 0
    assert "runs/digits is finished, and its report is runs/digits/report.html; rounds=" in capsys.readouterr().out
    assert verb(monkeypatch, cli.main, *again, "--json") == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["event"] == "result"
    assert Path("runs/digits/summary.json").stat().st_mtime_ns == before


def test_rounds_are_written_for_tensorboard(finished: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(finished / "runs/digits/tensorboard"))
    board.Reload()
    row = json.loads((finished / "runs/digits/metrics.jsonl").read_text(encoding="utf-8").splitlines()[0])
    (written,) = board.Scalars("alpha/lower_right")
    assert (written.step, written.value) == (1, pytest.approx(row["alpha"]["lower_right"]))
    assert {"dev_loss", "test_metric", "benefit/lower_right"} <= set(board.Tags()["scalars"])


@pytest.mark.slow
def test_watching_serves_the_report_while_the_run_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "avil_fast.train", *TINY, "rounds=40", "baselines=[]", "--watch"]
    with subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        address = next(line for line in run.stdout if "report of this run" in line).split()[-1]
        with urllib.request.urlopen(address, timeout=20) as page:
            text = page.read().decode()
        assert run.wait(60) == 0
    assert address.startswith("http://127.0.0.1:")
    assert "upper_left" in text


def test_whoever_watches_is_told_of_the_baseline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Live, "says_before", lambda live, sentence: said.append(sentence))
    assert verb(monkeypatch, cli.main, "train", *TINY, "--watch") == 0
    first = "The baseline single trains first: "
    assert said == [f"{first}round 1 of 1.", f"{first}its last round is done.", ""]


def test_the_page_is_served_at_the_port_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert verb(monkeypatch, cli.main, "train", *TINY, "--watch-port", str(port)) == 2
        assert f"port {port} of 127.0.0.1 cannot be served: Address already in use" in capsys.readouterr().err
    assert verb(monkeypatch, cli.main, "train", *TINY, "baselines=[]", "--watch-port", str(port)) == 0
    assert f"the report of this run: http://127.0.0.1:{port}/" in capsys.readouterr().out


def test_comparing_again_trains_nothing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, lr in (("slow", 0.1), ("fast", 0.3)):
        Path(f"{name}.yaml").write_text(f"{{baselines: [], alpha: {{lr: {lr}}}}}", encoding="utf-8")
    arguments = ["compare", "slow.yaml", "fast.yaml", *TINY, "--to", "both", "--json"]
    assert verb(monkeypatch, cli.main, *arguments) == 0
    first = json.loads(capsys.readouterr().out)
    assert list(first["runs"]) == ["slow", "fast"]
    assert Path(first["report"]).is_file()
    shutil.rmtree("both/fast")
    assert verb(monkeypatch, cli.main, *arguments) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["runs"]["slow"] == first["runs"]["slow"]  # seconds included
    assert again["runs"]["fast"]["seconds"] != first["runs"]["fast"]["seconds"]
    assert again["runs"]["fast"]["dev_loss"] == first["runs"]["fast"]["dev_loss"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "a.yaml"], "compare needs two configs or more, but was given 1; name another, or --methods"),
        (
            ["compare", "a.yaml", "b/a.yaml"],
            "two configs are named 'a', and so would their folders be",
        ),
        (["compare", "a.yaml", "b.yaml", "output_dir=x"], "output_dir is set, but each run gets a folder in --to"),
        (["compare", "a.yaml", "b.yaml", "--seeds", "3"], "--seeds is of methods, and a config has one run"),
        (["compare", "a.yaml", "b.yaml", "--jobs", "2"], "--jobs is of methods"),
        (["plan", "--gpu", "h900"], "--gpu is 'h900', but must be a100, h100, h200 or cpu"),
        (["evaluate", "nowhere"], "'nowhere' is no run: it has no config.yaml; name a run's folder"),
        (["report", "nowhere"], "'nowhere' is no run"),
        (["export", "nowhere"], "nowhere"),
        (["data"], "the default has tasks on images, but this command looks at texts; name another config"),
        (["train", "log.wandb=mine"], "log.wandb is 'mine', but the package wandb is missing; install it with"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert verb(monkeypatch, cli.main, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["train", "--rounds", "3"], "No such option: --rounds; settings are written rounds=3"),
        (["plan", "--alpha.lr=0.1"], "No such option: --alpha.lr; settings are written alpha.lr=0.1"),
        (["train", "--batch-size"], "No such option: --batch-size; settings are written batch_size=VALUE"),
        (["compare", "a.yaml", "--seed", "--json"], "; settings are written seed=VALUE"),
        (["inspect", "run", "--rounds", "3"], "No such option: --rounds"),
    ],
)
def test_a_setting_that_is_written_as_an_option_is_told_how(
    arguments: list[str], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert verb(monkeypatch, cli.main, *arguments) == 2
    said = capsys.readouterr().err
    assert told in said
    assert ("settings are written" in said) == ("settings are written" in told)


def test_a_model_is_measured_as_the_run_measured_it(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(finished)
    assert verb(monkeypatch, cli.main, "evaluate", "runs/digits", "device=cpu", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    summary = json.loads(Path("runs/digits/summary.json").read_text(encoding="utf-8"))
    for split in ("dev", "test"):
        assert found[split]["metric"] == summary[f"{split}_metric"]
        assert found[split]["loss"] == pytest.approx(summary[f"{split}_loss"], rel=1e-6)


@pytest.mark.parametrize("incomplete", ["alpha.", "runs"])
def test_the_shell_completes_settings_and_files(
    incomplete: str, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    found = completions(incomplete)
    assert ("alpha.lr=" in found) == (incomplete == "alpha.")
    assert ("runs/" in found) == (incomplete == "runs")
