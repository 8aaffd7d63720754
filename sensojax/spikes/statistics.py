"""How counts are distributed: tallies of many tables that add up, and what follows from them.

In go counts, a chunk at a time; out come numbers of tokens and spikes, the share of every count,
entropy, and the weights of counts that the pile's authors train with.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from sensojax.spikes.counts import Counts


@dataclass(frozen=True)
class Tally:
    """rows: chunks. tokens: neurons times bins. times: {count: how many tokens have it}."""

    rows: int = 0
    tokens: int = 0
    times: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, counts: Counts) -> "Tally":
        """The tally of one chunk."""
        values, times = np.unique(counts.count, return_counts=True)
        tokens = counts.num_neurons * counts.num_bins
        silent = tokens - len(counts.count)
        found = dict(zip(values.tolist(), times.tolist(), strict=True))
        return cls(1, tokens, ({0: silent} if silent else {}) | found)

    def __add__(self, other: "Tally") -> "Tally":
        times = dict(self.times)
        for count, number in other.times.items():
            times[count] = times.get(count, 0) + number
        return Tally(self.rows + other.rows, self.tokens + other.tokens, times)

    @property
    def spikes(self) -> int:
        return sum(count * number for count, number in self.times.items())

    @property
    def largest(self) -> int:
        return max(self.times, default=0)

    @property
    def shares(self) -> np.ndarray:
        """Share of the tokens that have each count, [count] from 0 to the largest."""
        shares = np.zeros(self.largest + 1)
        for count, number in self.times.items():
            shares[count] = number / self.tokens
        return shares

    @property
    def entropy_bits(self) -> float:
        """Of one token, if all were independent."""
        shares = self.shares[self.shares > 0]
        return float(-(shares * np.log2(shares)).sum()) if self.tokens else 0.0

    def plain(self) -> dict:
        """As JSON has it; `Tally.of_plain` reads it."""
        times = {str(count): self.times[count] for count in sorted(self.times)}
        return {"rows": self.rows, "tokens": self.tokens, "times": times}

    @classmethod
    def of_plain(cls, text: Mapping) -> "Tally":
        times = {int(count): number for count, number in text["times"].items()}
        return cls(text["rows"], text["tokens"], times)


def class_weights(shares: np.ndarray, own: int = 10) -> np.ndarray:
    """The published weights of counts in a loss, [count] float32: one over the share.

    All counts above `own` have the weight of that one; 1e-9 is added to each share.
    """
    weights = 1.0 / (np.asarray(shares, np.float64) + 1e-9)
    weights[own:] = weights[own : own + 1]
    return weights.astype(np.float32)
