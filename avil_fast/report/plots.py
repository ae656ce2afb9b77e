"""The plots of a report, as inline SVG that takes its ink from the page, light or dark."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

# Stand-ins that `_svg` replaces by the page's CSS variables.
INK, MUTED, RULE, CARD = "#010203", "#010204", "#010205", "#010206"
_VARIABLES = {INK: "var(--ink)", MUTED: "var(--muted)", RULE: "var(--rule)", CARD: "var(--card)"}
_COLOURS = tuple(f"#01020{i}" for i in "789abc")
_VARIABLES |= {colour: f"var(--line-{i})" for i, colour in enumerate(_COLOURS, 1)}
BLUE, ORANGE = _COLOURS[:2]
_DASHES = ((7, 2), (2, 2), (8, 2, 2, 2), (4, 2), (), (8, 2, 2, 2, 2, 2), (1, 2))
# Never so strong that the ink upon it is hard to read.
_DIVERGING = LinearSegmentedColormap.from_list(
    "cosine", [(0, (ORANGE, 0.55)), (0.5, (ORANGE, 0)), (0.5, (BLUE, 0)), (1, (BLUE, 0.55))]
)
_STAND_INS = "".join(map(chr, range(0x2800, 0x2900)))
"""Of Braille, which matplotlib's font has."""
_DRAWING = threading.Lock()
"""Settings of matplotlib are the process's, and a live page is drawn in a thread of its own."""
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "avil-fast",
    "font.size": 10,
    "text.color": INK,
    "axes.facecolor": "none",
    "axes.labelcolor": MUTED,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "lines.scale_dashes": False,
}
_STYLE |= {"xtick.color": MUTED, "ytick.color": MUTED, "xtick.major.size": 0, "ytick.major.size": 0}
_STYLE |= {f"axes.spines.{side}": False for side in ("top", "right", "bottom", "left")}


@dataclass(frozen=True)
class Style:
    """How a task or a run is drawn, in every plot and legend."""

    colour: str
    dashes: tuple[int, ...]
    width: float

    @property
    def stroke(self) -> str:
        return _VARIABLES.get(self.colour, self.colour)


Line = tuple[Style, Sequence[float | None]]
SPLITS = {"dev": Style(BLUE, (), 2.0), "test": Style(ORANGE, (5, 2), 1.6)}


