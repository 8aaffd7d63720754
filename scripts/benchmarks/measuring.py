"""How times and memory are taken: repeats of several sides in turn, medians with their spread.

In: functions that do the work once and return its seconds; out: `Row`s, one line of the table each.
Sides take turns (A B A B ...), so that a machine that slows down slows all of them.
"""

import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp

from sensojax import store

MATMUL_SIZE = 2048


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
    name: compile_seconds; gflops and peak_gb as (ours, theirs or None).
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
    """Bytes, the largest resident size of this process since `reset_memory`."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def matmul_rate(repeats: int, peer) -> tuple[float, float | None]:
    """GFLOP/s of a square float32 product, ours and the peer's."""
    a = jnp.ones((MATMUL_SIZE, MATMUL_SIZE)) * 0.5
    sides = [lambda: timed(lambda: a @ a)]
    if peer:
        sides.append(lambda: peer.ask("matmul", size=MATMUL_SIZE))
    rates = [2 * MATMUL_SIZE**3 / 1e9 / statistics.median(s) for s in in_turn(repeats, *sides)]
    return rates[0], rates[1] if peer else None


def machine(peer) -> dict:
    """What the numbers depend on: processor, load, versions of both sides."""
    ours = {name: version(name) for name in ("jax", "flax", "numpy", "tensorstore", "grain")}
    about = peer.ask("hello") if peer else {}
    return dict(
        date=time.strftime("%Y-%m-%d"),
        cpu=_cpu(),
        cores=store.cores(),
        device=jax.devices()[0].device_kind,
        load_before=round(os.getloadavg()[0], 1),
        ours=ours | {"python": platform.python_version()},
        peer=about.get("versions"),
        peer_threads=about.get("threads"),
        stand_ins=about.get("stand_ins", []),
    )


def _cpu() -> str:
    if os.path.exists("/proc/cpuinfo"):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
