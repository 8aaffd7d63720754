"""How times and memory are taken: repeats of several sides in turn, medians with their spread.

In: functions that do the work once and return its seconds; out: `Row`s, one line of the table each.
Sides take turns (A B A B ...), so that a machine that slows down slows all of them.
"""

import contextlib
import gc
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import jax

from scripts.benchmarks.peer import Peer
from scripts.benchmarks.session import Session, Sizes

PUBLISHED = "published code"


@dataclass(frozen=True)
class Side:
    """What one side reached, one value per repeat, larger is better."""

    values: tuple[float, ...]

    @classmethod
    def rate(cls, amount: float, seconds: list[float]) -> "Side":
        return cls(tuple(amount / each for each in seconds))

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclass
class Row:
    """One line of the table: ours beside another's, in `unit` (larger is better).

    other: whose the other side is; theirs: None when it was not run. more: further measurements by
    name: compile_seconds; gflops and peak_gb as (ours, theirs or None); gbs, gigabytes of the least
    traffic per second, ours; program_gb, what the compiler sets aside; others, the cores that other
    work kept busy meanwhile.
    """

    row: str
    work: str
    unit: str
    ours: Side
    other: str
    theirs: Side | None
    more: dict = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        return self.ours.median / self.theirs.median if self.theirs else None


def in_turn(repeats: int, *sides: Callable[[], float]) -> list[list[float]]:
    """Seconds of every side, [side][repeat]; each is run once before, which does not count."""
    for side in sides:
        side()
    rounds = [[side() for side in sides] for _ in range(repeats)]
    return [list(each) for each in zip(*rounds, strict=True)]


def timed(work: Callable[[], object]) -> float:
    """Seconds until what `work` returns is there, also on an accelerator."""
    began = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - began


def reset_memory() -> None:
    """Starts the high-water mark of this process's memory anew, where the system can (Linux)."""
    if os.path.exists("/proc/self/clear_refs"):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """Bytes: on an accelerator the most it has held so far; else the largest resident size of this
    process since `reset_memory`."""
    known = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in known:
        return known["peak_bytes_in_use"]
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@dataclass
class Bench:
    """What all rows share.

    session: None when no row needs one; mice: numbers of mice to measure models with; models: names
    of these models; compute: of their cores; said: sentences.
    """

    sizes: Sizes
    session: Session | None
    scratch: Path
    peer: Peer | None
    repeats: int
    mice: tuple[int, ...]
    models: tuple[str, ...] = ("factorised",)
    compute: str = "float32"
    said: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def memory(self, rows: list[Row]) -> Iterator[None]:
        """Notes with the rows that are added inside how much memory each side needed at most."""
        gc.collect()
        reset_memory()
        if self.peer:
            self.peer.ask("reset_memory")
        before = len(rows)
        yield
        peaks = [peak_memory(), self.peer.ask("peak_memory") if self.peer else None]
        for row in rows[before:]:
            row.more["peak_gb"] = [None if peak is None else peak / 1e9 for peak in peaks]

    def sides(self, ours, theirs) -> list[list[float]]:
        """Seconds of ours and, when there is a peer, of theirs (else None), in turn."""
        if self.peer is None:
            return [*in_turn(self.repeats, ours), None]
        return in_turn(self.repeats, ours, theirs)


def row_of(
    name: str,
    work: str,
    unit: str,
    amount: float,
    seconds: list,
    other: str = PUBLISHED,
    *,
    flops: float | None = None,
    moved: float | None = None,
    **more,
) -> Row:
    """A row of rates: `amount` of `unit` per second of each side.

    flops, moved: operations of the work, and bytes that our side moves for it at least.
    """
    ours, theirs = (None if each is None else Side.rate(amount, each) for each in seconds)
    row = Row(name, work, unit, ours, other, theirs, more)
    if flops:
        per_unit = flops / amount / 1e9
        row.more["gflops"] = [side and side.median * per_unit for side in (ours, theirs)]
    if moved:
        row.more["gbs"] = moved / 1e9 / statistics.median(seconds[0])
    return row
