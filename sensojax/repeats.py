"""Repeats add up: trials of stimuli that were shown several times go in, `Measures` come out.

In go predicted and observed responses [repeat time neuron] and the frames that count, [repeat
time]. `Stimulus` adds up the repeats of one stimulus frame by frame (an image is a stimulus of one
frame), `reduced` makes `reliability.Measures` of it, a few numbers per neuron that add up over
stimuli. So memory holds the stimuli that are not finished, however many repeats and stimuli:

    total = reliability.Measures.zero(num_neurons)
    for stimulus, (predicted, observed, valid) in by_stimulus:
        total += repeats.Repeats.of(stimulus, predicted, observed, valid).measures()
    total.correlation_to_average(), total.feve()

On the host this runs in float64; inside jit, with `xp=jax.numpy`, in float32 within a stimulus. An
image with a single repeat has no variance over repeats: it makes the measures of variance
not-a-number for every neuron, unless left out with `at_least=2`.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

import jax
import numpy as np
from flax import struct

from sensojax.metrics import SPREAD_EPSILON, Adds, Correlation, Mean
from sensojax.reliability import Measures

# Of a video, in squared units of the responses: with less, a normalized correlation is undefined.
LEAST_SIGNAL_POWER = 1e-4


@struct.dataclass
class Stimulus(Adds):
    """Sums over the repeats of one stimulus.

    frames: moments of predicted and observed over repeats, fields [time neuron]. spread: [neuron],
    the variances over time of the observed repeats, added up. scores: [time neuron], the observed
    repeats in standard deviations from their means over time, added up; energy: [neuron], their
    mean squares.
    """

    frames: Correlation
    spread: jax.Array
    scores: jax.Array
    energy: jax.Array

    @classmethod
    def zero(cls, num_frames: int, num_neurons: int, xp=np) -> "Stimulus":
        """The sums of no repeats."""
        nothing, per_frame = xp.zeros(num_neurons), xp.zeros((num_frames, num_neurons))
        return cls(Correlation(*(per_frame for _ in range(8))), nothing, per_frame, nothing)

    def including(self, predicted, observed, valid, xp=np) -> "Stimulus":
        """With some repeats more: [repeat time neuron] twice, and [repeat time] bool."""
        frames = self.frames
        for trial in zip(predicted, observed, valid[:, :, None], strict=True):
            frames = _with_one(frames, *trial, xp)
        # From the first counted frame on: a constant response then varies by exactly nothing.
        first = observed[xp.arange(len(valid)), xp.argmax(valid, axis=1)][:, None]
        keep, count = valid[:, :, None], xp.maximum(valid.sum(1), 1)[:, None, None]
        centred = xp.where(keep, observed - first, 0)
        centred = xp.where(keep, centred - centred.sum(1)[:, None] / count, 0)
        squares = (centred**2).sum(1)[:, None]
        scores = centred / (xp.sqrt(squares / count) + SPREAD_EPSILON)
        return Stimulus(
            frames=frames,
            spread=self.spread + (squares / xp.maximum(count - 1, 1)).sum((0, 1)),
            scores=self.scores + scores.sum(0),
            energy=self.energy + ((scores**2).sum(1) / count[:, 0]).sum(0),
        )

    @staticmethod
    def merged(stack: "Stimulus", xp=np) -> "Stimulus":
        """One of many along the first axis."""
        frames = Correlation.merged(stack.frames, xp)
        return Stimulus(frames, stack.spread.sum(0), stack.scores.sum(0), stack.energy.sum(0))


@dataclass(frozen=True)
class Repeats:
    """Sums over repeats, by stimulus; on the host."""

    stimuli: Mapping[Hashable, Stimulus] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        stimulus: Hashable,
        predicted: np.ndarray,
        observed: np.ndarray,
        valid: np.ndarray,
    ) -> "Repeats":
        """Some repeats of one stimulus: [repeat time neuron] twice, and [repeat time] bool."""
        predicted, observed = np.asarray(predicted, np.float64), np.asarray(observed, np.float64)
        valid = np.asarray(valid, bool)
        if predicted.ndim != 3 or predicted.shape != observed.shape:
            raise ValueError(
                f"found predicted of shape {predicted.shape} and observed of shape "
                f"{observed.shape}, expected the same [repeat time neuron] for both"
            )
        if valid.shape != predicted.shape[:2]:
            raise ValueError(f"found valid of shape {valid.shape} for {predicted.shape}")
        none = Stimulus.zero(*predicted.shape[1:])
        return cls({stimulus: none.including(predicted, observed, valid)})

    def __add__(self, other: "Repeats") -> "Repeats":
        both = dict(self.stimuli)
        for stimulus, sums in other.stimuli.items():
            both[stimulus] = _longest(both[stimulus], sums) if stimulus in both else sums
        return Repeats(both)

    def measures(self, at_least: int = 1) -> "Measures":
        """Reduces stimuli to sums; images (or frames) of fewer repeats than this are left out."""
        parts = [reduced(sums, at_least) for sums in self.stimuli.values()]
        parts = [part for part in parts if part.averages.count.any()]
        if not parts:
            raise ValueError(
                f"found no image of at least {at_least} repeats in {len(self)} stimuli"
            )
        return sum(parts[1:], start=parts[0])

    def __len__(self) -> int:
        return len(self.stimuli)


def reduced(sums: Stimulus, at_least: int = 1, xp=np) -> Measures:
    """One stimulus as sums over its images; those of fewer repeats than this are left out."""
    enough = sums.frames.count[:, :1] >= max(at_least, 1)
    frames = jax.tree.map(lambda leaf: xp.where(enough, leaf, 0), sums.frames)
    count, squares = frames.count, frames.squares_observed
    mean_predicted = frames.origin_predicted + frames.offset_predicted
    mean_observed = frames.origin_observed + frames.offset_observed
    # The mean of the other repeats is (n mean - x) / (n - 1): it varies against x, 1 / (n - 1) as
    # much, about the same mean. A repeat without others gets 0, as published.
    alone = count == 1
    others = xp.maximum(count - 1, 1)
    jackknife = frames.replace(
        origin_predicted=xp.where(alone, 0, frames.origin_observed),
        offset_predicted=xp.where(alone, 0, frames.offset_observed),
        squares_predicted=squares / others**2,
        products=-squares / others,
    )
    counted = xp.broadcast_to(enough, count.shape)
    averages = Correlation.merged(_single(counted, mean_predicted, mean_observed, xp), xp)
    with np.errstate(invalid="ignore", divide="ignore"):
        noise = xp.where(enough, squares / (count - 1), 0).sum(0)
        of_averages, normalized, agreement = _per_video(sums, averages, xp)
    return Measures(
        trials=Correlation.merged(frames, xp),
        averages=averages,
        others=Correlation.merged(jackknife, xp),
        noise=noise,
        noise_biased=(squares / xp.maximum(count, 1)).sum(0),
        fewest=xp.where(enough, count, xp.inf).min(),
        most=count.max(),
        of_averages=of_averages,
        normalized=normalized,
        agreement=agreement,
    )


def _per_video(sums: Stimulus, averages: Correlation, xp) -> tuple[Mean, Mean, Mean]:
    """The three measures that are taken within a video, each as a sum over one video or none."""
    count, frames = sums.frames.count, averages.count
    repeats = count.max()
    equal = xp.where((count == 0) | (count == repeats), 1, xp.nan).max(0)
    pairs = repeats * (repeats - 1)
    # Unbiased over time, as the power of the signal must be; Pearson's ratio has no use for it.
    predicted = averages.squares_predicted / (frames - 1)
    observed = averages.squares_observed / (frames - 1)
    shared = averages.products / (frames - 1)
    power = (repeats**2 * observed - sums.spread) / pairs
    normalized = shared / (xp.sqrt(predicted * power) + SPREAD_EPSILON)
    spread_predicted = xp.sqrt(averages.squares_predicted / frames) + SPREAD_EPSILON
    spread_observed = xp.sqrt(averages.squares_observed / frames) + SPREAD_EPSILON
    of_averages = averages.products / frames / (spread_predicted * spread_observed)
    agreement = ((sums.scores**2).sum(0) / frames - sums.energy) / pairs
    shown = (repeats >= 2) & (frames >= 2)

    def one(values, defined):
        return Mean(xp.where(defined, 1.0, 0.0), xp.where(defined, values * equal, 0.0))

    has_power = shown & ~(power <= LEAST_SIGNAL_POWER)
    return one(of_averages, shown), one(normalized, has_power), one(agreement, shown)


def _with_one(frames: Correlation, predicted, observed, keep, xp) -> Correlation:
    """Moments [time neuron] with one repeat more, by Welford's formula; keep: [time 1] bool.

    As one would merge it, but elementwise alone, so that a compiler makes one pass of it, which is
    several times faster on a CPU.
    """
    total = frames.count + keep
    share = keep / xp.maximum(total, 1)

    def moved(values, origin, offset):
        origin = xp.where(keep & (frames.count == 0), values, origin)
        apart = xp.where(keep, values - origin - offset, 0)
        return origin, offset + share * apart, apart

    origin_p, offset_p, apart_p = moved(predicted, frames.origin_predicted, frames.offset_predicted)
    origin_o, offset_o, apart_o = moved(observed, frames.origin_observed, frames.offset_observed)
    rest = 1 - share
    return frames.replace(
        count=total,
        origin_predicted=origin_p,
        origin_observed=origin_o,
        offset_predicted=offset_p,
        offset_observed=offset_o,
        squares_predicted=frames.squares_predicted + rest * apart_p**2,
        squares_observed=frames.squares_observed + rest * apart_o**2,
        products=frames.products + rest * apart_p * apart_o,
    )


def _single(count, predicted, observed, xp):
    """Every value as the sums of one frame: fields in the shape of the values."""
    none = xp.zeros(predicted.shape, predicted.dtype)
    return Correlation(
        xp.asarray(count, predicted.dtype), predicted, observed, *(none for _ in range(5))
    )


def _longest(one, two):
    """The sum of two, the shorter with frames that nobody counted at its end."""
    frames = max(len(one.scores), len(two.scores))

    def padded(sums):
        missing = frames - len(sums.scores)
        return jax.tree.map(
            lambda leaf: np.pad(leaf, ((0, missing), (0, 0))) if leaf.ndim == 2 else leaf, sums
        )

    return padded(one) + padded(two)
