"""The attention readout: every neuron asks the map a question, and reads what answers.

All mice share what the map shows: a code of row and column is added to the core's features, and
each point of the map is given a key and a value (`Shared`). A neuron has a query; how well keys
agree with it says how much of each point's value it reads, and a vector of its own turns that into
a number (sota 3.1). It has no place: neither cortical positions nor the pupil enter.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.sharding import PartitionSpec

from sensojax.errors import UserError
from sensojax.models import layers, token_places

TINY = dict()


class KeysAndValues(nnx.Module):
    """Features [batch time height width channel] -> keys and values [batch time height width 2*e].

    embedding: e, the length of each.
    """

    def __init__(self, channels: int, *, embedding: int = 128, rngs: nnx.Rngs):
        bound = channels**-0.5
        self.weight = nnx.Param(
            jax.random.uniform(
                rngs.params(), (channels, 2 * embedding), minval=-bound, maxval=bound
            )
        )
        self.num_features = 2 * embedding

    def __call__(self, features: jax.Array) -> jax.Array:
        _, _, height, width, channels = features.shape
        coded = layers.add(features, position_code(height, width, channels))
        keys, values = jnp.split(jnp.dot(coded, self.weight[...]), 2, axis=-1)
        # Published scores are divided by the root of the core's channels, not of the keys' length.
        return jnp.concatenate([keys * channels**-0.5, values], axis=-1)


class Readout(nnx.Module):
    """Keys and values [batch time height width 2*e] -> [batch time neuron], not yet positive.

    bias_start: of `layers.BIAS_STARTS`, applied to the neurons' mean_responses.
    """

    Shared = KeysAndValues

    def __init__(
        self,
        channels: int,
        position_um: np.ndarray,
        *,
        bias_start: str = "mean",
        mean_responses: np.ndarray | None = None,
        rngs: nnx.Rngs,
    ):
        shape = (len(position_um), channels // 2)
        self.queries = nnx.Param(jax.random.normal(rngs.params(), shape))
        self.features = nnx.Param(jnp.full(shape, 1.0 / shape[1]))
        self.bias = nnx.Param(layers.first_biases(shape[0], mean_responses, bias_start))

    @property
    def num_neurons(self) -> int:
        return self.queries.shape[0]

    def positions(self) -> None:
        """None: neurons look at all of the map."""
        return None

    def constrain(self) -> None:
        """Nothing: every value of every weight is allowed."""

    def draw_noise(self, key: jax.Array, batch: int, time: int) -> None:
        """None: nothing is drawn in training."""
        return None

    def __call__(self, features: jax.Array, shift: None = None, noise: None = None) -> jax.Array:
        """shift: None, else UserError; noise: None."""
        if shift is not None:
            raise UserError(
                "found a pupil shift for an attention readout, whose neurons have no place to look "
                'at, expected none; set shifter.name to "".'
            )
        specs = (PartitionSpec("data"), PartitionSpec(), PartitionSpec())
        read = layers.on_each_device(_read, specs)
        out = read(features, self.queries[...], self.features[...])
        return out + jnp.broadcast_to(self.bias[...], out.shape)

    def regularizer(self) -> jax.Array:
        """0: weights decay in the optimizer."""
        return jnp.zeros(())


def _read(features, queries, weights):
    """One frame at a time: the scores of all neurons and points are many numbers."""
    batch, time, height, width, channels = features.shape
    maps = features.reshape(batch * time, height * width, channels)

    @jax.checkpoint
    def one_frame(points):
        keys, values = jnp.split(points, 2, axis=-1)
        attention = jax.nn.softmax(jnp.dot(queries, keys.T), axis=-1)
        # A value reaches a neuron as one number: [neuron point], never [neuron channel] per frame.
        return jnp.sum(attention * jnp.dot(weights, values.T), axis=-1)

    at_once = functools.partial(lax.map, one_frame)
    together = functools.partial(lax.map, one_frame, batch_size=16)
    return lax.platform_dependent(maps, cpu=at_once, default=together).reshape(batch, time, -1)


def position_code(height: int, width: int, channels: int) -> np.ndarray:
    """[height width channel]: half of the channels tell the row, the others the column."""
    if channels % 2:
        raise UserError(
            f"found {channels} channels for an attention readout, expected an even number, half of "
            "them for rows and half for columns; change the core's features."
        )
    of_rows = token_places.sines(height, channels // 2)[:, None]
    of_columns = token_places.sines(width, channels // 2)[None]
    shape = (height, width, channels // 2)
    parts = [np.broadcast_to(each, shape) for each in (of_rows, of_columns)]
    return np.concatenate(parts, axis=-1)
