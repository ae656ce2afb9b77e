"""Data files as tools, people and accidents make them, by what is odd about them."""

from __future__ import annotations

import datetime
import decimal
import io
import json
from collections.abc import Callable
from typing import Any

import pyarrow
from pyarrow import parquet

HEADER = "text,label\n"
ROWS = "w1 good,good\nw2 bad,bad\n"

CSV: dict[str, str] = {
    "no line": "",
    "blank lines": "\n\n \n",
    "a byte order mark": "\ufeff",
    "two byte order marks": "\ufeff\ufeff" + HEADER + ROWS,
    "a header": HEADER,
    "a header and blank lines": HEADER + "\n\n\n",
    "no line break at the end": HEADER + ROWS.rstrip(),
    "carriage returns": (HEADER + ROWS).replace("\n", "\r"),
    "carriage returns, too": (HEADER + ROWS).replace("\n", "\r\n"),
    "some carriage returns": HEADER + ROWS.replace("\n", "\r\n", 1),
    "double carriage returns": (HEADER + ROWS).replace("\n", "\r\r\n"),
    "a line for a program": "sep=,\n" + HEADER + ROWS,
    "a quote that never closes": HEADER + ROWS + '"w3 good,good\n' * 3,
    "a quote that never closes, in the header": '"text,label\n' + ROWS,
    "a quote within": HEADER + 'w1 "good" w2,good\n' + ROWS,
    "a quote at the end": HEADER + 'w1 good",good\n' + ROWS,
    "text after a quote": HEADER + '"w1" good,good\n' + ROWS,
    "a backslash before a quote": HEADER + '"w1 \\" good",good\n' + ROWS,
    "a line break in quotes": HEADER + '"w1\ngood",good\n' + ROWS,
    "one column less": HEADER + ROWS + "w3 good\n",
    "one column more": HEADER + ROWS + "w3,good,good\n",
    "commas at the end": (HEADER + ROWS).replace("\n", ",\n"),
    "one column": "text\nw1\nw2\n",
    "no column of that name": "sentence,class\n" + ROWS,
    "a column twice": "text,label,label\nw1 good,good,good\nw2 bad,bad,bad\n",
    "a column twice but for a space": "text,label,label \nw1 good,good,good\nw2 bad,bad,bad\n",
    "names in capitals": "Text,Label\n" + ROWS,
    "a name with a line break": '"text\n",label\n' + ROWS,
    "a name with an escape": "text\x1b[2J,label\n" + ROWS,
    "names that are empty": ",\n" + ROWS,
    "many columns": ",".join(f"c{n}" for n in range(20_000)) + "\n" + ROWS,
    "another mark": (HEADER + ROWS).replace(",", ";"),
    "an empty text": HEADER + ROWS + ",good\n",
    "a text of spaces": HEADER + ROWS + "\u3000\xa0 ,good\n",
    "a text that nobody sees": HEADER + ROWS + "\u200b\u200d,good\n",
    "an empty label": HEADER + ROWS + "w3 good,\n",
    "a label of spaces": HEADER + ROWS + "w3 good,  \n",
    "labels with spaces": HEADER + ROWS + "w3 good, good \n",
    "one class": HEADER + "w1 good,good\nw2 good,good\n",
    "many classes": HEADER + "".join(f"w{n} good,c{n}\n" for n in range(1500)),
    "a class that dev lacks": HEADER + ROWS + "w3,neutral\n",
    "classes without those of dev": HEADER + "w1 good,yes\nw2 bad,no\n",
    "labels that are numbers": HEADER + "w1 good,1\nw2 bad,0\n",
    "labels that are no numbers": HEADER + "w1 good,nan\nw2 bad,inf\n",
    "numbers of another script": HEADER + "w1 good,١\nw2 bad,٢\n",
    "numbers with underscores": HEADER + "w1 good,1_000\nw2 bad,0x10\n",
    "large numbers": HEADER + "w1 good,1e39\nw2 bad,-1e308\n",
    "a long number": HEADER + f"w1 good,{'9' * 5000}\nw2 bad,0\n",
    "a label with a line break": HEADER + ROWS + 'w3,"neu\ntral"\n',
    "a label with an escape": HEADER + ROWS + "w3,\x1b[2J\n",
    "a long label": HEADER + ROWS + f"w3,{'x' * 100_000}\n",
    "a row again and again": HEADER + ROWS + "w3 good,good\n" * 500,
    "a row with two labels": HEADER + ROWS + "w3 good,good\nw3 good,bad\n",
    "the rows of dev": HEADER + ROWS + "w9 good,good\n",
    "a long line": HEADER + ROWS + "w3 " * 100_000 + ",good\n",
    "a NUL": HEADER + ROWS + "w3\0good,good\n",
    "control characters": HEADER + ROWS + "w3\x07\x08\x7f\x9b,good\n",
    "right to left": HEADER + ROWS + "\u202ew3\u202c,good\n",
    "letters outside the plane": HEADER + ROWS + "😀 𝔤𝔬𝔬𝔡,good\n",
    "many marks on a letter": HEADER + ROWS + "e" + "\u0301" * 5000 + ",good\n",
    "special tokens": HEADER + ROWS + "[CLS] [SEP] [PAD] <end> w3,good\n",
    "a web page": "<!DOCTYPE html>\n<html>\n<body>404</body>\n",
    "a pointer to a file": "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n",
}

