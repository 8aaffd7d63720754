"""Pieces that two or more models use: batch norm, linear maps, activations, and device placement.

Everything follows the published (PyTorch) conventions where they differ from Flax's, because
parity with released weights and published training runs needs them (baselines 3 and 12).
"""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from sensojax.errors import UserError, check_name


class Fixed(nnx.Variable):
    """An array that belongs to a model but is neither trained nor updated (cortical positions)."""


@jax.custom_jvp
def elu(x: jax.Array) -> jax.Array:
    """x where positive, else e^x - 1.

    Its derivative is computed anew from x, where JAX's own would keep e^x - 1 for it as well.
    """
    return jax.nn.elu(x)


@elu.defjvp
def _elu_derivative(at, tangent):
    (x,) = at
    return elu(x), tangent[0] * jnp.exp(jnp.minimum(x, 0.0))


@jax.custom_jvp
def silu(x: jax.Array) -> jax.Array:
    """x / (1 + e^-x), also called swish; its derivative is computed anew from x, like `elu`'s."""
    return x * jax.nn.sigmoid(x)


@silu.defjvp
def _silu_derivative(at, tangent):
    (x,) = at
    gate = jax.nn.sigmoid(x)
    return x * gate, tangent[0] * gate * (1.0 + x * (1.0 - gate))


NONLINEARITIES: dict[str, Callable[[jax.Array], jax.Array]] = {
    "elu": elu,
    "relu": jax.nn.relu,
    "softplus": jax.nn.softplus,
    "silu": silu,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "none": lambda x: x,
}


# Where a neuron's bias starts, given its mean response. The source takes the mean itself, so the
# first predictions, ELU(bias) + 1, are too high by one (baselines 4.1), and a hundred steps of Adam
# go into nothing else; "matched" starts with the mean as prediction: readouts are then given, in
# place of the means, what the last nonlinearity turns into them (`outputs`), and take it as it is.
BIAS_STARTS = {
    "zero": np.zeros_like,
    "mean": lambda mean: mean,
    "matched": lambda matching: matching,
}


def first_biases(neurons: int, mean_responses: np.ndarray | None, bias_start: str) -> jax.Array:
    """A readout's first biases [neuron]; 0 where the mean responses are not known."""
    check_name(bias_start, BIAS_STARTS, "readout.bias_start")
    if mean_responses is None:
        return jnp.zeros(neurons)
    return jnp.asarray(BIAS_STARTS[bias_start](mean_responses), jnp.float32)


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


def per_example(values: jax.Array, x: jax.Array) -> jax.Array:
    """Values [batch] in the shape of x [batch ...]."""
    values = values.reshape(-1, *(1,) * (x.ndim - 1)).astype(x.dtype)
    return jnp.broadcast_to(values, x.shape)


