"""Every sentence that a user can meet says what to do: after a semicolon, or as what a value must be."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "avil_fast"
OF_USERS = {"AvilError", "Diverged", "TooLate", "BackendError"}
OF_SETTINGS = ("config/*.py", "engine/zero/config.py", "engine/zero/sections.py")
"""Modules whose ValueErrors pydantic hands on, and which end in an AvilError of `explain.explain`."""

MADE_ELSEWHERE = {
    "explain": "config/explain.py",
    "explain_options": "config/explain.py",
    "unknown_setting": "config/explain.py",
    "sentence": "tasks/text/splits.py",
    "leaks": "the same",
    "told_first": "a Diverged",
    "obstacle": "ops/backend.py",
    "outcome": "another rank's own AvilError",
}
"""Names that a sentence without a literal is made of, and where its words are."""


def sentences() -> Iterator[tuple[str, ast.expr]]:
    """What is raised for users, with its place."""
    settings = {path for pattern in OF_SETTINGS for path in SOURCE.glob(pattern)}
    for path in sorted(SOURCE.rglob("*.py")):
        kinds = OF_USERS | ({"ValueError"} if path in settings else set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                name = ast.unparse(node.exc.func)
                if name in kinds:
                    yield f"{path.relative_to(SOURCE)}:{node.lineno}", node.exc.args[0]


def words(sentence: ast.expr) -> str:
    """The literal parts."""
    return "".join(
        node.value for node in ast.walk(sentence) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def says_what_to_do(text: str) -> bool:
    return "; " in text or "must " in text


@pytest.mark.parametrize(("place", "sentence"), [pytest.param(*found, id=found[0]) for found in sentences()])
def test_a_sentence_says_what_to_do(place: str, sentence: ast.expr) -> None:
    names = {node.id for node in ast.walk(sentence) if isinstance(node, ast.Name)}
    if names & MADE_ELSEWHERE.keys():
        return
    assert says_what_to_do(words(sentence)), f"{place} says what is wrong, and not what to do: {words(sentence)}"


def test_the_sentences_are_found() -> None:
    assert len(list(sentences())) > 200


def test_a_sentence_without_advice_is_seen() -> None:
    bare = ast.parse("f'the config {path} is not YAML: {error}'", mode="eval").body
    assert not says_what_to_do(words(bare))
    assert says_what_to_do(words(ast.parse("f'{name} is gone; set it'", mode="eval").body))
