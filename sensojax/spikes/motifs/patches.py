"""Patches of a matrix of counts and the keys that tell them apart; silence is never touched.

In go sparse counts of one row (one matrix [neuron bin]) and the size of a patch; out come the
patches that hold spikes, each as a whole number or a string of bytes (its key) and its place. A row
is padded with zeros to whole patches. Patches are numbered time first: all groups of neurons of the
first slice of time, then those of the next.
"""

import itertools
import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sensojax.errors import UserError
from sensojax.spikes.counts import Counts, dtype_of
from sensojax.spikes.layout import places
from sensojax.spikes.sorting import by_all

# Few counts are above 15. The narrowest keys hold those that are not, or as many as leave room for
# 2^21 places beside the key in one number.
NARROW_LIMIT, NARROW_BITS = 15, 64 - 21
ENOUGH = 63  # so few counts are above that no layout is needed between 64 bits and the widest
LARGEST_COUNT = 2**24 - 1  # in one bin: more than can be, and float32 still holds it exactly
EVENTS_AT_ONCE = 65_536
FEW = 0.25  # share of patches below which their events are taken out first


@dataclass(frozen=True)
class Layout:
    """How the counts of a patch, each from 0 to `limit`, become a key.

    Sorting keys sorts patches by their first count, then their second, and so on. A key is a
    uint64, the number whose digits are the counts, when this fits; else it is a string of bytes
    (numpy's `S`), which compares in the same way.
    """

    cells: int
    limit: int

    @property
    def size(self) -> int:
        """How many patches there can be."""
        return (self.limit + 1) ** self.cells

    @property
    def dtype(self) -> np.dtype:
        packed = self.size <= 2**64
        return np.dtype(np.uint64 if packed else f"S{self.cells * self._bytes.itemsize}")

    @cached_property
    def weights(self) -> np.ndarray:
        """[cell]: what one spike in each cell adds to a key that is a number."""
        powers = [(self.limit + 1) ** power for power in reversed(range(self.cells))]
        return np.array(powers, np.uint64)

    def pack(self, patches: np.ndarray) -> np.ndarray:
        """Keys of patches, [patch cell] -> [patch]; counts must not be above the limit."""
        if self.dtype == np.uint64:
            return (patches.astype(np.uint64) * self.weights).sum(axis=1, dtype=np.uint64)
        big_endian = np.ascontiguousarray(patches, self._bytes)
        return big_endian.view(self.dtype).reshape(len(patches))

    def unpack(self, keys: np.ndarray) -> np.ndarray:
        """Patches of keys, [patch] -> [patch cell], in the narrowest type that holds the limit."""
        dtype = dtype_of(self.limit)
        if self.dtype != np.uint64:
            found = np.ascontiguousarray(keys).view(self._bytes)
            return found.reshape(len(keys), self.cells).astype(dtype)
        found, base = np.empty((len(keys), self.cells), dtype), np.uint64(self.limit + 1)
        for cell in reversed(range(self.cells)):
            rest = keys // base
            found[:, cell], keys = keys - rest * base, rest
        return found

    @property
    def _bytes(self) -> np.dtype:
        return np.dtype(">u1" if self.limit <= 255 else ">u4")


@dataclass(frozen=True)
class Found:
    """Patches with spikes: keys [patch] in one layout, and their numbers in the row, [patch]."""

    keys: np.ndarray
    place: np.ndarray


