"""What the cores of space and time have in common: layers one after the other, no padding in time.

In: video [batch time height width channel]; out: features with the same axes. Every layer has
`geometry` (what it sees of a frame) and `lost_frames`; results belong to the last frames.
"""

import jax
from flax import nnx

from sensojax.models import geometry, recomputing


class Stack(nnx.Module):
    """A core that sets `layers` and `channels`, the features of each of them."""

    causal = True
    recompute = False  # see `recomputing`

    def __call__(self, video: jax.Array, *, train: bool) -> jax.Array:
        """[batch time height width channel] -> [batch time' height' width' feature]."""
        for layer in self.layers:
            video = recomputing.layer(layer, self.recompute, video, train=train)
        return video

    @property
    def num_features(self) -> int:
        return self.channels[-1]

    @property
    def lost_frames(self) -> int:
        """Frames at the beginning of a clip for which there is no result."""
        return sum(layer.lost_frames for layer in self.layers)

    def map_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the features of a video of this size."""
        return geometry.map_size([layer.geometry for layer in self.layers], height, width)

    def map_to_image(self, points: jax.Array, height: int, width: int) -> jax.Array:
        """Where the receptive fields of points of the feature map are centred in the video.

        points: [point 2] as (x, y) in -1..1 of the map; height, width: of the video, pixels.
        Returns [point 2] in -1..1 of the video, where +-1 are the centres of its border pixels.
        """
        steps = [layer.geometry for layer in self.layers]
        return geometry.map_to_image(steps, points, height, width)
