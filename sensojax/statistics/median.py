"""The exact median of more values than memory holds, for every column of them at once.

The values are shown piece by piece, [value column], in two passes, rarely more. The first counts
how those of each column fall into narrow bins around a guess taken from a sample; the second
gathers the few values in the bin of the middle and sorts them. Each float has a whole number as its
key, in the same order, so that an interval of keys can always be parted further, also when values
are equal or the guess was wrong. What is made of a piece (`look`) may be made in any thread.
"""

import functools
from dataclasses import dataclass

import numpy as np

from sensojax.statistics.running import middle

BINS = 256
# Values of all columns together that the last pass of a median may gather, 16 bytes each.
MOST_GATHERED = 4_000_000
# The part of the sample in which the median is looked for first: with some hundred independent
# values in the sample it is five standard errors to either side.
GUESSED = (0.35, 0.65)
SIGN = np.iinfo(np.int64).max  # all bits but the sign


@dataclass(frozen=True)
class Look:
    """What one pass needs of one piece; made by `Median.look`, in any thread.

    count: values per column. In a counting pass: below: [column], how many are under the interval;
    place: of those inside, column * BINS + bin; extent: of those inside, least and greatest of each
    column, None in the first pass. In a gathering pass: place: the column, and key, of those
    inside; above: the smallest past the interval, for the columns that may need it.
    """

    count: int
    place: np.ndarray
    below: np.ndarray | None = None
    extent: tuple[np.ndarray, np.ndarray] | None = None
    key: np.ndarray | None = None
    above: np.ndarray | None = None


