"""What the numbers depend on: processor, matmul rate, load, versions of both sides."""

import os
import platform
import statistics
import time
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp

from scripts.benchmarks.measuring import in_turn, timed
from sensojax import zarrs

MATMUL_SIZE = 2048


def matmul_rate(repeats: int, peer) -> tuple[float, float | None]:
    """GFLOP/s of a square float32 product, ours and the peer's."""
    a = jnp.ones((MATMUL_SIZE, MATMUL_SIZE)) * 0.5
    sides = [lambda: timed(lambda: a @ a)]
    if peer:
        sides.append(lambda: peer.ask("matmul", size=MATMUL_SIZE))
    rates = [2 * MATMUL_SIZE**3 / 1e9 / statistics.median(s) for s in in_turn(repeats, *sides)]
    return rates[0], rates[1] if peer else None


def described(peer) -> dict:
    """What the numbers depend on: processor, load, versions of both sides."""
    ours = {name: version(name) for name in ("jax", "flax", "numpy", "tensorstore", "grain")}
    about = peer.ask("hello") if peer else {}
    return dict(
        date=time.strftime("%Y-%m-%d"),
        cpu=_cpu(),
        cores=zarrs.cores(),
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
