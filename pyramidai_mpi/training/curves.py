"""How a training went, as one page that opens anywhere: curves as SVG, the table behind them, no script."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyramidai_mpi.training.exact.log import Row

    _Places = Callable[[float, float], tuple[float, float]]

# Of Okabe and Ito (2008), which whoever lacks one kind of cone can tell apart; each curve has its own dashes too.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_DASHES = ("", "7 4", "2 3", "10 3 2 3", "4 2", "1 2")
_WIDTH, _HEIGHT = 720, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 14, 42
_MOST_MARKS = 120
"""Points of a curve that get a dot of their own, with its values for whoever points at it."""
_STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --faint: #c8c8c8; --ground: #fff }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --faint: #4a4a4a; --ground: #16181a } }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--ground); margin: 2em auto;
  max-width: 780px; padding: 0 1em }
svg { width: 100%; height: auto } svg text { fill: var(--ink); font: 12px system-ui, sans-serif }
.grid { stroke: var(--faint); stroke-width: 1 } .mark { stroke: var(--ink); stroke-dasharray: 3 3 }
figure { margin: 0 0 1.6em } figcaption span { margin-right: 1.4em; white-space: nowrap }
table { border-collapse: collapse; font-variant-numeric: tabular-nums } div.wide { overflow-x: auto }
th, td { text-align: right; padding: .15em .7em; border-bottom: 1px solid var(--faint) }
dl { display: grid; grid-template-columns: max-content auto; gap: .1em 1.2em } dt { opacity: .75 } dd { margin: 0 }
"""


@dataclass(frozen=True)
class Chart:
    """Some curves over the same numbers.

    Attributes
    ----------
    heading
        Above it.
    x_name, x
        What lies along the axis, such as ``epoch``, and its numbers, ascending.
    curves
        Values by name, as many as there are in `x`; what is not finite leaves a gap.
    marked
        Where an upright line stands; None for none.
    marked_as
        What it says below the chart, such as ``kept``.
    """

    heading: str
    x_name: str
    x: Sequence[float]
    curves: Mapping[str, Sequence[float]]
    marked: float | None = None
    marked_as: str = "kept"


def charts_of(
    rows: Sequence[Row], columns: Mapping[str, Sequence[str]], *, x_name: str = "epoch", marked: float | None = None
) -> list[Chart]:
    """Charts of some columns of a log.

    Parameters
    ----------
    rows
        As `TrainingLog.rows`.
    columns
        Names of columns by the heading of their chart; those that the rows do not have are left out.
    x_name, marked
        See `Chart`.
    """
    x = [float(row[x_name]) for row in rows]
    charts = []
    for heading, names in columns.items():
        curves = {name: [float(row[name]) for row in rows] for name in names if rows and name in rows[0]}
        if curves:
            charts.append(Chart(heading, x_name, x, curves, marked))
    return charts


def curves_page(
    title: str, charts: Sequence[Chart], rows: Sequence[Row], facts: Mapping[str, str] | None = None
) -> str:
    """A page in HTML that refers to nothing outside itself.

    Parameters
    ----------
    title
        Its heading.
    charts
        From top to bottom.
    rows
        The table below them.
    facts
        What else there is to say, by name, above them.
    """
    said = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in (facts or {}).items())
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        f"<dl>{said}</dl>" if said else "",
        *(_figure(chart) for chart in charts),
        _table(rows),
        "</body></html>\n",
    ]
    return "\n".join(part for part in parts if part)


