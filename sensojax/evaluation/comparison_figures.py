"""The picture of a comparison: each run's score and its difference to the base, best on top.

In goes a `Table` of `comparison`; out comes a matplotlib `Figure` with one row of two panels per
tier, or None where nothing was scored.
"""

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from sensojax.evaluation.comparison import Cell, Row, Table
from sensojax.evaluation.figures import BLUE, GRAY, INK, ORANGE, PALE, STYLE, WIDTH

ROW_HEIGHT = 0.28  # inches for each run
LONGEST_NAME = 34  # characters: more would leave no room for the panels


@matplotlib.rc_context(STYLE)
def scores_and_differences(table: Table, words: str) -> Figure | None:
    """Dots with 95 % intervals; small dots are single seeds, a dashed line is the ceiling.

    words: what the numbers are.
    """
    columns = {name: _sorted(table, name) for name in table.columns}
    columns = {name: rows for name, rows in columns.items() if rows}
    if not columns:
        return None
    heights = [0.95 + ROW_HEIGHT * len(rows) for rows in columns.values()]
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.45), layout="constrained")
    figure.get_layout_engine().set(wspace=0.04)
    panels = figure.subplots(len(columns), 2, squeeze=False, height_ratios=heights)
    for (name, rows), (scores, differences) in zip(columns.items(), panels, strict=True):
        cells = [row.cells[name] for row in rows]
        _scores(scores, table, rows, cells)
        _differences(differences, table, rows, cells)
        neurons = sum(table.columns[name].values())
        scores.set_title(f"{name}, mean of {neurons:,} neurons")
        scores.set_xlabel(words)
        differences.set_title(f"{name}, difference to {_short(table.base)}")
        differences.set_xlabel("paired difference")
    _legend(figure, [cell for rows in columns.values() for row in rows for cell in [row.cells]])
    return figure


def _sorted(table: Table, column: str) -> list[Row]:
    """The rows that have a score, the best one last, so that it is drawn on top."""
    rows = [row for row in table.rows if row.cells[column]]
    return sorted(rows, key=lambda row: row.cells[column].mean)


def _scores(panel, table: Table, rows: list[Row], cells: list[Cell]) -> None:
    for y, (row, cell) in enumerate(zip(rows, cells, strict=True)):
        color = _color(table, row)
        if cell.spread is not None:
            each = list(cell.of_runs.values())
            panel.plot(each, np.full(len(each), y - 0.28), ".", color=GRAY, markersize=5, zorder=2)
        _dot(panel, y, cell.mean, cell.low, cell.high, color)
    if cells[0].ceiling is not None:  # the same for all, since the neurons are
        panel.axvline(cells[0].ceiling, color=INK, linewidth=1, linestyle=(0, (6, 3)))
    _axes(panel, [_short(row.name) for row in rows])


def _differences(panel, table: Table, rows: list[Row], cells: list[Cell]) -> None:
    panel.axvline(0, color=ORANGE, linewidth=1, zorder=1)
    for y, (row, cell) in enumerate(zip(rows, cells, strict=True)):
        if cell.difference is not None:
            _dot(panel, y, cell.difference, cell.difference_low, cell.difference_high, BLUE)
        elif _is_base(table, row):
            panel.plot(0, y, "o", color=ORANGE, markersize=5, zorder=4)
    _axes(panel, [""] * len(rows))


def _dot(panel, y: int, mean: float, low: float, high: float, color: str) -> None:
    panel.plot([low, high], [y, y], color=color, linewidth=2, solid_capstyle="round", zorder=3)
    panel.plot(mean, y, "o", color=color, markersize=5, zorder=4)


def _axes(panel, labels: list[str]) -> None:
    panel.set_yticks(range(len(labels)), labels)
    panel.set_ylim(-0.6, len(labels) - 0.4)
    panel.tick_params(axis="y", length=0)
    panel.grid(axis="x", color=PALE, linewidth=0.6)
    panel.set_axisbelow(True)
    panel.spines["left"].set_visible(False)
    panel.xaxis.set_major_locator(MaxNLocator(5, steps=(1, 2, 2.5, 5, 10)))
    panel.margins(x=0.06)


def _legend(figure: Figure, cells: list) -> None:
    found = [cell for row in cells for cell in row.values() if cell]
    dot = {"marker": "o", "markersize": 5, "linewidth": 2}
    handles = [
        Line2D([], [], color=BLUE, label="mean and 95 % interval", **dot),
        Line2D([], [], color=ORANGE, label="base", **dot),
    ]
    if any(cell.spread is not None for cell in found):
        handles.append(Line2D([], [], color=GRAY, marker=".", linestyle="none", label="one seed"))
    if any(cell.ceiling is not None for cell in found):
        look = {"linewidth": 1, "linestyle": (0, (6, 3))}
        handles.append(Line2D([], [], color=INK, label="ceiling", **look))
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))


def _is_base(table: Table, row: Row) -> bool:
    return table.base == row.name


def _color(table: Table, row: Row) -> str:
    return ORANGE if _is_base(table, row) else BLUE


def _short(name: str) -> str:
    """The end of a long name, which tells runs apart better than its beginning."""
    return name if len(name) <= LONGEST_NAME else f"…{name[1 - LONGEST_NAME :]}"
