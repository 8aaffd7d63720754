"""A picture of the most frequent motifs: each count has its own colour, and large ones a number.

In go the first motifs of a table; out comes a matplotlib `Figure` with one small panel for each,
its rank, how often it occurs, and its share of all patches. Silence is white, so what is inked are
spikes; the colour bar names every count that is shown.
"""

import io
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure

from sensojax.errors import UserError
from sensojax.spikes.motifs.table import Motifs
from sensojax.writing import write_bytes_atomically

DPI = 160
WIDTH = 9.4  # inches
COLUMNS = 4
INK, GRAY, GRID = "#222222", "#767676", "#d0d0d0"
NUMBERED_FROM = 2  # counts that are also written into their cell
# Places on the colour map of counts 1, 2, ...; larger ones share the last and are told by number.
PLACES = (0.32, 0.48, 0.6, 0.7, 0.79, 0.87, 0.94, 1.0)
STYLE = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.edgecolor": GRAY,
    "axes.linewidth": 0.8,
    "text.color": INK,
    "figure.facecolor": "white",
}


def write(path: Path, motifs: Motifs) -> None:
    """Writes the picture of these motifs as a PNG file, whole or not at all."""
    with matplotlib.rc_context(STYLE):
        file = io.BytesIO()
        draw(motifs).savefig(file, format="png", dpi=DPI, bbox_inches="tight", pad_inches=0.08)
    write_bytes_atomically(path, file.getvalue())


@matplotlib.rc_context(STYLE)
def draw(motifs: Motifs) -> Figure:
    """One panel for each motif, by rank; UserError when there is none."""
    number = len(motifs.motifs)
    if not number:
        raise UserError("found a table without motifs, expected at least one to draw.")
    patch, largest = motifs.patch, int(motifs.motifs.max())
    columns = min(COLUMNS, number)
    rows = -(-number // columns)
    cell = WIDTH / COLUMNS * 0.86 / max(patch.bins, 4)  # inches
    height = rows * (patch.neurons * cell + 0.42) + 0.75
    figure = Figure(figsize=(max(WIDTH * columns / COLUMNS, 4.5), height), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.08)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    colors, norm = _colors(largest)
    for rank, panel in enumerate(panels):
        if rank >= number:
            panel.set_visible(False)
            continue
        counts = motifs.motifs[rank].reshape(patch.neurons, patch.bins)
        _panel(panel, counts, colors, norm, cell)
        panel.set_title(_title(rank, motifs), pad=3)
    _legend(figure, panels[:number], largest, colors, norm)
    figure.suptitle(_told(motifs), x=0.01, ha="left", fontsize=9, color=GRAY)
    return figure


def _colors(largest: int) -> tuple[ListedColormap, BoundaryNorm]:
    """White for silence, then one colour for each count, the same in every picture."""
    steps = max(min(largest, len(PLACES)), 1)
    inked = matplotlib.colormaps["YlGnBu"](PLACES)
    norm = BoundaryNorm(np.arange(steps + 2) - 0.5, steps + 1)
    return ListedColormap(["white", *inked[:steps]]), norm


def _panel(panel, counts: np.ndarray, colors, norm, cell: float) -> None:
    neurons, bins = counts.shape
    shown = np.minimum(counts, len(colors.colors) - 1)
    panel.imshow(shown, cmap=colors, norm=norm, interpolation="nearest", aspect="equal")
    panel.set_anchor("W")
    panel.set_xticks(np.arange(bins + 1) - 0.5, minor=True)
    panel.set_yticks(np.arange(neurons + 1) - 0.5, minor=True)
    panel.grid(which="minor", color=GRID, linewidth=0.5)
    panel.tick_params(which="both", length=0, labelbottom=False, labelleft=False)
    panel.set_xticks([])
    panel.set_yticks([])
    for y, x in zip(*np.nonzero(counts >= NUMBERED_FROM), strict=True):
        light = PLACES[shown[y, x] - 1] < 0.55
        size = min(8.0, 72 * cell * 0.6 / len(str(counts[y, x])))
        color = INK if light else "white"
        panel.text(x, y, counts[y, x], ha="center", va="center", color=color, fontsize=size)


def _title(rank: int, motifs: Motifs) -> str:
    share = motifs.frequency[rank] / motifs.about["patches"]
    return f"{rank + 1}.  {_short(motifs.frequency[rank])}  ({_digits(share * 100)} %)"


def _short(number: int) -> str:
    """A whole number in at most five characters and its unit."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= 0.9995 * size:  # less is told in three digits of the unit below
            return f"{_digits(number / size)} {unit}"
    return str(number)


def _digits(value: float) -> str:
    """Three digits, also where they are zeros, so that numbers below each other look alike."""
    return f"{value:#.3g}".rstrip(".")


def _told(motifs: Motifs) -> str:
    about, covered = motifs.about, motifs.frequency.sum() / motifs.about["patches"]
    return (
        f"The {len(motifs.motifs)} most frequent of {about['motifs']:,} motifs "
        f"({motifs.patch.neurons} x {motifs.patch.bins} bins of {about['bin_s'] * 1000:g} ms): "
        f"{_digits(covered * 100)} % of {_short(about['patches'])} patches"
    )


def _legend(figure: Figure, panels, largest: int, colors, norm) -> None:
    last = len(colors.colors) - 1
    bar = figure.colorbar(
        ScalarMappable(norm, colors),
        ax=list(panels),
        orientation="horizontal",
        location="bottom",
        aspect=3 * (last + 1),
        shrink=min(0.06 * (last + 1), 0.9),
        anchor=(0.0, 0.0),
        ticks=np.arange(last + 1),
        label="spikes in a bin",
    )
    labels = [str(each) for each in range(last + 1)]
    if largest > last:
        labels[-1] += " and more"
    bar.set_ticklabels(labels)
    bar.ax.tick_params(which="both", length=0)
    bar.outline.set_linewidth(0.5)
