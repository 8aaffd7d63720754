"""Pictures over space: correlation over cortex, and where in the image each readout looks.

In go a `Score` and `Fields`; out come matplotlib `Figure`s or None where there is nothing to draw.
Positions share one colour code: lightness for one direction and blue to yellow for the other, both
uniform steps in OKLab, so that also readers without red-green vision see two dimensions.
"""

from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from sensojax.evaluation.figures import PALE, STYLE, WIDTH
from sensojax.evaluation.results import Fields, Score, short_name

CORTEX_X, CORTEX_Y = "x from centre (µm)", "y from centre (µm)"


@matplotlib.rc_context(STYLE)
def cortex(score: Score, fields: Mapping[str, Fields]) -> Figure | None:
    """Each mouse's neurons at their cortical position, coloured by correlation; one scale."""
    mice = [mouse for mouse in score.mice if mouse in fields and _shown(score, fields, mouse).any()]
    if not mice:
        return None
    columns = min(5, len(mice))
    rows = -(-len(mice) // columns)
    side = min((WIDTH - 1.4) / columns, 3.6)
    figure = Figure(figsize=(side * columns + 1.4, (side + 0.3) * rows + 0.5), layout="compressed")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    places = {m: _centred(fields[m].cortex_um[_shown(score, fields, m)]) for m in mice}
    values = {m: score.mice[m].correlation[_shown(score, fields, m)] for m in mice}
    low, high = np.quantile(np.concatenate(list(values.values())), (0.01, 0.99))
    half = max(np.abs(place).max() for place in places.values())
    for panel, mouse in zip(panels.ravel(), mice, strict=False):
        look = {"c": values[mouse], "vmin": low, "vmax": high, "cmap": "viridis"}
        points = _scatter(panel, places[mouse], half, **look)
        panel.set_title(short_name(mouse))
    _label(panels, len(mice))
    bar = figure.colorbar(points, ax=panels, shrink=0.7, aspect=30, extend="both", pad=0.02)
    bar.set_label(f"correlation on {score.tier}")
    bar.outline.set_visible(False)
    return figure


@matplotlib.rc_context(STYLE)
def receptive_fields(fields: Mapping[str, Fields]) -> Figure | None:
    """Per mouse: cortex in a smooth colour code, readouts in the same colours, truth."""
    shown = [each for each in fields.values() if each.learned is not None and len(each.learned)]
    if not shown:
        return None
    known = any(each.true is not None for each in shown)
    per_row = 1 if known or len(shown) == 1 else 2
    width = 4 if known else 2
    rows = -(-len(shown) // per_row)
    panel_size = WIDTH / 4
    size = (panel_size * width * per_row, 0.3 + panel_size * 1.1 * rows)
    figure = Figure(figsize=size, layout="compressed")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.06)
    panels = figure.subplots(rows, width * per_row, squeeze=False).reshape(-1, width)
    for row, each in zip(panels, shown, strict=False):
        _fields_row(row, each)
    for panel in panels[len(shown) :].ravel():
        panel.set_visible(False)
    return figure


def position_colors(position: np.ndarray) -> np.ndarray:
    """[neuron 3] sRGB of [neuron 2] positions; gray where unknown.

    The second coordinate sets OKLab lightness and the first goes from blue to yellow; conversion
    by Ottosson (2020), "A perceptual color space for image processing".
    """
    known = _placed(position)
    colors = np.full((len(position), 3), 0.6)
    if not known.any():
        return colors
    low, high = np.quantile(position[known], (0.01, 0.99), axis=0)
    u, v = np.clip((position[known] - low) / np.maximum(high - low, 1e-9), 0, 1).T
    lightness = 0.82 - 0.42 * v
    a, b = 0.09 * np.sin(np.pi * u), 0.25 * u - 0.15
    lms = np.stack(
        (
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        )
    )
    to_rgb = np.array(
        (
            (4.0767416621, -3.3077115913, 0.2309699292),
            (-1.2684380046, 2.6097574011, -0.3413193965),
            (-0.0041960863, -0.7034186147, 1.7076147010),
        )
    )
    linear = np.clip(to_rgb @ lms**3, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    colors[known] = np.clip(srgb, 0, 1).T
    return colors


def _fields_row(row, each: Fields) -> None:
    placed, seen = _placed(each.cortex_um), _placed(each.learned)
    code = each.cortex_um if placed.any() else each.learned if each.true is None else each.true
    colors = position_colors(np.asarray(code, float))
    name = short_name(each.mouse)
    row[0].set_title(f"{name} in cortex")
    if placed.any():
        where = _centred(each.cortex_um)
        _scatter(row[0], where, np.abs(where).max(), c=colors[placed])
        row[0].set(xlabel=CORTEX_X, ylabel=CORTEX_Y)
    else:
        row[0].set_axis_off()
        row[0].text(0.5, 0.5, "positions not known", ha="center", transform=row[0].transAxes)
    learned = np.asarray(each.learned, float)[seen]
    _scatter(row[1], learned, np.abs(learned).max(initial=1.0), c=colors[seen])
    row[1].set(title=f"{name} in the image", xlabel="learned x", ylabel="learned y")
    row[1].invert_yaxis()
    for axis, panel in enumerate(row[2:]):
        _against_truth(panel, each, axis, colors)


def _against_truth(panel, each: Fields, axis: int, colors: np.ndarray) -> None:
    if each.true is None:
        panel.set_axis_off()
        return
    word = "xy"[axis]
    pairs = np.stack((each.true[:, axis], each.learned[:, axis]), axis=1).astype(float)
    both = _placed(pairs)
    pairs = pairs[both]
    varies = len(pairs) > 2 and np.ptp(pairs, axis=0).min() > 0
    agreement = f"{np.corrcoef(pairs.T)[0, 1]:.2f}" if varies else "undefined"
    half = np.abs(pairs).max(initial=1.0)
    panel.plot((-half, half), (-half, half), color=PALE, linewidth=1, zorder=0)
    _scatter(panel, pairs, half, c=colors[both])
    panel.set_title(f"{word}: correlation {agreement}")
    panel.set(xlabel=f"true {word}", ylabel=f"learned {word}")


def _scatter(panel, position: np.ndarray, half: float, **colors):
    """[neuron 2] on equal axes from -half to half; deep and shallow neurons in random order."""
    order = np.random.default_rng(0).permutation(len(position))
    colors["c"] = np.asarray(colors["c"])[order]
    area = float(np.clip(9000 / max(len(order), 1), 1.5, 22))
    points = panel.scatter(*position[order].T, s=area, linewidths=0, rasterized=True, **colors)
    half = 1.06 * max(half, 1e-9)
    panel.set(xlim=(-half, half), ylim=(-half, half), aspect="equal")
    panel.locator_params(nbins=4)
    return points


def _label(panels, count: int) -> None:
    """Names the outer axes of a grid whose last panels may stay empty."""
    columns = panels.shape[1]
    for index, panel in enumerate(panels.ravel()):
        panel.set_visible(index < count)
        if index + columns >= count:
            panel.tick_params(labelbottom=True)
            panel.set_xlabel(CORTEX_X)
        if index % columns == 0:
            panel.set_ylabel(CORTEX_Y)


def _shown(score: Score, fields: Mapping[str, Fields], mouse: str) -> np.ndarray:
    return _placed(fields[mouse].cortex_um) & np.isfinite(score.mice[mouse].correlation)


def _placed(position) -> np.ndarray:
    return np.isfinite(np.asarray(position, float)).all(axis=1)


def _centred(position) -> np.ndarray:
    """The known positions from the middle of their extent: stage zero differs from day to day."""
    known = np.asarray(position, float)[_placed(position)]
    return known - (known.min(axis=0) + known.max(axis=0)) / 2
