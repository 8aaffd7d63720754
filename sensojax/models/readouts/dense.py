"""The dense readout: every neuron has a weight for every feature of every pixel of the map.

Before that, the map may be pooled: one pixel, its greatest value, for a square of several, or for
all of it. Neurons have no place, so no pupil shift can move them; their weights fit one size of
map. On the map of one pixel that cores of whole frames have, this is the last layer of the models
of SCML 2017; of all of a map, it is a readout that ViV1T's authors compare theirs with (sota 3.1).
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from sensojax.errors import UserError
from sensojax.models import layers

TINY = dict(pool=2)


class Readout(nnx.Module):
    """Features [batch time height width channel] -> [batch time neuron], before the nonlinearity.

    map_size: (height, width) of the features. pool: pixels of a square's side, 0 for the whole map;
    rows and columns that fill no square are left out. bias_start: of `layers.BIAS_STARTS`, applied
    to the neurons' mean_responses.
    """

    def __init__(
        self,
        channels: int,
        position_um: np.ndarray,
        *,
        map_size: tuple[int, int],
        pool: int = 1,
        bias_start: str = "mean",
        mean_responses: np.ndarray | None = None,
        rngs: nnx.Rngs,
    ):
        neurons, self.map_size = len(position_um), tuple(map_size)
        self.pool = (pool, pool) if pool else self.map_size
        height, width = (size // side for size, side in zip(map_size, self.pool, strict=True))
        if min(pool, height - 1, width - 1) < 0:
            raise UserError(
                f"found readout.pool {pool} for a map of {map_size[0]} by {map_size[1]} pixels, "
                "expected 1 or more, and no more than the map has, or 0 for all of it; correct it."
            )
        start = nnx.initializers.glorot_uniform()(
            rngs.params(), (height * width * channels, neurons)
        )
        self.weight = nnx.Param(start.T)  # [neuron (height width channel)]
        self.bias = nnx.Param(layers.first_biases(neurons, mean_responses, bias_start))

    @property
    def num_neurons(self) -> int:
        return self.weight.shape[0]

    def positions(self) -> None:
        """None: neurons look at all of the map."""
        return None

    def constrain(self) -> None:
        """Nothing: every value of every weight is allowed."""

    def draw_noise(self, key: jax.Array, batch: int, time: int) -> None:
        """None: nothing is drawn in training."""
        return None

    def __call__(self, features: jax.Array, shift: None = None, noise: None = None) -> jax.Array:
        """shift: None, else UserError; noise: None, as `draw_noise` says."""
        if shift is not None:
            raise UserError(
                "found a pupil shift for a dense readout, whose neurons read the whole map, "
                'expected none; set shifter.name to "".'
            )
        if features.shape[2:4] != self.map_size:
            raise UserError(
                f"found features of {features.shape[2:4]} pixels for weights of {self.map_size}, "
                "expected the same; give videos of the size that the readout was made for."
            )
        batch, time = features.shape[:2]
        pooled = greatest(features, self.pool).reshape(batch, time, -1)
        return layers.add_bias(jnp.dot(pooled, self.weight[...].T), self.bias, idle=False)

    def regularizer(self) -> jax.Array:
        """0."""
        return jnp.zeros(())


def greatest(x: jax.Array, pool: tuple[int, int]) -> jax.Array:
    """[batch time height width channel] with one pixel for each whole rectangle of this size.

    Not `jnp.max` over axes: its gradient asks where the greatest value is, and finds it nowhere
    (0 / 0) when XLA computes x anew with another rounding.
    """
    return x if pool == (1, 1) else nnx.max_pool(x, pool, strides=pool)
