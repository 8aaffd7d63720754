"""What a session of spike counts is: everything after it (motifs, orders, exports) sees only this.

Event stores (`events`), tables of counts (`tables`) and counts in memory are sessions; all are read
lazily, a window of bins at a time.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from sensojax.errors import UserError
from sensojax.spikes.binning import BIN_S
from sensojax.spikes.counts import Counts

TOKEN_LIMIT = 10_000_000  # of a published chunk: neurons times bins


class Session(ABC):
    """One session of one animal.

    name: unique within its folder. subject and session: as the source names them. component: the
    data set it belongs to ("" when unknown). num_neurons: rows of its matrices. columns: what is
    known of neurons, by name, [neuron]. fingerprint: other counts have another.
    """

    name: str
    subject: str
    session: str
    component: str = ""
    num_neurons: int
    columns: Mapping[str, np.ndarray] = MappingProxyType({})
    fingerprint: str = ""

    @abstractmethod
    def num_bins(self, bin_s: float) -> int:
        """How many bins of this width (seconds) the session has, by the published rule."""

    @abstractmethod
    def counts(self, bin_s: float, start: int = 0, stop: int | None = None) -> Counts:
        """Bins start..stop (to the end when None), renumbered from 0; reads only these.

        Raises ValueError for bins outside the session, UserError when its files are damaged or
        counts of this width cannot be had.
        """

    @property
    def chunks(self) -> list[tuple[int, int]]:
        """First bin and the one after the last of each published chunk, in bins of 20 ms."""
        return chunk_borders(self.num_neurons, self.num_bins(BIN_S))


class CountsSession(Session):
    """A session whose counts are in memory already; for tests and for counts from elsewhere."""

    def __init__(self, name: str, counts: Counts, subject: str = "", session: str = ""):
        self.name = name
        self.subject = subject or name
        self.session = session or name
        self.num_neurons = counts.num_neurons
        self._counts = counts

    def num_bins(self, bin_s: float) -> int:
        self._check(bin_s)
        return self._counts.num_bins

    def counts(self, bin_s: float, start: int = 0, stop: int | None = None) -> Counts:
        self._check(bin_s)
        return self._counts.chunk(start, stop)

    def _check(self, bin_s: float) -> None:
        if bin_s != self._counts.bin_s:
            raise UserError(
                f"found counts of {self.name} in bins of {self._counts.bin_s} s, expected bins of "
                f"{bin_s} s; ask for the width they have."
            )


def chunk_borders(
    num_neurons: int, num_bins: int, limit: int = TOKEN_LIMIT
) -> list[tuple[int, int]]:
    """The published rule: as few equal chunks as keep each near `limit` tokens, the last shorter.

    Of ceil(tokens / limit) chunks each has ceil(bins / chunks) bins, so one may exceed the limit a
    little. Where the rounding leaves nothing for the last chunks there are fewer (the published
    builder stops with an error there).
    """
    pieces = -(-num_neurons * num_bins // limit)
    length = -(-num_bins // max(pieces, 1))
    return [(start, min(start + length, num_bins)) for start in range(0, num_bins, length or 1)]
