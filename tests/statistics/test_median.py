"""The searched median is numpy's, to the last bit, whatever the values, the sample and the room."""

import itertools

import numpy as np
import pytest

from sensojax.statistics.median import Median


def searched(values: np.ndarray, sample: np.ndarray, pieces: int = 3, **room) -> tuple:
    """(median of the columns, how many passes it took)."""
    median = Median(sample, **room)
    for passes in itertools.count(1):
        assert passes < 70  # an interval halves at least
        for piece in np.array_split(values, pieces):
            if len(piece):
                median.take(median.look(piece))
        median.end_pass()
        if median.finished:
            return median.value(), passes


RNG = np.random.default_rng(0)
NORMAL = RNG.normal(size=(2000, 5))
CASES = {
    "even count": NORMAL,
    "odd count": NORMAL[1:],
    "one value": np.array([[5.0, -1e-300]]),
    "two values": np.array([[-1e300], [1e300]]),
    "equal values": np.full((9, 2), 7.25),
    "two halves": np.repeat([[-3.0], [7.0]], 500, axis=0),
    "three levels": RNG.integers(0, 3, (1000, 4)).astype(float),
    "zeros of both signs": np.tile([[-0.0], [0.0], [-1e-5]], (100, 2)),
    "mostly zero": RNG.exponential(size=(3001, 6)) * (RNG.random((3001, 6)) < 0.4),
    "many magnitudes": np.exp(40 * RNG.normal(size=(3000, 3))) * RNG.choice([-1, 1], (3000, 3)),
    "float32": NORMAL.astype(np.float32),
}


@pytest.mark.parametrize("room", [4_000_000, 100, 0])
@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_median_is_exact(values, room):
    found, _ = searched(values, values[:: max(len(values) // 100, 1)], most_gathered=room)
    np.testing.assert_array_equal(found, np.median(values.astype(np.float64), axis=0))


@pytest.mark.parametrize("offset", [-50.0, 50.0])
@pytest.mark.parametrize("room", [4_000_000, 0])
def test_a_sample_that_misses_costs_passes_but_no_digits(offset, room):
    found, passes = searched(NORMAL, NORMAL[:7] + offset, most_gathered=room)
    np.testing.assert_array_equal(found, np.median(NORMAL, axis=0))
    assert passes >= 2


def test_random_small_cases_are_exact():
    rng = np.random.default_rng(1)
    for _ in range(200):
        count, columns = rng.integers(1, 60), rng.integers(1, 5)
        values = rng.normal(size=(count, columns)) * 10 ** rng.uniform(-300, 300, columns)
        values = np.where(rng.random(values.shape) < 0.3, np.round(values), values)
        room, pieces = int(rng.integers(0, 10)), int(rng.integers(1, 9))
        found, _ = searched(values, values[:1], pieces, most_gathered=room)
        np.testing.assert_array_equal(found, np.median(values, axis=0))


def test_two_passes_are_enough_for_a_fair_sample():
    values = np.random.default_rng(2).lognormal(sigma=1.5, size=(20_000, 30))
    _, passes = searched(values, values[::50])
    assert passes == 2


def test_the_last_pass_gathers_few_values():
    """With 256 bins around the guess, less than one in a hundred."""
    values = np.random.default_rng(2).lognormal(sigma=1.5, size=(20_000, 30))
    median = Median(values[::50])
    median.take(median.look(values))
    median.end_pass()
    look = median.look(values)
    assert 30 <= len(look.key) == len(look.place) < 0.01 * values.size


def test_a_few_levels_with_many_values_each_are_not_gathered():
    """Bins of equal values close in on them at once, though there is room for none of them."""
    values = np.random.default_rng(3).choice([0.1, 0.35, 7.5, 80.25], (5000, 4))
    found, passes = searched(values, values[::50], most_gathered=0)
    np.testing.assert_array_equal(found, np.median(values, axis=0))
    assert passes <= 3


def test_asking_too_early_is_refused():
    median = Median(NORMAL[:10])
    with pytest.raises(ValueError, match="another pass"):
        median.value()
    with pytest.raises(ValueError, match="found no values"):
        median.end_pass()
