"""Ticks and residuals give every time back to the last bit, whichever clock was found."""

import numpy as np
import pytest

from sensojax.spikes import clocks
from sensojax.spikes.clocks import Clock

SAMPLES = np.sort(np.random.default_rng(0).integers(0, 30_000 * 2000, 20_000)).astype(float)
TIMES = {  # by what was done to samples, with the clock and the bits of residuals to be found
    "divided": (SAMPLES / 30_000, 30_000.0, 0.0),
    "multiplied": (SAMPLES * (1 / 30_000), 30_000.0, 0.7),
    "rounded to microseconds": (np.round(SAMPLES / 30_000, 6), 1e6, 0.0),
    "decimal": (np.round(SAMPLES / 20_000, 6), 20_000.0, 0.0),
    "aligned": (SAMPLES / 29_999.949611 - 12.3456789, 29_999.949611, 1.5),
    "slow": ((SAMPLES + 77) * (1 / 25_001.23) + 3.1, 25_001.23, 1.5),
}


@pytest.mark.parametrize("name", TIMES)
def test_the_clock_that_times_were_made_with_is_found(name):
    times, rate_hz, bits = TIMES[name]
    clock = clocks.find(times)
    assert clock.rate_hz == pytest.approx(rate_hz, rel=1e-13)
    residuals = np.abs(clock.residuals(times, clock.ticks(times)))
    assert np.log2(1 + 2 * residuals).mean() <= bits


@pytest.mark.parametrize(
    "kind", [*TIMES, "any", "piecewise", "float32", "few", "same", "one", "none"]
)
def test_times_come_back_to_the_last_bit(kind):
    rng = np.random.default_rng(1)
    steps = np.arange(0, 30_000 * 2000 + 60_001, 60_000)
    times = {
        **{name: made for name, (made, _, _) in TIMES.items()},
        "any": np.sort(np.concatenate([rng.normal(0, 1e-12, 50), rng.random(500) * 1e4 - 50])),
        "piecewise": np.interp(SAMPLES, steps, np.cumsum(rng.normal(2, 1e-5, len(steps)))),
        "float32": (SAMPLES / 30_000).astype(np.float32).astype(float),
        "few": np.array([0.5, 7.25, 1900.0]) + 1e-9,
        "same": np.full(40, 1.23456789),
        "one": np.array([3.3]),
        "none": np.zeros(0),
    }[kind]
    clock = clocks.find(times)
    ticks = clock.ticks(times)
    assert (np.diff(ticks) >= 0).all()
    residuals = clock.residuals(times, ticks)
    np.testing.assert_array_equal(clock.times(ticks, residuals), times)
    if not residuals.any():
        np.testing.assert_array_equal(clock.times(ticks, None), times)


def test_times_that_no_clock_explains_still_cost_no_more_than_their_bits():
    times = np.sort(np.random.default_rng(2).random(5000) * 2000)
    found = clocks.find(times)
    cheapest = min(Clock(rate).bits(times) for rate in clocks.RATES)
    assert found.bits(times) <= cheapest + 1e-9


def test_a_few_spikes_do_not_make_a_clock():
    """Any rate fits a handful of times; one near 30 kHz must not be made up for them."""
    times = np.sort(np.random.default_rng(3).random(12) * 5000)
    assert clocks.find(times).rate_hz in clocks.RATES


def test_numbers_are_in_the_order_of_the_times_and_neighbours_differ_by_one():
    times = np.array([-1e7, -2.5, -5e-324, 0.0, 5e-324, 1e-9, 1.0, 3e6])
    numbers = clocks.ordered(times)
    assert (np.diff(numbers) > 0).all()
    np.testing.assert_array_equal(clocks.unordered(numbers), times)
    np.testing.assert_array_equal(clocks.ordered(np.nextafter(times, np.inf)), numbers + 1)
