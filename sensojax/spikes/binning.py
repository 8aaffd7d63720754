"""The published rule that turns spike times into bins, bit for bit.

In go spike times in seconds and the width of a bin; out come bin numbers, and how many bins a
session has. Edges lie at `i * bin_s` in double precision; bins are half-open but for the last one,
which is closed; times below zero are dropped. Where the number of bins, which comes from a
quotient, ends before the last spike, that spike is dropped too.

One published data set (Steinmetz-2) was binned by another rule: `quotient` takes the whole part of
`time / bin_s`, which differs for times on an edge.
"""

import math

import numpy as np

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
