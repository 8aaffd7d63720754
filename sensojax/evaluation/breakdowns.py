"""Pictures of tables: scores by kind of stimulus, tier, area or layer, and scores by depth.

In goes a `tables.Table`; out comes a matplotlib `Figure`, or None where there is nothing to draw.
"""

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from sensojax.evaluation.figures import BLUE, GRAY, INK, ORANGE, PALE, STYLE, WIDTH
from sensojax.evaluation.measures import MEASURES, Measure
from sensojax.evaluation.mouse_score import GROUPS
from sensojax.evaluation.tables import ALL_MICE, IN_DOMAIN, Cell, Table, words_of

BAR = 0.62  # of the distance between columns
LIGHT = "#f2f2f2"


def figure(table: Table) -> Figure | None:
    """The picture of a table, None of one by mouse and of an empty one."""
    draw = {"depth": _depths} | dict.fromkeys(("kind", "tier", *GROUPS), _columns)
    draw = draw.get(table.by)
    return draw(table) if draw and table.cells else None


def caption(table: Table) -> str:
    """What the picture shows, in words."""
    measure = _measure(table).words
    if table.by == "depth":
        return (
            f"Mean {measure} of the neurons at each depth below the surface, for each mouse (thin) "
            "and over the neurons of all of them (thick)."
        )
    ceiling = ", in front of the ceiling that the noiseless rates reach" if _ceilings(table) else ""
    dots = "; each dot is one mouse, always at the same place of its column" * (len(table.rows) > 1)
    lacking = len(table.cells) < len(table.rows) * len(table.columns)
    return (
        f"Mean {measure} over the neurons of all mice (bar){ceiling}{dots}."
        + " Not every mouse saw everything." * lacking
    )


@matplotlib.rc_context(STYLE)
def _columns(table: Table) -> Figure:
    """Bars of all mice, dots of each, and the ceilings."""
    mice = [row for row in table.rows if row != ALL_MICE]
    whole = ALL_MICE if ALL_MICE in table.rows else mice[0]
    drawn = Figure(figsize=(WIDTH, 3.9), layout="constrained")
    panel = drawn.subplots()
    places = dict(zip(mice, np.linspace(-0.2, 0.2, len(mice)), strict=True))
    lowest = 0.0
    for x, column in enumerate(table.columns):
        cell = table.cells.get((whole, column))
        if cell is None:
            continue
        if cell.ceiling is not None:
            panel.bar(x, cell.ceiling, BAR, color=LIGHT, edgecolor=GRAY, linewidth=0.8)
        inside = table.by != "kind" or column == IN_DOMAIN
        panel.bar(x, cell.value, BAR, color=BLUE if inside else ORANGE, alpha=0.85, linewidth=0)
        seen = [mouse for mouse in mice if (mouse, column) in table.cells]
        values = [table.cells[mouse, column].value for mouse in seen]
        lowest = min(lowest, cell.value, *values)
        if len(mice) > 1:
            look = {"s": 18, "color": INK, "edgecolor": "white", "linewidths": 0.5, "zorder": 3}
            at = [x + places[mouse] for mouse in seen]
            panel.scatter(at, values, clip_on=False, **look)
    panel.set_xticks(
        range(len(table.columns)),
        [_label(column, table.cells.get((whole, column))) for column in table.columns],
    )
    panel.set_xlim(-0.6, len(table.columns) - 0.4)
    panel.set_ylim(bottom=1.3 * lowest)
    panel.tick_params(axis="x", length=0)
    panel.axhline(0, color=GRAY, linewidth=0.8)
    panel.spines["bottom"].set_visible(False)
    panel.set_ylabel(_measure(table).words)
    _legend(drawn, table, len(mice))
    return drawn


@matplotlib.rc_context(STYLE)
def _depths(table: Table) -> Figure:
    """Depth downwards, the measure to the right; a line for each mouse."""
    depths = np.array([float(name.split()[0].split("-")[0]) for name in table.rows])
    drawn = Figure(figsize=(WIDTH * 0.62, 0.9 + 0.3 * max(len(depths), 5)), layout="constrained")
    panel = drawn.subplots()
    mice = [column for column in table.columns if column != ALL_MICE]
    for column in table.columns:
        cells = [table.cells.get((row, column)) for row in table.rows]
        values = [np.nan if cell is None else cell.value for cell in cells]
        thick = column == ALL_MICE or len(mice) == 1
        look = {"color": BLUE, "linewidth": 2.2, "marker": "o", "markersize": 5, "zorder": 3}
        thin = {"color": GRAY, "linewidth": 0.8, "marker": "o", "markersize": 2.5, "alpha": 0.7}
        words = f"all {len(mice)} mice" if column == ALL_MICE else "one mouse"
        panel.plot(values, depths, label=words, **(look if thick else thin))
        if thick:
            for cell, depth in zip(cells, depths, strict=True):
                if cell is not None:
                    panel.annotate(
                        f"n = {cell.num_neurons:,}",
                        (1, depth),
                        (4, 0),
                        xycoords=("axes fraction", "data"),
                        textcoords="offset points",
                        va="center",
                        color=GRAY,
                    )
    panel.set_xlim(left=min(0.0, panel.get_xlim()[0]))
    panel.set_yticks(depths, table.rows)
    panel.invert_yaxis()
    panel.grid(axis="y", color=PALE, linewidth=0.6)
    panel.set_axisbelow(True)
    panel.set_xlabel(_measure(table).words)
    panel.set_ylabel("depth below the surface")
    if len(mice) > 1:
        named = dict(zip(*reversed(panel.get_legend_handles_labels()), strict=True))
        drawn.legend(named.values(), named.keys(), loc="outside upper right", ncols=2)
    return drawn


def _legend(drawn: Figure, table: Table, num_mice: int) -> None:
    inside = Patch(facecolor=BLUE, alpha=0.8)
    outside = Patch(facecolor=ORANGE, alpha=0.8)
    handles = {"in-domain": inside, "out of domain": outside} if table.by == "kind" else {}
    if num_mice > 1:
        handles["one mouse"] = Line2D([], [], color=INK, marker="o", linestyle="", markersize=4)
    if _ceilings(table):
        handles["ceiling"] = Patch(facecolor=LIGHT, edgecolor=GRAY)
    if handles:
        drawn.legend(handles.values(), handles.keys(), loc="outside upper right", ncols=4)


def _ceilings(table: Table) -> bool:
    return any(cell.ceiling is not None for cell in table.cells.values())


def _label(column: str, cell: Cell | None) -> str:
    """A column's name in short lines, and the number over all mice."""
    name = words_of(column).replace("+", " +\n") + "\n"
    if cell is None:
        return f"{name}-"
    part = cell.fraction_of_ceiling
    return f"{name}{cell.value:.3f}" + ("" if part is None else f"\n({part:.2f} of ceiling)")


def _measure(table: Table) -> Measure:
    return MEASURES[next(iter(table.cells.values())).measure]
