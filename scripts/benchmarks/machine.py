"""What the numbers depend on: processor, accelerator, its own rates by size, other work, versions.

In: how often to measure, and in which precision; out: plain values for the page. The rates are what
every other number is beside: a square matrix product for arithmetic, and adding one to an array for
moving bytes (read once, written once), both by XLA on the first device.
"""

import os
import platform
import shutil
import statistics
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp

from scripts.benchmarks.measuring import in_turn, timed
from scripts.benchmarks.peer import Peer
from sensojax import zarrs
from sensojax.training import provenance

MATMUL_SIZES = (256, 512, 1024, 2048, 4096)
COPY_MB = (1, 16, 256)  # one fits the caches of most processors, the last of none
TINY = dict(matmul=(64, 128), copy=(1,))
COMPARED = 2048  # with the peer


def rates(repeats: int, compute: str, *, tiny: bool = False) -> dict[str, dict[str, float]]:
    """`matmul`: GFLOP/s by the length of a side; `copy`: GB/s by megabytes, read and written."""
    sides = TINY["matmul"] if tiny else MATMUL_SIZES
    megabytes = TINY["copy"] if tiny else COPY_MB
    product, add = jax.jit(jnp.matmul), jax.jit(lambda x: x + 1)
    squares = {side: jnp.full((side, side), 0.5, compute) for side in sides}
    films = {size: jnp.zeros(size * 250_000, jnp.float32) for size in megabytes}
    found = in_turn(
        repeats,
        *(lambda x=x: timed(lambda: product(x, x)) for x in squares.values()),
        *(lambda x=x: timed(lambda: add(x)) for x in films.values()),
    )
    seconds = [statistics.median(each) for each in found]
    by_side = zip(sides, seconds, strict=False)
    by_size = zip(megabytes, seconds[len(sides) :], strict=True)
    return dict(
        matmul={str(side): 2 * side**3 / 1e9 / each for side, each in by_side},
        copy={str(size): 2 * size / 1e3 / each for size, each in by_size},
    )


def peer_matmul(repeats: int, peer: Peer | None) -> float | None:
    """GFLOP/s of the peer's float32 product of matrices of COMPARED rows."""
    if peer is None:
        return None
    (seconds,) = in_turn(repeats, lambda: peer.ask("matmul", size=COMPARED))
    return 2 * COMPARED**3 / 1e9 / statistics.median(seconds)


def described(peer: Peer | None) -> dict:
    """Processor, accelerator, load, commit, and versions of both sides."""
    ours = {name: version(name) for name in ("jax", "flax", "numpy", "tensorstore", "grain")}
    about = peer.ask("hello") if peer else {}
    return dict(
        date=time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        commit=provenance.commit(),
        cpu=_cpu(),
        cores=zarrs.cores(),
        device=jax.devices()[0].device_kind,
        accelerator=_accelerator(),
        load_before=round(os.getloadavg()[0], 1),
        ours=ours | {"python": platform.python_version()},
        peer=about.get("versions"),
        peer_device=about.get("device"),
        peer_threads=about.get("threads"),
        stand_ins=about.get("stand_ins", []),
    )


def _cpu() -> str:
    if os.path.exists("/proc/cpuinfo"):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _accelerator() -> str:
    """Name, driver and memory of NVIDIA's first card when JAX runs on one, else ''."""
    if jax.default_backend() != "gpu" or not shutil.which("nvidia-smi"):
        return ""
    asked = "--query-gpu=name,driver_version,memory.total"
    done = subprocess.run(["nvidia-smi", asked, "--format=csv,noheader"], capture_output=True)
    lines = done.stdout.decode().splitlines()
    return f"{lines[0].strip()} (name, driver, memory)" if lines else ""


class OtherWork:
    """How many cores other processes of this machine kept busy since it was made (Linux)."""

    def __init__(self, peer: Peer | None):
        self.pids = [peer.pid] if peer else []
        self.began = self._now()

    def cores(self) -> float | None:
        """None where the system does not tell."""
        if self.began is None:
            return None
        wall, others = (now - then for now, then in zip(self._now(), self.began, strict=True))
        return max(0.0, others / wall)

    def _now(self) -> tuple[float, float] | None:
        """Seconds of the clock, and CPU seconds of all processes but this one and its own."""
        if not os.path.exists("/proc/stat"):
            return None
        tick = os.sysconf("SC_CLK_TCK")
        first = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
        user, nice, system, _, _, irq, softirq, steal = (int(each) for each in first[:8])
        own = sum(os.times()[:4])
        for pid in self.pids:
            # After the name in parentheses, which may hold spaces, the 12th and 13th word.
            words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            own += (int(words[11]) + int(words[12])) / tick
        busy = (user + nice + system + irq + softirq + steal) / tick
        return time.monotonic(), busy - own


def free_memory() -> int | None:
    """Bytes that are free on the first device; None where nobody says."""
    known = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in known:
        return known["bytes_limit"] - known["bytes_in_use"]
    if not os.path.exists("/proc/meminfo"):
        return None
    lines = Path("/proc/meminfo").read_text().splitlines()
    (free,) = (line.split()[1] for line in lines if line.startswith("MemAvailable"))
    return int(free) * 1024
