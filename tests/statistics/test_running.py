"""Statistics of pieces add up to those of the whole."""

import numpy as np
import pytest

from sensojax.statistics.running import Extent, Levels, Moments, middle

VALUES = np.random.default_rng(0).normal(1000, 1, (400, 3))


def summed(kind, values, pieces):
    first, *others = (kind.of(piece) for piece in np.array_split(values, pieces))
    return sum(others, start=first)


@pytest.mark.parametrize("pieces", [1, 2, 7, 400])
def test_moments_and_extent_of_pieces_are_those_of_the_whole(pieces):
    moments, extent = summed(Moments, VALUES, pieces), summed(Extent, VALUES, pieces)
    np.testing.assert_allclose(moments.mean, VALUES.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(moments.std, VALUES.std(axis=0), rtol=1e-12)
    np.testing.assert_array_equal(extent.least, VALUES.min(axis=0))
    np.testing.assert_array_equal(extent.greatest, VALUES.max(axis=0))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64, np.float32, np.float64])
@pytest.mark.parametrize("count", [1, 2, 999, 1000])
def test_levels_know_every_statistic_exactly(dtype, count):
    values = np.random.default_rng(count).integers(0, 250, count).astype(dtype)
    found = summed(Levels, values, min(3, count)).statistics()
    exact = values.astype(np.float64)
    for name in ("min", "max", "median"):
        assert found[name] == getattr(np, name)(exact), name
    np.testing.assert_allclose(found["mean"], exact.mean(), rtol=1e-14)
    np.testing.assert_allclose(found["std"], exact.std(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bad", [0.5, -1.0, 65536.0, np.inf, 1e300])
def test_levels_are_whole_numbers_only(bad):
    assert Levels.of(np.array([3.0, bad])) is None


def test_middle_ranks():
    assert [middle(count) for count in (1, 2, 3, 4)] == [(0, 0), (0, 1), (1, 1), (1, 2)]