def _figure(chart: Chart) -> str:
    finite = [value for values in chart.curves.values() for value in values if math.isfinite(value)]
    if not chart.x or not finite:
        return f"<figure><h2>{escape(chart.heading)}</h2><p>No numbers yet.</p></figure>"
    y_ticks = _ticks(min(finite), max(finite))
    x_low, x_high = min(chart.x), max(chart.x)
    if x_low == x_high:
        x_low, x_high = x_low - 0.5, x_high + 0.5
    low, high = y_ticks[0], y_ticks[-1]

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            _LEFT + (x - x_low) / (x_high - x_low) * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - (y - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM),
        )

    drawn = [_grid(at, chart, y_ticks, (x_low, x_high))]
    keys = []
    for number, (name, values) in enumerate(chart.curves.items()):
        turn = (number + number // len(_COLOURS)) % len(_DASHES)  # the seventh has the first one's colour, other dashes
        style = f'stroke="{_COLOURS[number % len(_COLOURS)]}" stroke-dasharray="{_DASHES[turn]}"'
        drawn.append(_curve(at, chart, name, values, style))
        line = f'<svg viewBox="0 0 34 10" style="width:34px" aria-hidden="true"><path d="M0 5H34" {style}'
        keys.append(f'<span>{line} stroke-width="2.5" fill="none"/></svg> {escape(name)}</span>')
    if chart.marked is not None:
        line = '<svg viewBox="0 0 34 14" style="width:34px" aria-hidden="true"><path class="mark" d="M17 0V14"/></svg>'
        keys.append(f"<span>{line} {escape(chart.marked_as)}: {escape(chart.x_name)} {chart.marked:g}</span>")
    return (
        f"<figure><h2>{escape(chart.heading)}</h2>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(_in_words(chart))}">'
        f"{''.join(drawn)}</svg><figcaption>{''.join(keys)}</figcaption></figure>"
    )


def _grid(at: _Places, chart: Chart, y_ticks: Sequence[float], x_range: tuple[float, float]) -> str:
    drawn = []
    for tick in y_ticks:
        (left, y), (right, _) = at(x_range[0], tick), at(x_range[1], tick)
        drawn.append(f'<path class="grid" d="M{left:.1f} {y:.1f}H{right:.1f}"/>')
        drawn.append(f'<text x="{left - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{tick:.6g}</text>')
    for tick in (tick for tick in _ticks(*x_range) if x_range[0] <= tick <= x_range[1] and tick == round(tick)):
        x, y = at(tick, y_ticks[0])
        drawn.append(f'<text x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle">{tick:g}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    drawn.append(f'<text x="{middle:.0f}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(chart.x_name)}</text>')
    if chart.marked is not None:
        x, y = at(chart.marked, y_ticks[0])
        drawn.append(f'<path class="mark" d="M{x:.1f} {_TOP}V{y:.1f}"/>')
    return "".join(drawn)


def _curve(at: _Places, chart: Chart, name: str, values: Sequence[float], style: str) -> str:
    path, dots, pen_is_down = [], [], False
    for x, value in zip(chart.x, values, strict=True):
        if not math.isfinite(value):
            pen_is_down = False
            continue
        place = at(x, value)
        path.append(f"{'L' if pen_is_down else 'M'}{place[0]:.1f} {place[1]:.1f}")
        pen_is_down = True
        if len(chart.x) <= _MOST_MARKS:
            said = escape(f"{chart.x_name} {x:g}, {name}: {value:.6g}")
            colour = style.split('"')[1]
            dots.append(
                f'<circle cx="{place[0]:.1f}" cy="{place[1]:.1f}" r="3" fill="{colour}"><title>{said}</title></circle>'
            )
    return f'<path d="{"".join(path)}" {style} stroke-width="2.2" fill="none"/>{"".join(dots)}'


def _in_words(chart: Chart) -> str:
    """For whoever cannot see it: first, least, greatest and last of each curve."""
    said = []
    for name, values in chart.curves.items():
        finite = [value for value in values if math.isfinite(value)]
        if finite:
            said.append(
                f"{name} from {finite[0]:.4g} to {finite[-1]:.4g}, between {min(finite):.4g} and {max(finite):.4g}"
            )
    return f"{chart.heading} over {chart.x_name}: {'; '.join(said)}"


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers around a range, about five of them: multiples of 1, 2 or 5 times a power of ten."""
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-300):
        margin = abs(low) * 0.1 or 0.5
        low, high = low - margin, high + margin
    raw = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def _table(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    names = "".join(f"<th>{escape(name)}</th>" for name in rows[0])
    lines = [
        "".join(
            f"<td>{value:.6g}</td>" if isinstance(value, float) else f"<td>{escape(str(value))}</td>"
            for value in row.values()
        )
        for row in rows
    ]
    return f'<div class="wide"><table><tr>{names}</tr>{"".join(f"<tr>{line}</tr>" for line in lines)}</table></div>'
