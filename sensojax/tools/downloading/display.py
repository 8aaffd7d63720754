"""Several transfers at once, shown: a bar each in a terminal, lines now and then in a log file.

In goes what the transfers report, each to a `Watch` of its own; out come bytes, rate and remaining
time on standard error. `stop` ends all of them at their next piece.
"""

import sys
import threading
import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from sensojax.progress import SECONDS_BETWEEN_LINES
from sensojax.tools.downloading.fetching import Watch


class Stopped(Exception):
    """The display was told to stop."""


class Display:
    """Use as a context; `watch(name)` gives each transfer whom to report to."""

    def __init__(self):
        self.stopped = threading.Event()
        self.bars = None
        if sys.stderr.isatty():
            columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
            self.bars = Progress(
                TextColumn("{task.description}"), *columns, console=Console(stderr=True)
            )

    def __enter__(self) -> "Display":
        if self.bars:
            self.bars.start()
        return self

    def __exit__(self, *raised) -> None:
        if self.bars:
            self.bars.stop()

    def stop(self) -> None:
        self.stopped.set()

    def watch(self, name: str) -> Watch:
        return _Shown(name, self)

    def say(self, sentence: str) -> None:
        """A line above the bars."""
        if self.bars:
            self.bars.console.print(sentence, highlight=False, markup=False, soft_wrap=True)
        else:
            print(sentence, file=sys.stderr, flush=True)


class _Shown(Watch):
    """One transfer on a display. Bytes of an earlier run do not enter the rate."""

    def __init__(self, name: str, display: Display):
        self._name, self._display = name, display
        self._bar = None
        self._said = time.monotonic()
        self.begin("")

    def begin(self, what: str) -> None:
        self._what = what
        self._first: int | None = None
        self._last = 0

    def at(self, done: int, total: int | None) -> None:
        if self._display.stopped.is_set():
            raise Stopped
        if self._first is None or done < self._last:  # the beginning, or a new one
            self._first, self._began = done, time.monotonic()
        self._last = done
        if bars := self._display.bars:
            if self._bar is None:
                self._bar = bars.add_task(self._name, total=total, completed=done)
            said = f"{self._name} {self._what}"
            bars.update(self._bar, total=total, completed=done, description=said)
        elif time.monotonic() - self._said >= SECONDS_BETWEEN_LINES:
            self._said = time.monotonic()
            self.say(self._line(done, total))

    def say(self, sentence: str) -> None:
        self._display.say(sentence)

    def _line(self, done: int, total: int | None) -> str:
        rate = (done - self._first) / max(time.monotonic() - self._began, 1e-9)
        text = f"{self._name} {self._what}: {done / 1e6:.1f}"
        if total is None:
            return f"{text} MB, {rate / 1e6:.1f} MB/s"
        left = (total - done) / max(rate, 1.0)
        return f"{text} of {total / 1e6:.1f} MB, {rate / 1e6:.1f} MB/s, {left:.0f} s left"
