"""Files from somebody else: nothing in them is run, and no name in them leads out of their folder."""

from __future__ import annotations

import ast
import io
import json
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import avil_fast
from avil_fast import config, exporting
from avil_fast.checkpoint.folder import Folder
from avil_fast.checkpoint.inspect import inspect
from avil_fast.checkpoint.manifest import NAME, Manifest, _text
from avil_fast.config.model import EncoderConfig
from avil_fast.errors import AvilError
from avil_fast.names import is_plain
from avil_fast.report import run as finished
from avil_fast.tasks import idx
from avil_fast.tasks.text import loading
from tests.checkpoint.runs import EVERY_POINT, fit
from tests.tasks import made_up

ROOT = Path(avil_fast.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))
RUNS_CODE = {
    "eval", "exec", "compile", "__import__",
    "torch.load", "torch.save", "np.load", "np.fromfile", "yaml.load", "yaml.full_load", "yaml.unsafe_load",
    "os.system", "os.popen", "shutil.unpack_archive",
}  # fmt: skip
UNSAFE_METHODS = {"extractall", "read_pickle", "to_pickle"}
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_source_reads_what_can_run_code(path: Path) -> None:
    """Between ranks torch pickles small objects; what lies on a disk is JSON, YAML and safetensors."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            assert not {name.split(".")[0] for name in names} & PICKLES
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in RUNS_CODE
            assert getattr(node.func, "attr", None) not in UNSAFE_METHODS
            for given in node.keywords:
                value = getattr(given.value, "value", None)
                assert (given.arg, value) not in {("shell", True), ("allow_pickle", True), ("weights_only", False)}
                assert given.arg != "trust_remote_code" or value is False


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """What a bomb would leave."""
    return tmp_path / "it was run"


FORMS: dict[str, Callable[[Any], bytes]] = {
    "pickle": pickle.dumps,
    "torch": lambda bomb: written(lambda file: torch.save({"weight": bomb}, file)),
    "numpy": lambda bomb: written(lambda file: np.save(file, np.array([bomb], dtype=object), allow_pickle=True)),
}


def written(write: Callable[[io.BytesIO], None]) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


@pytest.mark.parametrize("form", FORMS)
def test_the_bombs_go_off_where_pickles_are_read(form: str, mark: Path) -> None:
    content = FORMS[form](Bomb(mark))
    match form:
        case "pickle":
            pickle.loads(content)
        case "torch":
            torch.load(io.BytesIO(content), weights_only=False)
        case "numpy":
            np.load(io.BytesIO(content), allow_pickle=True)
    assert mark.is_dir()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    fit(folder, **EVERY_POINT | {"checkpoints.keep": 2}, rounds=1)
    return folder


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "name", [NAME, "own-00000.safetensors", "rank-00000.safetensors", "best-00000.safetensors"]
)
def test_no_file_of_a_checkpoint_is_unpickled(name: str, form: str, whole: Path, mark: Path) -> None:
    """Even where the manifest says that it is what was written."""
    newest = Folder(whole / "checkpoints").all()[-1]
    place = mark.parent / newest.name
    place.mkdir()
    for path in newest.iterdir():
        (place / path.name).write_bytes(path.read_bytes())
    (place / name).write_bytes(FORMS[form](Bomb(mark)))
    with pytest.raises(AvilError):
        fit(None, resume=place, rounds=1)
    assert not mark.exists()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["config.yaml", "summary.json", "metrics.jsonl"])
def test_no_file_of_a_run_is_unpickled(name: str, form: str, whole: Path, mark: Path) -> None:
    place = mark.parent / "run"
    place.mkdir()
    for path in whole.glob("*.*"):
        (place / path.name).write_bytes(path.read_bytes())
    (place / name).write_bytes(FORMS[form](Bomb(mark)))
    with pytest.raises(AvilError):
        finished.read(place)
    assert not mark.exists()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "config.json", "tokenizer.json"])
def test_no_file_of_a_model_is_unpickled(name: str, form: str, mark: Path) -> None:
    """Of a file of torch's, which is a pickle, nothing but tensors is made."""
    folder = made_up.encoder(mark.parent / "model")
    if name == "pytorch_model.bin":
        (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(FORMS[form](Bomb(mark)))
    given = EncoderConfig(path=str(folder), max_length=16)
    with pytest.raises(AvilError, match=r"^model\.path is"):
        loading.load_encoder(given, loading.load_tokenizer(given), ["a", "b"], 2, 0)
    assert not mark.exists()


@pytest.mark.parametrize("form", FORMS)
def test_no_idx_file_is_unpickled(form: str, mark: Path) -> None:
    path = mark.parent / "train-images-idx3-ubyte"
    path.write_bytes(FORMS[form](Bomb(mark)))
    with pytest.raises(AvilError, match="begins with bytes"):
        idx.read_idx(path, 3)
    assert not mark.exists()


PYTHON = "!!python/object/apply:os.mkdir ['{mark}']"


def test_yaml_makes_no_objects(mark: Path, whole: Path) -> None:
    text = PYTHON.format(mark=mark)
    path = mark.parent / "run.yaml"
    path.write_text(f"rounds: {text}\n", encoding="utf-8")
    with pytest.raises(AvilError, match="is not valid YAML"):
        config.load(path)
    with pytest.raises(AvilError, match="is not valid YAML"):
        config.load(None, [f"rounds={text}"])
    place = mark.parent / "run"
    place.mkdir()
    for own in whole.glob("*.*"):
        (place / own.name).write_bytes(own.read_bytes())
    (place / "config.yaml").write_text(f"rounds: {text}\n", encoding="utf-8")
    with pytest.raises(AvilError, match="is damaged"):
        finished.read(place)
    assert not mark.exists()


OUTSIDE = ["../stranger", "/etc/hostname", "sub/../../stranger", "..", "", "a\\..\\b", "x\0y"]


@pytest.mark.parametrize("name", [*OUTSIDE, None, 3])
def test_what_is_no_plain_name(name: object) -> None:
    assert not is_plain(name)
    assert is_plain("rank-00000.safetensors")


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_manifest_that_leads_out_of_its_folder_is_refused(name: str, whole: Path, tmp_path: Path) -> None:
    newest = Folder(whole / "checkpoints").all()[-1]
    content = json.loads((newest / NAME).read_text(encoding="utf-8"))
    del content["checksum"]
    content["files"][name] = {"nbytes": 1, "checksums": [0]}
    (tmp_path / NAME).write_text(_text(content), encoding="utf-8")  # whoever writes names can sum them up, too
    with pytest.raises(AvilError, match="which is not within its folder; do not use it"):
        Manifest.read(tmp_path)
    with pytest.raises(AvilError, match="which is not within its folder; do not use it"):
        inspect(tmp_path)


@pytest.mark.parametrize(
    "content", [{"format": 1}, {"format": 1, "files": []}, {"format": 1, "files": {"a": {}}}, {}]
)
def test_a_manifest_of_another_form_is_a_sentence(content: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(_text(content), encoding="utf-8")
    with pytest.raises(AvilError, match=r"is damaged: |was written by avil_fast"):
        Manifest.read(tmp_path)


@pytest.mark.parametrize("index", ["model.safetensors.index.json", "pytorch_model.bin.index.json"])
@pytest.mark.parametrize("name", ["../stranger.safetensors", "/tmp/stranger.safetensors"])
def test_an_index_of_weights_that_leads_out_of_its_folder_is_refused(
    index: str, name: str, tmp_path: Path
) -> None:
    folder = made_up.encoder(tmp_path / "model")
    (folder / "model.safetensors").rename(tmp_path / "stranger.safetensors")
    (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": {"a": name}}), encoding="utf-8")
    given = EncoderConfig(path=str(folder), max_length=16)
    with pytest.raises(AvilError, match="which is not within the folder; do not use it"):
        loading.load_encoder(given, loading.load_tokenizer(given), ["a", "b"], 2, 0)
    if index.startswith("model"):
        with pytest.raises(AvilError, match="which is not within its folder; do not use it"):
            exporting._require_whole(folder)


def test_an_archive_is_read_in_memory_and_written_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from avil_fast.tasks.prepare import sentiment

    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        member = tarfile.TarInfo("../stranger")
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))
    archive = tmp_path / "vaderSentiment-3.3.2.tar.gz"
    archive.write_bytes(file.getvalue())
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    with pytest.raises(AvilError):
        sentiment.prepare(archive, tmp_path / "in" / "to")
    assert not (tmp_path / "stranger").exists()
