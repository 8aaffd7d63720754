"""The end of a conversion: from all trials stored to a complete store.

In goes a `<mouse>.partial/` whose journal has every trial; the small arrays, the tables with the
statistics of the train tier, and at last `store.json` are added. Doing it twice changes nothing.
"""

import datetime
import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import sensojax
from sensojax import errors, store, types, zarrs
from sensojax.conversion import arrays, journal
from sensojax.statistics.running import Moments
from sensojax.tables import FILE as TABLES


def finish(
    recording: types.Recording, notes: journal.Journal, tables: Mapping[str, np.ndarray]
) -> None:
    """Completes the folder of the journal, but for its name."""
    lines = notes.trials
    max_frames = max(line["num_frames"] for line in lines)
    if not max_frames:
        raise errors.UserError(
            f"no trial of {recording.mouse} has a frame in which everything was recorded; there "
            "is nothing to convert."
        )
    arrays.cut(notes.folder, max_frames, 1 + max(line["clip"] for line in lines))
    traces, behavior_columns = notes.read_traces(), lines[0]["behavior_columns"]
    arrays.write_traces(notes.folder, traces, max_frames, behavior_columns)
    description = _describe(recording, notes, max_frames)
    stored = store.TrialStore(notes.folder, description, notes.lines)
    statistics = train_statistics(stored)
    with open(notes.folder / TABLES, "wb") as file:
        np.savez_compressed(file, **tables, **_extremes(recording), **statistics)
        os.fsync(file.fileno())
    arrays.remove_strays(notes.folder)
    unnamed = notes.folder / f"{store.DESCRIPTION}.new"
    with open(unnamed, "w") as file:
        json.dump(description, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unnamed, notes.folder / store.DESCRIPTION)


def _describe(recording: types.Recording, notes: journal.Journal, max_frames: int) -> dict:
    lines = notes.trials
    videos = {line["video"] for line in lines if line["num_frames"]}
    return {
        "format": store.FORMAT,
        "mouse": recording.mouse,
        "fingerprint": hashlib.sha256(notes.text).hexdigest(),
        "source": recording.source,
        "simulated": bool(recording.simulated),
        "frame_rate_hz": float(recording.frame_rate_hz),
        "trials": len(lines),
        "neurons": len(recording.neurons),
        "clips": 1 + max(line["clip"] for line in lines),
        "max_frames": max_frames,
        "height": lines[0]["height"],
        "width": lines[0]["width"],
        "video_dtype": "uint8" if videos == {"uint8"} else "float32",
        "response_dtype": notes.lines[0]["response_dtype"],
        "arrays": sorted(path.parent.name for path in notes.folder.glob("*/zarr.json")),
        "sensojax": sensojax.__version__,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _extremes(recording: types.Recording) -> dict[str, np.ndarray]:
    """The published smallest and largest values of every frame that some normalizations need.

    Of behaviour and pupil; those of videos and responses would be large, and are not asked for.
    They are no part of what makes this store this store, so stores without them are whole too.
    """
    return {
        f"official/{key}/{name}": recording.statistics[key][name]
        for key in ("behavior", "pupil_center")
        for name in ("min", "max")
        if name in recording.statistics.get(key, ())
    }


# Statistics of the train tier -------------------------------------------------------------------


def train_statistics(stored: store.TrialStore) -> dict[str, np.ndarray]:
    """Mean, std, min and max over the valid frames of the train tier, named as in `tables.npz`.

    videos: scalars; responses: [neuron]; behavior, pupil_center: [column]. Withheld responses do
    not count. Merged in trial order, so they are the same bits whatever the number of threads.
    """
    # From the lines: the tables that `stored.trials` needs are not written yet.
    rows = [
        row
        for row, line in enumerate(stored.lines)
        if line["tier"] == "train" and line["num_frames"]
    ]
    total: dict[str, Moments] = {}
    least: dict[str, np.ndarray] = {}
    most: dict[str, np.ndarray] = {}
    with ThreadPoolExecutor(zarrs.cores()) as pool:
        for trial in pool.map(lambda row: _values(stored, row), rows):
            for name, (moments, low, high) in trial.items():
                total[name] = total[name] + moments if name in total else moments
                least[name] = np.minimum(least.get(name, low), low)
                most[name] = np.maximum(most.get(name, high), high)
    found = {"mean": {name: each.mean for name, each in total.items()}, "min": least, "max": most}
    found["std"] = {name: each.std for name, each in total.items()}
    return {f"per_neuron/{name}/{n}": x for n, of in found.items() for name, x in of.items()}


def _values(stored: store.TrialStore, row: int) -> dict[str, tuple]:
    """Moments, smallest and largest values of one trial."""
    trial = stored.read(row)
    values = {"videos": trial["video"].reshape(-1)}
    if stored.has_responses[row]:
        values["responses"] = trial["responses"]
    values |= {name: trial[name] for name in ("behavior", "pupil_center")}
    return {
        name: (Moments.of(each), np.float64(each.min(axis=0)), np.float64(each.max(axis=0)))
        for name, each in values.items()
    }
