"""What mice were shown: the videos of recordings or stores, without what was recorded of the mice.

In goes a `sources.Source`; out comes `Shown`, which reads videos alone (a quarter of the bytes of
a published trial, or fewer) and says what is known of them. Tools that find something out about
every trial keep it with `finish`, one file per mouse, and see with `is_done` what is done already.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sensojax.conversion.trials import compact
from sensojax.errors import UserError
from sensojax.recordings import files, sensorium2023
from sensojax.store import TrialStore
from sensojax.tools.sources import Source
from sensojax.writing import write_array_atomically, write_atomically


@dataclass(frozen=True)
class Shown:
    """The videos of one mouse.

    tiers: [trial]. columns: other columns of the trial table by name, [trial ...]. padded_frames:
    the length of the laboratory's files, as far as it is known. version: tells whether the videos
    are still those of another day. read(row): a video [time height width], uint8 when all its grey
    levels are whole. store: when it comes from one. folder: of the session, when it lies in one.
    """

    mouse: str
    tiers: tuple[str, ...]
    frame_rate_hz: float
    columns: Mapping[str, np.ndarray]
    padded_frames: int
    version: str
    read: Callable[[int], np.ndarray]
    store: TrialStore | None = None
    folder: Path | None = None


def of(source: Source) -> Shown:
    """What this mouse was shown; UserError when its table of trials cannot be read."""
    return _of_store(source) if source.fingerprint else _of_recording(source)


def _of_store(source: Source) -> Shown:
    store = TrialStore.open(source.where)
    trials = store.trials

    def read(row: int) -> np.ndarray:
        frames = int(trials.num_frames[row])
        arrays = store.empty((frames,))
        del arrays["responses"]
        if frames:
            store.read_into(row, 0, frames, arrays)()
        return compact(arrays["video"])

    official = store.statistics.official.get("videos", {}).values()
    return Shown(
        mouse=store.mouse,
        tiers=source.tiers,
        frame_rate_hz=store.frame_rate_hz,
        columns=trials.columns,
        padded_frames=max((len(each) for each in official), default=store.max_frames),
        version=store.fingerprint,
        read=read,
        store=store,
    )


def _of_recording(source: Source) -> Shown:
    recording = sensorium2023.read(source.where, source.mouse)
    found = files.find(source.where, sensorium2023.TIERS_FILE)
    session = next(each for each in found if each.name == source.mouse)
    first = files.header(session, "data/videos/0.npy").shape

    def read(row: int) -> np.ndarray:
        name = f"data/videos/{row}.npy"
        video = files.load(session, name)
        if video.shape[:-1] != first[:-1] or video.dtype.kind not in "fiu":
            raise UserError(
                f"{session.where(name)} holds {video.dtype} of shape {video.shape}, expected "
                f"numbers in {first[:-1]} pixels as in the first trial; copy this file again from "
                "its source."
            )
        missing = np.isnan(video).any(axis=(0, 1))
        frames = int(np.argmax(missing)) if missing.any() else len(missing)
        return compact(np.moveaxis(video[..., :frames], -1, 0))

    in_folder = isinstance(session, files.Folder)
    return Shown(
        mouse=source.mouse,
        tiers=recording.tiers,
        frame_rate_hz=recording.frame_rate_hz,
        columns=recording.trial_columns,
        padded_frames=first[-1],
        version=_version(session, recording.tiers),
        read=read,
        folder=session.path if in_folder else None,
    )


def _version(session: files.Folder | files.Zip, tiers: tuple[str, ...]) -> str:
    """Changes when a tier, or the size or the time of a file of videos, does."""
    paths = [session.path]
    if isinstance(session, files.Folder):
        paths = [session.path / f"data/videos/{row}.npy" for row in range(len(tiers))]
    stats = [path.stat() for path in paths]
    told = [tiers, *((each.st_size, each.st_mtime_ns) for each in stats)]
    return hashlib.sha256(repr(told).encode()).hexdigest()


def is_done(folder: Path, mouse: str, about: Mapping) -> bool:
    """Whether `finish` has been here with the same description."""
    try:
        told = json.loads((folder / f"{mouse}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return told == dict(about) and (folder / f"{mouse}.npy").is_file()


def finish(folder: Path, mouse: str, values: np.ndarray, about: Mapping) -> None:
    """Keeps `<mouse>.npy` [trial], and then `<mouse>.json`, which says of what."""
    (folder / f"{mouse}.json").unlink(missing_ok=True)
    write_array_atomically(folder / f"{mouse}.npy", values)
    write_atomically(folder / f"{mouse}.json", json.dumps(dict(about), indent=1))