@dataclass(frozen=True)
class Patch:
    """A size of patches, such as 1x10: `neurons` rows of `bins` bins."""

    neurons: int
    bins: int

    def __post_init__(self):
        if self.neurons < 1 or self.bins < 1:
            raise UserError(f"found a patch of {self}, expected at least one neuron and one bin.")

    def __str__(self) -> str:
        return f"{self.neurons}x{self.bins}"

    @classmethod
    def parse(cls, text: str) -> "Patch":
        """The patch of a text such as 2x5; UserError for anything else."""
        size = re.fullmatch(r"(\d+)x(\d+)", text.strip())
        if not size:
            raise UserError(f"found a patch {text!r}, expected neurons x bins, such as 1x10.")
        return cls(int(size[1]), int(size[2]))

    @property
    def cells(self) -> int:
        return self.neurons * self.bins

    def grid(self, num_neurons: int, num_bins: int) -> tuple[int, int]:
        """Groups of neurons and slices of time in a matrix, the padded ones included."""
        return -(-num_neurons // self.neurons), -(-num_bins // self.bins)

    @cached_property
    def layouts(self) -> tuple[Layout, ...]:
        """From narrow to wide; a patch has its key in the first one that holds its counts."""
        narrow = min(_root(NARROW_BITS, self.cells) - 1, NARROW_LIMIT)
        packed = min(_root(64, self.cells) - 1, LARGEST_COUNT)
        limits = {narrow, packed, LARGEST_COUNT} | ({255} if packed < ENOUGH else set())
        return tuple(Layout(self.cells, limit) for limit in sorted(limits - {0}))

    def layout_of(self, motifs: np.ndarray) -> np.ndarray:
        """For each motif, [motif cell], the number of the layout that its key has."""
        limits = [layout.limit for layout in self.layouts]
        return np.searchsorted(limits, motifs.max(axis=1, initial=0))

    def find(self, counts: Counts) -> list[Found]:
        """The patches of a row that hold spikes, one `Found` for each layout.

        Raises UserError for a count above LARGEST_COUNT.
        """
        _check(counts.count.max(initial=0))
        # A few neurons at a time, whose events stay in a core's cache: up to twice as fast.
        ends = np.arange(EVENTS_AT_ONCE, len(counts.count), EVENTS_AT_ONCE)
        firsts = counts.neuron[ends] // self.neurons * self.neurons
        borders = [0, *np.searchsorted(counts.neuron, firsts), len(counts.count)]
        parts = [
            self._find(counts, slice(*border))
            for border in itertools.pairwise(borders)
            if border[0] < border[1]
        ]
        return [
            Found(
                np.concatenate([np.empty(0, layout.dtype), *(part[i].keys for part in parts)]),
                np.concatenate([np.empty(0, np.int64), *(part[i].place for part in parts)]),
            )
            for i, layout in enumerate(self.layouts)
        ]

    def _find(self, counts: Counts, some: slice) -> list[Found]:
        """The same for some events, those of whole groups of neurons."""
        groups, slices = self.grid(counts.num_neurons, counts.num_bins)
        of_patch, cell, count = self._cells(counts, some, slices)
        new = np.ones(len(of_patch), bool)
        np.not_equal(of_patch[1:], of_patch[:-1], out=new[1:])
        starts = np.flatnonzero(new)
        of_patch = of_patch[starts]
        group = of_patch // slices
        place = (of_patch - group * slices) * groups + group
        level = np.zeros(len(starts), np.int8)  # the number of the layout
        for number, layout in enumerate(self.layouts[:-1], start=1):
            large = np.flatnonzero(count > layout.limit)
            level[np.searchsorted(starts, large, "right") - 1] = number
        return [
            _of_layout(layout, np.flatnonzero(level == number), place, starts, cell, count)
            for number, layout in enumerate(self.layouts)
        ]

    def _cells(self, counts: Counts, some: slice, slices: int) -> tuple[np.ndarray, ...]:
        """Of some events the patch, the number in the patch, and the count, sorted by patch.

        Patches are numbered here with all slices of the first group of neurons first.
        """
        neuron, bins, count = counts.neuron[some], counts.bin[some], counts.count[some]
        time = bins // self.bins
        cell = bins - time * self.bins
        if self.neurons == 1:
            return neuron * np.int64(slices) + time, cell, count
        group = neuron // self.neurons
        cell += (neuron - group * self.neurons) * np.int64(self.bins)
        return by_all(group * np.int64(slices) + time, cell, count)


def _of_layout(layout: Layout, chosen, place, starts, cell, count) -> Found:
    """The chosen ones of patches, whose events begin at `starts`; cell and count: of each event."""
    if len(chosen) < len(starts):
        place = place[chosen]
    if len(chosen) < FEW * len(starts) or layout.dtype != np.uint64:
        lengths = np.diff(starts, append=len(count))[chosen]
        events = places(starts[chosen], lengths)
        cell, count, starts = cell[events], count[events], np.cumsum(lengths) - lengths
    keys = _keys(layout, starts, cell, count)
    return Found(keys if len(keys) == len(place) else keys[chosen], place)


def _keys(layout: Layout, starts, cell, count) -> np.ndarray:
    """The keys of patches, [patch]."""
    if not len(starts):
        return np.empty(0, layout.dtype)
    if layout.dtype == np.uint64:
        # Sums of neighbours as differences of running sums, which may wrap: 4 times faster
        # than numpy's reduceat, since most patches hold one or two events.
        running = np.cumsum(count.view(np.uint64) * layout.weights[cell])
        keys = running[np.append(starts[1:], len(count)) - 1]
        keys[1:] -= keys[:-1].copy()
        return keys
    patches = np.zeros((len(starts), layout.cells), np.uint32)
    row = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(count)))
    patches[row, cell] = count
    return layout.pack(patches)


def _root(bits: int, cells: int) -> int:
    """The largest whole number whose power `cells` is at most 2^bits."""
    near = int(2 ** (bits / cells))
    return max(each for each in (near - 1, near, near + 1) if each**cells <= 2**bits)


def _check(largest: int) -> None:
    if largest > LARGEST_COUNT:
        raise UserError(
            f"found a count of {largest} in one bin, expected at most {LARGEST_COUNT}; the spike "
            "times of this session cannot be right, take it out."
        )
