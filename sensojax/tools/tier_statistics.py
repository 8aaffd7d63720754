"""Statistics of what a mouse saw and did, over the training tier: minimum to standard deviation.

In goes a `Source` (recording or store); out come five numbers for the video, and five per neuron,
behaviour column and pupil coordinate, over all frames of all trials of the tier. Trials are read by
several threads, a few at a time, and never kept: the first pass makes everything but the medians,
which are exact all the same and mostly ready after a second one (`statistics.median`); a video in
whole gray levels needs no second one. `write` keeps them as

    FOLDER/<mouse>/{video,response,behavior,pupil_center}/{min,max,median,mean,std}.npy
    FOLDER/<mouse>/statistics.json      what they are of; written last, so it marks a whole set
"""

import contextlib
import functools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import sensojax
from sensojax import types
from sensojax.errors import UserError
from sensojax.progress import track
from sensojax.statistics.median import Median
from sensojax.statistics.running import Extent, Levels, Moments
from sensojax.tools.sources import Source, read_ahead
from sensojax.writing import write_array_atomically, write_atomically
from sensojax.zarrs import cores

# Folder of each variable: our name of it in a trial.
VARIABLES = {
    "video": "video",
    "response": "responses",
    "behavior": "behavior",
    "pupil_center": "pupil_center",
}
STATISTICS = ("min", "max", "median", "mean", "std")
DESCRIPTION = "statistics.json"
SAMPLED_TRIALS, SAMPLED_FRAMES, SAMPLED_PIXELS = 16, 64, 4096  # the last two of each such trial


def write(folder: str | Path, source: Source, tiers: Sequence[str], workers: int = 0) -> bool:
    """Computes and writes the statistics of one mouse; False when the same were there already.

    Of a computation that was stopped nothing is kept, and the files of an earlier one of other
    trials are replaced. Raises UserError as `compute` does.
    """
    folder = Path(folder) / source.mouse
    rows = source.rows(tiers)
    about = dict(
        mouse=source.mouse,
        fingerprint=source.fingerprint,
        tiers=list(tiers),
        trials=rows,
        neurons=len(source.neurons),
    )
    if _told(folder).items() >= about.items():
        return False
    for stray in [folder / DESCRIPTION, *folder.glob("*/*.partial")]:
        stray.unlink(missing_ok=True)
    found, frames = compute(source, rows, workers)
    for variable, statistics in found.items():
        for name, values in statistics.items():
            write_array_atomically(folder / variable / f"{name}.npy", values)
    about |= dict(frames=frames, source=source.where, sensojax=sensojax.__version__)
    write_atomically(folder / DESCRIPTION, json.dumps(about, indent=1))
    return True


def compute(
    source: Source, rows: Sequence[int], workers: int = 0
) -> tuple[dict[str, dict[str, np.ndarray]], int]:
    """{variable: {statistic: float64}} over the frames of these trials, and how many frames.

    video: scalars; response: [neuron]; behavior, pupil_center: [column]. Trials whose responses
    were withheld (zeros) do not count for `response`. Raises UserError when no trial is left, and
    for a number that is not finite.
    """
    sample, whole = _sample(source, rows)
    run = functools.partial(_compute, source, rows, sample, workers or cores())
    try:
        found, frames = run(whole_video=whole)
    except _NotWhole:
        found, frames = run(whole_video=False)
    found["video"] = {name: np.reshape(value, ()) for name, value in found["video"].items()}
    return found, frames


class _NotWhole(Exception):
    """A video has values between gray levels, though those of the sample had none."""


def _compute(source, rows, sample, workers, *, whole_video):
    medians = {name: Median(values) for name, values in sample.items()}
    if whole_video:
        del medians["video"]  # its levels say everything
    sums: dict[str, dict] = {name: {} for name in sample}
    frames, number = 0, 0
    while number == 0 or not all(median.finished for median in medians.values()):
        number += 1
        parts = read_ahead(
            rows, functools.partial(_parts, source, medians, first=number == 1), workers
        )
        shown = track(parts, f"{source.mouse}, pass {number}", total=len(rows))
        with contextlib.closing(parts), contextlib.closing(shown):
            for num_frames, of_trial in shown:
                frames += num_frames if number == 1 else 0
                _add(sums, medians, of_trial)
        for median in medians.values():
            if not median.finished:
                median.end_pass()
    return {name: _statistics(sums[name], medians.get(name)) for name in sums}, frames


