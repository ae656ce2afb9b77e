"""Texts and labels out of rows."""

from pathlib import Path
from typing import Any

import datasets
import pytest

from avil_fast.config.text_tasks import TextTaskConfig
from avil_fast.errors import AvilError
from avil_fast.tasks.text import examples, labels, templates
from avil_fast.tasks.text.examples import Examples
from avil_fast.tasks.text.tables import SourceTable

CHATML = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)

LM = {"kind": "language_modelling"}


class Tokenizer:
    """What is used of one."""

    def __init__(self, template: str | None = CHATML) -> None:
        self.chat_template = template

    def apply_chat_template(self, messages: list[Any], **options: Any) -> str:
        import jinja2

        env = jinja2.Environment()
        env.globals["raise_exception"] = self._raise
        return env.from_string(self.chat_template or "").render(messages=messages, **options)

    @staticmethod
    def _raise(message: str) -> None:
        raise ValueError(message)


def table(rows: list[dict[str, Any]], **features: Any) -> SourceTable:
    given = datasets.Dataset.from_list(rows)
    for name, feature in features.items():
        given = given.cast_column(name, feature)
    return SourceTable(given, "rows")


def read(rows: list[dict[str, Any]], tokenizer: Any = None, **settings: Any) -> Examples:
    given = rows if isinstance(rows, SourceTable) else table(rows)
    config = TextTaskConfig.model_validate({"files": "x"} | settings)
    classes = labels.classes_of("news", config, given) if config.kind == "classification" else ()
    return examples.read("news", config, given, classes, tokenizer)


def refused(rows: list[dict[str, Any]], **settings: Any) -> str:
    with pytest.raises(AvilError) as caught:
        read(rows, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_pairs_have_two_texts_and_columns_may_have_any_name() -> None:
    rows = [{"s1": "a", "s2": "b", "gold": "yes"}, {"s1": "c", "s2": "d", "gold": "no"}]
    found = read(rows, columns={"text": "s1", "pair": "s2", "label": "gold"})
    assert (found.first, found.second, found.labels) == (["a", "c"], ["b", "d"], [1, 0])
    assert found.where(1) == "rows, row 2"


@pytest.mark.parametrize(
    ("labels", "settings", "numbers"),
    [
        (["b", "a", "b"], {}, [1, 0, 1]),
        (["b", "a", "b"], {"labels": ["b", "a"]}, [0, 1, 0]),
        (["10", "9", "10"], {}, [1, 0, 1]),
        ([1, 0, 1], {}, [1, 0, 1]),
        ([True, False, True], {}, [1, 0, 1]),
    ],
)
def test_classes_are_numbered_in_the_order_of_their_names(
    labels: list[Any], settings: dict[str, Any], numbers: list[int]
) -> None:
    assert read([{"text": "x", "label": label} for label in labels], **settings).labels == numbers


def test_a_data_sets_own_classes_are_used() -> None:
    given = table(
        [{"text": "x", "label": 1}, {"text": "y", "label": 0}], label=datasets.ClassLabel(names=["z", "a"])
    )
    assert labels.classes_of("news", TextTaskConfig(files=Path("x")), given) == ("z", "a")
    assert read(given).labels == [1, 0]  # type: ignore[arg-type]
    prompt = {"kind": "language_modelling", "prompt": "{text}", "completion": " {label}"}
    assert read(given, **prompt).second == [" a", " z"]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        ([{"text": "x", "label": "a"}, {"text": "", "label": "b"}], {}, "row 2: the text is empty"),
        ([{"text": "x", "label": "a"}, {"text": None, "label": "b"}], {}, "row 2: the text is None"),
        ([{"text": 3, "label": "a"}, {"text": 4, "label": "b"}], {}, "row 1: the text is 3, but must be a text"),
        (
            [{"text": "x", "label": "a"}, {"text": "y", "label": "c"}],
            {"labels": ["a", "b"]},
            "row 2: the label is 'c', but the classes are a, b",
        ),
        (
            [{"text": "x", "label": "a"}, {"text": "y", "label": None}],
            {"labels": ["a", "b"]},
            "row 2: the label is missing",
        ),
        ([{"text": "x", "label": "a"}, {"text": "y", "label": " "}], {}, "row 2: the label is missing"),
        ([{"text": "x", "label": 1.0}, {"text": "y", "label": float("nan")}], {}, "row 2: the label is missing"),
        ([{"text": "x", "label": "a"}], {}, "rows has 1 classes in its column 'label'"),
        ([{"text": "x"}], {}, "rows has no column 'label', but 'text'; set tasks.news.columns.label"),
        (
            [{"text": "x", "label": "high"}],
            {"kind": "regression"},
            "row 1: the label is 'high', but must be a",
        ),
        ([{"text": "x", "label": "nan"}], {"kind": "regression"}, "row 1: the label is 'nan'"),
    ],
)
def test_bad_rows_are_one_sentence_with_their_place(
    rows: list[dict[str, Any]], settings: dict[str, Any], message: str
) -> None:
    assert message in refused(rows, **settings)


def test_blanks_around_a_label_mean_nothing() -> None:
    assert read(
        [{"text": "x", "label": "a"}, {"text": "y", "label": " b"}, {"text": "z", "label": "b"}]
    ).labels == [0, 1, 1]


