"""Files of settings that are no good YAML, or YAML that no run needs, and settings on the command line."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import yaml
from hypothesis import strategies as st

from avil_fast.config import Config, load
from avil_fast.config.settings import known_names
from tests.fuzz.conftest import Cases
from tests.fuzz.damage import damaged
from tests.fuzz.ending import command, contents, ends
from tests.fuzz.settings_values import ODD, TEXTS
from tests.fuzz.test_settings import tried, used
from tests.test_config import CONFIGS

NINE = "{0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}"
LISTS = "x0: &x0 lol\n" + "\n".join(f"x{n + 1}: &x{n + 1} [{NINE.format(f'*x{n}')}]" for n in range(12))
MAPS = "x0: &x0 lol\n" + "\n".join(f"x{n + 1}: &x{n + 1} {{a: *x{n}, b: *x{n}}}" for n in range(40))
MERGES = "x0: &x0 {k: 1}\n" + "\n".join(
    f"x{n + 1}: &x{n + 1} {{<<: [{NINE.format(f'*x{n}')}]}}" for n in range(30)
)
TEXTS_OF_FILES: dict[str, bytes] = {
    name: text.encode("utf-8", "surrogatepass")
    for name, text in {
        "empty": "",
        "blank": "\n \n",
        "comment": "# rounds: 1",
        "byte order mark": "\ufeffrounds: 1",
        "two byte order marks": "\ufeff\ufeffrounds: 1",
        "tab": "alpha:\n\tlr: 1",
        "carriage returns": "rounds: 1\rseed: 2",
        "next line": "rounds: 1\x85seed: 2",
        "NUL": "rounds: 1\0",
        "escape": "target: \x1b[2J",
        "half a pair": 'target: "\\ud800"',
        "half a pair as a path": 'output_dir: "\\ud800"',
        "half a pair as a key": '"\\ud800": 1',
        "line break in a key": '"a\\nb": 1',
        "same key twice": "rounds: 1\nrounds: 2",
        "same key twice within": "alpha: {lr: 1, lr: 2}",
        "anchor": "optimizer: &o {lr: 0.1}\nalpha: *o",
        "merge": "alpha: &a {lr: 0.1}\nweights: {<<: *a, rule: off}",
        "merge of nothing": "alpha: {<<: 3}",
        "unknown alias": "alpha: *a",
        "alias of itself": "alpha: &a {lr: *a}",
        "options of themselves": "options: &a {x: *a}",
        "tasks of themselves": "tasks: &a {a: *a}",
        "preset and a section of itself": "preset: paper\noptimizer: &a {lr: 1, optimizer: *a}\nalpha: &b [*b]",
        "itself": "&a {alpha: *a}",
        "lists in lists": LISTS,
        "lists in lists as a value": f"{LISTS}\nrounds: *x12",
        "maps in maps": f"{MAPS}\ntarget: *x40",
        "maps in maps under a section": f"{MAPS}\noptimizer: *x40",
        "maps in maps as options": f"{MAPS}\noptions: *x40",
        "maps in maps as tasks": f"{MAPS}\ntasks: *x40",
        "merges of merges": f"{MERGES}\nalpha: *x30",
        "object": "target: !!python/object/apply:os.system ['touch hacked']",
        "name": "target: !!python/name:os.system",
        "new": "!!python/object/new:os.system [touch hacked]",
        "tuple": "alpha: {bounds: !!python/tuple [0, 1]}",
        "unknown tag": "target: !mine x",
        "set": "baselines: !!set {avil}",
        "ordered": "tasks: !!omap [a: 1]",
        "pairs": "options: !!pairs [a: 1]",
        "binary": "target: !!binary aGVsbG8=",
        "bad binary": "target: !!binary ä",
        "bad number": "rounds: !!int many",
        "bad float": "sample_ratio: !!float some",
        "bad boolean": "overwrite: !!bool maybe",
        "bad date": "target: 2020-13-45",
        "bad time": "target: 2020-01-01T99:99:99Z",
        "time zone": "target: 2020-01-01T01:01:01+99:99",
        "no null": "target: !!null x",
        "date": "seed: 2020-01-01",
        "of sixty": "rounds: 1:30",
        "octal": "rounds: 010",
        "bad octal": "rounds: 0o9",
        "long hexadecimal": f"rounds: 0x{'f' * 5000}",
        "long binary": f"rounds: 0b{'1' * 99_999}",
        "long number": f"rounds: {'9' * 5000}",
        "long of sixty": f"rounds: {':'.join(['59'] * 3000)}",
        "large exponent": "optimizer: {lr: 1.0e+999}",
        "no number": "optimizer: {lr: .nan}",
        "key of a list": "[a, b]: 1",
        "key of a map": "{a: 1}: 1",
        "key without a value": "? rounds",
        "key of no text": "1: 1\nnull: 2\ntrue: 3",
        "two documents": "rounds: 1\n---\nrounds: 2",
        "end of a document": "rounds: 1\n...\nseed: 2",
        "directive": "%YAML 9.9\n---\nrounds: 1",
        "unknown directive": "%TAG ! tag:x,2000:\n---\nrounds: !x 1",
        "deep lists": "rounds: " + "[\n " * 500,
        "deep lists that close": "rounds: " + "[\n " * 500 + "]" * 500,
        "deep maps": "rounds: " + "{a:\n " * 500,
        "deep tasks": "tasks: " + "{a: " * 90 + "1" + "}" * 90,
        "deep options": "options: " + "{a: " * 150 + "1" + "}" * 150,
        "deep blocks": "\n".join(f"{' ' * n}a:" for n in range(500)),
        "deep dashes": "- " * 500,
        "long key": f"{'k' * 2000}: 1",
        "long text": f"target: {'x' * 100_000}",
        "many keys": "\n".join(f"k{n}: 1" for n in range(500)),
        "many tasks": "tasks: {" + ", ".join(f"t{n}: {{files: x}}" for n in range(200)) + "}",
        "literal": "target: |\n  upper\n  left\n",
        "colon": "target: a: b",
        "percent": "target: %a",
        "quote": "target: 'a",
        "at": "target: @a",
    }.items()
} | {
    "utf-16": "rounds: 1".encode("utf-16"),
    "utf-32": "rounds: 1".encode("utf-32"),
    "latin": "target: größe".encode("latin-1"),
    "half a letter": b"target: \xc3",
    "archive": b"PK\x03\x04" + bytes(range(256)),
}
TAKEN = {"byte order mark", "carriage returns", "next line", "half a pair", "anchor"}
TAKEN |= {"merge", "set", "binary", "of sixty", "octal", "long text", "literal"}
"""Unusual, but settings all the same."""

GOOD = ("rounds=3", "alpha.lr=0.1", "alpha={steps: 1}", "preset=paper", "tasks.train=5", " seed = 2")
RAW = ("[", "{a", "'", "!!python/object:os.system x", "*a", "&a [*a]", "0x" + "f" * 5000, "2020-13-01", "[" * 400)


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", TEXTS_OF_FILES)
def test_a_file_that_is_no_good_yaml_or_more_than_that(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("run.yaml")
    path.write_bytes(TEXTS_OF_FILES[name])
    said = ends(lambda: used(load(path)))
    assert (said is None) == (name in TAKEN)
    if said is not None:  # what is taken would train
        assert command(capsys, "train", "run.yaml") == said
    assert list(contents(Path.cwd())) == ["run.yaml"]


def test_a_file_that_something_befell(cases: Cases) -> None:
    path, endings = Path("run.yaml"), Counter[bool]()
    count = cases(4, 60)
    for config in sorted(CONFIGS.glob("*.yaml")):
        for content in damaged(config.read_bytes(), count, config.name):
            path.write_bytes(content)
            endings[ends(lambda: used(load(path))) is None] += 1
    assert list(contents(Path.cwd())) == ["run.yaml"]
    assert endings[True]
    assert endings[False] >= count


VERBS = (["inspect"], ["evaluate"], ["report"], ["export"], ["data"], ["plan"], ["train", "--resume"])


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
def test_a_path_that_is_too_long(verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for path in ("x" * 300, "x/" * 3000):
        assert command(capsys, *verb, path) is not None
    assert contents(Path.cwd()) == {}


def test_settings_on_the_command_line(cases: Cases) -> None:
    names = st.sampled_from(known_names(Config)).map(lambda name: name.replace("*", "a"))
    names |= st.one_of(TEXTS, st.lists(TEXTS, max_size=3).map(".".join), names.map(lambda name: name[:-1]))
    # What yaml cannot write, such as half a pair, is no case.
    written = ODD.map(lambda value: yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n"))
    values = st.one_of(written, TEXTS, st.sampled_from(RAW))
    one = st.one_of(st.sampled_from(GOOD), st.sampled_from(GOOD), st.builds("{}={}".format, names, values), TEXTS)
    tried(cases(60, 500), st.lists(one, min_size=1, max_size=3), lambda overrides: used(load(None, overrides)))
