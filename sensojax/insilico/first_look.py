"""One page on one mouse of a trained model: what its neurons respond to, and where they look.

In goes a `Look`: stills, predicted responses, positions in cortex and in the image, and the
derivatives of some neurons; out comes a matplotlib `Figure`. Nothing is computed from a model here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

from sensojax.evaluation.figures import BLUE, GRAY, INK, ORANGE, PALE, STYLE, WIDTH
from sensojax.evaluation.maps import position_colors

Z_SHOWN = 2.5  # standard deviations at which colours end
EXAMPLES = 10  # neurons whose derivatives are shown


@dataclass(frozen=True, eq=False)
class Look:
    """What is known of one mouse.

    title: of the page. stills: [image height width] as the model sees them, named by labels.
    deviations: predicted responses to them, [image neuron], in standard deviations from each
    neuron's mean over `num_reference` images. cortex: [neuron 2], None where nobody knows; unit: of
    it. centres: [neuron 2], the pixel (x, y) that each readout looks at, None for masks.
    derivatives: [some height width] of the neurons in `chosen`, averaged over stills; field_centres
    [some 2] and reach [some]: of their energy, pixels. degrees_per_pixel: 0 where it is not known.
    """

    title: str
    stills: np.ndarray
    labels: Sequence[str]
    deviations: np.ndarray
    num_reference: int
    cortex: np.ndarray | None
    unit: str
    centres: np.ndarray | None
    chosen: np.ndarray
    derivatives: np.ndarray
    field_centres: np.ndarray
    reach: np.ndarray
    degrees_per_pixel: float = 0.0


@matplotlib.rc_context(STYLE)
def figure(look: Look) -> Figure:
    """The page; parts that are not known are left out."""
    parts = [(_responses, 3.35), (_positions, 2.75), (_reach, 3.4)]
    if look.centres is None:
        del parts[1]
    heights = [height for _, height in parts]
    page = Figure(figsize=(WIDTH, sum(heights) + 0.3), layout="constrained")
    page.suptitle(look.title, x=0.01, ha="left", fontsize=11)
    rows = page.subfigures(len(parts), 1, height_ratios=heights, hspace=0.05)
    for (draw, _), row in zip(parts, np.atleast_1d(rows), strict=True):
        draw(row, look)
    return page


def _responses(part, look: Look) -> None:
    """The stills, and below each the neurons where they lie, coloured by their response to it."""
    places, name = _places(look)
    _caption(
        part,
        f"Predicted responses of {look.deviations.shape[1]:,} neurons, in standard deviations from "
        f"each neuron's mean over {look.num_reference} images",
    )
    panels = part.subplots(2, len(look.stills), squeeze=False, height_ratios=(0.6, 1))
    limit = np.abs(look.stills).max()
    for index, (still, label) in enumerate(zip(look.stills, look.labels, strict=True)):
        shown, below = panels[:, index]
        shown.imshow(still, cmap="gray", vmin=-limit, vmax=limit)
        shown.set_title(label)
        shown.set_axis_off()
        look_of = dict(cmap="RdBu_r", vmin=-Z_SHOWN, vmax=Z_SHOWN)
        points = _scatter(below, places, c=look.deviations[index], **look_of)
        below.set_xlabel(f"x in {name}")
    panels[1, 0].set_ylabel(f"y in {name}")
    bar = part.colorbar(points, ax=panels[1].tolist(), shrink=0.8, aspect=18, extend="both")
    bar.set_label("standard deviations")
    bar.outline.set_visible(False)


def _positions(part, look: Look) -> None:
    """Where in the image neurons look: over cortex, horizontally and vertically, and in it."""
    _caption(part, "Where in the image the readout of each neuron looks")
    panels = part.subplots(1, 3, width_ratios=(1, 1, 1.45))
    height, width = look.stills.shape[1:]
    if look.cortex is None:
        colors = position_colors(look.centres)
        for panel in panels[:2]:
            panel.set_axis_off()
        panels[0].text(0, 0.5, "positions in cortex not known", transform=panels[0].transAxes)
    else:
        colors = position_colors(look.cortex)
        for axis, word in enumerate(("horizontal", "vertical")):
            values = look.centres[:, axis]
            low, high = np.quantile(values, (0.01, 0.99))
            panel = panels[axis]
            points = _scatter(panel, look.cortex, c=values, cmap="viridis", vmin=low, vmax=high)
            bar = part.colorbar(points, ax=panel, shrink=0.8, aspect=18, extend="both")
            bar.set_label(f"{word} position (pixel)")
            bar.outline.set_visible(False)
            panel.set(xlabel=f"x in cortex{look.unit}", ylabel=f"y in cortex{look.unit}")
        _key(panels[2], look.cortex, colors)
    panels[2].add_patch(Rectangle((-0.5, -0.5), width, height, fill=False, edgecolor=PALE))
    _scatter(panels[2], look.centres, c=colors)
    half = 0.5
    panels[2].set(xlabel="x in the image (pixel)", ylabel="y in the image (pixel)")
    panels[2].set(xlim=(-1 - half, width + half), ylim=(height + half, -1 - half))


def _key(panel, cortex: np.ndarray, colors: np.ndarray) -> None:
    """A small cortex beside the image, in the colours that its neurons have in the image."""
    inset = panel.inset_axes((0.8, 0.66, 0.19, 0.32))
    _scatter(inset, cortex, c=colors)
    inset.set(xticks=[], yticks=[], title="cortex")
    inset.title.set_fontsize(8)
    inset.spines[:].set_visible(False)


def _reach(part, look: Look) -> None:
    """Some neurons' derivatives, and how far from their centres half of the energy lies."""
    known = np.flatnonzero(np.isfinite(look.reach))
    half = np.clip(np.ceil(3.5 * np.median(look.reach[known])), 4, None) if len(known) else 4
    cross = "" if look.centres is None else ", the cross is where its readout looks"
    _caption(
        part,
        "Spatial reach: how a neuron's response changes with each pixel (orange up, purple down), "
        f"{2 * half:.0f} pixels wide;\nthe circle holds half of the energy{cross}",
    )
    left, right = part.subfigures(1, 2, width_ratios=(1.9, 1))
    order = known[np.argsort(look.reach[known])]
    shares = np.linspace(0.05, 0.95, EXAMPLES)
    shown = order[np.unique(np.rint(shares * (len(order) - 1)).astype(int))] if len(order) else []
    panels = left.subplots(2, EXAMPLES // 2).ravel()
    for panel, index in zip(panels, shown, strict=False):
        _example(panel, look, index, half)
    for panel in panels[len(shown) :]:
        panel.set_visible(False)
    _histogram(right.subplots(), look, known)


def _example(panel, look: Look, index: int, half: float) -> None:
    picture, centre = look.derivatives[index], look.field_centres[index]
    limit = np.abs(picture).max()
    panel.imshow(picture, cmap="PuOr_r", vmin=-limit, vmax=limit)
    panel.add_patch(Circle(centre, look.reach[index], fill=False, edgecolor=INK, linewidth=0.9))
    if look.centres is not None:
        panel.plot(*look.centres[look.chosen[index]], "+", color=INK, markersize=6)
    x, y = centre
    panel.set(xlim=(x - half, x + half), ylim=(y + half, y - half), facecolor=PALE)
    panel.set(xticks=[], yticks=[])
    panel.spines[:].set(visible=True, edgecolor=PALE)
    panel.set_title(f"neuron {look.chosen[index]}\n{look.reach[index]:.1f} px", fontsize=8)


def _histogram(panel, look: Look, known: np.ndarray) -> None:
    values = look.reach[known]
    panel.hist(values, bins=np.linspace(0, 1.05 * values.max(initial=1.0), 25), color=BLUE)
    if len(values):
        middle = np.median(values)
        panel.axvline(middle, color=ORANGE, linewidth=1.6)
        said = f"median {middle:.1f} px"
        if look.degrees_per_pixel:
            said += f" ({middle * look.degrees_per_pixel:.0f}°)"
        panel.set_title(said)
    panel.set(xlabel="radius of half the energy (pixel)", ylabel=f"of {len(known):,} neurons")


def _places(look: Look) -> tuple[np.ndarray, str]:
    """Where neurons are drawn: in cortex, in the image, or in a square in the order of the file."""
    if look.cortex is not None:
        return look.cortex, f"cortex{look.unit}"
    if look.centres is not None:
        return look.centres * (1, -1), "the image (pixel)"
    count = look.deviations.shape[1]
    side = int(np.ceil(np.sqrt(count)))
    return np.stack(np.divmod(np.arange(count), side)[::-1], axis=-1), "the order of the file"


def _scatter(panel, places: np.ndarray, **colors):
    """[neuron 2] on equal axes; deep and shallow neurons in random order."""
    order = np.random.default_rng(0).permutation(len(places))
    colors["c"] = np.asarray(colors["c"])[order]
    bounds = panel.get_window_extent().transformed(panel.figure.dpi_scale_trans.inverted())
    area = float(np.clip(9000 * bounds.width / max(len(order), 1), 1.6, 22))
    points = panel.scatter(*places[order].T, s=area, linewidths=0, rasterized=True, **colors)
    panel.set_aspect("equal")
    panel.locator_params(nbins=3)
    return points


def _caption(part, words: str) -> None:
    part.suptitle(words, x=0.01, ha="left", fontsize=9, color=GRAY)
