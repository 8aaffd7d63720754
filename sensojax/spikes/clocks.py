"""Spike times as whole ticks of the clock they were recorded with, without losing a bit.

In go the spike times of one probe in seconds; out come the clock that explains them, and per spike
a tick and a residual: `tick / rate + shift` differs from the time by `residual` steps of double
precision. The residual makes any times come back exactly, whichever clock was found; a good clock
makes it zero, and the gaps between ticks small. Sorters count samples, so most times are samples
divided by a rate (residual 0), or aligned to another clock by a straight line (residual of a few
steps); after that only piecewise alignments keep large residuals.

Bytes per spike on disk, of 2,000 neurons whose counts are distributed as published (10.2 in the
published Arrow table; `scripts/bench.py --rows pile`): 30 kHz samples 1.85, aligned by a line 1.96,
rounded to microseconds 2.50, aligned piece by piece 5.26.
"""

from dataclasses import dataclass

import numpy as np

# Rates of recording systems, and decimal ones, in ticks per second.
RATES = (
    *(1000.0, 1250.0, 10_000.0, 20_000.0, 24_414.0625, 25_000.0, 30_000.0, 32_000.0, 32_552.0),
    *(40_000.0, 50_000.0, 100_000.0, 1_000_000.0),
)
ALIGNED = (20_000.0, 24_414.0625, 25_000.0, 30_000.0, 32_000.0, 40_000.0)
DRIFT = 2e-4  # how far an aligned clock may be from its nominal rate
SAMPLE = 4096  # times that a clock is judged by
CLOSE_S, WIDE = 16.0, 100_000  # how a long session is looked at: all of a part, some of all
LOCKED = 0.9  # agreement of phases above which a rate is the clock's
ENOUGH, MOST_RATES = 20, 20_000  # spikes, of which fewer agree by chance; rates tried at once
LOWEST = np.iinfo(np.int64).min


@dataclass(frozen=True)
class Clock:
    """rate_hz: ticks per second. shift_s: the time of tick 0."""

    rate_hz: float
    shift_s: float = 0.0

    @classmethod
    def of_bins(cls, width_s: float) -> "Clock":
        """The clock whose ticks are the middles of bins."""
        return cls(1.0 / width_s, 0.5 * width_s)

    def seconds(self, ticks: np.ndarray) -> np.ndarray:
        """The time of each tick, rounded twice (after the division and after the sum)."""
        return ticks / self.rate_hz + self.shift_s

    def ticks(self, times: np.ndarray) -> np.ndarray:
        """The nearest tick of each time, int64; never decreasing where the times are not."""
        return np.rint((times - self.shift_s) * self.rate_hz).astype(np.int64)

    def residuals(self, times: np.ndarray, ticks: np.ndarray) -> np.ndarray:
        """Steps of double precision from each tick's time to the time, int64."""
        return ordered(times) - ordered(self.seconds(ticks))

    def times(self, ticks: np.ndarray, residuals: np.ndarray | None) -> np.ndarray:
        """The times that ticks and residuals (None: all zero) came from, to the last bit."""
        seconds = self.seconds(ticks)
        return seconds if residuals is None else unordered(ordered(seconds) + residuals)

    def bits(self, times: np.ndarray) -> float:
        """About how many bits a spike costs: of the tick, up to a constant, and of the residual."""
        residuals = np.abs(self.residuals(times, self.ticks(times)).astype(np.float64))
        return np.log2(self.rate_hz) + np.mean(np.log2(1.0 + 2.0 * residuals))


def find(times: np.ndarray, known: Clock | None = None) -> Clock:
    """The clock in which these times, [spike] in any order, cost the fewest bits.

    known: one to try besides the usual ones.
    """
    sample = times[:: _step(times, SAMPLE)]
    clocks = [Clock(rate) for rate in RATES] + ([known] if known else [])
    if not len(sample):
        return clocks[-1]
    best = min(clocks, key=lambda clock: clock.bits(sample))
    if best.residuals(sample, best.ticks(sample)).any():
        middle = float(np.median(sample))
        stretches = times[np.abs(times - middle) <= CLOSE_S / 2], times[:: _step(times, WIDE)]
        aligned = [clock for rate in ALIGNED if (clock := _aligned(*stretches, middle, rate))]
        best = min([best, *aligned], key=lambda clock: clock.bits(sample))
    return best


def ordered(times: np.ndarray) -> np.ndarray:
    """Whole numbers in the order of the times, one apart for neighbouring doubles, int64."""
    bits = np.ascontiguousarray(times, np.float64).view(np.int64)
    return np.where(bits < 0, LOWEST - bits, bits)


def unordered(numbers: np.ndarray) -> np.ndarray:
    """The doubles that `ordered` numbers stand for."""
    return np.where(numbers < 0, LOWEST - numbers, numbers).view(np.float64)


def _aligned(close: np.ndarray, wide: np.ndarray, middle: float, nominal: float) -> Clock | None:
    """The straight line from samples to times, if there is one near the nominal rate.

    close: all times within CLOSE_S around the middle. wide: some of all times. Phases at the true
    rate all agree. Over a short stretch this is so for rates that are a little off, too; each
    longer stretch narrows the rate down.
    """
    longest = 2.0 * float(np.max(np.abs(wide - middle)))
    rate, span, reach = nominal, 0.25, DRIFT * nominal
    while True:
        near = (close if span <= CLOSE_S else wide) - middle
        near = near[np.abs(near) <= span / 2.0]
        near = near[:: _step(near, 1000)]
        if len(near) >= ENOUGH:
            rates = rate + np.arange(-reach, reach, 1.0 / (8.0 * span))
            if len(rates) > MOST_RATES:
                return None
            agreement = np.abs(np.exp(2j * np.pi * np.outer(rates, near)).mean(axis=1))
            rate, reach = float(rates[np.argmax(agreement)]), 1.0 / (4.0 * span)
            if agreement.max() < LOCKED:
                return None
        if span >= longest:
            enough = len(near) >= ENOUGH and longest * rate > 1.0
            return _line(wide, rate, middle) if enough else None
        span *= 4.0


def _line(times: np.ndarray, rate: float, middle: float) -> Clock:
    """The least-squares line through times and their ticks at nearly the right rate."""
    sample = times[:: _step(times, SAMPLE)].astype(np.longdouble)
    turn = np.exp(2j * np.pi * rate * (sample - middle).astype(np.float64)).mean()
    phase = float(np.angle(turn)) / (2.0 * np.pi * rate)
    ticks = np.rint((sample - middle - phase) * rate)
    centered = ticks - ticks.mean()
    period = (centered * (sample - sample.mean())).sum() / (centered**2).sum()
    # Ticks are numbered so that tick 0 is near time 0: a long shift would cost precision.
    zero = sample.mean() - ticks.mean() * period
    return Clock(float(1 / period), float(zero - np.rint(zero / period) * period))


def _step(times: np.ndarray, wanted: int) -> int:
    """Every how manieth time to take for about so many."""
    return max(len(times) // wanted, 1)
