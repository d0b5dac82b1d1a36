"""Plots of the results. Without matplotlib there are none; the tables have the same numbers."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ADMITTED, REFUSED, LIMIT, OURS, THEIRS = "#3b7dd8", "#d1495b", "#444444", "#2a9d8f", "#9aa5b1"

Lane = tuple[str, Sequence[int], Sequence[int], Sequence[float]]
"""A client's label, and for each second: calls admitted, calls refused, the limit."""


def bars(title: str, axis: str, rows: Sequence[tuple[str, float, bool]]) -> bytes | None:
    """Draw one bar for each (label, value, is it accucheck), longest first; the axis is logarithmic."""
    figure = _figure(9, 0.42 * len(rows) + 1.3)
    if figure is None:
        return None
    axes = figure.add_subplot()
    rows = sorted(rows, key=lambda row: row[1])
    colors = [OURS if row[2] else THEIRS for row in rows]
    axes.barh([row[0] for row in rows], [row[1] for row in rows], color=colors)
    for place, (_, value, _) in enumerate(rows):
        axes.text(value, place, f" {value:,.0f}", va="center", fontsize=8)
    axes.set_xscale("log")
    axes.set_xlim(right=max(row[1] for row in rows) * 2.5)
    axes.set_xlabel(axis)
    axes.set_title(title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    return _png(figure)


def lanes(title: str, grid: Sequence[tuple[str, Sequence[Lane]]]) -> bytes | None:
    """Draw calls per second over time: one row for each case, one column for each client."""
    columns = max(len(row) for _, row in grid)
    figure = _figure(2.7 * columns + 0.8, 1.75 * len(grid) + 0.9)
    if figure is None:
        return None
    axes: Any = figure.subplots(len(grid), columns, squeeze=False)
    for line, (case, row) in zip(axes, grid, strict=True):
        for axis in line[len(row) :]:
            axis.set_axis_off()
        for column, (axis, (label, admitted, refused, limit)) in enumerate(zip(line, row, strict=False)):
            seconds = range(len(admitted))
            axis.fill_between(seconds, admitted, step="post", color=ADMITTED, alpha=0.85, linewidth=0)
            axis.step(seconds, refused, where="post", color=REFUSED, linewidth=1)
            axis.step(range(len(limit)), limit, where="post", color=LIMIT, linewidth=1, linestyle=":")
            axis.set_ylim(0, max(limit) * 2)
            axis.set_title(label, fontsize=7, pad=3)
            axis.tick_params(labelsize=6)
            axis.spines[["top", "right"]].set_visible(False)
            if column == 0:
                axis.set_ylabel(case, fontsize=7)
    legend = "admitted (filled), refused (line), limit (dotted); calls/s over seconds"
    figure.suptitle(f"{title}: {legend}", fontsize=10)
    return _png(figure)


def curves(
    title: str, x_label: str, y_label: str, series: Sequence[tuple[str, Sequence[float], Sequence[float]]]
) -> bytes | None:
    """Draw one line for each (label, x values, y values); x is logarithmic."""
    figure = _figure(8, 4)
    if figure is None:
        return None
    axes = figure.add_subplot()
    for label, x_values, y_values in series:
        axes.plot(x_values, y_values, marker="o", markersize=4, label=label)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.set_title(title, loc="left", fontsize=11)
    axes.legend(fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return _png(figure)


def _figure(width: float, height: float) -> Figure | None:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    return Figure(figsize=(width, height), dpi=130, layout="constrained")


def _png(figure: Figure) -> bytes:
    image = io.BytesIO()
    figure.savefig(image, format="png", metadata={"Software": None})
    return image.getvalue()
