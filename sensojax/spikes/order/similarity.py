"""How alike neurons fire: the cosine of their counts over a whole session, however long it is.

In go counts, a stretch of time after the other; out comes the matrix of all products of two
neurons, which adds up over stretches, and the cosine distances that follow from it. Products are
whole numbers and stay exact, so it does not matter how a session is cut.
"""

from collections.abc import Iterable

import numpy as np
from scipy.linalg import blas

from sensojax.spikes.counts import Counts

EXACT_FLOAT32 = 2.0**24  # whole numbers below are exact
SILENT_DISTANCE = 2.0  # published: of a silent neuron to any other, the largest there is


def products(stretches: Iterable[Counts], num_neurons: int) -> np.ndarray:
    """Sum over all bins of the counts of neuron i times those of j, [neuron neuron] float64."""
    found = np.zeros((num_neurons, num_neurons))
    for counts in stretches:
        if not len(counts.count):
            continue
        squares = np.bincount(counts.neuron, counts.count.astype(float) ** 2)
        # No product of two neurons is larger than the larger of their squares.
        exact = np.float32 if squares.max() < EXACT_FLOAT32 else np.float64
        matrix = np.zeros((num_neurons, counts.num_bins), exact)
        matrix[counts.neuron, counts.bin] = counts.count
        multiply = blas.ssyrk if exact is np.float32 else blas.dsyrk
        found += np.triu(multiply(1.0, matrix.T, trans=1))
    return found + np.triu(found, 1).T


def cosine_distances(product: np.ndarray) -> np.ndarray:
    """1 - cosine of each pair, from their products; 0 to itself, 2 when one of them is silent."""
    square = np.diagonal(product)
    norms = np.sqrt(np.outer(square, square))
    silent = norms == 0
    distances = 1 - product / np.where(silent, 1.0, norms)
    distances[silent] = SILENT_DISTANCE
    np.fill_diagonal(distances, 0.0)
    return np.clip(distances, 0.0, SILENT_DISTANCE)  # rounding: equal neurons at -1e-16
