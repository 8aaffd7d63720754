"""The statistics that a published session has in its meta folder, made anew.

In goes a session in a folder, with statistics or without; out come the mean, standard deviation,
minimum, maximum and median over the trials of some tiers, of videos separately for every frame
(baselines 1.2), of images for every pixel, as `meta/statistics/<modality>/all/<name>.npy`. A
laboratory's own recording gets them so, and with them the normalization `official`. The files are
read in blocks of rows, all trials at a time, so that each is read once and memory holds a block for
each thread.
"""

import functools
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from sensojax.errors import UserError
from sensojax.progress import track
from sensojax.recordings import competition, files, formats, trials
from sensojax.recordings.simulation.statistics import summaries
from sensojax.types import MODALITIES
from sensojax.writing import write_array_atomically

FOLDER = "meta/statistics"
BLOCK_BYTES = 32e6  # of all trials, as float64; making statistics of them takes five times as much


def write(
    folder: str | Path,
    path: str | Path,
    mouse: str,
    tiers: Sequence[str] = ("train",),
    workers: int = 0,
) -> bool:
    """Makes `folder/<mouse>/meta/statistics` for the session `mouse` at a path.

    False when it is there already, whole. Written to `statistics.partial` and renamed: a stopped
    one begins anew. Raises UserError for a session in a zip, for incomplete statistics in the way,
    and when trials are padded to different lengths or none of these tiers has frames.
    """
    session = Path(folder) / mouse
    out = session / FOLDER
    source = competition.choose(path, mouse)
    layout = formats.of(source).LAYOUT
    if out.exists():
        missing = [name for name in _names(layout) if not (session / name).is_file()]
        if missing:
            raise UserError(
                f"{session} has no {missing[0]} and {len(missing) - 1} more are missing, expected "
                f"all statistics or none; move {FOLDER} away and give the same command again."
            )
        return False
    workers = workers or os.cpu_count() or 1
    rows = _trials(source, path, mouse, tiers, workers)
    partial = out.with_name(f"{out.name}.partial")
    if partial.exists():
        shutil.rmtree(partial)
    for key in MODALITIES:
        place = session / layout.folder(key, f"{FOLDER}.partial") / "all"
        for name, values in _of(source, layout, key, rows[key], workers).items():
            write_array_atomically(place / f"{name}.npy", values)
    os.replace(partial, out)
    return True


def _names(layout: trials.Layout) -> list[str]:
    folders = [layout.folder(key, FOLDER) for key in MODALITIES]
    return [f"{key}/all/{name}.npy" for key in folders for name in competition.STATISTICS]


def _trials(source, path, mouse, tiers, workers) -> dict[str, list[int]]:
    """Which trials count for each modality."""
    if not isinstance(source, files.Folder):
        raise UserError(
            f"session {mouse} is inside the zip {source.path}, expected a folder, of which parts "
            "can be read; unzip it and give the folder."
        )
    recording = formats.read(path, mouse)
    rows = [row for row, tier in enumerate(recording.tiers) if tier in tiers]

    def check(row):
        trial = recording.read(row)
        return trial.num_frames > 0, trial.responses.any()  # else they were withheld

    with ThreadPoolExecutor(workers) as pool:
        found = list(track(pool.map(check, rows), f"{mouse}, checking", total=len(rows)))
    shown = [row for row, (some, _) in zip(rows, found, strict=True) if some]
    recorded = [row for row, (some, known) in zip(rows, found, strict=True) if some and known]
    if recording.still:  # one image may leave every neuron silent, a whole tier was withheld
        known = {recording.tiers[row] for row in recorded}
        recorded = [row for row in shown if recording.tiers[row] in known]
    if not recorded:
        raise UserError(
            f"found no trial of {', '.join(tiers)} with frames and responses in {mouse}, expected "
            f"some; it has the tiers {', '.join(sorted(set(recording.tiers)))}."
        )
    names = [f"data/responses/{row}.npy" for row in range(len(recording.tiers))]
    padded = {files.header(source, name).shape[-1] for name in names}
    if len(padded) > 1:
        raise UserError(
            f"the trials of {mouse} are padded to {min(padded)} up to {max(padded)} frames, "
            "expected one length; statistics for each frame need that: pad them with NaN."
        )
    return {key: recorded if key == "responses" else shown for key in MODALITIES}


def _of(source, layout, key, chosen, workers) -> dict[str, np.ndarray]:
    """{statistic: float64, as the files of the trials are} of one modality."""
    names = [f"{layout.folder(key)}/{trial}.npy" for trial in chosen]
    shape = files.header(source, names[0]).shape
    axis = 1 if layout.still and key == "videos" else 0  # an image begins with an axis of length 1
    bytes_per_row = 8 * len(chosen) * int(np.prod(shape[axis + 1 :]))
    step = max(1, int(BLOCK_BYTES // bytes_per_row))
    blocks = [slice(top, top + step) for top in range(0, shape[axis], step)]
    found = {name: np.empty(shape[axis:]) for name in competition.STATISTICS}
    work = functools.partial(_block, source, names, axis)
    with ThreadPoolExecutor(workers) as pool:
        parts = track(pool.map(work, blocks), f"{source.name}, {key}", total=len(blocks))
        for rows, part in zip(blocks, parts, strict=True):
            for name, values in part.items():
                found[name][rows] = values
    return {name: values.reshape(shape) for name, values in found.items()}


def _block(source, names, axis, rows) -> dict[str, np.ndarray]:
    of_trial = (files.load_rows(source, name, rows, axis) for name in names)
    return summaries(np.stack([values.astype(np.float64) for values in of_trial]))
