"""Small sessions of bursting neurons, and what they hold found the plain way."""

from collections import Counter

import numpy as np

from sensojax.spikes.binning import BIN_S
from sensojax.spikes.counts import Counts
from sensojax.spikes.session import CountsSession


def matrix(seed: int, neurons: int, bins: int, largest: int = 0) -> np.ndarray:
    """Bursts and silence; with `largest`, a few bins of up to so many spikes."""
    rng = np.random.default_rng(seed)
    rate = np.repeat(rng.gamma(0.3, 0.5, (neurons, -(-bins // 6))), 6, axis=1)[:, :bins]
    counts = rng.poisson(rate)
    if largest and counts.size:
        places = rng.integers(0, counts.size, 4)
        counts.ravel()[places] = [largest, *rng.integers(1, largest + 1, 3)]
    return counts


def session(name: str, counts: np.ndarray) -> CountsSession:
    return CountsSession(name, Counts.of_dense(counts, BIN_S))


def patches(counts: np.ndarray, neurons: int, bins: int) -> list[tuple[int, ...]]:
    """All patches of a matrix in the published order, padded with zeros."""
    padded = np.pad(counts, [(0, -counts.shape[0] % neurons), (0, -counts.shape[1] % bins)])
    return [
        tuple(padded[n : n + neurons, t : t + bins].ravel().tolist())
        for t in range(0, padded.shape[1], bins)
        for n in range(0, padded.shape[0], neurons)
    ]


def by_frequency(rows: list[np.ndarray], neurons: int, bins: int) -> list[tuple[tuple, int]]:
    """Motifs of all rows with their frequencies, most frequent first, ties as first seen."""
    return Counter(p for row in rows for p in patches(row, neurons, bins)).most_common()
