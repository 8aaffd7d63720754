"""How behaviour enters a model besides as video channels, mouse by mouse.

A shifter moves where neurons look: pupil centres [batch time 2] (normalised) in, shifts [batch time
2] of the readout's points out; both published kinds (baselines 5). A state network tells a readout
what the animal does (sota 2.5): its state [batch time column] in, features to add out. The state of
a frame is its behaviour and then its pupil centre; what asks for it says so with `reads_state`.
"""

import itertools

import jax
import jax.numpy as jnp
from flax import nnx

from sensojax.models import layers
from sensojax.models.norms import LayerNorm


def state(behavior: jax.Array, pupil_center: jax.Array, frames: int) -> jax.Array:
    """What the animal does in the last `frames` frames: [batch time column]."""
    return jnp.concatenate([behavior, pupil_center], axis=-1)[:, -frames:]


class MLPShifter(nnx.Module):
    """A small network with tanh after every layer; published: 2-5-5-2.

    reads_state: it takes the state of each frame in place of the pupil's centre alone, 4-5-5-2;
    state_columns: of the state.
    """

    def __init__(
        self,
        *,
        num_layers: int = 3,
        hidden: int = 5,
        reads_state: bool = False,
        state_columns: int = 4,
        rngs: nnx.Rngs,
    ):
        self.reads_state = reads_state
        inputs = state_columns if reads_state else 2
        sizes = (inputs, *(hidden,) * (num_layers - 1), 2)
        self.layers = nnx.List(
            layers.Linear(inputs, outputs, rngs=rngs)
            for inputs, outputs in itertools.pairwise(sizes)
        )

    def __call__(self, pupil_center: jax.Array) -> jax.Array:
        for layer in self.layers:
            pupil_center = jnp.tanh(layer(pupil_center))
        return pupil_center

    def regularizer(self) -> float:
        return 0.0


class AffineShifter(nnx.Module):
    """tanh of a linear map, with a penalty `l2` on the mean square of its weights."""

    reads_state = False

    def __init__(self, *, l2: float = 0.0, rngs: nnx.Rngs):
        self.linear = layers.Linear(2, 2, rngs=rngs)
        self.l2 = l2

    def __call__(self, pupil_center: jax.Array) -> jax.Array:
        return jnp.tanh(self.linear(pupil_center))

    def regularizer(self) -> jax.Array:
        return self.l2 * jnp.mean(jnp.square(self.linear.weight[...]))


class StateNetwork(nnx.Module):
    """State [batch time column] -> what is added to a readout's features [batch time feature]."""

    def __init__(self, columns: int, features: int, *, rngs: nnx.Rngs):
        self.hidden = layers.Linear(columns, features, rngs=rngs)
        self.norm = LayerNorm(features)
        self.out = layers.Linear(features, features, rngs=rngs)

    def __call__(self, state: jax.Array) -> jax.Array:
        hidden = jax.nn.gelu(self.norm(self.hidden(state)), approximate=False)
        return jnp.tanh(self.out(hidden))


SHIFTERS = {"mlp": MLPShifter, "affine": AffineShifter}
