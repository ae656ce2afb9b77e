"""The plots of a report, as inline SVG that takes its ink from the page, light or dark."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

# Stand-ins that `_svg` replaces by the page's CSS variables.
INK, MUTED, RULE, CARD = "#010203", "#010204", "#010205", "#010206"
_VARIABLES = {INK: "var(--ink)", MUTED: "var(--muted)", RULE: "var(--rule)", CARD: "var(--card)"}
# Okabe and Ito's colours, which most colour-blind readers can tell apart; yellow is too pale on white.
BLUE, VERMILLION = "#0072b2", "#d55e00"
_COLOURS = (BLUE, VERMILLION, "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_DASHES = ((7, 2), (2, 2), (8, 2, 2, 2), (4, 2), (), (8, 2, 2, 2, 2, 2), (1, 2))
_DIVERGING = LinearSegmentedColormap.from_list("cosine", [VERMILLION, "#f4f3f0", BLUE])
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "avil-fast",
    "font.size": 9.5,
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
    """How a task is drawn, in every plot and legend."""

    colour: str
    dashes: tuple[int, ...]
    width: float

    @property
    def stroke(self) -> str:
        return _VARIABLES.get(self.colour, self.colour)


Line = tuple[Style, Sequence[float | None]]
SPLITS = {"dev": Style(BLUE, (), 2.0), "test": Style(VERMILLION, (5, 2), 1.6)}


def task_styles(tasks: Sequence[str], target: str) -> dict[str, Style]:
    """The target as a solid line in the text's colour, every auxiliary in its own colour and dashes."""
    styles = {target: Style(INK, (), 2.2)}
    for i, name in enumerate(name for name in tasks if name != target):
        styles[name] = Style(_COLOURS[i % 6], _DASHES[(i + i // 42) % 7], 1.6)
    return styles


def lines(
    name: str, label: str, series: Sequence[Line], rounds: list[int], percent: bool = False, mark: int = 0
) -> Markup:
    """Lines over rounds, with gaps for None; `mark` is the round that was kept, 0 for no mark."""
    with _axes(3.0) as (figure, axes):
        first, last = rounds[0], rounds[-1]
        for style, values in series:
            pen: Any = {"color": style.colour, "linewidth": style.width}
            pen |= {"linestyle": (0, style.dashes)} if style.dashes else {}
            pen |= {"marker": "o", "markersize": 3.2} if len(rounds) <= 12 else {}
            axes.plot(rounds, [np.nan if value is None else value for value in values], **pen)
        axes.set(xlim=(first - 0.1 - (last - first) / 50, last + 0.1 + (last - first) / 50), xlabel="round")
        axes.margins(y=0.15)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        if percent:
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g} %"))
        axes.grid(axis="y")
        if mark:
            axes.axvline(mark, color=MUTED, linewidth=1, linestyle=(0, (1, 2)), zorder=0)
            side, shift = ("right", -4) if mark > (first + last) / 2 else ("left", 4)
            place: Any = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "ha": side}
            axes.annotate(f"kept: round {mark}", (mark, 1), (shift, 0), va="top", **place)
        return _svg(figure, name, label)


def heat_map(name: str, label: str, cosine: Sequence[Sequence[float]], tasks: Sequence[str]) -> Markup:
    """Cosines between tasks; the diagonal, always 1, stays blank so that the scale fits the others."""
    n = len(tasks)
    values = np.where(np.eye(n) == 1, np.nan, np.array(cosine, dtype=float))
    limit = max(0.2, float(np.nanmax(np.abs(values), initial=0.0)))
    short = [task if len(task) <= 17 else task[:16] + "…" for task in tasks]
    with _axes(3.4) as (figure, axes):
        axes.pcolormesh(values, cmap=_DIVERGING, vmin=-limit, vmax=limit, edgecolors=CARD, linewidth=1.5)
        axes.invert_yaxis()
        size = 8.5 if n <= 12 else max(2.5, 100 / n)
        axes.set_xticks(np.arange(n) + 0.5, short, rotation=30, ha="right", fontsize=size, parse_math=False)
        axes.set_yticks(np.arange(n) + 0.5, short, fontsize=size, parse_math=False)
        for (row, column), value in np.ndenumerate(values if n <= 8 else values[:0]):
            if np.isfinite(value):
                colour = "#1a1a1a" if value < 0.8 * limit else "#ffffff"
                axes.text(column + 0.5, row + 0.5, f"{value:.2f}", color=colour, ha="center", va="center")
        return _svg(figure, name, label)


def bars(name: str, label: str, seconds: dict[str, float]) -> Markup:
    """Horizontal bars, the longest on top."""
    parts = sorted(seconds.items(), key=lambda part: part[1])
    with _axes(0.5 + 0.36 * len(parts)) as (figure, axes):
        drawn = axes.barh([part for part, _ in parts], [value for _, value in parts], color=BLUE, height=0.6)
        axes.bar_label(drawn, [f"{value:.2f} s" for _, value in parts], padding=4, color=INK, fontsize=8.5)
        axes.set(xmargin=0.2, xticks=[])
        return _svg(figure, name, label)


@contextmanager
def _axes(height: float) -> Iterator[tuple[Figure, Axes]]:
    """A figure that the reader's own matplotlib settings do not change."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # the browser draws the text
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        figure = Figure((4.6, height), layout="constrained", frameon=False)
        yield figure, figure.add_subplot()


def _svg(figure: Figure, name: str, label: str) -> Markup:
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
    return Markup(f'<svg role="img" aria-label="{escape(label)}" {view}>{body}')
