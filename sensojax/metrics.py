"""Metrics that add up: how well predicted responses match observed ones, over many batches.

In go a batch's predicted and observed responses [batch time neuron] and the frames that count,
[batch time] bool; `of` makes sums of it on the device (float32, under jit if wanted). Sums add up
on the host in float64 with `+`; inside jit with `merge` (stacked sums) or `across_axis` (a mesh
axis); over processes with `across_hosts`. Only at the end does `value()` make one number per neuron
of them. So the size of a batch and the number of devices are a matter of memory, not of science:

    total = metrics.Correlation.zero(num_neurons)
    for predicted, observed, valid in batches:
        total += metrics.Correlation.of(predicted, observed, valid)
    total.value()

Means, spreads and co-moments are kept centred and merged by the formula of Chan, Golub and LeVeque
(1979), never as differences of large sums. Every class here obeys the contract in
tests/test_metrics.py. Measures over repeats of a stimulus are in `reliability`.
"""

import functools
import math
from collections.abc import Iterable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.experimental import multihost_utils

from sensojax import losses
from sensojax.moments import joint_moments

NAN_RULES = ("zero", "skip")
# Added to both standard deviations by the published benchmarks, so that a constant trace has
# correlation 0 instead of 0 / 0.
SPREAD_EPSILON = 1e-8

Sums = TypeVar("Sums", bound="Adds")


class Adds:
    """What all sums share: `+` on the host, in float64; each says how a stack of it merges."""

    def on_host(self: Sums) -> Sums:
        """The same sums as float64 numpy arrays."""
        return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), jax.device_get(self))

    def __add__(self: Sums, other: Sums) -> Sums:
        if jax.tree.structure(self) != jax.tree.structure(other):
            raise TypeError(f"found {self!r:.80} + {other!r:.80}, expected sums of one kind")
        return self.plus(self.on_host(), jax.device_get(other))

    @classmethod
    def plus(cls, one: Sums, two: Sums) -> Sums:
        """The sum of two, on the host; the first is float64, and so is the sum."""
        return cls.merged(jax.tree.map(lambda *leaves: np.stack(leaves), one, two))


@struct.dataclass
class Correlation(Adds):
    """Correlation of predicted and observed responses over all counted frames, per neuron.

    All fields are [neuron]. A mean is origin + offset: the origin is one of the neuron's own
    values, so that float32 keeps its digits when the mean is large against the spread (2e5 frames
    with a mean of 100 spreads: 1e-3 off without, 1e-7 with) and a constant trace is exactly so.
    nan_rule, for not-a-number in a frame that counts: "zero" makes that neuron's correlation 0, as
    the benchmark does; "skip" leaves out the frame for that neuron.
    """

    count: jax.Array
    origin_predicted: jax.Array
    origin_observed: jax.Array
    offset_predicted: jax.Array
    offset_observed: jax.Array
    squares_predicted: jax.Array  # sum of (predicted - mean)^2
    squares_observed: jax.Array
    products: jax.Array  # sum of (predicted - mean)(observed - mean)
    nan_rule: str = struct.field(pytree_node=False, default="zero")

    @classmethod
    def zero(cls, num_neurons: int, nan_rule: str = "zero") -> "Correlation":
        """The sums of no frames."""
        return cls(*(np.zeros(num_neurons) for _ in range(8)), nan_rule=_known(nan_rule))

    @classmethod
    def of(
        cls,
        predicted: jax.Array,
        observed: jax.Array,
        valid: jax.Array,
        nan_rule: str = "zero",
    ) -> "Correlation":
        """The sums of one batch, float32; ValueError where shapes are not as in the module."""
        _check(predicted, observed, valid)
        skip_nan = _known(nan_rule) == "skip"
        return cls(*joint_moments(predicted, observed, valid, skip_nan=skip_nan), nan_rule=nan_rule)

    def value(self) -> np.ndarray:
        """Correlation per neuron, [neuron] float64; 0 where it is undefined or a trace constant."""
        values = self._published()
        return np.where(np.isnan(values), 0.0, values)

    def undefined(self) -> np.ndarray:
        """[neuron] bool: not-a-number before the NaN rule, or no frame that counts."""
        return np.isnan(self._published())

    def constant(self) -> np.ndarray:
        """[neuron] bool: predicted or observed responses do not vary."""
        sums = self.on_host()
        return (sums.squares_predicted == 0) | (sums.squares_observed == 0)

    def _published(self):
        sums = self.on_host()
        with np.errstate(invalid="ignore", divide="ignore"):
            covariance = sums.products / sums.count
            spread_predicted = np.sqrt(sums.squares_predicted / sums.count) + SPREAD_EPSILON
            spread_observed = np.sqrt(sums.squares_observed / sums.count) + SPREAD_EPSILON
            return covariance / (spread_predicted * spread_observed)

    @classmethod
    def plus(cls, one: "Correlation", two: "Correlation", xp=np) -> "Correlation":
        """The sum of two (or of many pairs) by Chan's formula, about the origin of the larger."""
        count = one.count + two.count
        share = two.count / xp.maximum(count, 1)
        weight = one.count * share
        larger, some_one, some_two = two.count > one.count, one.count > 0, two.count > 0

        def mean(*of_both):
            """Origin and mean of both, and how far their means are apart."""
            (origin, offset), (other, other_offset) = of_both
            common = xp.where(larger, other, origin)
            here = xp.where(some_one, (origin - common) + offset, 0)
            apart = xp.where(some_two, (other - common) + other_offset - here, 0)
            return common, here + share * apart, apart

        origin_p, offset_p, apart_p = mean(
            (one.origin_predicted, one.offset_predicted),
            (two.origin_predicted, two.offset_predicted),
        )
        origin_o, offset_o, apart_o = mean(
            (one.origin_observed, one.offset_observed), (two.origin_observed, two.offset_observed)
        )
        return one.replace(
            count=count,
            origin_predicted=origin_p,
            origin_observed=origin_o,
            offset_predicted=offset_p,
            offset_observed=offset_o,
            squares_predicted=one.squares_predicted + two.squares_predicted + weight * apart_p**2,
            squares_observed=one.squares_observed + two.squares_observed + weight * apart_o**2,
            products=one.products + two.products + weight * apart_p * apart_o,
        )

    @classmethod
    def merged(cls, stack: "Correlation", xp=np) -> "Correlation":
        """One of many along the first axis, in pairs; xp is numpy, or jax.numpy in jit."""
        while len(stack.count) > 1:
            pairs = len(stack.count) // 2
            first, second, rest = (
                jax.tree.map(lambda leaf, part=part: leaf[part], stack)
                for part in (slice(pairs), slice(pairs, 2 * pairs), slice(2 * pairs, None))
            )
            both = cls.plus(first, second, xp)
            stack = jax.tree.map(lambda *leaves: xp.concatenate(leaves), both, rest)
        return jax.tree.map(lambda leaf: leaf[0], stack)


