"""Pictures of how cost grows: time of a step beside its two bounds, memory, and reading.

In: what `scaling.measure` found for one figure; out: a matplotlib `Figure`. A bound is what a step
would take if only its arithmetic, or only its bytes, took time, at the rates that the same machine
was measured at.
"""

import statistics
from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, StrMethodFormatter

from sensojax.evaluation.figures import BLUE, GRAY, GREEN, INK, ORANGE, PINK, STYLE, WIDTH

COLORS = (BLUE, ORANGE, GREEN, PINK, INK, "#56b4e9")
# Of the figures of steps: the setting that varies, what it is called, whether axes are logarithmic.
STEPS = dict(
    mice=("mice", "mice in a step", False),
    neurons=("neurons", "neurons of the mouse", True),
    batch=("clips", "clips of the mouse", False),
    devices=("devices", "simulated devices on the same cores", False),
)
GB = 1e9


@matplotlib.rc_context(STYLE)
def drawn(figure: str, found: Mapping, card: Mapping) -> Figure:
    """card: `gb`, `gflops`, `gbs` and `steps` (of an epoch), for the figure of that name."""
    if figure in STEPS:
        return _steps(found, *STEPS[figure])
    return dict(memory=_memory, loader=_loader, card=lambda x: _card(x, card))[figure](found)


# --- steps ----------------------------------------------------------------------------------------


def _steps(found, name, words, logarithmic) -> Figure:
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    time, memory = figure.subplots(1, 2)
    points = sorted(found["points"], key=lambda each: each["at"][name])
    timed = [each for each in points if "seconds" in each]
    at = [each["at"][name] for each in timed]
    medians = [statistics.median(each["seconds"]) for each in timed]
    spread = [
        [middle - min(each["seconds"]) for middle, each in zip(medians, timed, strict=True)],
        [max(each["seconds"]) - middle for middle, each in zip(medians, timed, strict=True)],
    ]
    every = [each["at"][name] for each in points]
    for label, bound, dashes in _bounds(found, points):
        time.plot(every, bound, color=GRAY, linestyle=dashes, linewidth=1.1, label=label)
    time.errorbar(
        at, medians, spread, color=BLUE, marker="o", markersize=5, capsize=3, label="measured"
    )
    time.set_ylabel("time of a training step (s)")
    held = [_gb(each["memory"]) for each in points]
    given = [each["memory"]["arguments"] / GB for each in points]
    memory.plot(every, held, "o-", color=ORANGE, markersize=5, label="all that the step needs")
    memory.plot(every, given, "s-", color=GRAY, markersize=4, label="of it weights and batch")
    memory.set_ylabel("memory on each device (GB)" if name == "devices" else "memory (GB)")
    for panel in (time, memory):
        _axes(panel, every, words, logarithmic)
        panel.legend(loc="best")
    time.set_title(_sizes(points, name))
    memory.set_title("by the compiler")
    for each in points:
        if "refused" in each:
            place = (each["at"][name], _gb(each["memory"]) if "memory" in each else 0)
            memory.annotate("not run", place, xytext=(0, 7), textcoords="offset points", ha="right")
    return figure


def _bounds(found, points):
    """(label, seconds of every point, dashes): of arithmetic, and of bytes."""
    gflops, gbs = _rates(found)
    of = [each for each in points if "operations" in each]
    yield (
        f"arithmetic alone, at {gflops:,.0f} GFLOP/s",
        [each["operations"] / 1e9 / gflops for each in of],
        (0, (4, 2)),
    )
    yield (
        f"bytes alone, none of them in caches, at {gbs:,.0f} GB/s",
        [each["moved"] / GB / gbs for each in of],
        (0, (1, 2)),
    )


def _rates(found) -> tuple[float, float]:
    """GFLOP/s of the largest product; GB/s of the largest copy, which no cache holds."""
    return max(found["rates"]["matmul"].values()), [*found["rates"]["copy"].values()][-1]


def _axes(panel, ticks: Sequence[float], words: str, logarithmic: bool) -> None:
    panel.set_xlabel(words)
    if logarithmic:
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        panel.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    else:
        panel.set_xlim(0, None)
        panel.set_ylim(0, None)
    panel.set_xticks(ticks, [_short(each) for each in ticks])
    panel.minorticks_off()


def _short(number: float) -> str:
    return f"{number / 1000:g}k" if number >= 1000 else f"{number:g}"