ROW = {"text": "w1 good", "label": "good"}
JSON = "".join(json.dumps(row) + "\n" for row in (ROW, {"text": "w2 bad", "label": "bad"}))


def _with(**changes: Any) -> str:
    return JSON + json.dumps(ROW | changes) + "\n"


JSONL: dict[str, str] = {
    "no line": "",
    "nothing": "{}\n",
    "null": JSON + "null\n",
    "a list of all": json.dumps([ROW, ROW]),
    "one over several lines": json.dumps([ROW, ROW], indent=1),
    "two in a line": JSON.replace("\n", ""),
    "other quotes": JSON.replace('"', "'"),
    "NaN as a label": JSON + '{"text": "w3", "label": NaN}\n',
    "infinity as a label": JSON + '{"text": "w3", "label": -Infinity}\n',
    "a large exponent": JSON + '{"text": "w3", "label": 1e999}\n',
    "a long number": JSON + f'{{"text": "w3", "label": {"9" * 4000}}}\n',
    "a longer number": JSON + f'{{"text": "w3", "label": {"9" * 5000}}}\n',
    "half a pair in a text": JSON + '{"text": "w3 \\ud800 good", "label": "good"}\n',
    "half a pair in a label": JSON + '{"text": "w3", "label": "\\udfff"}\n',
    "half a pair in a name": JSON + '{"text": "w3", "label": "good", "\\ud800": 1}\n',
    "half a pair in all labels": '{"text": "w1", "label": "a\\ud800"}\n{"text": "w2", "label": "b\\ud800"}\n',
    "a NUL in a text": _with(text="w3 \0 good"),
    "an escape in a text": _with(text="\x1b]0;title\x07 w3"),
    "a name twice": JSON + '{"text": "w3", "label": "good", "label": "bad"}\n',
    "a name of nothing": JSON + '{"": 1, "text": "w3", "label": "good"}\n',
    "a label that is true": _with(label=True),
    "a label that is null": _with(label=None),
    "a label that is a list": _with(label=["good"]),
    "a label that is a mapping": _with(label={"good": 1}),
    "a label that is a fraction": _with(label=0.5),
    "labels that are numbers": JSON.replace('"good"}', "1}").replace('"bad"}', "0}"),
    "labels of two types": JSON.replace('"bad"}', "1}"),
    "a text that is a number": _with(text=3),
    "a text that is a list": _with(text=["w1", "w2"]),
    "a text that is null": _with(text=None),
    "a row without a label": JSON + '{"text": "w3"}\n',
    "a row without a text": JSON + '{"label": "good"}\n',
    "a row with more": _with(more=[{"a": [1, {"b": None}]}]),
    "deep lists": JSON + '{"text": "w3", "label": "good", "more": ' + "[" * 50_000 + "]" * 50_000 + "}\n",
    "deep lists as a label": JSON + '{"text": "w3", "label": ' + "[" * 800 + "]" * 800 + "}\n",
    "many names": "".join(json.dumps(ROW | {f"c{n}": n}) + "\n" for n in range(300)),
    "a long line": _with(text="w3 " * 100_000),
    "a byte order mark": "\ufeff" + JSON,
}


