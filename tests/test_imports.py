"""Who may import whom."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import avil_fast

ROOT = Path(avil_fast.__file__).parent
GUARD = "TYPE_CHECKING"
MODULES = sorted([*ROOT.rglob("*.py"), *(ROOT.parent / "kernels").glob("*.py")])


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    if parts[0] == "kernels":  # installed as avil_fast.kernels
        parts = ("avil_fast", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


KNOWN = {dotted(path) for path in MODULES} | {"avil_fast._C"}


def imports(path: Path, for_types: bool = True) -> Iterator[str]:
    """Modules that a file imports, within functions too; `from avil_fast import ops` is avil_fast.ops."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guarded = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == GUARD]
    skipped = set() if for_types else {inner for node in guarded for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import by the full name"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in KNOWN else str(node.module)


def below(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def of(*packages: str) -> list[Path]:
    return [path for path in MODULES if below(dotted(path), *packages)]


def offenders(paths: list[Path], *forbidden: str) -> list[tuple[str, str]]:
    return [(dotted(path), module) for path in paths for module in imports(path) if below(module, *forbidden)]


@pytest.mark.parametrize(
    ("layer", "allowed"),
    [
        # triton comes with the builds of torch that can use it.
        ("avil_fast.ops", ("torch", "triton", "avil_fast.ops", "avil_fast.kernels", "avil_fast._C")),
        ("avil_fast.kernels", ("torch", "triton", "avil_fast.kernels")),
        # The ledger's tables are numpy arrays.
        ("avil_fast.deltas", ("torch", "numpy", "avil_fast.ops", "avil_fast._C", "avil_fast.deltas")),
    ],
)
def test_the_lower_layers_import_torch_and_what_is_below(layer: str, allowed: tuple[str, ...]) -> None:
    paths = of(layer)
    assert paths
    allowed += tuple(sys.stdlib_module_names)
    found = [(dotted(path), module) for path in paths for module in imports(path)]
    assert [pair for pair in found if not below(pair[1], *allowed)] == []


def layers() -> list[str]:
    """Files and folders of avil_fast/ as CONTRIBUTING.md lists them, from the top."""
    _, _, table = (ROOT.parent / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("| in `avil_fast/` |")
    rows = table.partition("\n\n")[0].splitlines()[2:]
    return [re.sub(r"/$|\.py$", "", name) for row in rows for name in re.findall("`([^`]+)`", row.split("|")[1])]


def layer_of(module: str) -> str:
    return module.split(".")[1]


def test_every_module_has_its_layer() -> None:
    known = {layer_of(module) for module in KNOWN if "." in module}
    assert sorted(layers()) == sorted(known)


@pytest.mark.parametrize("path", [path for path in MODULES if "." in dotted(path)], ids=dotted)
def test_imports_point_down(path: Path) -> None:
    """Those for types alone may point anywhere: nothing is loaded for them."""
    order = layers()
    own = order.index(layer_of(dotted(path)))
    loaded = {layer_of(module) for module in imports(path, for_types=False) if below(module, "avil_fast")}
    assert [layer for layer in loaded if order.index(layer) < own] == []


@pytest.mark.parametrize(
    ("libraries", "homes"),
    [
        (("deepspeed",), ("avil_fast.engine.zero",)),
        (("transformers", "datasets"), ("avil_fast.tasks", "avil_fast.trainer")),
    ],
)
def test_an_optional_library_has_its_homes(libraries: tuple[str, ...], homes: tuple[str, ...]) -> None:
    elsewhere = [path for path in MODULES if not below(dotted(path), *homes)]
    assert offenders(elsewhere, *libraries) == []


def test_no_module_hides_one_of_the_standard_library() -> None:
    """`python avil_fast/train.py` puts avil_fast/ itself on the path."""
    names = {path.stem if path.is_file() else path.name for path in ROOT.iterdir()}
    assert names & sys.stdlib_module_names == set()
