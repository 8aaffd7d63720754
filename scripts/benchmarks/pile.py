"""Synthetic sessions with the count statistics of the published pile, drawn when they are read.

In go sizes and a seed; out come `Session`s of any length that take no memory. Counts are Poisson
with a gamma-distributed rate that holds for ten bins: with these two numbers 91.9 % of the bins are
empty (published: 91.85 %), a spike count of 0.0977 per bin, and 65 % of the 1x10 patches (75 % of
the 1x5 ones) are silent (published: 66 % and 75 %).
"""

from dataclasses import dataclass

import numpy as np

from sensojax.spikes.binning import BIN_S
from sensojax.spikes.counts import Counts
from sensojax.spikes.session import Session

MEAN = 0.0977  # spikes per bin
SHAPE = 0.29  # of the gamma distribution
HELD_BINS = 10  # with the same rate


@dataclass(frozen=True)
class Synthetic(Session):
    """A session of `neurons` x `bins` counts; reading the same bins gives the same counts.

    Bins are read from a multiple of HELD_BINS on.
    """

    name: str
    num_neurons: int
    bins: int
    seed: int = 0
    subject: str = "synthetic"
    session: str = "synthetic"

    def num_bins(self, bin_s: float) -> int:
        return self.bins

    def counts(self, bin_s: float, start: int = 0, stop: int | None = None) -> Counts:
        stop = self.bins if stop is None else stop
        rng = np.random.default_rng((self.seed, start))
        blocks = -(-(stop - start) // HELD_BINS)
        scale = MEAN * HELD_BINS / SHAPE
        rate = rng.standard_gamma(SHAPE, (self.num_neurons, blocks), np.float32) * scale
        spikes = rng.poisson(rate).ravel()
        place = np.repeat(np.arange(spikes.size) * HELD_BINS, spikes)
        place += rng.integers(0, HELD_BINS, len(place))
        place.sort()
        starts = np.flatnonzero(np.r_[True, place[1:] != place[:-1]][: len(place)])
        count, place = np.diff(np.r_[starts, len(place)]), place[starts]
        neuron = place // (blocks * HELD_BINS)
        bins = place - neuron * (blocks * HELD_BINS)
        inside = bins < stop - start
        neuron = neuron[inside].astype(np.int32)
        return Counts(neuron, bins[inside], count[inside], self.num_neurons, stop - start, BIN_S)
