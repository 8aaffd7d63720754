"""Exact counts of all motifs of any number of sessions, in bounded memory and resumable.

In go sessions and a size of patches; out comes the table of `table.py`. Sessions are cut into parts
that any worker counts alone; a part that is done is a folder of sorted runs beside the result,
there whole or not at all, so the same command goes on where it was stopped. At the end the runs are
merged. Who counted what, and in which order, changes nothing in the result.

By default rows are the published chunks, each padded to whole patches, which gives the published
counts; rows of whole sessions have no seams.
"""

import contextlib
import fcntl
import hashlib
import itertools
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np

from sensojax.errors import UserError, check_name
from sensojax.spikes.binning import BIN_S
from sensojax.spikes.motifs import runs, table
from sensojax.spikes.motifs.patches import Layout, Patch
from sensojax.spikes.motifs.pieces import ROWS, Piece, pieces_of
from sensojax.spikes.session import Session
from sensojax.spikes.workers import Workers, refuse_failures
from sensojax.writing import write_atomically

PART_TOKENS = 250_000_000  # counted by one worker at a stretch: a few seconds
RUNS_AT_ONCE = 32  # merged by one worker


@dataclass(frozen=True)
class Part:
    """What one worker counts: some pieces of a session, into `folder`.

    offset: number of all patches of the sessions before. settings: what the folder is good for.
    """

    session: Session
    patch: Patch
    bin_s: float
    pieces: tuple[Piece, ...]
    folder: Path
    offset: int
    settings: dict


