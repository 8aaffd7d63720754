"""An entrant's core for SCML 2017: a few layers that see all pixels of one frame, and no memory.

Every layer is a product with all pixels, or with the layer before, and a nonlinearity (data_systems
2.4; the defaults are the published 65-65 network, which beat the organisers' recurrent one).
"""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from sensojax.errors import check_name
from sensojax.models import layers, recomputing, whole_frames

# The smallest useful core, for tests of the contract that all cores keep.
TINY = dict(hidden=(4,))


class Layer(nnx.Module):
    """[... input] -> [... output], before the nonlinearity."""

    def __init__(self, inputs: int, outputs: int, rngs: nnx.Rngs):
        start = nnx.initializers.glorot_uniform()
        self.weight = nnx.Param(start(rngs.params(), (inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, x: jax.Array) -> jax.Array:
        return layers.add_bias(jnp.dot(x, self.weight[...]), self.bias, idle=False)


class Core(whole_frames.Core):
    """Video [batch time height width channel] -> features [batch time 1 1 feature].

    frame_size: (height, width) of the video, pixels. hidden: features of each layer.
    """

    def __init__(
        self,
        input_channels: int,
        *,
        frame_size: tuple[int, int],
        hidden: Sequence[int] = (65, 65),
        nonlinearity: str = "sigmoid",
        rngs: nnx.Rngs,
    ):
        super().__init__(frame_size)
        check_name(nonlinearity, layers.NONLINEARITIES, "core.nonlinearity")
        height, width = frame_size
        sizes = (height * width * input_channels, *hidden)
        self.num_features = sizes[-1]
        self.nonlinearity = nonlinearity
        self.layers = nnx.List(
            Layer(before, after, rngs) for before, after in itertools.pairwise(sizes)
        )

    def __call__(self, video: jax.Array, *, train: bool) -> jax.Array:
        del train  # the same in training
        x = self.vectors(video)
        for layer in self.layers:
            x = recomputing.layer(layer, self.recompute, x)
            x = layers.NONLINEARITIES[self.nonlinearity](x)
        return whole_frames.one_pixel(x)
