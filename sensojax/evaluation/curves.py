"""Learning curves: loss, learning rate and scores over the steps of a run.

In go the lines of a run's journal (a list of dictionaries, see `training/journal.py`); out comes a
matplotlib `Figure`, or None where no step and no score was written.
"""

from collections.abc import Iterable

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator

from sensojax.evaluation.figures import BLUE, GRAY, GREEN, INK, ORANGE, PINK, STYLE, WIDTH

TIER_COLORS = (BLUE, ORANGE, GREEN, PINK, "#56b4e9", "#e69f00", INK)
EVENTS = {  # of the journal's notes: words and dashes
    "restore": ("restored to the best", ":"),
    "learning_rate_cut": ("learning rate cut", "--"),
}
WHITE_BOX = {"frameon": True, "facecolor": "white", "edgecolor": "none", "framealpha": 0.85}


@matplotlib.rc_context(STYLE)
def learning_curves(lines: Iterable[dict]) -> Figure | None:
    """Training loss, learning rate, and correlation of each tier with the first one's ceiling."""
    lines = list(lines)
    steps = [line for line in lines if line["kind"] == "step"]
    scores = [line for line in lines if line["kind"] == "evaluation"]
    if not steps and not scores:
        return None
    figure = Figure(figsize=(WIDTH, 6.2), layout="constrained")
    loss, rate, score = figure.subplots(3, 1, sharex=True, height_ratios=(2, 1, 2.4))
    _loss(loss, steps)
    _learning_rate(rate, steps)
    _correlations(score, scores)
    _events(figure, (loss, rate, score), lines)
    score.set_xlabel("training step")
    score.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    figure.align_ylabels()
    return figure


def _loss(panel, steps: list[dict]) -> None:
    at = np.array([line["step"] for line in steps])
    loss = np.array([float(line["loss"]) for line in steps])
    at, loss = at[np.isfinite(loss)], loss[np.isfinite(loss)]
    width = len(loss) // 50  # below 2 there is nothing to smooth
    panel.plot(at, loss, color=BLUE, alpha=0.3 if width > 1 else 1, linewidth=0.8)
    if width > 1:
        smooth = _running(np.mean, _running(np.median, loss, width), width)
        panel.plot(at, smooth, color=BLUE, linewidth=1.6)
    if len(loss) and loss.min() > 0 and loss.max() > 8 * loss.min():
        panel.set_yscale("log")
    panel.set_ylabel("training loss")


def _learning_rate(panel, steps: list[dict]) -> None:
    at = [line["step"] for line in steps]
    rates = [float(line["learning_rate"]) for line in steps]
    panel.step(at, rates, where="post", color=INK, linewidth=1.4)
    panel.set_ylabel("learning rate")
    levels = sorted({rate for rate in rates if rate > 0})
    if not levels:
        return
    panel.set_yscale("log")
    low, high = levels[0] / 1.4, levels[-1] * 1.4
    panel.set_ylim(low, high)
    panel.yaxis.set_minor_locator(NullLocator())
    if len(levels) <= 8:  # a schedule of few levels: name them, where there is room
        named = []
        for level in levels:
            if not named or np.log(level / named[-1]) > 0.2 * np.log(high / low):
                named.append(level)
        panel.set_yticks(named, [f"{level:.1e}" for level in named])


def _correlations(panel, scores: list[dict]) -> None:
    panel.set_ylabel("correlation")
    tiers = list(dict.fromkeys(line["tier"] for line in scores))
    for tier, color in zip(tiers, TIER_COLORS * len(tiers), strict=False):
        told = [line for line in scores if line["tier"] == tier]
        at = np.array([line["step"] for line in told])
        for mouse in told[-1]["correlation_per_mouse"]:
            each = [float(line["correlation_per_mouse"].get(mouse, np.nan)) for line in told]
            panel.plot(at, each, color=color, linewidth=0.7, alpha=0.35)
        mean = np.array([float(line["correlation"]) for line in told])
        marker = "o" if len(at) < 25 else None
        panel.plot(at, mean, color=color, linewidth=1.8, marker=marker, markersize=3.5, label=tier)
        if tier == tiers[0]:
            _best(panel, at, mean, color)
            if told[-1]["ceiling"] is not None:
                _ceiling(panel, tier, float(told[-1]["ceiling"]), color)
    if tiers:
        panel.legend(loc="lower right", ncols=min(len(tiers), 4), **WHITE_BOX)
        panel.set_ylim(bottom=min(0, panel.get_ylim()[0]))


def _best(panel, at: np.ndarray, mean: np.ndarray, color: str) -> None:
    if not np.isfinite(mean).any():
        return
    best = int(np.nanargmax(mean))
    label = f"best, {mean[best]:.3f} at step {at[best]:,}"
    ring = {"marker": "o", "markersize": 8, "markerfacecolor": "none", "markeredgewidth": 1.4}
    panel.plot(at[best], mean[best], color=color, linestyle="none", label=label, **ring)


def _ceiling(panel, tier: str, ceiling: float, color: str) -> None:
    panel.axhline(ceiling, color=color, linewidth=1, linestyle=(0, (6, 3)))
    panel.annotate(
        f"ceiling of {tier}, {ceiling:.3f}",
        (0, ceiling),
        (3, -3),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        verticalalignment="top",
        color=color,
    )


def _events(figure: Figure, panels, lines: list[dict]) -> None:
    handles = []
    for event, (words, dashes) in EVENTS.items():
        at = [line["step"] for line in lines if line["kind"] == "note" and line["event"] == event]
        look = {"color": GRAY, "linewidth": 0.9, "linestyle": dashes}
        for panel in panels:
            for step in at:
                panel.axvline(step, zorder=0, **look)
        if at:
            handles.append(Line2D([], [], label=words, **look))
    if handles:
        figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))


def _running(statistic, values: np.ndarray, width: int) -> np.ndarray:
    """[step] median or mean over a centred window that shrinks at the ends."""
    half = width // 2
    windows = (values[max(0, i - half) : i + half + 1] for i in range(len(values)))
    return np.array([statistic(window) for window in windows])
