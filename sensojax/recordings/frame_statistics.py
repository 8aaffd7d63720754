"""The statistics that a published session of Sensorium 2023 has in its meta folder, made anew.

In goes a session in a folder, with statistics or without; out come the mean, standard deviation,
minimum, maximum and median over the trials of some tiers, separately for every frame (baselines
1.2), as `meta/statistics/<modality>/all/<name>.npy`. A laboratory's own recording gets them so, and
with them the normalization `official`. The files are read in blocks of rows, all trials at a time,
so that each is read once and memory holds a block for each thread.
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
from sensojax.recordings import files, sensorium2023
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
    out = Path(folder) / mouse / FOLDER
    if out.exists():
        missing = [name for name in _names() if not (out / name).is_file()]
        if missing:
            raise UserError(
                f"{out} has no {missing[0]} and {len(missing) - 1} more are missing, expected all "
                "statistics or none; move that folder away and give the same command again."
            )
        return False
    workers = workers or os.cpu_count() or 1
    source, rows, padded = _trials(path, mouse, tiers, workers)
    partial = out.with_name(f"{out.name}.partial")
    if partial.exists():
        shutil.rmtree(partial)
    for key in MODALITIES:
        for name, values in _of(source, key, rows[key], padded, workers).items():
            write_array_atomically(partial / key / "all" / f"{name}.npy", values)
    os.replace(partial, out)
    return True


def _names() -> list[str]:
    return [f"{key}/all/{name}.npy" for key in MODALITIES for name in sensorium2023.STATISTICS]


def _trials(path, mouse, tiers, workers) -> tuple[files.Folder, dict[str, list[int]], int]:
    """The session, which trials count for each modality, and the padded length."""
    sessions = files.find(path, sensorium2023.TIERS_FILE)
    source = next(each for each in sessions if each.name == mouse)
    if not isinstance(source, files.Folder):
        raise UserError(
            f"session {mouse} is inside the zip {source.path}, expected a folder, of which parts "
            "can be read; unzip it and give the folder."
        )
    recording = sensorium2023.read(path, mouse)
    rows = [row for row, tier in enumerate(recording.tiers) if tier in tiers]

    def check(row):
        trial = recording.read(row)
        return trial.num_frames > 0, trial.responses.any()  # else they were withheld

    with ThreadPoolExecutor(workers) as pool:
        found = list(track(pool.map(check, rows), f"{mouse}, checking", total=len(rows)))
    shown = [row for row, (some, _) in zip(rows, found, strict=True) if some]
    recorded = [row for row, (some, known) in zip(rows, found, strict=True) if some and known]
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
    kept = {key: recorded if key == "responses" else shown for key in MODALITIES}
    return source, kept, padded.pop()


def _of(source, key, trials, padded, workers) -> dict[str, np.ndarray]:
    """{statistic: float64 [row ... padded time]} of one modality."""
    shape = files.header(source, f"data/{key}/{trials[0]}.npy").shape[:-1]
    bytes_per_row = 8 * padded * len(trials) * int(np.prod(shape[1:]))
    step = max(1, int(BLOCK_BYTES // bytes_per_row))
    blocks = [slice(top, top + step) for top in range(0, shape[0], step)]
    found = {name: np.empty((*shape, padded)) for name in sensorium2023.STATISTICS}
    work = functools.partial(_block, source, key, trials)
    with ThreadPoolExecutor(workers) as pool:
        parts = track(pool.map(work, blocks), f"{source.name}, {key}", total=len(blocks))
        for rows, part in zip(blocks, parts, strict=True):
            for name, values in part.items():
                found[name][rows] = values
    return found


def _block(source, key, trials, rows) -> dict[str, np.ndarray]:
    of_trial = (files.load_rows(source, f"data/{key}/{trial}.npy", rows) for trial in trials)
    return summaries(np.stack([values.astype(np.float64) for values in of_trial]))
