"""Norms of single tokens: each is brought to a common size by itself, whatever the rest of a batch.

In and out: [... feature]. Unlike batch norm they remember nothing, so training and prediction are
the same. The norm of a whole patch of pixels has a gain for each of them: its `shape` is that of
the patch, and `tokens` folds it into the map that follows.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from sensojax.models import layers


class LayerNorm(nnx.Module):
    """Mean 0 and variance 1 over the last axis, then a gain and an offset for each feature."""

    epsilon = 1e-5

    def __init__(self, *shape: int):
        self.scale = nnx.Param(jnp.ones(shape))
        self.bias = nnx.Param(jnp.zeros(shape))

    def __call__(self, x: jax.Array) -> jax.Array:
        wide = widened(x)
        mean = jnp.mean(wide, axis=-1, keepdims=True)
        variance = jnp.mean(jnp.square(wide - mean), axis=-1, keepdims=True)
        standard = (wide - mean) * jax.lax.rsqrt(variance + self.epsilon)
        return layers.add(layers.times(standard, self.scale[...]), self.bias[...]).astype(x.dtype)


class RMSNorm(nnx.Module):
    """Mean square 1 over the last axis, then a gain for each feature."""

    bias = None

    def __init__(self, *shape: int):
        self.scale = nnx.Param(jnp.ones(shape))

    def __call__(self, x: jax.Array) -> jax.Array:
        wide = widened(x)
        power = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
        return layers.times(wide * self.rate(power), self.scale[...]).astype(x.dtype)

    @staticmethod
    def rate(power: jax.Array) -> jax.Array:
        # Published: what the precision can just add to 1 (sota 3.2).
        return jax.lax.rsqrt(power + jnp.finfo(power.dtype).eps)


class DyT(nnx.Module):
    """Dynamic tanh: of each feature times a learned rate, then a gain and an offset (Zhu 2025).

    It looks at no other feature, and squeezes large ones as norms of trained transformers do.
    """

    def __init__(self, *shape: int):
        self.rate = nnx.Param(jnp.float32(0.5))
        self.scale = nnx.Param(jnp.ones(shape))
        self.bias = nnx.Param(jnp.zeros(shape))

    def __call__(self, x: jax.Array) -> jax.Array:
        squeezed = self.squeezed(widened(x))
        return layers.add(layers.times(squeezed, self.scale[...]), self.bias[...]).astype(x.dtype)

    def squeezed(self, x: jax.Array) -> jax.Array:
        """x before gain and offset, 0 where x is 0."""
        return jnp.tanh(layers.times(x, self.rate[...]))


class Same(nnx.Module):
    """No norm."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return x


def widened(x: jax.Array) -> jax.Array:
    """x in single precision at least, in which norms are computed."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


NORMS = {"layer": LayerNorm, "rms": RMSNorm, "dyt": DyT}
