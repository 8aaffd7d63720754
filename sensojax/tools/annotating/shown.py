"""What mice were shown: the videos of recordings or stores, without what was recorded of the mice.

In goes a `sources.Source`; out comes `Shown`, which reads videos alone (a quarter of the bytes of
a published trial, or fewer) and says what is known of them. Tools that find something out about
every trial keep it with `finish`, one file per mouse, and see with `is_done` what is done already.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sensojax.conversion.trials import compact
from sensojax.errors import UserError
from sensojax.recordings import colliculus2017, competition, files, formats
from sensojax.store import TrialStore
from sensojax.tools.sources import Source
from sensojax.types import Recording
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
    recording = formats.read(source.where, source.mouse)
    for file in colliculus2017.find(source.where):
        if file.stem == source.mouse:
            return _of_file(file, recording)
    session = competition.choose(source.where, source.mouse)
    layout = formats.of(session).LAYOUT
    folder = layout.folder("videos")
    first = files.header(session, f"{folder}/0.npy").shape
    pixels = layout.rows("videos", first)

    def read(row: int) -> np.ndarray:
        name = f"{folder}/{row}.npy"
        video = files.load(session, name)
        if layout.rows("videos", video.shape) != pixels or video.dtype.kind not in "fiu":
            raise UserError(
                f"{session.where(name)} holds {video.dtype} of shape {video.shape}, expected "
                f"numbers in {pixels} pixels as in the first trial; copy this file again from "
                "its source."
            )
        video = layout.time_last("videos", video)
        missing = np.isnan(video).any(axis=(0, 1))
        frames = int(np.argmax(missing)) if missing.any() else len(missing)
        return compact(np.moveaxis(video[..., :frames], -1, 0))

    in_folder = isinstance(session, files.Folder)
    return Shown(
        mouse=source.mouse,
        tiers=recording.tiers,
        frame_rate_hz=recording.frame_rate_hz,
        columns=recording.trial_columns,
        padded_frames=1 if layout.still else first[-1],
        version=_version(_files(session, folder, recording.tiers), recording.tiers),
        read=read,
        folder=session.path if in_folder else None,
    )


def _of_file(file: Path, recording: Recording) -> Shown:
    """Of a recording that is one file, whose trials are equally long."""
    return Shown(
        mouse=recording.mouse,
        tiers=recording.tiers,
        frame_rate_hz=recording.frame_rate_hz,
        columns=recording.trial_columns,
        padded_frames=recording.read(0).num_frames,
        version=_version([file], recording.tiers),
        read=lambda row: compact(recording.read(row).video),
    )


def _files(session: files.Folder | files.Zip, folder: str, tiers: tuple[str, ...]) -> list[Path]:
    """The files that hold the videos of a session."""
    if isinstance(session, files.Folder):
        return [session.path / f"{folder}/{row}.npy" for row in range(len(tiers))]
    return [session.path]


def _version(paths: Sequence[Path], tiers: tuple[str, ...]) -> str:
    """Changes when a tier, or the size or the time of a file of videos, does."""
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
