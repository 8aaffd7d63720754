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
        pair = jax.tree.map(lambda *leaves: np.stack(leaves), self.on_host(), other.on_host())
        return self.merged(pair)


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

    @staticmethod
    def merged(stack: "Correlation", xp=np) -> "Correlation":
        """One of many along the first axis, by Chan's formula; xp is numpy, or jax.numpy in jit."""
        total = stack.count.sum(0)
        largest = stack.count.argmax(0)[None]
        weight = xp.maximum(total, 1)

        def mean(origin, offset):
            """Origin and mean of all, and how far each part's mean is from it."""
            common = xp.take_along_axis(origin, largest, axis=0)
            relative = xp.where(stack.count > 0, (origin - common) + offset, 0)
            average = (stack.count * relative).sum(0) / weight
            return common[0], average, xp.where(stack.count > 0, relative - average[None], 0)

        origin_p, offset_p, apart_p = mean(stack.origin_predicted, stack.offset_predicted)
        origin_o, offset_o, apart_o = mean(stack.origin_observed, stack.offset_observed)
        return stack.replace(
            count=total,
            origin_predicted=origin_p,
            origin_observed=origin_o,
            offset_predicted=offset_p,
            offset_observed=offset_o,
            squares_predicted=(stack.squares_predicted + stack.count * apart_p**2).sum(0),
            squares_observed=(stack.squares_observed + stack.count * apart_o**2).sum(0),
            products=(stack.products + stack.count * apart_p * apart_o).sum(0),
        )


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
