"""Events of an event store a block of time at a time, each small enough for a core's cache.

In go the numbers that lie on disk of one block, neuron after neuron; out come its ticks, and of
events that were put into bins the sparse counts of a window. Everything that costs time per spike
is done within a block; only what is left of it, a count for each bin with spikes, is brought from
the order of blocks to that of neurons.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sensojax.spikes import layout
from sensojax.spikes.counts import Counts


@dataclass(frozen=True)
class Block:
    """lengths: [neuron], how many events each neuron has. ticks: [event], sorted by neuron and then
    by time. residuals: [event], what ticks leave of the times, folded; None: nothing."""

    lengths: np.ndarray
    ticks: np.ndarray
    residuals: np.ndarray | None

    @classmethod
    def of_gaps(cls, lengths, gaps, residuals, firsts: np.ndarray) -> "Block":
        """Gaps add up from each neuron's first event on; firsts: [neuron], where they begin."""
        lengths = lengths.astype(np.int64)
        ticks = np.cumsum(gaps, dtype=np.int64)
        begins = np.cumsum(lengths) - lengths
        before = np.where(begins > 0, ticks[begins - 1], 0) if len(ticks) else 0
        ticks += np.repeat(firsts - before, lengths)
        return cls(lengths, ticks, residuals)

    @property
    def neuron(self) -> np.ndarray:
        """Whose event each one is, [event] int32."""
        return np.repeat(np.arange(len(self.lengths), dtype=np.int32), self.lengths)


@dataclass(frozen=True)
class BlockCounts:
    """What `Counts` says of one block, with lengths [neuron] in place of neurons."""

    lengths: np.ndarray
    bin: np.ndarray
    count: np.ndarray

    @classmethod
    def of_bins(cls, lengths: np.ndarray, bins: np.ndarray, num_bins: int) -> "BlockCounts":
        """Counts events by their bins, [event], and drops those outside 0..num_bins."""
        ends = np.append(0, np.cumsum(lengths))
        inside = bins.view(np.uint64) < num_bins  # as none below 0 is
        if not inside.all():
            kept = np.flatnonzero(inside)
            bins, ends = bins[kept], np.searchsorted(kept, ends)
        new = np.ones(len(bins), bool)
        np.not_equal(bins[1:], bins[:-1], out=new[1:])
        new[ends[:-1][ends[1:] > ends[:-1]]] = True
        heads = np.flatnonzero(new)
        lengths = np.diff(np.searchsorted(heads, ends))
        return cls(lengths, bins[heads], np.diff(heads, append=len(bins)))


def by_neuron(lengths: np.ndarray) -> np.ndarray:
    """Places of events that lie block after block, in the order of neurons, [event].

    lengths: [block neuron], how many events each neuron has. Those of a neuron stay in order.
    """
    ends = np.cumsum(lengths.ravel()).reshape(lengths.shape)
    return layout.places((ends - lengths).T.ravel(), lengths.T.ravel())


def joined(blocks: Sequence[BlockCounts], num_neurons: int, num_bins: int, bin_s: float) -> Counts:
    """The counts of blocks that follow each other; a bin may lie in two of them."""
    lengths = np.stack([np.zeros(num_neurons, np.int64), *(each.lengths for each in blocks)])
    of_neuron = lengths.sum(axis=0)
    firsts = np.cumsum(of_neuron) - of_neuron
    begins = firsts + np.cumsum(lengths, axis=0) - lengths  # [block neuron] in the order of neurons
    bins, count = (np.empty(of_neuron.sum(), np.int64) for _ in range(2))
    for block, begin in zip(blocks, begins[1:], strict=True):
        place = layout.places(begin, block.lengths)
        bins[place], count[place] = block.bin, block.count
    neuron = np.repeat(np.arange(num_neurons, dtype=np.int32), of_neuron)
    later = begins[(lengths > 0) & (begins > firsts)]
    if (bins[later] == bins[later - 1]).any():
        return Counts.of_events(neuron, bins, count, num_neurons, num_bins, bin_s)
    return Counts(neuron, bins, count, num_neurons, num_bins, bin_s)
