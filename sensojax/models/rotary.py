"""Rotary position codes: queries and keys are turned by angles that grow with their place.

Queries and keys [... token head width] in and out. Element k of a head and element k + width / 2
are the coordinates of a point that is turned by token index / 10000^(2k / width); the product of a
query and a key then depends on how far apart they are. Published code also multiplies with a gain,
xPos, which should favour near tokens, but gives queries and keys the same one where the keys need
its inverse: so it favours late tokens instead (sota 3.3). `GAINS` names both.

Tables follow from sizes alone: nothing that a model has seen before enters.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sensojax.errors import UserError, check_name
from sensojax.models import layers

GAINS = ("published", "inverse", "none")  # of the keys: that of the queries, its inverse, 1
REACH = 512  # tokens over which the gain changes by its base


class Turns(NamedTuple):
    """cos, sin and the gains of queries and keys, each [token 1 width]."""

    cos: np.ndarray
    sin: np.ndarray
    of_queries: np.ndarray
    of_keys: np.ndarray


def turns(tokens: int, width: int, *, middle: int, gain: str, untouched: int = 0) -> Turns:
    """Of tokens 0, 1, ... whose gain is 1 at `middle`, followed by `untouched` ones (registers)."""
    check_name(gain, GAINS, "core.rotary_gain")
    if width % 2:
        raise UserError(
            f"found core.head_width {width} with rotary codes, expected an even number, since they "
            "turn pairs; take one more."
        )
    rates, bases = rates_and_bases(width)
    place = np.arange(tokens, dtype=np.float32)[:, None]
    angle = place * rates
    gains = bases ** ((place - middle) / REACH)
    of_queries = np.ones_like(gains) if gain == "none" else gains
    of_keys = {"published": gains, "inverse": 1 / gains, "none": of_queries}[gain]

    def table(values, rest):
        values = np.concatenate([values, values], axis=1).astype(np.float32)
        values = np.pad(values, ((0, untouched), (0, 0)), constant_values=rest)
        return values[:, None]

    return Turns(
        table(np.cos(angle), 1), table(np.sin(angle), 0), table(of_queries, 1), table(of_keys, 1)
    )


def rates_and_bases(width: int) -> tuple[np.ndarray, np.ndarray]:
    """Of every pair of a head's elements: its angle from token to token, and its gain's base."""
    half = np.arange(0, width, 2, dtype=np.float32)
    rates = (np.float32(1.0) / 10000 ** (half / width)).astype(np.float32)
    return rates, (half + np.float32(0.4 * width)) / np.float32(1.4 * width)


def turn(queries: jax.Array, keys: jax.Array, by: Turns) -> tuple[jax.Array, jax.Array]:
    """Queries and keys [... token head width], turned and multiplied with their gains."""
    queries = layers.times(_turned(queries, by), by.of_queries)
    return queries, layers.times(_turned(keys, by), by.of_keys)


def _turned(x, by):
    first, second = jnp.split(x, 2, axis=-1)
    across = jnp.concatenate([-second, first], axis=-1)
    return layers.times(x, by.cos) + layers.times(across, by.sin)
