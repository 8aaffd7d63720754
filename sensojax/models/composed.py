"""A core followed by a recurrence, which together are a core again.

The core's features [batch time height width channel] pass a recurrence over frames (a file of the
folder `recurrent`), which makes a map of hidden states of each frame. Nothing else of a model knows
that there are two parts.
"""

import jax
import jax.numpy as jnp
from flax import nnx


class Core(nnx.Module):
    """Video [batch time height width channel] -> states [batch time' height' width' feature]."""

    def __init__(self, core: nnx.Module, recurrence: nnx.Module):
        self.core = core
        self.recurrence = recurrence

    def __call__(self, video: jax.Array, *, train: bool, **more: jax.Array) -> jax.Array:
        """more: what the core is given beside videos, as noise from `draw_noise` in training."""
        features = self.core(video, train=train, **more)
        # States carry rounding errors from frame to frame: never in fewer bits (`narrowing`).
        wide = features.astype(jnp.promote_types(features.dtype, jnp.float32))
        return self.recurrence(wide, train=train)

    def draw_noise(self, key: jax.Array, batch: int, time: int) -> jax.Array | None:
        """What the core drops in one training step; None for nothing."""
        if not hasattr(self.core, "draw_noise"):
            return None
        return self.core.draw_noise(key, batch, time)

    @property
    def asks_mice(self) -> bool:
        """Whether the core is told whose clips it sees, as `mice`."""
        return getattr(self.core, "asks_mice", False)

    @property
    def causal(self) -> bool:
        """Whether no result depends on later frames."""
        return self.core.causal and self.recurrence.causal

    @property
    def num_features(self) -> int:
        return self.recurrence.channels

    @property
    def lost_frames(self) -> int:
        """Frames at the beginning of a clip for which there is no result."""
        return self.core.lost_frames + self.recurrence.lost_frames

    def map_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the states for a video of this size."""
        return self.recurrence.map_size(*self.core.map_size(height, width))

    def map_to_image(self, points: jax.Array, height: int, width: int) -> jax.Array:
        """Where points of the map of states lie in the video, both [point 2] as (x, y) in -1..1.

        height, width: of the video, pixels.
        """
        size = self.core.map_size(height, width)
        in_features = self.recurrence.map_to_image(points, *size)
        return self.core.map_to_image(in_features, height, width)

    def regularizers(self) -> dict[str, jax.Array]:
        """The weighted penalties of both."""
        return self.core.regularizers() | self.recurrence.regularizers()
