"""Features of a frozen core, computed once and read like videos.

In: stores, the trials to train on, and a function that computes the core's features of a batch;
out: stores whose `video` is those features, [time height width feature] float16, so that training
readouts needs neither videos nor the core. Each trial is one .npy file, written whole or not at
all, in a folder that is named after everything that the features depend on: the same call goes on
where it was stopped, and other runs with the same core share the files.

Features are those of whole trials, as in evaluation. A core that is a convolution in time gives
the same for a window; a recurrent one remembers what came before the window.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from sensojax.errors import UserError
from sensojax.pipeline import batches, windows
from sensojax.progress import track
from sensojax.writing import plain, write_array_atomically, write_atomically

DTYPE = np.float16  # features pass batch norm, so they are of order 1
DESCRIPTION = "features.json"


class FeatureStore:
    """A store whose video is what `write` computed; everything else is the store's own."""

    def __init__(self, store, folder: Path, lost_frames: int, frame: tuple[int, ...]):
        self.store, self.folder, self.lost_frames, self.frame = store, folder, lost_frames, frame

    def __getattr__(self, name):
        if name == "store":  # while it is being unpickled
            raise AttributeError(name)
        return getattr(self.store, name)

    def empty(self, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
        """Arrays for so many frames, as `TrialStore.empty`."""
        arrays = self.store.empty(shape)
        return {**arrays, "video": np.empty((*shape, *self.frame), DTYPE)}

    def read_into(
        self, row: int, start: int, stop: int, arrays: Mapping[str, np.ndarray]
    ) -> Callable[[], None]:
        """As `TrialStore.read_into`; the frames that the core loses in this window are zeros."""
        others = {name: array for name, array in arrays.items() if name != "video"}
        wait = self.store.read_into(row, start, stop, others)
        features, lost = _load(self.folder / f"{row}.npy"), min(self.lost_frames, stop - start)
        arrays["video"][:lost] = 0
        arrays["video"][lost:] = features[start : stop - lost]
        return wait

    def read_images_into(
        self, rows: np.ndarray, at: np.ndarray, arrays: Mapping[str, np.ndarray]
    ) -> Callable[[], None]:
        """As `TrialStore.read_images_into`."""
        others = {name: array for name, array in arrays.items() if name != "video"}
        wait = self.store.read_images_into(rows, at, others)
        for row, example in zip(rows, at, strict=True):
            arrays["video"][example] = _load(self.folder / f"{row}.npy")
        return wait


def _load(path: Path) -> np.ndarray:
    """The features of one trial, on disk; UserError when the file was damaged."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(
            f"{path} cannot be read ({error}); delete it and start the run again."
        ) from error


def write(
    folder: str | Path,
    stores: Mapping[str, object],
    rows: Mapping[str, np.ndarray],
    compute: Callable,
    *,
    about: Mapping,
    lost_frames: int,
    normalization: str,
    batch_size: int,
    read_threads: int,
) -> dict[str, FeatureStore]:
    """Computes what is not there yet of the features of these rows; returns stores to train from.

    compute: (mouse, raw Batch of numpy arrays) -> features [batch time' height width feature] of
    its last time' frames. about: whatever the features depend on besides the store.
    Raises UserError when there is too little room, or when a feature does not fit into float16.
    """
    made = {}
    for mouse, store in stores.items():
        described = plain({**about, "store": store.fingerprint, "normalization": normalization})
        name = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]
        place = Path(folder) / name / mouse
        frames = windows.usable_frames(store.trials, normalization)
        missing = [row for row in rows[mouse].tolist() if not (place / f"{row}.npy").exists()]
        if missing:
            write_atomically(place.parent / DESCRIPTION, json.dumps(described, indent=2))
        todo = batches.trial_batches(
            store,
            np.array(missing, int),
            batch_size,
            max((int(frames[row]) for row in missing), default=0),
            normalization=normalization,
            skip_frames=0,
            num_threads=read_threads,
        )
        done = len(rows[mouse]) - len(missing)
        pieces = _trials(mouse, todo, compute, frames, lost_frames)
        for row, features in track(pieces, f"features of {mouse}", len(rows[mouse]), done):
            _save(place / f"{row}.npy", features, len(rows[mouse]) - done)
            done += 1
        frame = _load(place / f"{rows[mouse][0]}.npy").shape[1:]
        made[mouse] = FeatureStore(store, place, lost_frames, frame)
    return made


def _trials(mouse, todo, compute, frames, lost_frames) -> Iterator[tuple[int, np.ndarray]]:
    for rows, batch in todo:
        features = np.asarray(compute(mouse, batch))
        for row, of_trial in zip(rows, features, strict=False):  # the last batch has idle examples
            yield int(row), of_trial[: frames[row] - lost_frames]


def _save(path: Path, features: np.ndarray, num_left: int) -> None:
    halves = features.astype(DTYPE)
    if not np.isfinite(halves).all():
        raise UserError(
            f"found features of up to {np.abs(features).max():.3g}, expected at most 65504, which "
            'is what a file of features holds; set transfer.features to "".'
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    needed, free = num_left * halves.nbytes, shutil.disk_usage(path.parent).free
    if needed > free:
        raise UserError(
            f"found {free / 1e9:.1f} GB free in {path.parent}, expected about {needed / 1e9:.1f} "
            'GB for features; choose another transfer.features, or "" for none.'
        )
    write_array_atomically(path, halves)
