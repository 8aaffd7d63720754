"""Pictures of neurons: how correlations are spread, and traces beside what was recorded.

In go a `Score` or `Traces`; out come matplotlib `Figure`s (object-oriented, no global state), or
None where there is nothing to draw; `png` makes a file of one. Also the look of every figure:
sizes, and the colours of Okabe and Ito (2008), told apart by colour-blind readers too. Learning
curves are in `curves`, maps over cortex and image in `maps`.
"""

import io
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from sensojax.evaluation.results import MouseScore, Score, Traces, short_name

DPI = 160
WIDTH = 9.4  # inches: at 100 pixels an inch the width of the page, so 9 pt is 12.5 pixels
INK, GRAY, PALE = "#222222", "#767676", "#d9d9d9"
BLUE, ORANGE, GREEN, PINK = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
SHOWN_SECONDS = 25.0  # of a trace: more, and a response becomes a needle

STYLE = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GRAY,
    "axes.linewidth": 0.8,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": GRAY,
    "ytick.color": GRAY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "figure.facecolor": "white",
}


@matplotlib.rc_context(STYLE)
def correlation_histograms(score: Score) -> Figure | None:
    """One panel per mouse, common axes: correlations in front of the distribution of ceilings."""
    mice = [mouse for mouse in score.mice.values() if np.isfinite(mouse.correlation).any()]
    if not mice:
        return None
    columns = min(5, len(mice))
    rows = -(-len(mice) // columns)
    size = (min(WIDTH, 4.2 * columns), 0.5 + 1.9 * rows if columns > 2 else 2.8)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    edges = _bin_edges(mice)
    for panel, mouse in zip(panels, mice, strict=False):
        _histogram(panel, mouse, edges)
    for panel in panels[len(mice) :]:
        panel.set_visible(False)
    for panel in panels[max(len(mice) - columns, 0) : len(mice)]:
        panel.tick_params(labelbottom=True)
        panel.set_xlabel("correlation")
    for panel in panels[::columns]:
        panel.set_ylabel("neurons")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(handles))
    return figure


@matplotlib.rc_context(STYLE)
def traces(shown: Sequence[Traces]) -> Figure | None:
    """Predicted against recorded responses, one row per neuron, in seconds."""
    if not shown:
        return None
    figure = Figure(figsize=(WIDTH, 0.8 + 1.4 * len(shown)), layout="constrained")
    panels = figure.subplots(len(shown), 1, sharex=True, squeeze=False).ravel()
    for panel, trace in zip(panels, shown, strict=True):
        _trace(panel, trace)
    panels[-1].set(xlabel="time (s)", xlim=(0, min(SHOWN_SECONDS, max(map(_seconds, shown)))))
    figure.supylabel("response (normalized)", fontsize=9)
    richest = max(panels, key=lambda panel: len(panel.get_lines()))
    handles, labels = richest.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(handles))
    return figure


@matplotlib.rc_context(STYLE)
def png(figure: Figure) -> bytes:
    """The picture as a file's content (ticks are made only now, hence the style again)."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI, bbox_inches="tight", pad_inches=0.05)
    return file.getvalue()


def _bin_edges(mice: list[MouseScore]) -> np.ndarray:
    values = [mouse.correlation for mouse in mice]
    values += [mouse.ceiling for mouse in mice if mouse.ceiling is not None]
    every = np.concatenate(values)
    smallest = min(mouse.num_neurons for mouse in mice)
    number = int(np.clip(2.5 * smallest ** (1 / 3), 6, 36))  # Rice's rule, a little finer
    return np.linspace(min(0.0, np.nanmin(every)), max(0.05, np.nanmax(every)), number + 1)


def _histogram(panel, mouse: MouseScore, edges: np.ndarray) -> None:
    def share(values):
        return np.full(len(values), 1 / len(values))

    known = mouse.correlation[np.isfinite(mouse.correlation)]
    if mouse.ceiling is not None:
        ceiling = mouse.ceiling[np.isfinite(mouse.ceiling)]
        weights = share(ceiling)
        panel.hist(ceiling, edges, weights=weights, color=PALE, label="ceiling")
        panel.hist(
            ceiling, edges, weights=weights, color=INK, linewidth=0.7, histtype="step", zorder=3
        )
    panel.hist(known, edges, weights=share(known), color=BLUE, label="model")
    panel.axvline(known.mean(), color=ORANGE, linewidth=1.6, label="mean of the model", zorder=4)
    panel.set_title(f"{short_name(mouse.mouse)}\nn = {len(known):,}, mean {known.mean():.3f}")
    panel.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    panel.xaxis.set_major_locator(MaxNLocator(4))


def _trace(panel, trace: Traces) -> None:
    frames = min(len(trace.observed), int(SHOWN_SECONDS * trace.frame_rate_hz))
    seconds = np.arange(frames) / trace.frame_rate_hz
    observed = np.asarray(trace.observed, float)[:frames]
    panel.fill_between(seconds, 0, observed, color=PALE, linewidth=0)
    panel.plot(seconds, observed, color=GRAY, linewidth=0.8, label="recorded")
    if trace.rates is not None:
        panel.plot(seconds, trace.rates[:frames], color=GREEN, linewidth=1, label="noiseless rate")
    panel.plot(seconds, trace.predicted[:frames], color=ORANGE, linewidth=1.4, label="predicted")
    for boundary in trace.boundaries:
        if 0 < boundary < frames:
            panel.axvline(boundary / trace.frame_rate_hz, color=INK, linewidth=0.6, linestyle=":")
    panel.set_title(
        f"{trace.label}: mouse {short_name(trace.mouse)}, neuron {trace.neuron}, "
        f"correlation {trace.correlation:.2f} on {trace.tier}"
    )
    panel.yaxis.set_major_locator(MaxNLocator(3))


def _seconds(trace: Traces) -> float:
    return max(len(trace.observed), 1) / trace.frame_rate_hz