def _parts(source, medians, row, *, first) -> tuple[int, dict[str, dict]]:
    """What one trial adds in this pass; runs in a thread and changes nothing."""
    trial = source.read(row)
    parts: dict[str, dict] = {}
    for name, values in _columns(trial).items():
        part = parts[name] = {}
        if name not in medians:
            if first:
                part["levels"] = Levels.of(values)
                if part["levels"] is None:
                    raise _NotWhole
            continue
        if first:
            part["extent"] = extent = Extent.of(values)
            if not np.isfinite(extent.least + extent.greatest).all():
                raise UserError(
                    f"trial {trial.index} of {source.mouse} has a {name} that is not a finite "
                    "number; copy the trial again from its source, or take it out of the session."
                )
            part["moments"] = Moments.of(values)
        if not medians[name].finished:
            part["look"] = medians[name].look(values)
    return trial.num_frames, parts


def _add(sums: dict[str, dict], medians: dict[str, Median], parts: dict[str, dict]) -> None:
    for name, part in parts.items():
        for kind, value in part.items():
            if kind == "look":
                medians[name].take(value)
            else:
                sums[name][kind] = sums[name][kind] + value if kind in sums[name] else value


def _statistics(sums: dict, median: Median | None) -> dict[str, np.ndarray]:
    if median is None:
        return {name: np.array(value) for name, value in sums["levels"].statistics().items()}
    moments, extent = sums["moments"], sums["extent"]
    found = (extent.least, extent.greatest, median.value(), moments.mean, moments.std)
    return dict(zip(STATISTICS, found, strict=True))


def _columns(trial: types.Trial) -> dict[str, np.ndarray]:
    """[value column] of every variable that counts; empty for a trial without frames."""
    if not trial.num_frames:
        return {}
    found = {variable: getattr(trial, name) for variable, name in VARIABLES.items()}
    found["video"] = found["video"].reshape(-1, 1)
    if not trial.responses.any():  # withheld
        del found["response"]
    return found


def _sample(source: Source, rows: Sequence[int]) -> tuple[dict[str, np.ndarray], bool]:
    """Some frames (of the video some pixels) of some trials, and whether the videos are whole."""
    chosen = np.unique(np.linspace(0, len(rows) - 1, SAMPLED_TRIALS).astype(int))
    pieces: dict[str, list[np.ndarray]] = {}
    whole = True
    for place in [*chosen, *np.setdiff1d(np.arange(len(rows)), chosen)]:
        if place not in chosen and VARIABLES.keys() <= pieces.keys():
            break  # the others are only asked when the chosen ones have no frames or responses
        for name, values in _columns(source.read(rows[place])).items():
            if name == "video":
                whole = whole and Levels.of(values) is not None
            count = SAMPLED_PIXELS if name == "video" else SAMPLED_FRAMES
            some = np.random.default_rng(place).permutation(len(values))[:count]
            pieces.setdefault(name, []).append(values[some])
    if missing := [name for name in VARIABLES if name not in pieces]:
        raise UserError(
            f"found no {missing[0]} in the {len(rows)} chosen trials of mouse {source.mouse}, "
            "expected one or more trials with frames and responses; choose other tiers."
        )
    return {name: np.concatenate(pieces[name]) for name in VARIABLES}, whole


def _told(folder: Path) -> dict:
    """What the statistics in a folder say they are of; nothing when they are not whole."""
    files = [f"{variable}/{name}.npy" for variable in VARIABLES for name in STATISTICS]
    try:
        told = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if all((folder / file).is_file() for file in files) else {}
