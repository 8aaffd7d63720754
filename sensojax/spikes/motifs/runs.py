"""Sorted runs: counts of motifs as sorted lists in memory and on disk, and their merging.

A run is an array of records sorted by one field in which no value comes twice: for motifs `key`,
`count` (how often) and `first` (the number of the patch where the motif was seen first). Runs of
any length are merged a piece at a time, so memory stays bounded whatever was counted.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from sensojax.spikes.motifs.patches import Layout

MERGED_BYTES = 24_000_000  # of records in memory while runs are merged
HELD_BYTES = 36_000_000  # of records that a `Tally` holds before it writes a run


def record(layout: Layout) -> np.dtype:
    """The record of a motif whose key has this layout."""
    return np.dtype([("key", layout.dtype), ("count", np.int64), ("first", np.int64)])


def ordered(
    keys: np.ndarray, place: np.ndarray, layout: Layout
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Patches sorted by key: keys [patch], places [patch], and where each key begins [motif]."""
    bits = int(place.max(initial=0)).bit_length()
    if layout.size << bits <= 2**64:
        # Key and place in one number: a plain sort, ten times as fast as sorting one by the other.
        both = keys << np.uint64(bits)
        both |= place.view(np.uint64)
        both.sort()
        keys = both >> np.uint64(bits)
        both &= np.uint64((1 << bits) - 1)
        place = both.view(np.int64)
    else:
        order = np.argsort(keys)
        keys, place = keys[order], place[order]
    return keys, place, _starts(keys)


def tally(keys: np.ndarray, place: np.ndarray, layout: Layout, first: int = 0) -> np.ndarray:
    """The run of single patches, keys [patch] and places [patch], which count from `first`."""
    keys, place, starts = ordered(keys, place, layout)
    run = np.empty(len(starts), record(layout))
    if len(starts):
        run["key"], run["count"] = keys[starts], np.diff(np.r_[starts, len(keys)])
        run["first"] = np.minimum.reduceat(place, starts) + first
    return run


def joined(runs: Sequence[np.ndarray]) -> np.ndarray:
    """One run of several in memory: counts added, the first of the firsts."""
    if len(runs) == 1:
        return runs[0]
    key, count, first = (
        np.concatenate([run[name] for run in runs]) for name in ("key", "count", "first")
    )
    order = np.argsort(key)
    key = key[order]
    starts = _starts(key)
    run = np.empty(len(starts), runs[0].dtype)
    if len(starts):
        run["key"], run["count"] = key[starts], np.add.reduceat(count[order], starts)
        run["first"] = np.minimum.reduceat(first[order], starts)
    return run


def _starts(keys: np.ndarray) -> np.ndarray:
    """Where each key begins in a sorted list of them."""
    return np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]][: len(keys)])


def aligned(
    runs: Sequence[np.ndarray], field: str, at_once: int = MERGED_BYTES
) -> Iterator[dict[int, np.ndarray]]:
    """Goes through sorted runs together: pieces with the same range of `field`, by number of run.

    Every value that is yielded lies after all those yielded before. The runs may be on disk;
    about `at_once` bytes are taken at a time.
    """
    done = [0] * len(runs)
    while live := [i for i, run in enumerate(runs) if done[i] < len(run)]:
        step = max(at_once // sum(runs[i].itemsize for i in live), 1)
        seen = {i: runs[i][done[i] : done[i] + step] for i in live}
        ends = [piece[field][-1] for i, piece in seen.items() if done[i] + step < len(runs[i])]
        pieces = {}
        for i, piece in seen.items():
            # What lies after the end of another's piece may still be met there: left for later.
            upto = np.searchsorted(piece[field], min(ends), "right") if ends else len(piece)
            done[i] += int(upto)
            if upto:
                pieces[i] = np.array(piece[:upto])
        yield pieces


def merge(
    runs: Sequence[np.ndarray], offsets: Sequence[int] | None = None, at_once: int = MERGED_BYTES
) -> Iterator[np.ndarray]:
    """The one run of all these runs of motifs, a piece at a time.

    offsets: what is added to the `first` of each run, when its numbers begin anew.
    """
    for pieces in aligned(runs, "key", at_once):
        for number, piece in pieces.items():
            piece["first"] += offsets[number] if offsets else 0
        yield joined(list(pieces.values()))


def write(path: Path, pieces: Iterable[np.ndarray], durable: bool = False) -> None:
    """Writes a run from its pieces, so that it is there whole or not at all.

    durable: also when the machine stops; for what another run of the command relies on.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with temporary.open("wb") as file:
            for piece in pieces:
                file.write(np.ascontiguousarray(piece).view(np.uint8).data)
            file.flush()
            if durable and file.tell():
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def opened(path: Path, dtype: np.dtype) -> np.ndarray:
    """A run on disk as an array that is read when it is looked at."""
    if not path.stat().st_size:
        return np.empty(0, dtype)
    return np.memmap(path, dtype, mode="r")


class Tally:
    """Counts motifs of one layout in bounded memory: what does not fit goes to `folder`."""

    def __init__(self, folder: Path, name: str, layout: Layout, held: int = HELD_BYTES):
        self.folder, self.name, self.layout, self.dtype = folder, name, layout, record(layout)
        self.held = held // self.dtype.itemsize
        self.waiting: list[np.ndarray] = []
        self.written: list[Path] = []

    def add(self, keys: np.ndarray, place: np.ndarray, first: int = 0) -> None:
        """Counts patches: keys [patch] and their places [patch], which count from `first`."""
        if not len(keys):
            return
        self.waiting.append(tally(keys, place, self.layout, first))
        if sum(map(len, self.waiting)) > self.held:
            self.waiting = [joined(self.waiting)]
            if len(self.waiting[0]) > self.held // 2:
                self._spill()

    def _spill(self) -> None:
        path = self.folder / f"{self.name}.{len(self.written)}.spilled"
        write(path, self.waiting)
        self.waiting, self.written = [], [*self.written, path]

    def finish(self, path: Path) -> None:
        """Writes all that was added as one run."""
        runs = [opened(each, self.dtype) for each in self.written]
        left = [joined(self.waiting)] if self.waiting else []
        write(path, merge([*runs, *left]), durable=True)
        for each in self.written:
            each.unlink()
