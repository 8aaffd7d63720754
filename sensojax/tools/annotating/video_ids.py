"""Video ids of whole sessions: seen, numbered, kept; alone as published, or all mice together.

In go `Shown` mice; out come for each of them `<mouse>.npy` [trial] and `<mouse>.json` in a folder,
for a store also its annotations "video_id" and "video_numbering": the latter is equal in the mice
that were numbered together. Seeing a mouse means reading all its videos once; what is needed of
them is kept in `<mouse>.sketches.npz` until the numbering of several mice is done, so a stopped
tool goes on where it was.
"""

import csv
import hashlib
import io
import zlib
from collections.abc import Mapping
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from sensojax import progress, zarrs
from sensojax.errors import UserError
from sensojax.stimuli import identity
from sensojax.stimuli.identity import Sketch
from sensojax.tools import sources
from sensojax.tools.annotating import shown
from sensojax.tools.annotating.shown import Shown
from sensojax.writing import write_array_atomically, write_atomically, write_bytes_atomically

SHARED = "shared.csv"  # how many videos every two mice have in common
COLUMN = "meta/trials/video_ids.npy"  # of a session folder


def see(videos: Shown, workers: int = 0, keep: Path | None = None) -> list[Sketch]:
    """Reads every video of a mouse once, with several threads; keep: a folder for the sketches."""
    path = None if keep is None else keep / f"{videos.mouse}.sketches.npz"
    if path is not None and (known := _kept(path, videos.version)):
        return known
    rows = range(len(videos.tiers))

    def sketch(row: int) -> Sketch:
        return Sketch.of(videos.read(row))

    made = sources.read_ahead(rows, sketch, workers or zarrs.cores())
    sketches = list(progress.track(made, f"looking at {videos.mouse}", len(rows)))
    if path is not None:
        file = io.BytesIO()
        np.savez(file, version=np.array(videos.version), **identity.packed(sketches))
        write_bytes_atomically(path, file.getvalue())
    return sketches


def _kept(path: Path, version: str) -> list[Sketch]:
    try:
        with open(path, "rb") as file, np.load(file) as arrays:
            fits = str(arrays["version"]) == version
            return identity.unpacked(arrays) if fits else []
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error):
        return []


def numbered(
    mice: Mapping[str, Shown], sketches: Mapping[str, list[Sketch]], across: bool
) -> dict[str, np.ndarray]:
    """{mouse: [trial] ids}, each mouse as published, or all of them in one numbering."""
    ids = {
        mouse: identity.within_mouse(
            sketches[mouse], videos.tiers, videos.padded_frames, videos.read
        )
        for mouse, videos in mice.items()
    }
    if not across:
        return ids
    return identity.across_mice(sketches, ids, lambda mouse, row: mice[mouse].read(row))


def numbering(mice: Mapping[str, Shown]) -> str:
    """What tells apart ids that were given together from ids that were not."""
    told = sorted((mouse, videos.version) for mouse, videos in mice.items())
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def is_done(folder: Path, videos: Shown, number: str, *, column: bool) -> bool:
    """Whether `keep` has been here with this numbering."""
    if not shown.is_done(folder, videos.mouse, dict(numbering=number)):
        return False
    if videos.store is not None:
        known = videos.store.annotation(identity.NUMBERING)
        return known is not None and number in known
    return not column or column_of(videos).is_file()


def keep(folder: Path, videos: Shown, ids: np.ndarray, number: str, *, column: bool) -> None:
    """Writes the ids of a mouse; column: also into its session folder."""
    if column:
        write_array_atomically(column_of(videos), ids)
    if videos.store is not None:
        videos.store.annotate("video_id", ids)
        videos.store.annotate(identity.NUMBERING, np.full(len(ids), number))
    shown.finish(folder, videos.mouse, ids, dict(numbering=number))


def column_of(videos: Shown) -> Path:
    """The file of ids in a session folder; UserError for a mouse that has no such folder."""
    if videos.folder is None:
        raise UserError(
            f"found mouse {videos.mouse} in a {'zip' if videos.store is None else 'store'}, "
            "expected a session folder for --write; leave --write out or unpack the session."
        )
    return videos.folder / COLUMN


def keep_shared(folder: Path, ids: Mapping[str, np.ndarray]) -> np.ndarray:
    """Writes and returns how many videos every two mice have in common, [mouse mouse]."""
    table, counts = io.StringIO(), identity.shared(ids)
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["mouse", *ids])
    for mouse, row in zip(ids, counts.tolist(), strict=True):
        rows.writerow([mouse, *row])
    write_atomically(folder / SHARED, table.getvalue())
    for mouse in ids:
        (folder / f"{mouse}.sketches.npz").unlink(missing_ok=True)
    return counts
