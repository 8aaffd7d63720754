"""What cores have in common that see all pixels of a frame at once: there is no map any more.

In goes a video [batch time height width channel] of the size that the core was made for; its frames
become vectors, and what comes out of the core is a map of one pixel.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from sensojax.errors import UserError


class Core(nnx.Module):
    """A causal core whose first weights belong to pixels. frame_size: their (height, width)."""

    causal = True
    lost_frames = 0
    recompute = False  # see `recomputing`

    def __init__(self, frame_size: tuple[int, int]):
        self.frame_size = tuple(frame_size)

    def vectors(self, video: jax.Array) -> jax.Array:
        """[batch time height width channel] -> [batch time pixel]; UserError for another size."""
        if video.shape[2:4] != self.frame_size:
            raise UserError(
                f"found frames of {video.shape[2]} by {video.shape[3]} pixels for a core of "
                f"{' by '.join(map(str, self.frame_size))}, expected the same; give videos of the "
                "size that the core was made for."
            )
        return video.reshape(*video.shape[:2], -1)

    def map_size(self, height: int, width: int) -> tuple[int, int]:
        """(1, 1): features are of whole frames."""
        return 1, 1

    def map_to_image(self, points: jax.Array, height: int, width: int) -> jax.Array:
        """[point 2] of zeros: the only point of the map sees the whole video around its middle."""
        return jnp.zeros_like(points)

    def regularizers(self) -> dict[str, jax.Array]:
        """None."""
        return {}


def one_pixel(x: jax.Array) -> jax.Array:
    """[batch time feature] as the map [batch time 1 1 feature]."""
    return x[:, :, None, None]
