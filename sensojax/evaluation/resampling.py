"""How sure a mean over neurons is, and whether two runs differ in it.

In go the values of several runs for the same neurons, [run neuron], and the number of the mouse
that each neuron is of; out come the means over resampled neurons (the same ones for every run, so
that differences are paired), intervals, and p-values. Neurons are resampled within their mouse
(Efron, 1979), or whole mice are. Neurons of a mouse share an animal, a field of view and films:
they are not independent draws, so intervals over neurons are too short, and p-values too small, for
any statement about other mice; resampling mice makes such statements, but a few mice say little.
"""

import itertools
from collections.abc import Iterator

import numpy as np

from sensojax.errors import UserError, check_name

UNITS = ("neurons", "mice")
SAMPLES = 4000
INTERVAL = (0.025, 0.975)
AT_ONCE = 1 << 20  # numbers drawn at a time, 8 MB: smaller parts cost more than they save
MOST_ENUMERATED = 12  # mice whose 4096 sign patterns are all tried


def means(
    values: np.ndarray, mouse: np.ndarray, *, unit: str, samples: int, seed: int
) -> np.ndarray:
    """Means over resampled neurons or mice, [sample run].

    values: [run neuron]; mouse: [neuron] int, equal for the neurons of one mouse. The draws depend
    on the seed and on how many neurons each mouse has, not on the values nor on the other runs.
    Raises UserError for mice to be resampled when there is only one.
    """
    sums, sizes = _per_mouse(values, mouse)
    if unit == "mice":
        _several(len(sizes))
        rng = np.random.default_rng(seed)
        counts = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=samples)
        return (counts @ sums) / (counts @ sizes)[:, None]
    check_name(unit, UNITS, "unit to resample")
    total = np.zeros((samples, len(values)))
    for number, size in enumerate(sizes.tolist()):
        of_mouse = values[:, mouse == np.unique(mouse)[number]].T
        rng = np.random.default_rng([seed, number])
        for part in _parts(samples, size):
            total[part] += _counts(rng, part.stop - part.start, size) @ of_mouse
    return total / values.shape[1]


def interval(resampled: np.ndarray) -> np.ndarray:
    """The 95 % percentile interval of resampled means [sample ...]: [low and high, ...]."""
    return np.quantile(resampled, INTERVAL, axis=0)


def p_values(
    differences: np.ndarray, mouse: np.ndarray, *, unit: str, samples: int, seed: int
) -> np.ndarray:
    """Two-sided sign-flip test of a mean of 0, [run], for paired differences [run neuron].

    Tests whether a mean as far from 0 arises when each neuron's (or mouse's) difference had its
    sign by chance. Random signs count the observed ones among them, (1 + k) / (1 + samples), so p
    is never 0; of up to 12 mice every pattern of signs is tried, and p is exact.
    """
    check_name(unit, UNITS, "unit to resample")
    sums, sizes = _per_mouse(differences, mouse)
    parts = sums if unit == "mice" else differences.T
    observed = np.abs(sums.sum(axis=0))
    # Sums in another order differ in their last digits, and must still count as equal.
    reached = observed - 1e-12 * np.abs(parts).sum(axis=0)
    if unit == "mice" and _several(len(sizes)) <= MOST_ENUMERATED:
        signs = np.array(list(itertools.product((-1, 1), repeat=len(sizes))))
        return (np.abs(signs @ parts) >= reached).mean(axis=0)
    rng, hits = np.random.default_rng(seed), np.zeros(len(differences))
    for part in _parts(samples, len(parts)):
        shape = (part.stop - part.start, len(parts))
        bits = np.frombuffer(rng.bytes(-(-shape[0] * shape[1] // 8)), np.uint8)
        flipped = np.unpackbits(bits, count=shape[0] * shape[1]).reshape(shape)
        sums = parts.sum(axis=0) - 2 * (flipped.astype(np.float64) @ parts)
        hits += (np.abs(sums) >= reached).sum(axis=0)
    return (1 + hits) / (1 + samples)


def holm(p: np.ndarray) -> np.ndarray:
    """p-values corrected for their number so that all are right together (Holm, 1979), [test]."""
    p = np.asarray(p, np.float64)
    order = np.argsort(p, kind="stable")
    stepped = p[order] * np.arange(len(p), 0, -1)
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return corrected


def _per_mouse(values, mouse):
    """Sums of every mouse's neurons [mouse run], and how many it has [mouse]."""
    _, number = np.unique(mouse, return_inverse=True)
    belongs = number[:, None] == np.arange(number.max() + 1)
    return belongs.T.astype(np.float64) @ values.T, belongs.sum(axis=0)


def _several(mice: int) -> int:
    if mice < 2:
        raise UserError(
            "found one mouse whose neurons all runs share, expected two or more to resample mice; "
            "resample neurons."
        )
    return mice


def _parts(samples: int, size: int) -> Iterator[slice]:
    step = max(1, AT_ONCE // size)
    return (slice(i, min(i + step, samples)) for i in range(0, samples, step))


def _counts(rng, samples: int, size: int) -> np.ndarray:
    """How often each of `size` neurons is drawn in `size` draws, [sample neuron] float64.

    The multinomial distribution by counting draws: 10 times faster than its own generator here.
    """
    drawn = rng.integers(size, size=(samples, size)) + size * np.arange(samples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=samples * size)
    return counts.reshape(samples, size).astype(np.float64)
