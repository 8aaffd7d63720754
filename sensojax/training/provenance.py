"""What a run's numbers came from: the commit of the code, versions, devices, and the command.

Nothing goes in; plain values come out, ready for the journal and the checkpoints.
"""

import importlib.metadata
import platform
import resource
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import jax

PACKAGES = (
    "sensojax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorstore",
    "numpy",
)  # fmt: skip
UNKNOWN = "unknown"
ROOT = Path(__file__).resolve().parents[2]


def circumstances() -> dict:
    """`commit`, `versions`, `devices`, `processes` and `command`."""
    devices = Counter(f"{device.device_kind} ({device.platform})" for device in jax.devices())
    return {
        "commit": commit(),
        "versions": versions(),
        "devices": [f"{count} x {name}" for name, count in devices.items()],
        "processes": jax.process_count(),
        "command": command(),
    }


def peak_memory_bytes() -> int:
    """The most memory so far: of the devices of this process, or of itself where those are CPUs."""
    known = [device.memory_stats() or {} for device in jax.local_devices()]
    on_devices = sum(each.get("peak_bytes_in_use", 0) for each in known)
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(on_devices or own * (1 if sys.platform == "darwin" else 1024))


def commit() -> str:
    """The commit of this code, with `+changes` when files differ from it; "unknown" outside git."""
    try:
        if Path(_git(ROOT, "rev-parse", "--show-toplevel")).resolve() != ROOT:
            return UNKNOWN  # installed into a folder that lies in somebody else's repository
        changes = "+changes" if _git(ROOT, "status", "--porcelain", "--untracked-files=no") else ""
        return _git(ROOT, "rev-parse", "--verify", "HEAD") + changes
    except (OSError, subprocess.SubprocessError):
        return UNKNOWN


def versions() -> dict[str, str]:
    """Version by package, of those that are installed (from its repository sensojax is not)."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def command() -> str:
    """The line that started this program, as one would type it again."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = ["-m", spec.name.removesuffix(".__main__")] if spec else sys.argv[:1]
    return shlex.join(["python", *program, *sys.argv[1:]])


def _git(folder: Path, *arguments: str) -> str:
    answer = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        capture_output=True, text=True, check=True, timeout=20,
    )  # fmt: skip
    return answer.stdout.strip()
