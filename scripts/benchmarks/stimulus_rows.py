"""Rows of the tools on stimuli: Gabor features, video ids, statistics of the training tier.

In: a `Bench`; out: `Row`s, and in `bench.said` how far both sides agree. The other side of each row
is a plain program written here by the rule of the published tool, which cannot be run itself.
"""

import contextlib
import io

import numpy as np

from scripts.benchmarks.measuring import Bench, Row, in_turn, row_of, timed
from sensojax.stimuli import features, synthesis
from sensojax.tools import sources, tier_statistics
from sensojax.tools.annotating import shown, video_ids

CLIPS = 6  # different Gabor videos that a mouse is shown


# --- gabors ---------------------------------------------------------------------------------------


def gabors(bench: Bench) -> list[Row]:
    """Direction, wavelength and frequency in each block of clips that are in memory."""
    sizes, bank = bench.sizes, features.Bank()
    rng = np.random.default_rng(0)
    shape = (sizes.trial_frames, sizes.height, sizes.width)
    clips = [synthesis.drifting_gabor(rng, *shape) for _ in range(CLIPS)]
    templates = [bank.template(i, *shape[1:]) for i in range(len(bank.parameters))]
    sides = (
        lambda: [features.gabors(clip, bank) for clip in clips],
        lambda: [_one_by_one(clip, bank, templates) for clip in clips],
    )
    rows: list[Row] = []
    with bench.memory(rows):
        seconds = in_turn(bench.repeats, *(lambda side=side: timed(side) for side in sides))
        work = f"Gabor features, clips of {sizes.trial_frames} frames"
        rows.append(row_of("gabors", work, "clips/s", CLIPS, seconds, "a loop over templates"))
    ours, theirs = (np.concatenate(side()) for side in sides)
    same = np.mean((ours == theirs) | np.isnan(ours))
    bench.said.append(f"Gabor features: both sides give the same in {same:.0%} of the frames.")
    return rows


def _one_by_one(clip, bank, templates):
    """Every block beside every template, one correlation after the other."""
    found = np.full((len(clip), 3), np.nan, np.float32)
    for start in range(0, len(clip) - bank.block_frames + 1, bank.block_frames):
        block = clip[start : start + bank.block_frames].ravel()
        each = [np.corrcoef(block, template.ravel())[0, 1] for template in templates]
        found[start : start + bank.block_frames] = bank.parameters[np.argmax(each)]
    return found


# --- video ids ------------------------------------------------------------------------------------


def ids(bench: Bench) -> list[Row]:
    """Which trials of the session showed the same video, from its files."""
    videos = shown.of(_source(bench))
    work = f"video ids, {len(videos.tiers)} trials"
    rows: list[Row] = []
    with bench.memory(rows):
        seconds = in_turn(
            bench.repeats,
            lambda: timed(lambda: _numbered(videos)),
            lambda: timed(lambda: _pairwise(bench, videos.tiers)),
        )
        amount = len(videos.tiers)
        rows.append(row_of("video_ids", work, "trials/s", amount, seconds, "all pairs compared"))
    same = np.array_equal(_numbered(videos), _pairwise(bench, videos.tiers))
    bench.said.append(f"Video ids: both sides give {'the same' if same else 'DIFFERENT'} numbers.")
    return rows


def _numbered(videos):
    with _quiet():
        sketches = {videos.mouse: video_ids.see(videos)}
    return video_ids.numbered({videos.mouse: videos}, sketches, across=False)[videos.mouse]


def _pairwise(bench, tiers):
    """The published rule on whole videos: each beside all earlier different ones, in turn."""
    found, different = [], []
    for trial, tier in enumerate(tiers):
        if tier == "none":
            found.append(-1)
            continue
        video = np.load(bench.session.path / f"data/videos/{trial}.npy")
        video = np.nan_to_num(video, nan=-1.0)
        match = None
        if tier != "train":
            close = (i for i, each in enumerate(different) if _same(video, each))
            match = next(close, None)
        if match is None:
            match = len(different)
            different.append(video)
        found.append(match)
    return np.array(found)


def _same(one, other):
    if one.shape != other.shape:
        return False
    return (np.abs(one - other) <= 1.0).all(axis=(0, 1)).mean() > 0.85


# --- statistics -----------------------------------------------------------------------------------


def statistics(bench: Bench) -> list[Row]:
    """Minimum to standard deviation of every variable over the train tier, from the files."""
    source = _source(bench)
    trials = source.rows(("train",))
    rows: list[Row] = []
    with bench.memory(rows):
        seconds = in_turn(
            bench.repeats,
            lambda: timed(lambda: _computed(source, trials)),
            lambda: timed(lambda: _whole_arrays(bench, trials)),
        )
        work = f"statistics of the train tier, {len(trials)} trials"
        other = "numpy, whole arrays"
        rows.append(row_of("statistics", work, "trials/s", len(trials), seconds, other))
    ours, theirs = _computed(source, trials), _whole_arrays(bench, trials)
    error = max(
        float(np.max(np.abs(values - theirs[variable][name])) / np.max(np.abs(of_variable["max"])))
        for variable, of_variable in ours.items()
        for name, values in of_variable.items()
    )
    bench.said.append(
        "Statistics: ours differ from those of numpy on whole float32 arrays by at most "
        f"{error:.0e} of the largest value."
    )
    return rows


def _computed(source, trials):
    with _quiet():
        return tier_statistics.compute(source, trials)[0]


def _whole_arrays(bench, trials):
    """All trials of a variable in one array, NaN after the end of each trial's video."""
    found = {}
    for variable, name in tier_statistics.VARIABLES.items():
        folder = bench.session.path / "data" / {"video": "videos"}.get(name, name)
        arrays = [np.load(folder / f"{trial}.npy").astype(np.float32) for trial in trials]
        whole = np.stack(arrays, axis=-1)
        if variable == "video":
            ends = np.isnan(whole[0, 0])
        whole[..., ends] = np.nan
        axes = tuple(range(whole.ndim)) if variable == "video" else (-2, -1)
        functions = dict(min=np.nanmin, max=np.nanmax, median=np.nanmedian)
        functions |= dict(mean=np.nanmean, std=np.nanstd)
        found[variable] = {name: of(whole, axis=axes) for name, of in functions.items()}
    return found


def _source(bench):
    return sources.find([bench.session.path])[bench.session.path.name]()


def _quiet():
    """Without the lines that tell how far a tool has come."""
    return contextlib.redirect_stderr(io.StringIO())