class Median:
    """The exact median of each column, of values that are shown again in every pass.

        median = Median(sample)
        while not median.finished:
            for values in pieces():
                median.take(median.look(values))
            median.end_pass()
        median.value()

    Per column there is an interval of keys that holds the median, and how many values are below
    it. Keys are whole numbers in the order of the floats, so that an interval can always be parted
    until it is one number. Values must be numbers, not NaN.
    """

    def __init__(self, sample: np.ndarray, most_gathered: int = MOST_GATHERED):
        """sample: [value column], a fair part of the values; a bad one costs passes, no digits."""
        keys = np.sort(_keys(sample), axis=0)
        first, last = (round(share * (len(keys) - 1)) for share in GUESSED)
        self._low, self._high = keys[first].copy(), keys[last].copy()
        self._below = self._inside = np.zeros(len(self._low), np.int64)  # not known yet
        self._most_gathered = most_gathered
        self._gathers, self._passes = False, 0
        self._values: np.ndarray | None = None
        self._begin()

    @property
    def finished(self) -> bool:
        return self._values is not None

    def value(self) -> np.ndarray:
        """[column] float64."""
        if self._values is None:
            raise ValueError("the median needs another pass over all values")
        return self._values

    def look(self, values: np.ndarray) -> Look:
        """What this pass needs of a piece [value column]; changes nothing."""
        values = np.asarray(values, np.float64)
        low, high = _values(self._low)[None], _values(self._high)[None]
        under = values < low
        inside = (values <= high) & ~under
        if self._gathers:
            inside &= (self._low < self._high)[None]  # an interval of one number is known
        _, column = np.nonzero(inside)
        key = _keys(values[inside])
        if self._gathers:
            wanted = values[:, self._wanted]
            above = np.where(wanted > high[:, self._wanted], wanted, np.inf).min(axis=0)
            return Look(len(values), column.astype(np.int32), key=key, above=above)
        bins = _offset(key, self._low[column]) >> self._shift[column]
        place = column * BINS + bins.astype(np.int64)
        extent = None
        if self._passes:
            ends = ((np.minimum, np.inf), (np.maximum, -np.inf))
            extent = tuple(of.reduce(np.where(inside, values, none)) for of, none in ends)
        return Look(len(values), place, np.count_nonzero(under, axis=0), extent)

    def take(self, look: Look) -> None:
        """Adds what was seen in a piece."""
        self._count += look.count
        if self._gathers:
            self._gathered.append((look.place, look.key))
            self._above[self._wanted] = np.minimum(self._above[self._wanted], look.above)
            return
        self._seen_below += look.below
        np.add.at(self._counts.reshape(-1), look.place, 1)
        if look.extent is not None:
            np.minimum(self._least, look.extent[0], out=self._least)
            np.maximum(self._most, look.extent[1], out=self._most)

    def end_pass(self) -> None:
        """Narrows every interval, or ends the search when the values inside were gathered."""
        if not self._count:
            raise ValueError("found no values, expected some in every pass")
        first, second = middle(self._count)
        if self._gathers:
            self._values = self._picked(first, second)
            return
        self._narrow(first)
        self._passes += 1
        single = self._low == self._high
        self._wanted = np.flatnonzero(second - self._below >= self._inside)
        if single.all() and not self._wanted.size:
            self._values = _values(self._low)
            return
        self._gathers = int(self._inside[~single].sum()) <= self._most_gathered
        self._begin()

    def _begin(self) -> None:
        """Empty sums for a pass over the present intervals."""
        columns = len(self._low)
        self._count, self._seen_below = 0, np.zeros(columns, np.int64)
        self._above = np.full(columns, np.inf)
        self._gathered: list[tuple[np.ndarray, ...]] = []
        if not self._gathers:
            # The bits to drop so that the whole interval falls into the bins.
            width = _offset(self._high, self._low).astype(np.float64)
            bits = np.frexp(width)[1] - np.frexp(BINS / 2)[1]
            self._shift = np.maximum(bits, 0).astype(np.uint64)
            self._counts = np.zeros((columns, BINS), np.int64)
            self._least, self._most = np.full(columns, np.inf), np.full(columns, -np.inf)

    def _narrow(self, rank: int) -> None:
        """Each column's interval becomes the bin with this rank, or what is beside it."""
        inside = self._counts.sum(axis=1)
        under = rank < self._seen_below
        over = rank >= self._seen_below + inside
        wanted = (rank - self._seen_below)[:, None]
        up_to = np.cumsum(self._counts, axis=1)
        number = np.minimum(np.sum(up_to <= wanted, axis=1), BINS - 1)
        each = np.arange(len(number))
        of_bin, before = (
            self._counts[each, number],
            up_to[each, number] - self._counts[each, number],
        )
        begin = number.astype(np.uint64) << self._shift
        end = begin + ((np.uint64(1) << self._shift) - np.uint64(1))
        end = np.minimum(end, _offset(self._high, self._low))
        # Also no wider than what was seen: equal values become an interval of one number.
        low, high = _plus(self._low, begin), _plus(self._low, end)
        if self._passes:
            low, high = np.maximum(low, _keys(self._least)), np.minimum(high, _keys(self._most))
        beside = self._seen_below + inside
        chosen = functools.partial(np.select, [under, over])
        self._inside = chosen([self._seen_below, self._count - beside], of_bin)
        self._below = chosen([0 * beside, beside], self._seen_below + before)
        self._low, self._high = (
            chosen([np.full_like(low, _keys(-np.inf)), self._high + 1], low),
            chosen([self._low - 1, np.full_like(high, _keys(np.inf))], high),
        )

    def _picked(self, first: int, second: int) -> np.ndarray:
        """The mean of the two middle values of every column."""
        column = np.concatenate([found[0] for found in self._gathered])
        keys = np.concatenate([found[1] for found in self._gathered])
        keys = np.append(keys[np.lexsort((keys, column))], 0)  # 0: for columns without any
        gathered = np.bincount(column, minlength=len(self._low))
        begins = np.cumsum(gathered) - gathered
        one_number = self._low == self._high

        def at(rank):
            place = np.minimum(begins + np.maximum(rank - self._below, 0), len(keys) - 1)
            return _values(np.where(one_number, self._low, keys[place]))

        past = second - self._below >= self._inside
        return (at(first) + np.where(past, self._above, at(second))) / 2


def _keys(values: np.ndarray) -> np.ndarray:
    """Whole numbers in the order of the floats, without a gap; -0.0 is 0.0."""
    bits = (np.asarray(values, np.float64) + 0.0).view(np.int64)
    return np.where(bits < 0, (bits ^ SIGN) + 1, bits)


def _values(keys: np.ndarray) -> np.ndarray:
    """The floats of keys."""
    return np.where(keys < 0, (keys - 1) ^ SIGN, keys).view(np.float64)


def _offset(keys: np.ndarray, low: np.ndarray) -> np.ndarray:
    """keys - low, which may be more than an int64 holds, as uint64."""
    return keys.view(np.uint64) - low.view(np.uint64)


def _plus(low: np.ndarray, offset: np.ndarray) -> np.ndarray:
    return (low.view(np.uint64) + offset).view(np.int64)
