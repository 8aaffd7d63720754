"""How behaviour enters a model besides as video channels, mouse by mouse.

A shifter moves where neurons look: pupil centres [batch time 2] (normalised) in, shifts [batch time
2] of the readout's points out; both published kinds (baselines 5). A state network tells a readout
what the animal does (sota 2.5): its state [batch time column] in, features to add out. A gain
multiplies responses. The state of a frame is its behaviour and then its pupil centre; what asks for
it says so with `reads_state`.
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


class Gain(nnx.Module):
    """State [batch time column] -> what multiplies the responses: [batch time' neuron], positive.

    Running and arousal scale the responses of visual neurons rather than add to them (Niell &
    Stryker 2010, Reimer et al. 2014). The state of `frames` frames, the last of them that of the
    response, gives `hidden` features between -1 and 1, which every neuron weighs; the gain is e to
    that power, and 1 before training. reads_core: the mean of all features of the core (channels)
    over the frame is part of it, since responses fall with the activity around them (Carandini &
    Heeger 2012).
    """

    def __init__(
        self,
        neurons: int,
        *,
        channels: int,
        hidden: int = 8,
        frames: int = 12,
        reads_core: bool = False,
        state_columns: int = 4,
        rngs: nnx.Rngs,
    ):
        self.frames = frames
        self.reads_core = reads_core
        inputs = frames * state_columns + reads_core * channels
        self.hidden = layers.Linear(inputs, hidden, rngs=rngs)
        self.weights = nnx.Param(jnp.zeros((neurons, hidden)))

    def __call__(self, state: jax.Array, features: jax.Array) -> jax.Array:
        """Of the frames of the features [batch time' height width channel], the last of the state;
        before a state begins, the animal did what it does first."""
        frames = features.shape[1]
        missing = max(frames + self.frames - 1 - state.shape[1], 0)
        state = jnp.pad(state, ((0, 0), (missing, 0), (0, 0)), mode="edge")
        first = state.shape[1] - frames - self.frames + 1
        known = [state[:, first + lag : first + lag + frames] for lag in range(self.frames)]
        if self.reads_core:
            known.append(jnp.mean(features, axis=(2, 3)))
        hidden = jnp.tanh(self.hidden(jnp.concatenate(known, axis=-1)))
        return jnp.exp(jnp.einsum("btf,nf->btn", hidden, self.weights[...]))


GAINS = {"state": Gain}
SHIFTERS = {"mlp": MLPShifter, "affine": AffineShifter}