def count(
    sessions: Sequence[Session],
    patch: Patch,
    path: Path,
    *,
    bin_s: float = BIN_S,
    rows: str = "chunk",
    workers: int = 0,
    scheduler: str = "",
    keep: bool = False,
) -> dict:
    """Writes the table of all motifs of these sessions to `path`; returns what it says of itself.

    bin_s: width of a bin in seconds. rows: `chunk` or `session`. workers: processes, 0 for one per
    core. scheduler: of a dask cluster. keep: leaves the parts beside the table, for another one
    with more sessions. Raises UserError when a session cannot be read (after all others were
    counted), and when the path holds another table.
    """
    check_name(rows, ROWS, "rows")
    if not sessions:
        raise UserError("found no session, expected at least one.")
    path = path.absolute()  # a worker may stand elsewhere
    work = path.with_name(path.name + ".partial")
    parts, about = _planned(sessions, patch, bin_s, rows, work)
    if path.exists():
        return table.same(path, about)
    with _alone_in(work), Workers(workers, scheduler) as pool:
        missing = [part for part in parts if not _is_done(part)]
        found = pool.run(count_part, missing, "counting motifs")
        names = [part.session.name for part in missing]
        refuse_failures(names, found, "counted, so there is no table yet")
        merged = _merged(pool, parts, patch, work)
        table.write(path, merged, patch, about | _summed(parts), work / "ordering")
        if not keep:
            shutil.rmtree(work)
    return table.about(path)


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """A folder that no other process uses, with all that is in it."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{folder} is being written by another process; wait until that is done."
            ) from error
        yield


def _planned(sessions, patch, bin_s, rows, work: Path) -> tuple[list[Part], dict]:
    """All parts, and what is known of the table before anything is counted."""
    parts, listed, met, offset = [], [], Counter(), 0
    for session in sessions:
        pieces, patches = pieces_of(session, patch, bin_s, rows)
        tokens = session.num_neurons * session.num_bins(bin_s)
        number = -(-tokens // PART_TOKENS) or 1
        size = -(-len(pieces) // number) or 1
        name = quote(session.name, safe="") + f"~{met[session.name]}"
        met[session.name] += 1
        sizes = (session.num_neurons, session.num_bins(bin_s), patches)
        listed.append((session.name, session.fingerprint, *sizes))
        for start in range(0, len(pieces), size):
            chosen = tuple(pieces[start : start + size])
            settings = dict(patch=str(patch), bin_s=bin_s, neurons=session.num_neurons)
            settings["fingerprint"] = session.fingerprint
            settings["pieces"] = [[each.start, each.stop, each.first] for each in chosen]
            folder = work / f"{name}~{start}"
            parts.append(Part(session, patch, bin_s, chosen, folder, offset, settings))
        offset += patches
    digest = hashlib.sha256(json.dumps(listed).encode()).hexdigest()
    known = dict(patch=str(patch), bin_s=bin_s, rows=rows, sessions=len(sessions), of=digest)
    return parts, known


# --- one part -------------------------------------------------------------------------------------


def count_part(part: Part) -> None:
    """Counts the motifs of a part into its folder, which appears when it is whole."""
    made = part.folder.with_name(f"{part.folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    try:
        layouts = part.patch.layouts
        tallies = [runs.Tally(made, _run(each), each) for each in layouts]
        found = dict(patches=0, silent=0, first_silent=-1, largest=0, tokens=0, spikes=0)
        for piece in part.pieces:
            counts = part.session.counts(part.bin_s, piece.start, piece.stop)
            _add(found, tallies, counts, part.patch, piece.first)
        for tally, layout in zip(tallies, layouts, strict=True):
            tally.finish(made / _run(layout))
        told = json.dumps(dict(settings=part.settings, found=found))
        write_atomically(_told(made), told)
        shutil.rmtree(part.folder, ignore_errors=True)
        os.replace(made, part.folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _add(found: dict, tallies, counts, patch: Patch, first: int) -> None:
    spiking = 0
    places = []
    for tally, motifs in zip(tallies, patch.find(counts), strict=True):
        tally.add(motifs.keys, motifs.place, first)
        places.append(motifs.place)
        spiking += len(motifs.place)
    patches = int(np.prod(patch.grid(counts.num_neurons, counts.num_bins)))
    if found["first_silent"] < 0 and spiking < patches:
        found["first_silent"] = first + _first_missing(np.concatenate(places))
    found["patches"] += patches
    found["silent"] += patches - spiking
    found["largest"] = max(found["largest"], int(counts.count.max(initial=0)))
    found["tokens"] += counts.num_neurons * counts.num_bins
    found["spikes"] += int(counts.count.sum())


def _first_missing(places: np.ndarray) -> int:
    """The smallest whole number from 0 that is not among these."""
    met = np.zeros(len(places) + 1, bool)
    met[places[places < len(places)]] = True
    return int(np.argmin(met))


def _is_done(part: Part) -> bool:
    told = _told(part.folder)
    return told.exists() and json.loads(told.read_text())["settings"] == part.settings


def _told(folder: Path) -> Path:
    return folder / "about.json"


def _run(layout: Layout) -> str:
    return f"up_to_{layout.limit}.run"


# --- all parts ------------------------------------------------------------------------------------


def _merged(pool: Workers, parts: list[Part], patch: Patch, work: Path) -> list[np.ndarray]:
    """One run for each layout, of all parts together; few at a time, on all workers."""
    shutil.rmtree(work / "merging", ignore_errors=True)
    waiting = {
        layout: [(part.folder / _run(layout), part.offset) for part in parts]
        for layout in patch.layouts
    }
    for level in itertools.count():
        jobs, following = [], {}
        for layout, paths in waiting.items():
            starts = range(0, max(len(paths), 1), RUNS_AT_ONCE)
            groups = [paths[start : start + RUNS_AT_ONCE] for start in starts]
            outs = [work / "merging" / f"{level}.{i}.{_run(layout)}" for i in range(len(groups))]
            jobs += [(layout, group, out) for group, out in zip(groups, outs, strict=True)]
            following[layout] = [(out, 0) for out in outs]
        for error in pool.run(merge_group, jobs, "merging counts"):
            if error is not None:
                raise error
        waiting = following
        if all(len(paths) == 1 for paths in waiting.values()):
            break
    return [runs.opened(paths[0][0], runs.record(each)) for each, paths in waiting.items()]


def merge_group(job: tuple[Layout, Sequence[tuple[Path, int]], Path]) -> None:
    """Merges runs on disk into one; with each run comes what is added to its `first`."""
    layout, paths, out = job
    opened = [runs.opened(path, runs.record(layout)) for path, _ in paths]
    runs.write(out, runs.merge(opened, [offset for _, offset in paths]))


def _summed(parts: list[Part]) -> dict:
    """What all parts found together."""
    sums = dict(patches=0, silent=0, tokens=0, spikes=0)
    first_silent, largest = -1, 0
    for part in parts:
        found = json.loads(_told(part.folder).read_text())["found"]
        sums = {name: value + found[name] for name, value in sums.items()}
        largest = max(largest, found["largest"])
        if first_silent < 0 <= found["first_silent"]:
            first_silent = found["first_silent"] + part.offset
    return dict(sums, largest=largest, first_silent=first_silent)
