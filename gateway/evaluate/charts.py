"""SVG strip plots: one tick per photo, a box over the middle half of the values."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

_WIDTH, _ROW, _LABEL, _TOP, _BOTTOM = 720, 34, 190, 8, 26
_TICKS = 6


@dataclass(frozen=True, slots=True)
class Strip:
    """One row of a plot. marked: draw it in the accent colour."""

    label: str
    values: Sequence[float]
    marked: bool = False


def draw_strips(title: str, rows: Sequence[Strip]) -> str:
    """Return an <svg> of `rows` over one axis: a tick per value, a box over the quartiles, a median line."""
    values = np.concatenate([np.asarray(row.values, float) for row in rows])
    low, high = _axis_range(values)
    height = _TOP + _ROW * len(rows) + _BOTTOM

    def x(value: float) -> float:
        return _LABEL + (value - low) / (high - low) * (_WIDTH - _LABEL - 12)

    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title, quote=True)}">',
        f"<title>{escape(title)}</title>",
    ]
    axis = _TOP + _ROW * len(rows)
    for mark in np.linspace(low, high, _TICKS):
        parts.append(f'<line class="grid" x1="{x(mark):.1f}" x2="{x(mark):.1f}" y1="{_TOP}" y2="{axis}"/>')
        parts.append(f'<text class="axis" x="{x(mark):.1f}" y="{axis + 17}">{mark:.4g}</text>')
    for number, row in enumerate(rows):
        parts.append(_draw_strip(row, _TOP + _ROW * number + _ROW / 2, x))
    return "".join([*parts, "</svg>"])


def _draw_strip(row: Strip, middle: float, x: Callable[[float], float]) -> str:
    kind = "strip marked" if row.marked else "strip"
    parts = [
        f'<g class="{kind}">',
        f'<text class="label" x="{_LABEL - 10}" y="{middle + 4:.1f}">{escape(row.label)}</text>',
    ]
    for value in row.values:
        parts.append(
            f'<line class="tick" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{middle - 7:.1f}" '
            f'y2="{middle + 7:.1f}"/>'
        )
    if len(row.values):
        first, median, third = (x(float(v)) for v in np.percentile(row.values, (25, 50, 75)))
        parts.append(
            f'<rect class="box" x="{first:.1f}" y="{middle - 11:.1f}" width="{max(third - first, 1):.1f}" '
            'height="22" rx="2"/>'
            f'<line class="median" x1="{median:.1f}" x2="{median:.1f}" y1="{middle - 11:.1f}" '
            f'y2="{middle + 11:.1f}"/>'
        )
    return "".join([*parts, "</g>"])


def _axis_range(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> tuple[float, float]:
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    margin = 0.04 * (high - low) or max(abs(low), 1.0) * 0.04
    return low - margin, high + margin
