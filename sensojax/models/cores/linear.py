"""A linear core: every pixel of every channel times a weight of its own, plus an offset of its own.

Video in, features out, both [batch time height width channel]. Pixels and frames stay apart, so a
neuron's nonlinearity after a linear readout is the only one there is. It is the least that ViV1T's
authors compare their model with (sota 3.1); their readout behind it takes each channel's greatest
value: readout=dict(name="dense", pool=0, bias_start="mean").
"""

import jax
import jax.numpy as jnp
from flax import nnx

from sensojax.errors import UserError
from sensojax.models import layers

# The smallest useful core, for tests of the contract that all cores keep.
TINY = dict()
SPREAD = 0.02  # of the first weights around 1, so that the first features are nearly the video


class Core(nnx.Module):
    """frame_size: (height, width) of videos, pixels."""

    causal = True
    lost_frames = 0

    def __init__(
        self,
        input_channels: int,
        *,
        frame_size: tuple[int, int] | None = None,
        rngs: nnx.Rngs,
    ):
        if frame_size is None:
            raise UserError(
                "found the core linear for videos of unknown size, expected their size in pixels; "
                "build it for certain mice."
            )
        shape = (*frame_size, input_channels)
        self.weight = nnx.Param(1.0 + SPREAD * jax.random.normal(rngs.params(), shape))
        self.bias = nnx.Param(jnp.zeros(shape))
        self.num_features = input_channels

    def __call__(self, video: jax.Array, *, train: bool) -> jax.Array:
        """[batch time height width channel] -> the same; UserError for frames of another size."""
        if video.shape[2:4] != self.weight.shape[:2]:
            raise UserError(
                f"found frames of {video.shape[2]}x{video.shape[3]} pixels for the weights of "
                f"{self.weight.shape[0]}x{self.weight.shape[1]}, expected the same; use videos as "
                "in training."
            )
        return layers.add(layers.times(video, self.weight[...]), self.bias[...])

    def map_size(self, height: int, width: int) -> tuple[int, int]:
        """That of the video."""
        return height, width

    def map_to_image(self, points: jax.Array, height: int, width: int) -> jax.Array:
        """The points themselves, [point 2]."""
        return points

    def regularizers(self) -> dict[str, jax.Array]:
        """None."""
        return {}
