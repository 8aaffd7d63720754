"""What training leaves out at random: whole branches of single examples, whole channels.

In: a key, a rate and a shape; out: what to multiply with, 0 where something is left out and
1 / (1 - rate) elsewhere, so that the mean stays. Models draw such factors before a step
(`draw_noise`), so that the step is a function of what it is given.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from sensojax.errors import UserError


def factors(key: jax.Array, rate: float | Sequence[float], shape: tuple[int, ...]) -> jax.Array:
    """Factors of this shape; rate: of leaving out, one for all or one for each of the last axis."""
    share = jnp.broadcast_to(1.0 - jnp.asarray(rate, jnp.float32), shape)
    return jax.random.bernoulli(key, share) / share


def numbered(keys: jax.Array | None, number: int) -> jax.Array | None:
    """Other keys of the same examples [batch], for one of several parts of a model."""
    return None if keys is None else jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)


def drop(
    x: jax.Array, keys: jax.Array | None, rate: float, shape: tuple[int, ...] | None = None
) -> jax.Array:
    """x [batch ...] times factors that are drawn here, from one key for each example.

    For models that leave out so much that nobody wants to hold all factors before a step. keys:
    [batch], None for nothing. shape: of an example's factors, where 1 stands for a whole axis; by
    default every number has its own.
    """
    if keys is None or not rate:
        return x
    shape = x.shape[1:] if shape is None else shape
    return x * jax.vmap(lambda key: factors(key, rate, shape))(keys).astype(x.dtype)


def check(rate: float, setting: str) -> None:
    """UserError for what is no rate of leaving out."""
    if not 0.0 <= rate < 1.0:
        raise UserError(f"found {setting} {rate}, expected at least 0 and less than 1; correct it.")
