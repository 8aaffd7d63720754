"""How behaviour reaches the tokens of a transformer: as planes of the video, or through a network.

A core of "planes" sees them as channels like the picture. With a "network" they are what they say:
`picture_and_state` takes them apart, [batch time height width channel] in, and in front of every
block a `BehaviorNetwork` turns the state of a token's frames into what is added to it (sota 2.3).
With "networks" every mouse has its own.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from sensojax.models.layers import Linear

BEHAVIORS = ("planes", "network")  # that any mouse can share


class BehaviorNetwork(nnx.Module):
    """What the animal did in a token's frames -> what is added to the token."""

    def __init__(self, columns: int, frames: int, features: int, rngs: nnx.Rngs):
        self.frames = frames
        self.hidden = Linear(columns * frames, features // 2, rngs=rngs)
        self.out = Linear(features // 2, features, rngs=rngs)

    def __call__(self, state: jax.Array) -> jax.Array:
        """[batch time column] -> [batch time' feature], the first frames being lost."""
        left = state.shape[1] - self.frames + 1
        # Released weights have all frames of the behaviour before those of the pupil.
        parts = (state[..., :2], state[..., 2:])
        seen = [part[:, first : first + left] for part in parts for first in range(self.frames)]
        return jnp.tanh(self.out(jnp.tanh(self.hidden(jnp.concatenate(seen, axis=-1)))))


class OfMice(nnx.Module):
    """A `BehaviorNetwork` for each of so many mice, the settings being theirs."""

    def __init__(self, mice: int, *settings, rngs: nnx.Rngs):
        self.networks = nnx.List(BehaviorNetwork(*settings, rngs) for _ in range(mice))

    def __call__(self, state: jax.Array, mice: jax.Array) -> jax.Array:
        """As one network; mice: [batch], the number of each clip's mouse."""
        # All of them answer to all clips: little work, and no clip leaves its device.
        every = jnp.stack([network(state) for network in self.networks])
        own = jax.nn.one_hot(mice, len(self.networks), dtype=every.dtype)
        return jnp.einsum("bm,mbtf->btf", own, every)


def picture_and_state(video: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The picture alone, and what the planes beside it say, [batch time column]."""
    # The planes are the same everywhere but around a canvas (`inputs.canvas`).
    height, width = video.shape[2:4]
    return video[..., :1], video[:, :, height // 2, width // 2, 1:]
