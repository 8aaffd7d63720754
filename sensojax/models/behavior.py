"""How behaviour enters a model besides as video channels: the pupil shifts where neurons look.

Pupil centres [batch time 2] (normalised) in, shifts [batch time 2] of the readout's points out.
One shifter per mouse; both published kinds (baselines 5).
"""

import itertools

import jax
import jax.numpy as jnp
from flax import nnx

from sensojax.models import layers


class MLPShifter(nnx.Module):
    """A small network with tanh after every layer; published: 2-5-5-2."""

    def __init__(self, *, num_layers: int = 3, hidden: int = 5, rngs: nnx.Rngs):
        sizes = (2, *(hidden,) * (num_layers - 1), 2)
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

    def __init__(self, *, l2: float = 0.0, rngs: nnx.Rngs):
        self.linear = layers.Linear(2, 2, rngs=rngs)
        self.l2 = l2

    def __call__(self, pupil_center: jax.Array) -> jax.Array:
        return jnp.tanh(self.linear(pupil_center))

    def regularizer(self) -> jax.Array:
        return self.l2 * jnp.mean(jnp.square(self.linear.weight[...]))


SHIFTERS = {"mlp": MLPShifter, "affine": AffineShifter}
