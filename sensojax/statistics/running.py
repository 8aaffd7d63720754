"""Statistics of more values than memory holds: those of pieces of them, which add up.

Pieces [value ...] go in, statistics over their first axis come out, in float64: `Moments` (mean and
standard deviation), `Extent` (minimum and maximum), and of whole numbers `Levels` (everything, the
median too). The statistics of a piece may be made in any thread; added in the order of the pieces
they are the same bits for any number of threads.
"""

from dataclasses import dataclass

import numpy as np

MOST_LEVELS = 1 << 16


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations; they merge without loss of precision.

    Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance".
    """

    count: int
    mean: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> "Moments":
        """Over the first axis, in float64."""
        values = values.astype(np.float64)
        mean = values.mean(axis=0)
        values -= mean
        return cls(len(values), mean, np.einsum("t...,t...->...", values, values))

    def __add__(self, other: "Moments") -> "Moments":
        count = self.count + other.count
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.count / count)
        between = delta**2 * (self.count * other.count / count)
        return Moments(count, mean, self.squares + other.squares + between)

    @property
    def std(self) -> np.ndarray:
        """Population standard deviation, as in the published statistics."""
        return np.sqrt(self.squares / self.count)


@dataclass(frozen=True)
class Extent:
    """The least and the greatest value of each column."""

    least: np.ndarray
    greatest: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> "Extent":
        """Over the first axis, in float64."""
        ends = np.min(values, axis=0), np.max(values, axis=0)
        return cls(*(np.asarray(end, np.float64) for end in ends))

    def __add__(self, other: "Extent") -> "Extent":
        return Extent(
            np.minimum(self.least, other.least), np.maximum(self.greatest, other.greatest)
        )


@dataclass(frozen=True)
class Levels:
    """How often each whole number occurs: all statistics of a video in gray levels, exactly."""

    counts: np.ndarray  # [level], of level 0, 1, ...

    @classmethod
    def of(cls, values: np.ndarray) -> "Levels | None":
        """None unless every value is a whole number from 0 to 65,535."""
        flat = values.reshape(-1)
        if flat.dtype not in (np.uint8, np.uint16):
            if not (np.min(flat) >= 0 and np.max(flat) < MOST_LEVELS):
                return None
            whole = flat.astype(np.uint16)
            if not np.array_equal(whole, flat):
                return None
            flat = whole
        return cls(np.bincount(flat))

    def __add__(self, other: "Levels") -> "Levels":
        counts = np.zeros(max(len(self.counts), len(other.counts)), np.int64)
        counts[: len(self.counts)] += self.counts
        counts[: len(other.counts)] += other.counts
        return Levels(counts)

    def statistics(self) -> dict[str, float]:
        """min, max, median, mean and std of all values."""
        level = np.arange(len(self.counts), dtype=np.float64)
        present, total = np.flatnonzero(self.counts), int(self.counts.sum())
        up_to = np.cumsum(self.counts)
        ranked = [np.searchsorted(up_to, rank, side="right") for rank in middle(total)]
        mean = float(self.counts @ level) / total
        return {
            "min": float(present[0]),
            "max": float(present[-1]),
            "median": float(np.mean(ranked)),
            "mean": mean,
            "std": float(np.sqrt(self.counts @ (level - mean) ** 2 / total)),
        }


def middle(count: int) -> tuple[int, int]:
    """The ranks, from 0, of the two values whose mean is the median; twice one for an odd count."""
    return (count - 1) // 2, count // 2