@struct.dataclass
class Mean(Adds):
    """Mean over all counted frames of any quantity that has a number per frame and neuron."""

    count: jax.Array  # [neuron]
    total: jax.Array  # [neuron]

    @classmethod
    def zero(cls, num_neurons: int) -> "Mean":
        """The sums of no frames."""
        return cls(np.zeros(num_neurons), np.zeros(num_neurons))

    @classmethod
    def of(cls, values: jax.Array, valid: jax.Array) -> "Mean":
        """The sums of one batch of values [batch time neuron], float32."""
        _check(values, values, valid)
        values = jnp.where(jnp.asarray(valid)[:, :, None], values, 0)
        return cls._of_total(jnp.sum(values, axis=(0, 1), dtype=jnp.float32), valid)

    @classmethod
    def _of_total(cls, total, valid):
        return cls(jnp.full_like(total, jnp.sum(valid)), total)

    def value(self) -> np.ndarray:
        """Mean per neuron, [neuron] float64; not-a-number without a frame that counts."""
        sums = self.on_host()
        with np.errstate(invalid="ignore"):
            return sums.total / sums.count

    @staticmethod
    def merged(stack: "Mean", xp=np) -> "Mean":
        """One of many along the first axis."""
        del xp
        return stack.replace(count=stack.count.sum(0), total=stack.total.sum(0))


@struct.dataclass
class PoissonLoss(Mean):
    """Mean Poisson loss per counted frame and neuron; lower is better. Formula: losses.poisson."""

    @classmethod
    def of(
        cls,
        predicted: jax.Array,
        observed: jax.Array,
        valid: jax.Array,
        epsilon: float = 1e-8,
    ) -> "PoissonLoss":
        """The sums of one batch, float32."""
        return cls._of_total(_poisson_total(predicted, observed, valid, epsilon=epsilon), valid)


_poisson_total = jax.jit(functools.partial(losses.poisson, per_neuron=True))


def merge(stack: Sums) -> Sums:
    """One sum of many, stacked along a new first axis of every field; for use inside jit."""
    return stack.merged(stack, jnp)


def across_axis(sums: Sums, axis_name: str) -> Sums:
    """The sum over a named axis (of shard_map or vmap), the same on every device of the axis."""
    return merge(jax.lax.all_gather(sums, axis_name))


def across_hosts(sums: Sums) -> Sums:
    """The sum over all processes, in float64, bit-equal on each; every process must call it."""
    sums = sums.on_host()
    if jax.process_count() == 1:
        return sums
    # As pairs of uint32, because without x64 jax would send float64 as float32.
    bits = jax.tree.map(lambda leaf: np.ascontiguousarray(leaf).view(np.uint32), sums)
    gathered = multihost_utils.process_allgather(bits)
    return sums.merged(jax.tree.map(lambda leaf: np.asarray(leaf).view(np.float64), gathered), np)


def mean_over_neurons(of_mice: Iterable[np.ndarray]) -> float:
    """The single number of Sensorium 2023: the mean over the neurons of all mice together.

    of_mice: arrays [neuron]; a mouse with more neurons weighs more. Not-a-number without a neuron.
    """
    every = np.concatenate([np.empty(0), *of_mice])
    return float(every.mean()) if len(every) else math.nan


def _known(nan_rule):
    if nan_rule not in NAN_RULES:
        raise ValueError(f"found nan_rule {nan_rule!r}, expected one of {', '.join(NAN_RULES)}")
    return nan_rule


def _check(predicted, observed, valid):
    shapes = np.shape(predicted), np.shape(observed), np.shape(valid)
    if len(shapes[0]) != 3 or shapes[0] != shapes[1] or shapes[0][:2] != shapes[2]:
        raise ValueError(
            f"found predicted of shape {shapes[0]}, observed of shape {shapes[1]} and valid of "
            f"shape {shapes[2]}, expected [batch time neuron] twice and [batch time]"
        )
