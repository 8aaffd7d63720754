"""The readout of DwiseNeuro: groups of neurons that each see one group of a frame's features.

What a neuron reads is a weighted sum over the features of its group, averaged over the map's pixels
if there are several (sota 1.2). No neuron has a place: neither cortical positions nor the pupil
enter. In training whole channels are left out, each for all frames of an example.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from sensojax.errors import UserError
from sensojax.models import dropping, layers
from sensojax.models.cortex import grouped_dot, refuse_ungrouped

TINY = dict(dropout=0.3)


class Readout(nnx.Module):
    """Features [batch time height width channel] -> [batch time neuron], before the nonlinearity.

    groups: of channels and of neurons, in their order; each has as many neurons, so the last one
    may have a few too many, whose answers nobody sees (published, and counted, so). dropout: the
    rate at which channels are left out in training. bias_start: of `layers.BIAS_STARTS`, applied to
    the neurons' mean_responses.
    """

    def __init__(
        self,
        channels: int,
        position_um: np.ndarray,
        *,
        groups: int = 2,
        dropout: float = 0.4,
        bias_start: str = "mean",
        mean_responses: np.ndarray | None = None,
        rngs: nnx.Rngs,
    ):
        refuse_ungrouped(channels, groups)
        dropping.check(dropout, "readout.dropout")
        self.num_neurons = len(position_um)
        self.groups = groups
        self.dropout = dropout
        each = -(-self.num_neurons // groups)
        # [neuron channel of its group]
        self.weight = nnx.Param(
            layers.fan_out_normal(rngs.params(), (groups * each, channels // groups), each)
        )
        start = layers.first_biases(self.num_neurons, mean_responses, bias_start)
        self.bias = nnx.Param(jnp.pad(start, (0, groups * each - self.num_neurons)))

    def positions(self) -> None:
        """None: neurons look at all of the map."""
        return None

    def constrain(self) -> None:
        """Nothing: every value of every weight is allowed."""

    def draw_noise(self, key: jax.Array, batch: int, time: int) -> jax.Array | None:
        """Factors of the channels in one training step, [batch channel]; None to drop none."""
        if not self.dropout:
            return None
        shape = (batch, self.groups * self.weight.shape[1])
        return dropping.factors(key, self.dropout, shape)

    def __call__(
        self, features: jax.Array, shift: None = None, noise: jax.Array | None = None
    ) -> jax.Array:
        """shift: None, else UserError; noise: from `draw_noise` in training, None otherwise."""
        if shift is not None:
            raise UserError(
                "found a pupil shift for a grouped readout, whose neurons have no place to look "
                'at, expected none; set shifter.name to "".'
            )
        seen = jnp.mean(features, axis=(2, 3))
        if noise is not None:
            seen = seen * noise[:, None]
        out = grouped_dot(seen, self.weight[...], self.groups)
        out = out + jnp.broadcast_to(self.bias[...], out.shape)
        return out[..., : self.num_neurons]

    def regularizer(self) -> jax.Array:
        """0: weights decay in the optimizer."""
        return jnp.zeros(())
