"""No core: its features are the pixels, for a recurrence or a readout that is to see the video.

In and out: [batch time height width channel], the same.
"""

import jax
import jax.numpy as jnp
from flax import nnx

TINY = dict()


class Core(nnx.Module):
    """Video in, video out."""

    causal = True
    lost_frames = 0

    def __init__(self, input_channels: int, *, rngs: nnx.Rngs):
        del rngs  # nothing is drawn
        self.num_features = input_channels

    def __call__(self, video: jax.Array, *, train: bool) -> jax.Array:
        return jnp.asarray(video, jnp.float32)

    def map_size(self, height: int, width: int) -> tuple[int, int]:
        """That of the video."""
        return height, width

    def map_to_image(self, points: jax.Array, height: int, width: int) -> jax.Array:
        """The points themselves, [point 2]."""
        return points

    def regularizers(self) -> dict[str, jax.Array]:
        """None."""
        return {}
