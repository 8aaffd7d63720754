"""Writing one session as events: `Trains` go in, a folder that `events.EventStore` opens comes out.

Until it is whole its name ends in `.partial`; the same call begins it anew. Equal trains give equal
bytes, whatever happened before.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import sensojax
from sensojax.errors import UserError
from sensojax.spikes import clocks, layout
from sensojax.spikes.trains import Trains
from sensojax.writing import plain, write_atomically

CLOCKED_BY = "probe"  # the column whose values each have a clock
BATCH_EVENTS = 1 << 20  # turned into ticks at once


def write(folder: str | Path, trains: Trains) -> Path:
    """Writes `<folder>/<name>/` and returns that path; a store of that name is replaced.

    Raises UserError when another process is writing this session, and when a folder of that name
    holds something else.
    """
    path = Path(folder).resolve() / trains.name
    _refuse_other(path)
    partial = path.with_name(path.name + layout.PARTIAL)
    with _alone_in(partial):
        _fill(partial, trains)
    if path.exists():
        shutil.rmtree(path)
    os.replace(partial, path)
    return path


def _refuse_other(path: Path) -> None:
    """UserError for a path that holds anything but a store, whole or half removed."""
    others = set() if not path.exists() else {each.name for each in path.iterdir()} - layout.PARTS
    if others:
        raise UserError(
            f"found {min(others)} in {path}, expected no folder of that name, or an event store; "
            "choose another --out."
        )


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """An empty folder that no other process uses."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{folder} is being written by another process; wait until that is done."
            ) from error
        for entry in folder.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.name != "lock":
                entry.unlink()
        yield
        (folder / "lock").unlink()


@dataclass(frozen=True)
class _Plan:
    """clock: [neuron] which of the clocks. blocks: [block] float64, numbered from time zero.

    bounds: [block + 1, neuron], where each block's events of each neuron begin among the times.
    """

    trains: Trains
    clocks: list[clocks.Clock]
    clock: np.ndarray
    blocks: np.ndarray
    block_s: float
    bounds: np.ndarray


def _plan(trains: Trains) -> _Plan:
    first, last = float(trains.times.min()), float(trains.times.max())
    block_s = layout.block_length(len(trains.times), last - first)
    blocks = np.arange(np.floor(first / block_s), np.floor(last / block_s) + 1)
    edges = np.append(blocks, blocks[-1] + 1) * block_s  # exact: a power of two
    pairs = zip(trains.offsets, trains.offsets[1:], strict=False)
    bounds = [start + np.searchsorted(trains.times[start:stop], edges) for start, stop in pairs]
    found, clock = _clocks(trains)
    return _Plan(trains, found, clock, blocks, block_s, np.stack(bounds, axis=1))


def _clocks(trains: Trains) -> tuple[list[clocks.Clock], np.ndarray]:
    """The clock of each probe, and which one each neuron has, [neuron] int64."""
    probe = trains.columns.get(CLOCKED_BY, np.zeros(trains.num_neurons))
    names, clock = np.unique(probe, return_inverse=True)
    of_spike = np.repeat(clock.astype(np.int16), np.diff(trains.offsets))
    known = None
    if trains.resolution_s:
        known = clocks.Clock.of_bins(trains.resolution_s)
    if len(names) == 1:
        return [clocks.find(trains.times, known)], clock
    every = range(len(names))
    return [clocks.find(trains.times[of_spike == each], known) for each in every], clock


def _fill(folder: Path, trains: Trains) -> None:
    """Writes all of a store into an empty folder, the description last."""
    plan = _plan(trains)
    counts = np.diff(plan.bounds, axis=0).astype(np.uint32)
    layout.create(folder, "counts", counts.shape, "uint32").write(counts).result()
    checksums = {"counts": hashlib.sha256(counts.tobytes())}
    checksums |= _write_events(folder, plan)
    columns = {f"column/{name}": np.asarray(each) for name, each in trains.columns.items()}
    columns |= {"clock": plan.clock, "block_ends": np.cumsum(counts.sum(axis=1, dtype=np.int64))}
    checksums["neurons"] = layout.digest_of(columns)
    with open(folder / layout.NEURONS, "wb") as file:
        np.savez(file, **columns)
        os.fsync(file.fileno())
    description = {
        "format": layout.FORMAT,
        **{key: getattr(trains, key) for key in layout.ABOUT},
        "neurons": trains.num_neurons,
        "spikes": len(trains.times),
        "first_block": int(plan.blocks[0]),
        "block_s": plan.block_s,
        "clocks": [[clock.rate_hz, clock.shift_s] for clock in plan.clocks],
        "residuals": "residuals" in checksums,
        "notes": trains.notes,
        "checksums": {name: digest.hexdigest() for name, digest in checksums.items()},
    }
    description = plain(description)
    description["fingerprint"] = layout.fingerprint(description)
    description["sensojax"] = sensojax.__version__
    write_atomically(folder / layout.DESCRIPTION, json.dumps(description, indent=1))


def _write_events(folder: Path, plan: _Plan) -> dict:
    """Writes `spikes` and, unless all are zero, `residuals`; returns the SHA-256 of each."""
    total = len(plan.trains.times)
    dtypes = {"spikes": "uint32", "residuals": "uint64"}
    arrays = {name: layout.create(folder, name, (total,), each) for name, each in dtypes.items()}
    checksums = {name: hashlib.sha256() for name in arrays}
    waiting = {name: [] for name in arrays}
    done = ready = 0
    any_residual = False
    for gaps, residuals in _encoded(plan):
        any_residual = any_residual or bool(residuals.any())
        for name, part in zip(arrays, (gaps, residuals), strict=True):
            checksums[name].update(part)
            waiting[name].append(part)
        ready += len(gaps)
        # Whole files at a time: a part of one would have to be read and written again.
        while ready - done >= layout.FILE_EVENTS or done < ready == total:
            stop = min(done + layout.FILE_EVENTS, ready)
            for name, array in arrays.items():
                joined = np.concatenate(waiting[name])
                array[done:stop].write(joined[: stop - done]).result()
                waiting[name] = [joined[stop - done :]]
            done = stop
    if not any_residual:
        shutil.rmtree(folder / "residuals")
        del checksums["residuals"]
    return checksums


def _encoded(plan: _Plan) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The events block after block, some blocks at a time: gaps uint32, residuals uint64."""
    firsts = layout.first_ticks(plan.clocks, plan.blocks, plan.block_s)[plan.clock]
    sizes = np.diff(plan.bounds, axis=0)
    ends = np.cumsum(sizes.sum(axis=1))
    start = 0
    while start < len(ends):
        before = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, before + BATCH_EVENTS, "right")), start + 1)
        lengths = sizes[start:stop].ravel()  # of each neuron's events in each block, in order
        begins = plan.bounds[start:stop].ravel()
        places = layout.places(begins, lengths)
        times = plan.trains.times[places]
        ticks = np.empty(len(times), np.int64)
        residuals = np.empty(len(times), np.int64)
        clock = np.repeat(np.tile(plan.clock, stop - start), lengths)
        for number, each in enumerate(plan.clocks):
            own = slice(None) if len(plan.clocks) == 1 else clock == number
            ticks[own] = each.ticks(times[own])
            residuals[own] = each.residuals(times[own], ticks[own])
        gaps = np.diff(ticks, prepend=0)
        heads = (np.cumsum(lengths) - lengths)[lengths > 0]
        gaps[heads] = ticks[heads] - firsts[:, start:stop].T.ravel()[lengths > 0]
        yield gaps.astype(np.uint32), layout.folded(residuals)
        start = stop