def line_styles(names: Sequence[str], first: str) -> dict[str, Style]:
    """The first as a solid line in the text's colour, all others in colours and dashes of their own."""
    styles = {first: Style(INK, (), 2.2)}
    for i, name in enumerate(name for name in names if name != first):
        styles[name] = Style(_COLOURS[i % 6], _DASHES[(i + i // 42) % 7], 1.6)
    return styles


def lines(
    name: str,
    label: str,
    series: Sequence[Line],
    rounds: Sequence[int],
    percent: bool = False,
    mark: tuple[str, int] | None = None,
    unit: str = "round",
) -> Markup:
    """Lines over rounds, or what `unit` says, with gaps for None; `mark` is a word and the round it belongs to."""
    with _axes(2.9) as (figure, axes):
        first, last = rounds[0], rounds[-1]
        for style, values in series:
            pen: Any = {"color": style.colour, "linewidth": style.width}
            pen |= {"linestyle": (0, style.dashes)} if style.dashes else {}
            pen |= {"marker": "o", "markersize": 3.2} if len(rounds) <= 12 else {}
            axes.plot(rounds, [np.nan if value is None else value for value in values], **pen)
        axes.set(xlim=(first - 0.1 - (last - first) / 50, last + 0.1 + (last - first) / 50), xlabel=unit)
        axes.margins(y=0.15)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        if percent:
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g} %"))
        axes.grid(axis="y")
        if mark:
            word, round_ = mark
            axes.axvline(round_, color=MUTED, linewidth=1, linestyle=(0, (1, 2)), zorder=0)
            side, shift = ("right", -4) if round_ > (first + last) / 2 else ("left", 4)
            place: Any = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "ha": side}
            axes.annotate(f"{word}: round {round_}", (round_, 1), (shift, 0), va="top", **place)
        return _svg(figure, name, label)


def heat_map(
    name: str, label: str, values: Sequence[Sequence[float]], rows: Sequence[str], columns: Sequence[str]
) -> Markup:
    """Numbers around 0 as colours, and as they are where they are few; NaN stays blank."""
    table = np.array(values, dtype=float)
    limit = max(0.2, float(np.nanmax(np.abs(table), initial=0.0)))
    with _axes(min(max(3.1, 0.24 * len(rows)), 9.0)) as (figure, axes):
        shown, back = _drawable([_short(text) for text in (*rows, *columns)])
        axes.pcolormesh(table, cmap=_DIVERGING, vmin=-limit, vmax=limit, edgecolors=CARD, linewidth=1.5)
        axes.invert_yaxis()
        across, down = (_ticks(texts) for texts in (shown[len(rows) :], shown[: len(rows)]))
        axes.set_xticks(**across, rotation=30, ha="right")
        axes.set_yticks(**down)
        for (row, column), value in np.ndenumerate(table if table.size <= 64 else table[:0]):
            if np.isfinite(value):
                axes.text(column + 0.5, row + 0.5, f"{round(value, 2) + 0.0:.2f}", ha="center", va="center")
        return _svg(figure, name, label, back)


def _short(text: str) -> str:
    """Cut in the middle, as names of tasks often begin alike."""
    return text if len(text) <= 17 else f"{text[:8]}…{text[-8:]}"


def _ticks(labels: Sequence[str]) -> dict[str, Any]:
    """In the middle of cells, the smaller the more there are."""
    size = 9 if len(labels) <= 12 else max(2.5, 100 / len(labels))
    return {"ticks": np.arange(len(labels)) + 0.5, "labels": labels, "fontsize": size, "parse_math": False}


def bars(name: str, label: str, seconds: dict[str, float]) -> Markup:
    """Horizontal bars, the longest on top."""
    parts = sorted(seconds.items(), key=lambda part: part[1])
    with _axes(0.5 + 0.36 * len(parts)) as (figure, axes):
        drawn = axes.barh([part for part, _ in parts], [value for _, value in parts], color=BLUE, height=0.6)
        axes.bar_label(drawn, [f"{value:.2f} s" for _, value in parts], padding=4, color=INK, fontsize=9)
        axes.set(xmargin=0.2, xticks=[])
        return _svg(figure, name, label)


def dots(name: str, label: str, values: Mapping[str, Sequence[float]], percent: bool = False) -> Markup:
    """A row for each name, the first on top, with a dot for each value that is no NaN and a bar at their mean."""
    names = list(values)[::-1]
    with _axes(0.7 + 0.28 * len(names)) as (figure, axes):
        shown, back = _drawable(names)
        for row, every in enumerate(values[name] for name in names):
            own = [value for value in every if not np.isnan(value)]
            axes.plot(own, [row] * len(own), "o", color=BLUE, markersize=4, alpha=0.55, markeredgewidth=0)
            axes.plot([float(np.mean(own or [np.nan]))] * 2, [row - 0.32, row + 0.32], color=INK, linewidth=2)
        axes.set_yticks(range(len(names)), shown, parse_math=False)
        axes.set(ylim=(-0.6, len(names) - 0.4))
        axes.xaxis.set_major_locator(MaxNLocator(6))
        if percent:
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g} %"))
        axes.grid(axis="x")
        return _svg(figure, name, label, back)


@contextmanager
def _axes(height: float) -> Iterator[tuple[Figure, Axes]]:
    """A figure that the reader's own matplotlib settings do not change."""
    with _DRAWING, matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        figure = Figure((4.2, height), layout="constrained", frameon=False)
        yield figure, figure.add_subplot()


def _drawable(texts: Sequence[str]) -> tuple[list[str], dict[int, str]]:
    """Texts of characters that matplotlib's font has, and what to put in their place for the browser to draw.

    Without them it warns, and what is told to ignore a warning is the whole process.
    """
    font = font_manager.get_font(font_manager.findfont("DejaVu Sans"))
    unknown = {c for c in "".join(texts) if c in _STAND_INS or not font.get_char_index(ord(c))}
    pairs = dict(zip(sorted(unknown), _STAND_INS, strict=False))
    there = str.maketrans(dict.fromkeys(unknown, "\ufffd") | pairs)
    return [text.translate(there) for text in texts], {ord(stand_in): c for c, stand_in in pairs.items()}


def _svg(figure: Figure, name: str, label: str, back: dict[int, str] | None = None) -> Markup:
    """The figure as an element of the page: ids of its own, the page's colours, a label for its reader."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = re.sub(r"<style.*?</style>", "", buffer.getvalue(), flags=re.DOTALL)

    def own(tag: re.Match[str]) -> str:
        inside = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", tag[0])
        inside = re.sub(r"font-family: [^;]*; ?|\n", " ", inside)
        return re.sub("|".join(_VARIABLES), lambda colour: _VARIABLES[colour[0]], inside)

    body = re.sub(r"<[^>]*>", own, text[text.index(">", text.index("<svg")) + 1 :])
    width, height = figure.get_size_inches() * 72
    view = f'viewBox="0 0 {width:g} {height:g}" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return Markup(f'<svg role="img" aria-label="{escape(label)}" {view}>{body.translate(back or {})}')