def table(**columns: Any) -> pyarrow.Table:
    """Two rows with texts and labels, and what is odd about these."""
    return pyarrow.table({"text": ["w1 good", "w2 bad"], "label": ["good", "bad"]} | columns)


def _features(about: str) -> pyarrow.Table:
    """What the package datasets wrote about the columns."""
    return table(label=[1, 0]).replace_schema_metadata({"huggingface": about})


def _classes(names: Any) -> str:
    text = {"dtype": "string", "_type": "Value"}
    return json.dumps({"info": {"features": {"text": text, "label": {"names": names, "_type": "ClassLabel"}}}})


WORDS = pyarrow.array(["w1 good", "w2 bad"])
DAYS = [datetime.datetime(2020, 1, day) for day in (1, 2)]
PARQUET: dict[str, Callable[[], pyarrow.Table]] = {
    "no row": lambda: table().slice(0, 0),
    "no column": lambda: pyarrow.table({}),
    "a column twice": lambda: pyarrow.Table.from_arrays([WORDS] * 3, names=["text", "label", "label"]),
    "no column of that name": lambda: table().rename_columns(["a", "b"]),
    "names that are empty": lambda: table().rename_columns(["", " "]),
    "a name with a line break": lambda: table().rename_columns(["te\nxt", "label"]),
    "labels that are numbers": lambda: table(label=[1, 0]),
    "labels that are small numbers": lambda: table(label=pyarrow.array([1, 0], pyarrow.int8())),
    "labels that are unsigned": lambda: table(label=pyarrow.array([2**64 - 1, 0], pyarrow.uint64())),
    "labels that are fractions": lambda: table(label=[0.5, float("nan")]),
    "labels that are halves": lambda: table(label=pyarrow.array([0.5, 1.5], pyarrow.float16())),
    "labels that are decimals": lambda: table(label=[decimal.Decimal("1.10"), decimal.Decimal("2.20")]),
    "labels that are days": lambda: table(label=DAYS),
    "labels that are times": lambda: table(label=pyarrow.array([1, 2], pyarrow.time64("ns"))),
    "labels that last": lambda: table(label=pyarrow.array([1, 2], pyarrow.duration("ns"))),
    "labels that are bytes": lambda: table(label=[b"good", b"\xff"]),
    "labels that are true": lambda: table(label=[True, False]),
    "labels that are null": lambda: table(label=pyarrow.nulls(2)),
    "labels that are lists": lambda: table(label=[["good"], []]),
    "labels that are mappings": lambda: table(label=[{"a": 1}, None]),
    "labels with a dictionary": lambda: table(label=pyarrow.array(["good", "bad"]).dictionary_encode()),
    "labels that are maps": lambda: table(label=pyarrow.array([[("a", 1)], []], pyarrow.map_("string", "int64"))),
    "texts with a dictionary": lambda: table(text=WORDS.dictionary_encode()),
    "large texts": lambda: table(text=WORDS.cast("large_string")),
    "viewed texts": lambda: table(text=WORDS.cast("string_view")),
    "texts that are bytes": lambda: table(text=[b"w1", b"\xff"]),
    "texts that are lists": lambda: table(text=[["w1"], ["w2"]]),
    "texts that are null": lambda: table(text=[None, "w2"]),
    "classes": lambda: _features(_classes(["bad", "good"])),
    "too few classes": lambda: _features(_classes(["bad"])),
    "classes without names": lambda: _features(_classes(None)),
    "classes that are numbers": lambda: _features(_classes([1, 2])),
    "classes twice": lambda: _features(_classes(["a", "a"])),
    "what is said is no JSON": lambda: _features("{"),
    "what is said is a list": lambda: _features("[]"),
    "what is said is null": lambda: _features('{"info": null}'),
    "what is said is of other columns": lambda: _features('{"info": {"features": {"x": {"_type": "Image"}}}}'),
    "what is said is unknown": lambda: _features('{"info": {"features": {"text": {"_type": "Mine"}}}}'),
    "what is said is deep": lambda: _features('{"info": ' * 3000),
}


def written(rows: pyarrow.Table) -> bytes:
    """A parquet file."""
    buffer = io.BytesIO()
    parquet.write_table(rows, buffer)
    return buffer.getvalue()
