"""Rasters: who fired when, a panel for each stretch of a session.

In go counts of a window, and how its neurons are grouped; out comes a matplotlib `Figure`. Every
pixel is as dark as the neurons and bins under it are active, so a window of an hour is as honest as
one of ten seconds; above it runs the mean rate of all neurons, and a band of colours beside it
names brain areas (or probes) where they are known.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from sensojax.spikes.counts import Counts

DPI = 160
WIDTH, PANEL_HEIGHT = 13.0, 3.1  # inches
FEW = 12  # neurons that are drawn apart
PIXELS = (300, 640)  # the most rows and columns of a panel's image
INK, GRAY, PALE = "#1d2a44", "#6b7280", "#d5d9e0"
PAPER_TO_INK = LinearSegmentedColormap.from_list("ink", ["#ffffff", "#7f97bd", "#2f4a78", INK])
# Okabe and Ito (2008), told apart by colour-blind readers too; repeated where there are more.
GROUPS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999")
STYLE = {
    "font.family": "sans-serif",
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 3,
    "axes.labelsize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "axes.edgecolor": GRAY,
    "axes.linewidth": 0.6,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": GRAY,
    "ytick.color": GRAY,
    "figure.facecolor": "white",
}


@dataclass(frozen=True)
class Panel:
    """title: of the panel. counts: of the window. start_s: when it begins in the session.

    groups: the group of each neuron, [neuron] str, or None; neurons of a group are shown together.
    """

    title: str
    counts: Counts
    start_s: float
    groups: np.ndarray | None = None


@matplotlib.rc_context(STYLE)
def draw(panels: Sequence[Panel], title: str) -> Figure:
    """All panels in a grid that is about as wide as it is high."""
    columns = min(3, max(1, round(np.sqrt(len(panels)))))
    rows = -(-len(panels) // columns)
    width = WIDTH if columns > 1 else WIDTH * 0.7
    figure = Figure(figsize=(width, 0.5 + rows * PANEL_HEIGHT), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.03, wspace=0, hspace=0.02)
    figure.suptitle(title, x=0.008, ha="left", fontsize=11, fontweight="bold")
    grid = figure.add_gridspec(rows, columns)
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        _panel(figure, grid[row, column], panel, with_label=column == 0)
    # One for all: a label of its own would make the last panel of a column lower than others.
    figure.supxlabel("seconds of the session", fontsize=8, color=INK)
    return figure


def png(figure: Figure) -> bytes:
    """The figure as the content of a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI)
    return file.getvalue()


def density(counts: Counts, order: np.ndarray, pixels: tuple[int, int]) -> np.ndarray:
    """Mean count of the neurons and bins under each pixel, [row column], at most so many of them.

    order: the neurons from the lowest row up, [neuron].
    """
    rows, columns = min(counts.num_neurons, pixels[0]), min(counts.num_bins, pixels[1])
    place = np.empty(counts.num_neurons, np.int64)
    place[order] = np.arange(counts.num_neurons) * rows // counts.num_neurons
    column = counts.bin * columns // counts.num_bins
    cell = place[counts.neuron] * columns + column
    total = np.bincount(cell, counts.count, rows * columns).reshape(rows, columns)
    heights = np.bincount(place, minlength=rows)
    widths = np.bincount(np.arange(counts.num_bins) * columns // counts.num_bins, minlength=columns)
    return total / np.outer(heights, widths)


def grouped(groups: np.ndarray | None, num_neurons: int) -> tuple[np.ndarray, list]:
    """The order of neurons that keeps groups together, and (name, start, stop) of each group.

    Groups come by name, neurons without one ("") at the end; of one group alone there is no list.
    """
    if groups is None or len(set(groups.tolist())) < 2:
        return np.arange(num_neurons), []
    names = sorted(set(groups.tolist()), key=lambda name: (name == "", name))
    members = [np.flatnonzero(groups == name) for name in names]
    ends = np.cumsum([len(each) for each in members]).tolist()
    borders = zip(names, [0, *ends], ends, strict=False)
    return np.concatenate(members), list(borders)


def _panel(figure: Figure, place, panel: Panel, with_label: bool) -> None:
    inner = place.subgridspec(2, 1, height_ratios=(1, 6), hspace=0)
    trace, raster = figure.add_subplot(inner[0]), figure.add_subplot(inner[1])
    counts = panel.counts
    order, borders = grouped(panel.groups, counts.num_neurons)
    times = panel.start_s, panel.start_s + counts.num_bins * counts.bin_s
    image = density(counts, order, PIXELS)
    raster.imshow(
        image,
        cmap=PAPER_TO_INK,
        vmin=0,
        vmax=_darkest(image),
        aspect="auto",
        interpolation="nearest",
        origin="lower",
        extent=(*times, 0, counts.num_neurons),
    )
    _band(raster, borders, counts.num_neurons)
    for neuron in range(1, counts.num_neurons) if counts.num_neurons <= FEW else ():
        raster.axhline(neuron, color="white", linewidth=2)
    raster.set_yticks([])
    raster.spines[:].set_visible(False)
    raster.spines["bottom"].set_visible(True)
    raster.set_xlim(times)
    raster.xaxis.set_major_locator(MaxNLocator(7, integer=times[1] - times[0] > 7))
    if with_label and not borders:
        raster.set_ylabel("neurons")
    trace.set_title(panel.title)
    _rate(trace, counts, times)


def _darkest(image: np.ndarray) -> float:
    """The density drawn as full ink."""
    active = image[image > 0]
    if not len(active):
        return 1.0
    busy = float(np.quantile(active, 0.97))
    # Where most pixels are white, one busy neuron must not make single spikes too pale to see.
    return busy if len(active) > image.size / 2 else min(busy, 2.5 * float(np.median(active)))


def _rate(axes: Axes, counts: Counts, times: tuple[float, float]) -> None:
    """Mean rate of all neurons, in at most as many steps as the image has columns."""
    steps = min(counts.num_bins, PIXELS[1] // 4)
    step = counts.bin * steps // counts.num_bins
    widths = np.bincount(np.arange(counts.num_bins) * steps // counts.num_bins, minlength=steps)
    spikes = np.bincount(step, counts.count, steps)
    rate = spikes / (widths * counts.bin_s * max(counts.num_neurons, 1))
    edges = np.linspace(*times, steps + 1)
    axes.stairs(rate, edges, fill=True, color=PALE)
    axes.stairs(rate, edges, color=INK, linewidth=0.7, baseline=None)
    axes.set_xlim(times)
    highest = float(rate.max(initial=0)) or 1.0
    axes.set_ylim(0, highest * 1.1)
    said = f"at most {highest:.2g} spikes/s per neuron"
    axes.set_title(said, loc="right", fontsize=7, color=GRAY)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _band(axes: Axes, borders: list, num_neurons: int) -> None:
    """A strip of colours left of a raster, with the names of groups that have room for one."""
    beside = axes.get_yaxis_transform()  # x in widths of the raster, y in neurons
    for number, (name, start, stop) in enumerate(borders):
        color = GROUPS[number % len(GROUPS)]
        place, height = (-0.022, start), stop - start
        axes.add_patch(
            Rectangle(place, 0.016, height, transform=beside, color=color, lw=0, clip_on=False)
        )
        if height > 0.045 * num_neurons:
            middle = (start + stop) / 2
            axes.text(-0.03, middle, name or "?", transform=beside, ha="right", va="center")
    for _, start, _ in borders[1:]:
        axes.axhline(start, color=PALE, linewidth=0.6)
