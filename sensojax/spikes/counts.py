"""Spike counts of one session at one bin width, sparse: only bins with spikes are listed.

In go spikes that were already put into bins, or a dense matrix; out come dense matrices of any
stretch of time, and shorter stretches. Nine of ten bins of a real recording are empty, so most
work on counts (motifs, sums over neurons, exports) begins here and never touches silence.
"""

from dataclasses import dataclass

import numpy as np

from sensojax.errors import UserError


@dataclass(frozen=True)
class Counts:
    """The bins that hold spikes, sorted by neuron and then by bin; no pair comes twice.

    neuron: [event] int32. bin: [event] int64. count: [event] int64, all above zero. num_neurons
    and num_bins: the size of the dense matrix. bin_s: width of a bin in seconds.
    """

    neuron: np.ndarray
    bin: np.ndarray
    count: np.ndarray
    num_neurons: int
    num_bins: int
    bin_s: float

    @classmethod
    def of_dense(cls, array: np.ndarray, bin_s: float) -> "Counts":
        """The counts of a dense matrix, [neuron bin] of whole numbers, none below zero."""
        array = np.asarray(array)
        if array.ndim != 2 or array.dtype.kind not in "ui" or array.min(initial=0) < 0:
            raise UserError(
                f"found an array {array.shape} of {array.dtype}, expected spike counts [neuron "
                "bin], whole numbers of at least zero."
            )
        # flatnonzero: ten times as fast as nonzero on a matrix.
        neuron, bins = np.divmod(np.flatnonzero(array), max(array.shape[1], 1))
        count = array[neuron, bins].astype(np.int64)
        return cls(neuron.astype(np.int32), bins.astype(np.int64), count, *array.shape, bin_s)

    @classmethod
    def of_events(
        cls,
        neuron: np.ndarray,
        bins: np.ndarray,
        count: np.ndarray | int,
        num_neurons: int,
        num_bins: int,
        bin_s: float,
    ) -> "Counts":
        """Adds up events, [event], in order of time for each neuron; count: spikes of each."""
        if (neuron[1:] < neuron[:-1]).any():
            order = np.argsort(neuron, kind="stable")
            neuron, bins = neuron[order], bins[order]
            count = count if np.ndim(count) == 0 else count[order]
        new = (neuron[1:] != neuron[:-1]) | (bins[1:] != bins[:-1])  # np.diff is half as fast
        heads = np.flatnonzero(np.r_[True, new][: len(bins)])
        if np.ndim(count) == 0:
            ends = np.append(heads[1:], len(bins))
            total = (ends - heads) * int(count)
        else:
            total = np.add.reduceat(count.astype(np.int64), heads) if len(heads) else count
        neuron = neuron[heads].astype(np.int32, copy=False)
        bins, total = (each.astype(np.int64, copy=False) for each in (bins[heads], total))
        return cls(neuron, bins, total, num_neurons, num_bins, bin_s)

    def dense(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Bins start..stop (to the end when None) as a matrix [neuron bin].

        uint8, or the next wider one of uint16 and uint32 when a count of these bins does not fit.
        """
        part = self.chunk(start, stop)
        matrix = np.zeros((part.num_neurons, part.num_bins), dtype_of(part.count.max(initial=0)))
        matrix[part.neuron, part.bin] = part.count
        return matrix

    def chunk(self, start: int = 0, stop: int | None = None) -> "Counts":
        """Bins start..stop (to the end when None), renumbered from 0; all neurons stay."""
        stop = self.num_bins if stop is None else stop
        check_window(start, stop, self.num_bins)
        if (start, stop) == (0, self.num_bins):
            return self
        inside = (self.bin >= start) & (self.bin < stop)
        return Counts(
            self.neuron[inside],
            self.bin[inside] - start,
            self.count[inside],
            self.num_neurons,
            stop - start,
            self.bin_s,
        )


def dtype_of(largest: int) -> np.dtype:
    """The narrowest of uint8, uint16 and uint32 that holds this count."""
    return np.result_type(np.uint8, np.min_scalar_type(int(largest)))


def check_window(start: int, stop: int, num_bins: int) -> None:
    """ValueError when bins start..stop do not lie within a session of so many."""
    if not 0 <= start <= stop <= num_bins:
        raise ValueError(f"bins {start}..{stop} of a session that has {num_bins}")
