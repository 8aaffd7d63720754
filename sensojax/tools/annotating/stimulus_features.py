"""What the stimuli of whole sessions show, frame by frame, in a file for each trial (sota 4.6-4.8).

In go a `Shown` mouse and a function that measures a video; out comes the published layout

    FOLDER/{drifting_gabor,gaussian_dots,flashing_images}/<mouse>/<trial>.npy      [time ...]
    FOLDER/.../<mouse>/about.json                                  how and of what they were made

Every different video is measured once, and what was found is kept for each of its repeats. A run
that was stopped goes on with the trials that have no file yet.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sensojax import progress, zarrs
from sensojax.errors import UserError, nearest
from sensojax.tools import sources
from sensojax.tools.annotating import stimulus_ids
from sensojax.tools.annotating.shown import Shown
from sensojax.types import STIMULUS_KINDS
from sensojax.writing import plain, write_array_atomically, write_atomically

# The published folder of each kind.
FOLDERS = {
    "drifting_gabor": "drifting_gabor",
    "gaussian_dots": "gaussian_dots",
    "flashed_images": "flashing_images",
}
ABOUT = "about.json"


@dataclass(frozen=True)
class Measured:
    """What a run did: trials that have a file now, videos measured, frames that got a NaN."""

    trials: int
    videos: int
    unclear_frames: int


def rows_of_kind(videos: Shown, kind: str, ids: Path | None = None) -> list[int]:
    """The trials of a kind of stimulus, ascending.

    ids: a folder that scripts/assign_stimulus_ids.py has filled; else the store or the trial table
    must know the kinds. Raises UserError when nobody knows them.
    """
    wanted = STIMULUS_KINDS.index(kind)
    if ids is not None:
        codes = _kept_codes(ids, videos)
    elif videos.store is not None:
        codes = np.array([_code(name) for name in videos.store.stimulus_kinds.tolist()])
    else:
        codes = stimulus_ids.known_codes(videos)
    if codes is None:
        raise UserError(
            f"the kinds of the stimuli of mouse {videos.mouse} are not known; find them with "
            "scripts/assign_stimulus_ids.py and name their folder with --ids, or name --trials."
        )
    return [int(row) for row in np.flatnonzero(codes == wanted) if videos.tiers[row] != "none"]


def rows_of_trials(videos: Shown, numbers: Iterable[int]) -> list[int]:
    """The rows of these trials (numbers of their files), ascending; UserError for unknown ones."""
    row_of = {number: row for row, number in enumerate(_numbers(videos))}
    unknown = [str(number) for number in numbers if number not in row_of]
    if unknown:
        raise UserError(
            f"found no trial {unknown[0]} of mouse {videos.mouse}, whose trials are numbered "
            f"{min(row_of)} to {max(row_of)}{nearest(unknown[0], map(str, row_of))}"
        )
    return sorted(row_of[number] for number in set(numbers))


def measure(
    folder: Path,
    videos: Shown,
    rows: Sequence[int],
    how: Callable[[np.ndarray], np.ndarray],
    settings: Mapping,
    *,
    one_by_one: bool = True,
    workers: int = 0,
) -> Measured | None:
    """Measures these trials into `<folder>/<mouse>/<trial>.npy`; None when all were there.

    how: of a video [time height width], one row (or number) per frame. settings: what decides its
    answers; files of other settings, or of other videos, are never mixed with these. one_by_one:
    False when an answer depends on the videos before, so that all are measured or none.
    """
    folder = folder / videos.mouse
    numbers = _numbers(videos)
    paths = {row: folder / f"{numbers[row]}.npy" for row in rows}
    about = plain(settings) | dict(videos=videos.version)
    if not one_by_one:
        about["trials"] = [numbers[row] for row in rows]
    _check_same(folder, about)
    missing = {row for row, path in paths.items() if not path.is_file()}
    if not missing:
        return None
    write_atomically(folder / ABOUT, json.dumps(about, indent=1))
    threads = workers or zarrs.cores()
    groups = _groups(videos, rows, threads)
    todo = [group for group in groups if missing & set(group) or not one_by_one]
    # The longest showing of a video: others may have been cut earlier.
    read = sources.read_ahead(todo, lambda each: videos.read(max(each, key=each.get)), threads)
    unclear = 0
    for group, video in zip(
        todo, progress.track(read, f"measuring {videos.mouse}", len(todo)), strict=True
    ):
        try:
            values = how(video)
        except UserError as error:
            number = numbers[next(iter(group))]
            raise UserError(f"{videos.mouse}, trial {number}: {error}") from error
        for row, frames in group.items():
            write_array_atomically(paths[row], values[:frames])
        unclear += int(np.isnan(values.reshape(len(values), -1)).any(axis=1).sum())
    return Measured(trials=len(rows), videos=len(todo), unclear_frames=unclear)


def forget(folder: Path, videos: Shown) -> None:
    """Deletes what was measured of a mouse, and only that."""
    folder = folder / videos.mouse
    if (folder / ABOUT).is_file():
        shutil.rmtree(folder)


def _check_same(folder: Path, about: Mapping) -> None:
    if not folder.is_dir():
        return
    try:
        known = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        other = [name for name in about if known.get(name) != about[name]]
    except (OSError, ValueError, AttributeError):
        raise UserError(
            f"{folder} is there and has no readable {ABOUT}, so nobody knows how its files were "
            "made; choose another --out, or delete it."
        ) from None
    if other:
        raise UserError(
            f"{folder} was made with other {', '.join(other)}; choose another --out, or make it "
            "anew with --again."
        )


def _groups(videos: Shown, rows: Sequence[int], threads: int) -> list[dict[int, int]]:
    """{trial: its frames} of every different video, in the order of their first trials."""
    if videos.store is not None:
        ids, frames = videos.store.video_ids, videos.store.trials.num_frames
        looked = [(row, int(ids[row]), int(frames[row])) for row in rows]
    else:
        known = videos.columns.get("video_ids")

        def look(row: int) -> tuple[int, object, int]:
            video = videos.read(row)
            unknown = known is None or known[row] < 0
            return row, _digest(video) if unknown else int(known[row]), len(video)

        made = sources.read_ahead(rows, look, threads)
        looked = list(progress.track(made, f"looking at {videos.mouse}", len(rows)))
    groups: dict[object, dict[int, int]] = {}
    for row, video, length in looked:
        key = ("alone", row) if video == -1 else video
        groups.setdefault(key, {})[row] = length
    return list(groups.values())


def _digest(video: np.ndarray) -> bytes:
    digest = hashlib.blake2b(f"{video.shape}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(video))
    return digest.digest()


def _numbers(videos: Shown) -> list[int]:
    """The number of each trial's file at its laboratory, [trial]."""
    if videos.store is not None:
        return videos.store.trials.index.tolist()
    return list(range(len(videos.tiers)))


def _kept_codes(folder: Path, videos: Shown) -> np.ndarray:
    path = folder / f"{videos.mouse}.npy"
    try:
        codes = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(
            f"found no stimulus ids of mouse {videos.mouse} in {path} ({error}); make them with "
            "scripts/assign_stimulus_ids.py."
        ) from error
    if codes.shape != (len(videos.tiers),):
        raise UserError(
            f"{path} has shape {codes.shape}, expected a number for each of {len(videos.tiers)} "
            "trials; make it again with scripts/assign_stimulus_ids.py."
        )
    return codes


def _code(kind: str) -> int:
    return STIMULUS_KINDS.index(kind) if kind in STIMULUS_KINDS else -1
