"""Pieces that two or more models use: batch norm, linear maps, activations, and device placement.

Everything follows the published (PyTorch) conventions where they differ from Flax's, because
parity with released weights and published training runs needs them (baselines 3 and 12).
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx


class Fixed(nnx.Variable):
    """An array that belongs to a model but is neither trained nor updated (cortical positions)."""


NONLINEARITIES: dict[str, Callable[[jax.Array], jax.Array]] = {
    "elu": jax.nn.elu,
    "relu": jax.nn.relu,
    "softplus": jax.nn.softplus,
    "none": lambda x: x,
}


def elu_plus_one(x: jax.Array) -> jax.Array:
    """ELU(x) + 1: the positive output of all published encoders.

    Through expm1 and then + 1, so that very negative inputs give exactly 0 as in the source, where
    e^x would not (baselines 5).
    """
    return jax.nn.elu(x) + 1.0


def clip_to_unit(x: jax.Array) -> jax.Array:
    """Clips to [-1, 1] with gradient 1 on the closed interval.

    `jnp.clip` has gradient 1/2 at the ends and `lax.clamp` 0; the source has 1, which matters for
    positions that sit exactly on the border (baselines 4.1).
    """
    inside = (x >= -1.0) & (x <= 1.0)
    return jnp.where(inside, x, jax.lax.stop_gradient(jnp.clip(x, -1.0, 1.0)))


def on_each_device(function: Callable, specs: tuple) -> Callable:
    """Runs `function` on every device's own part of the batch, when a mesh with `data` is set.

    A loop over frames would otherwise make XLA gather a sharded batch on every device. The first
    axis of the result is the sharded one.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.shape.get("data", 1) == 1:
        return function
    # Unchecked: the check wants every loop's first value marked as differing between devices. The
    # gradient of an argument that all devices share is summed over them either way (tested).
    return jax.shard_map(
        function,
        mesh=mesh,
        in_specs=specs,
        out_specs=jax.sharding.PartitionSpec("data"),
        check_vma=False,
    )


class Linear(nnx.Module):
    """x @ weight + bias over the last axis, initialised as in the source: U(+-1/sqrt(fan_in))."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs):
        bound = 1.0 / math.sqrt(inputs)
        self.weight = nnx.Param(
            jax.random.uniform(rngs.params(), (inputs, outputs), minval=-bound, maxval=bound)
        )
        self.bias = nnx.Param(
            jax.random.uniform(rngs.params(), (outputs,), minval=-bound, maxval=bound)
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """[... inputs] -> [... outputs]."""
        out = jnp.dot(x, self.weight[...])
        return out + jnp.broadcast_to(self.bias[...], out.shape)


class BatchNorm(nnx.Module):
    """Batch norm over every axis but the last.

    Normalises with the biased variance of the batch, remembers the unbiased one (Flax's own
    remembers the biased one). `weight_of_new` is the share of the new batch in the running
    statistics; the published cores use 0.7 and 0.9, so these are nearly those of the last batch.
    With `scale` and `bias` off the layer has no parameters of its own.
    """

    def __init__(
        self,
        channels: int,
        *,
        weight_of_new: float,
        scale: bool = True,
        bias: bool = True,
        epsilon: float = 1e-5,
    ):
        self.weight_of_new = weight_of_new
        self.epsilon = epsilon
        self.scale = nnx.Param(jnp.ones(channels)) if scale else None
        self.bias = nnx.Param(jnp.zeros(channels)) if bias else None
        self.mean = nnx.BatchStat(jnp.zeros(channels))
        self.variance = nnx.BatchStat(jnp.ones(channels))

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[... channel] -> the same shape; updates the running statistics when training."""
        if train:
            mean, variance = self._batch_statistics(x)
        else:
            mean, variance = self.mean[...], self.variance[...]
        gain = jax.lax.rsqrt(variance + self.epsilon)
        if self.scale is not None:
            gain = gain * self.scale[...]
        offset = -mean * gain
        if self.bias is not None:
            offset = offset + self.bias[...]
        return x * jnp.broadcast_to(gain, x.shape) + jnp.broadcast_to(offset, x.shape)

    def _batch_statistics(self, x):
        axes = tuple(range(x.ndim - 1))
        mean = jnp.mean(x, axes)
        # Two passes: a running sum of squares loses digits when the mean is large (float32).
        variance = jnp.mean(jnp.square(x - jnp.broadcast_to(mean, x.shape)), axes)
        count = x.size // x.shape[-1]
        unbiased = variance * (count / max(count - 1, 1))
        keep, take = 1.0 - self.weight_of_new, self.weight_of_new
        stop = jax.lax.stop_gradient
        self.mean[...] = keep * self.mean[...] + take * stop(mean)
        self.variance[...] = keep * self.variance[...] + take * stop(unbiased)
        return mean, variance


def xavier_normal(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """A plain (not truncated) normal with std sqrt(2 / (fan_in + fan_out)).

    shape: [... inputs outputs], the leading axes being the kernel's extent. JAX's initialiser of
    this name truncates, which has the same variance but another shape (baselines 3).
    """
    extent = math.prod(shape[:-2])
    fan_in, fan_out = extent * shape[-2], extent * shape[-1]
    return jax.random.normal(key, shape) * math.sqrt(2.0 / (fan_in + fan_out))
