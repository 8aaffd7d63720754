"""What happens to a command in other people's hands: the disk is full, the process is killed."""

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests import runs


def on_a_full_disk(
    line: list[str], kib: int, cache: Path | None = None
) -> subprocess.CompletedProcess:
    """Runs a command that can write no file beyond so many KiB; it must end in one sentence."""
    limit = f'ulimit -f {kib}; trap "" XFSZ; exec "$@"'
    ended = runs.finish(["bash", "-c", limit, "bash", *line], cache)
    said = ended.stderr.splitlines()
    assert ended.returncode == 1, ended.stderr
    assert "the disk is full" in said[-1] and "Traceback" not in ended.stderr, ended.stderr
    return ended


def killed_when(line: list[str], ready: Callable[[], bool], cache: Path | None = None) -> bool:
    """Starts a command and kills it -9 as soon as `ready()`; False when it ended before."""
    process = subprocess.Popen(
        line,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=runs.REPOSITORY,
        env=runs.environment(cache),
    )
    end = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < end:
        if ready():
            process.kill()
            break
        time.sleep(0.0005)
    return process.wait(timeout=60) == -signal.SIGKILL