def repeat_channels(x: jax.Array, channels: int) -> jax.Array:
    """x [... channel] with its channels over and over again, as many as wanted, or cut to these."""
    times = -(-channels // x.shape[-1])
    return (jnp.concatenate([x] * times, axis=-1) if times > 1 else x)[..., :channels]


def add(x: jax.Array, values: jax.Array) -> jax.Array:
    """x plus values [... channel] of its last axes, in the precision of x."""
    return x + _everywhere(values, x)


def times(x: jax.Array, values: jax.Array) -> jax.Array:
    """x times values [... channel] of its last axes, in the precision of x."""
    return x * _everywhere(values, x)


def _everywhere(values, x):
    """Values in the shape and type of x; their gradient, a sum over all places, is of float32."""
    return jnp.broadcast_to(_wide(values), x.shape).astype(x.dtype)


def pointwise(x: jax.Array, weights: jax.Array) -> jax.Array:
    """x [... channel] times weights [channel feature], as one product of two matrices.

    Of products with more axes XLA makes slow gradients on CPUs: 17 instead of 49 GFLOP/s of one
    core, forward and backward from 64 to 448 channels.
    """
    out = jnp.dot(x.reshape(-1, x.shape[-1]), weights)
    return out.reshape(*x.shape[:-1], -1)


def pair(size: int | Sequence[int]) -> tuple[int, int]:
    """(height, width) of a size given as both or as one number for both."""
    return (size, size) if isinstance(size, int) else tuple(size)


def per_layer(value, num_layers: int, setting: str) -> tuple:
    """One value for every layer, from a setting that has one for all of them or one for each."""
    if not isinstance(value, (list, tuple)):
        return (value,) * num_layers
    if len(value) != num_layers:
        raise UserError(
            f"found {len(value)} values in core.{setting} {tuple(value)}, expected {num_layers}, "
            "one for each layer of core.channels; make them equal."
        )
    return tuple(value)


def add_bias(x: jax.Array, bias: nnx.Param | None, *, idle: bool) -> jax.Array:
    """x [... channel] plus a bias [channel], if there is one.

    idle: batch norm follows and subtracts the batch's mean, and with it this bias, whose gradient
    is therefore 0. The rounding noise in its place would be made into full steps by Adam, other
    ones on each number of devices, and the running mean would lag behind them (published code does
    so).
    """
    if bias is None:
        return x
    constant = jax.lax.stop_gradient(bias[...]) if idle else bias[...]
    return x + jnp.broadcast_to(constant, x.shape)


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
    With `scale` and `bias` off the layer has no parameters of its own. `repeats`: the last axis
    holds the channels so many times over, one after the other, and all of them count as one.
    """

    def __init__(
        self,
        channels: int,
        *,
        weight_of_new: float,
        scale: bool = True,
        bias: bool = True,
        repeats: int = 1,
        epsilon: float = 1e-5,
    ):
        self.weight_of_new = weight_of_new
        self.repeats = repeats
        self.epsilon = epsilon
        self.scale = nnx.Param(jnp.ones(channels)) if scale else None
        self.bias = nnx.Param(jnp.zeros(channels)) if bias else None
        self.mean = nnx.BatchStat(jnp.zeros(channels))
        self.variance = nnx.BatchStat(jnp.ones(channels))

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[... channel] -> the same shape; updates the running statistics when training."""
        if train:
            scale = jnp.ones_like(self.mean[...]) if self.scale is None else self.scale[...]
            bias = jnp.zeros_like(self.mean[...]) if self.bias is None else self.bias[...]
            out, mean, variance = _normalized(x, scale, bias, self.repeats, self.epsilon)
            self._remember(jax.lax.stop_gradient((mean, variance)), x.size // mean.size)
            return out
        gain = jax.lax.rsqrt(self.variance[...] + self.epsilon)
        if self.scale is not None:
            gain = gain * self.scale[...]
        offset = -self.mean[...] * gain
        if self.bias is not None:
            offset = offset + self.bias[...]
        return (_wide(x) * _spread(gain, x) + _spread(offset, x)).astype(x.dtype)

    def _remember(self, statistics, count):
        mean, variance = statistics
        unbiased = variance * (count / max(count - 1, 1))
        keep, take = 1.0 - self.weight_of_new, self.weight_of_new
        # Not `self.mean[...] =`, which asks for shardings: a quarter of the time to trace a model.
        self.mean.set_value(keep * self.mean[...] + take * mean)
        self.variance.set_value(keep * self.variance[...] + take * unbiased)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _normalized(x, scale, bias, repeats, epsilon):
    """x with the mean `bias` and the spread `scale` in every channel; its mean and variance.

    The backward pass keeps x alone, where JAX's own would keep three arrays of its size.
    """
    return _normalized_forward(x, scale, bias, repeats, epsilon)[0]


def _normalized_forward(x, scale, bias, repeats, epsilon):
    wide = _wide(x)
    mean = _channel_mean(wide, repeats)
    # Two passes: a running sum of squares loses digits when the mean is large (float32).
    variance = _channel_mean(jnp.square(wide - _spread(mean, wide)), repeats)
    rate = jax.lax.rsqrt(variance + epsilon)
    gain = rate * scale
    out = wide * _spread(gain, wide) + _spread(bias - mean * gain, wide)
    return (out.astype(x.dtype), mean, variance), (x, mean, rate, scale)


def _normalized_backward(repeats, epsilon, saved, gradients):
    x, mean, rate, scale = jax.lax.optimization_barrier(saved)  # or XLA keeps x - mean
    gradient, _, _ = gradients  # the statistics are only remembered
    dtype, x, gradient = x.dtype, _wide(x), _wide(gradient)
    standard = (x - _spread(mean, x)) * _spread(rate, x)
    level = _channel_mean(gradient, repeats)
    slope = _channel_mean(gradient * standard, repeats)
    rest = gradient - _spread(level, x) - standard * _spread(slope, x)
    count = x.size // mean.size
    return (_spread(rate * scale, x) * rest).astype(dtype), count * slope, count * level


_normalized.defvjp(_normalized_forward, _normalized_backward)


def _wide(x):
    """x in float32 at least, for sums."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _channel_mean(x, repeats):
    means = jnp.mean(x, tuple(range(x.ndim - 1)))
    return means if repeats == 1 else jnp.mean(means.reshape(repeats, -1), 0)


def _spread(values, x):
    """Values [channel] in the shape of x [... (repeat channel)]."""
    if values.size != x.shape[-1]:
        # Not `jnp.tile`, which XLA would do again for every number, one by one: 3 times slower.
        values = values[np.arange(x.shape[-1]) % values.size]
    return jnp.broadcast_to(values, x.shape)


def fan_out_normal(key: jax.Array, shape: tuple[int, ...], fan_out: int) -> jax.Array:
    """A plain normal with std sqrt(2 / fan_out): a layer followed by batch norm and SiLU."""
    return jax.random.normal(key, shape) * math.sqrt(2.0 / fan_out)


def xavier_normal(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """A plain (not truncated) normal with std sqrt(2 / (fan_in + fan_out)).

    shape: [... inputs outputs], the leading axes being the kernel's extent. JAX's initialiser of
    this name truncates, which has the same variance but another shape (baselines 3).
    """
    extent = math.prod(shape[:-2])
    fan_in, fan_out = extent * shape[-2], extent * shape[-1]
    return jax.random.normal(key, shape) * math.sqrt(2.0 / (fan_in + fan_out))