def test_an_unlabelled_row_of_a_data_set_is_no_class_and_no_completion() -> None:
    rows = [{"text": "x", "label": 1}, {"text": "y", "label": -1}]
    given = table(rows, label=datasets.ClassLabel(names=["a", "b"]))
    assert "row 2: the label is missing, but the classes are a, b" in refused(given)  # type: ignore[arg-type]
    template = {"kind": "language_modelling", "prompt": "{text}", "completion": "{label}"}
    assert "row 2: the label is missing" in refused(given, **template)  # type: ignore[arg-type]


def test_a_prompt_may_have_an_empty_value_but_a_completion_may_not() -> None:
    rows = [{"text": "x", "more": "", "label": "a"}]
    assert read(rows, **LM, prompt="{text}{more}:", completion="{label}").first == ["x:"]
    assert "row 1: the more is missing" in refused(rows, **LM, prompt="{text}", completion="{more}")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, LM),
        (
            {"kind": "language_modelling"},
            {"kind": "language_modelling", "prompt": "Q {text}:", "completion": "{label}"},
        ),
        ({}, {"kind": "regression", "columns": {"text": "upper", "label": "number"}}),
    ],
)
def test_examples_of_the_same_text_have_the_same_key_whatever_is_made_of_it(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    rows = [
        {"text": t, "upper": t.upper() + " ", "label": t, "number": 1.0} for t in ("caf\u00e9 a", "cafe\u0301 b")
    ]
    first, second = read(rows, **one), read(rows, **other)
    assert [first.key(i) for i in range(2)] == [second.key(i) for i in range(2)]
    assert first.key(0) != first.key(1)
    composed = read([{"text": "caf\u00e9 b", "label": "x"}, {"text": "y", "label": "y"}])
    assert composed.key(0) == first.key(1)


def test_pairs_in_either_order_and_chats_of_the_same_question_are_the_same() -> None:
    columns = {"text": "a", "pair": "b"}
    found = read([{"a": "x", "b": "y", "label": "p"}, {"a": "y", "b": "x", "label": "q"}], columns=columns)
    assert found.key(0) == found.key(1)
    chats = [
        [{"role": "user", "content": "hi"}, {"role": "assistant", "content": answer}] for answer in ("a", "b")
    ]
    talk = read([{"m": chat} for chat in chats], Tokenizer(), **LM, columns={"messages": "m"})
    assert talk.key(0) == talk.key(1)


def test_numbers_may_be_texts() -> None:
    assert read([{"text": "x", "label": "-1.5e0"}], kind="regression").labels == [-1.5]


def test_prompt_and_completion_come_from_columns_or_templates() -> None:
    rows = [{"text": "so {nice}", "label": "good", "q": "Q", "a": "A"}]
    assert (read(rows, **LM).first, read(rows, **LM).second) == ([""], ["so {nice}"])
    columns = read(rows, **LM, columns={"prompt": "q", "completion": "a"})
    assert (columns.first, columns.second) == (["Q"], ["A"])
    filled = read(rows, **LM, prompt="{{{text}}}: {q}", completion=" {label}")
    assert (filled.first, filled.second) == (["{so {nice}}: Q"], [" good"])


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{txt}", "tasks.news.prompt is '{txt}', but rows has no column 'txt', only text, label"),
        ("{text!r}", "in braces there can be a column's name only"),
        ("{text:>10}", "in braces there can be a column's name only"),
        ("{}", "in braces there can be a column's name only"),
        ("{text.__class__}", "has no column 'text.__class__'"),
        ("{text[0]}", "has no column 'text[0]'"),
        ("{text", "tasks.news.prompt is '{text'"),
    ],
)
def test_a_template_names_columns_and_nothing_else(template: str, message: str) -> None:
    assert message in refused([{"text": "x", "label": "a"}], **LM, prompt=template, completion="{label}")


def test_braces_of_values_mean_nothing() -> None:
    assert templates.fill("{a} {{b}}", {"a": "{b} {{", "b": "no"}) == "{b} {{ {b}"


def test_the_last_message_of_a_chat_is_the_completion() -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    found = read([{"messages": messages}], Tokenizer(), **LM, columns={"messages": "messages"})
    assert (found.first, found.second) == (["<user>hi</><assistant>"], ["ho</>"])


@pytest.mark.parametrize(
    ("messages", "template", "message"),
    [
        ([{"role": "user"}, {"role": "assistant", "content": "x"}], CHATML, "must be a list of two or more"),
        ([{"role": "user", "content": "x"}, {"role": "assistant", "content": " "}], CHATML, "with texts"),
        ([{"role": "user", "content": "hi"}], CHATML, "row 1: the messages must be a list of two or more"),
        ([{"role": "a", "content": "x"}] * 2, CHATML, "of which the last has the role assistant"),
        ([{"role": "assistant", "content": "x"}] * 2, None, "tokenizer has no chat template"),
        (
            [{"role": "assistant", "content": "x"}] * 2,
            "{{ raise_exception('no') }}",
            "template refuses it: no",
        ),
        ([{"role": "assistant", "content": "x"}] * 2, "{{ messages|length }}", "changes the prompt"),
    ],
)
def test_a_chat_that_is_none_is_one_sentence(messages: Any, template: str | None, message: str) -> None:
    rows = [{"messages": messages}]
    assert message in refused(rows, tokenizer=Tokenizer(template), **LM, columns={"messages": "messages"})
