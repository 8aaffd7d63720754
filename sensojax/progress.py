"""Progress of long work: a bar with a rate and the remaining time, or plain lines in a log file."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 10.0  # in a log file: often enough to see life, too seldom to fill a disk


def track(items: Iterable[Item], what: str, total: int, done: int = 0) -> Iterator[Item]:
    """Yields the items while showing `what`, how many of `total` are done, items/s and time left.

    `done` counts items finished by an earlier run; they do not enter the rate.
    """
    if sys.stderr.isatty():
        yield from _bar(items, what, total, done)
    else:
        yield from _lines(items, what, total, done)


def _bar(items, what, total, done):
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    started = time.monotonic()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(what, total=total, completed=done, rate="")
        for count, item in enumerate(items, start=1):
            yield item
            rate = count / max(time.monotonic() - started, 1e-9)
            progress.update(task, advance=1, rate=f"{rate:.1f}/s")


def _lines(items, what, total, done):
    started = said = time.monotonic()
    for count, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - said >= SECONDS_BETWEEN_LINES or done + count == total:
            rate = count / max(now - started, 1e-9)
            left = (total - done - count) / rate
            print(
                f"{what}: {done + count}/{total}, {rate:.1f}/s, {left:.0f} s left",
                file=sys.stderr,
                flush=True,
            )
            said = now
