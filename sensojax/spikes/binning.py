"""The published rule that turns spike times into bins, bit for bit.

In go spike times in seconds and the width of a bin; out come bin numbers, and how many bins a
session has. Edges lie at `i * bin_s` in double precision; bins are half-open but for the last one,
which is closed; times below zero are dropped. Where the number of bins, which comes from a
quotient, ends before the last spike, that spike is dropped too.

One published data set (Steinmetz-2) was binned by another rule: `quotient` takes the whole part of
`time / bin_s`, which differs for times on an edge.
"""

import math
from dataclasses import dataclass

import numpy as np

from sensojax.spikes.clocks import Clock

RULES = ("edges", "quotient")
BIN_S = 0.02  # of the published tables


def num_bins(end_s: float, bin_s: float, rule: str = "edges") -> int:
    """Bins of a session whose last spike (of all neurons) is at `end_s`; 0 when none is after 0.

    The published edges are a float range up to `end_s + bin_s`, so there are ceil(end_s / bin_s)
    bins, but one more or one fewer for some multiples of the width: 14 bins of 20 ms for 0.26 s,
    7 for 0.14 s.
    """
    if rule == "quotient":
        return max(math.ceil(end_s / bin_s), 0)
    return max(math.ceil((end_s + bin_s) / bin_s) - 1, 0)


def bins_of(times: np.ndarray, bin_s: float, total: int, rule: str = "edges") -> np.ndarray:
    """The bin of each time, [spike] int64, -1 for what the rule drops.

    total: how many bins there are, as `num_bins` has it.
    """
    bins = np.floor(times / bin_s)
    if rule == "edges":
        # The quotient is one off at most, for times within a rounding step of an edge.
        bins -= times < bins * bin_s
        bins += times >= (bins + 1) * bin_s
        closed = times == total * bin_s
    else:
        closed = bins == total  # where the published code stops with an index error
    bins[closed] = total - 1
    bins[(times < 0) | (bins >= total)] = -1
    return bins.astype(np.int64)


@dataclass(frozen=True)
class TickBins:
    """Bins of a window as ticks of a clock: bin i begins at tick `first + i * width + late[i]`.

    late: [bin + 1], 0 or 1, the last for where the window ends. Edges are rounded and times are,
    so that a time on an edge may lie before it.
    """

    first: int
    width: int
    late: np.ndarray

    def bins_of(self, ticks: np.ndarray) -> np.ndarray:
        """Each tick's bin, int64 from 0; outside the window a number that no bin has."""
        ticks = ticks - self.first
        bins = ticks // self.width
        on_edge = np.flatnonzero(bins * self.width == ticks)
        near = bins[on_edge]
        inside = on_edge[(near >= 0) & (near < len(self.late))]
        bins[inside] -= self.late[bins[inside]]
        return bins


def tick_bins(
    clock: Clock, bin_s: float, start: int, stop: int, total: int, rule: str
) -> TickBins | None:
    """Bins start..stop in ticks, where `bins_of` says the same of every tick's time; else None.

    None where bins do not hold equally many ticks, or the rule is another.
    """
    if rule != "edges" or start >= stop:
        return None
    edges = np.arange(start, stop + 1) * bin_s
    begins = np.ceil((edges - clock.shift_s) * clock.rate_hz).astype(np.int64)
    # The quotient is one off at most; the first tick whose time is not before the edge counts.
    begins += clock.seconds(begins) < edges
    begins -= clock.seconds(begins - 1) >= edges
    if stop == total:  # the last bin is closed
        begins[-1] += clock.seconds(begins[-1]) == edges[-1]
    before, after = clock.seconds(begins - 1), clock.seconds(begins)
    exact = (before < edges) & (after >= edges)
    if stop == total:
        exact[-1] = before[-1] <= edges[-1] < after[-1]
    width = round(bin_s * clock.rate_hz)
    steps = begins - width * np.arange(len(begins))
    late = steps - steps.min()
    if not exact.all() or width < 2 or late.max() > 1:
        return None
    return TickBins(int(steps.min()), width, late)