def _sizes(points, varied) -> str:
    """What every point has in common."""
    at = points[0]["at"]
    words = dict(mice="mouse" if at["mice"] == 1 else "mice", clips="clips", neurons="neurons")
    told = [f"{at[name]:,} {word}" for name, word in words.items() if name != varied]
    return ", ".join([at["model"], *told])


# --- memory ---------------------------------------------------------------------------------------


def _memory(found) -> Figure:
    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    panel = figure.subplots()
    for (name, points), color in zip(_by(found, "name").items(), COLORS, strict=False):
        clips = [each["at"]["clips"] for each in points]
        panel.plot(
            clips,
            [_gb(each["memory"]) for each in points],
            "o-",
            color=color,
            markersize=4,
            label=name,
        )
    _axes(panel, clips, "clips of one mouse in a step", False)
    panel.set_ylabel("memory of a training step (GB)")
    panel.set_title(f"{points[0]['at']['model']}, {points[0]['at']['neurons']:,} neurons")
    panel.legend(loc="upper left")
    return figure


def _card(found, card) -> Figure:
    points = found["points"]
    figure = Figure(figsize=(WIDTH, 0.9 + 0.42 * len(points)), layout="constrained")
    panel = figure.subplots()
    names = [each["at"]["name"] for each in points]
    given = [each["memory"]["arguments"] / GB for each in points]
    held = [_gb(each["memory"]) for each in points]
    between = [all_of_it - own for all_of_it, own in zip(held, given, strict=True)]
    panel.barh(names, given, color=GRAY, height=0.62, label="weights, moments, batch")
    panel.barh(names, between, left=given, color=BLUE, height=0.62, label="between")
    panel.axvline(card["gb"], color=ORANGE, linewidth=1.6)
    panel.annotate(
        f"{card['gb']:g} GB",
        (card["gb"], 0),
        xycoords=("data", "axes fraction"),
        xytext=(4, 3),
        textcoords="offset points",
        color=ORANGE,
    )
    for name, all_of_it, each in zip(names, held, points, strict=True):
        few, many = epoch_minutes(each, card)
        panel.annotate(
            f"{all_of_it:.1f} GB, {few:.1f}-{many:.1f} min",
            (all_of_it, name),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            bbox=dict(facecolor="white", edgecolor="none", pad=1.0),
        )
    panel.invert_yaxis()
    panel.set_xlim(0, 1.35 * max(*held, card["gb"]))
    panel.set_xlabel("memory of a training step (GB); minutes of an epoch")
    at = points[0]["at"]
    panel.set_title(
        f"{at['model']}, {at['mice']} mice, {at['clips']} clips and {at['neurons']:,} "
        f"neurons of each; time at {card['gflops']:,.0f} GFLOP/s and {card['gbs']:,.0f} GB/s"
    )
    panel.legend(loc="lower right")
    return figure


def epoch_minutes(point: Mapping, card: Mapping) -> tuple[float, float]:
    """Of an epoch on a card: if arithmetic and bytes take their time together, or in turn."""
    arithmetic = point["operations"] / 1e9 / card["gflops"]
    of_bytes = point["moved"] / GB / card["gbs"]
    steps = card["steps"] / 60
    return steps * max(arithmetic, of_bytes), steps * (arithmetic + of_bytes)


# --- loader ---------------------------------------------------------------------------------------


def _loader(found) -> Figure:
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    windows, frames = figure.subplots(1, 2)
    by_threads = _by(found, "threads")
    for (threads, points), color in zip(by_threads.items(), COLORS, strict=False):
        at = [each["frames"] for each in points]
        rates = [each["windows"] / statistics.median(each["seconds"]) for each in points]
        label = f"{threads} thread{'s' if threads > 1 else ''}"
        look = dict(color=color, marker="o", markersize=4, label=label)
        windows.plot(at, rates, **look)
        frames.plot(at, [rate * each / 1e3 for rate, each in zip(rates, at, strict=True)], **look)
    for panel in (windows, frames):
        _axes(panel, at, "frames of a window", False)
    windows.set_ylabel("windows read per second")
    frames.set_ylabel("thousand frames read per second")
    windows.set_title("random windows of one mouse, from the page cache")
    windows.legend(loc="best")
    return figure


def _by(found, name) -> dict[object, list[dict]]:
    """The points by a setting, in their order."""
    apart: dict = {}
    for each in found["points"]:
        apart.setdefault(each["at"][name], []).append(each)
    return apart


def _gb(memory) -> float:
    return sum(memory.values()) / GB
