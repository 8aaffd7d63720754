"""A convolutional LSTM, as an entrant of SCML 2017 had it: memories with a place on the map.

Features of a core (or the pixels themselves, core "pixels") in, a map of states of the same frames
out. What a gate is told is a correlation of the frame and of the state before it, both with zeros
around them, so maps keep their size (`models.lstm_cell`; Shi et al. 2015 without peepholes). Batch
norm may follow (data_systems 2.4, model c: 20 channels of 3 x 3, then a readout that pools by 4).
Frame after frame, a backward pass computes again what the gates were: beside states and memories,
nothing of all frames is ever there.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from sensojax.errors import UserError, check_name
from sensojax.models import convolution, layers, lstm_cell

# The smallest useful recurrence, for tests of the contract that all recurrences keep.
TINY = dict(channels=3, kernel=3)


class Recurrence(nnx.Module):
    """Features [batch time height width channel] -> states [batch time height width channel].

    channels: of the state. kernel: pixels, square and odd. gate: of `lstm_cell.GATES`. batch_norm:
    of the states; weight_of_new: share of the new batch in its running statistics; epsilon: added
    to its variances.
    """

    causal = True
    lost_frames = 0

    def __init__(
        self,
        channels_in: int,
        *,
        channels: int = 20,
        kernel: int = 3,
        gate: str = "hard_sigmoid",
        batch_norm: bool = True,
        weight_of_new: float = 0.01,
        epsilon: float = 1e-3,
        rngs: nnx.Rngs,
    ):
        check_name(gate, lstm_cell.GATES, "recurrent.gate")
        if kernel % 2 == 0:
            raise UserError(
                f"found recurrent.kernel {kernel}, expected an odd number, since a state has the "
                "size of the one before; correct it."
            )
        start, remember = nnx.initializers.glorot_uniform(), nnx.initializers.orthogonal()
        shape = (kernel, kernel)
        self.seeing = nnx.Param(start(rngs.params(), (*shape, channels_in, 4 * channels)))
        self.remembering = nnx.Param(remember(rngs.params(), (*shape, channels, 4 * channels)))
        self.bias = nnx.Param(lstm_cell.first_biases(channels))
        self.norm = (
            layers.BatchNorm(channels, weight_of_new=weight_of_new, epsilon=epsilon)
            if batch_norm
            else None
        )
        self.channels = channels
        self.gate = gate

    def __call__(self, features: jax.Array, *, train: bool = False) -> jax.Array:
        kernel = jnp.concatenate([self.seeing[...], self.remembering[...]], axis=2)
        around = (kernel.shape[0] // 2,) * 2

        @jax.checkpoint
        def one_frame(so_far, frame):
            state, memory = so_far
            both = jnp.concatenate([frame, state], axis=-1)[:, None]
            told = convolution.spatial(both, kernel, padding=around)[:, 0]
            told = layers.add_bias(told, self.bias, idle=False)
            state, memory = lstm_cell.step(told, memory, self.gate)
            return (state, memory), state

        batch, _, height, width, _ = features.shape
        nothing = jnp.zeros((batch, height, width, self.channels), features.dtype)
        _, states = lax.scan(one_frame, (nothing, nothing), features.swapaxes(0, 1))
        states = states.swapaxes(0, 1)
        return states if self.norm is None else self.norm(states, train=train)

    def map_size(self, height: int, width: int) -> tuple[int, int]:
        """That of the features."""
        return height, width

    def map_to_image(self, points: jax.Array, height: int, width: int) -> jax.Array:
        """The points themselves: states lie where the features do, [point 2] in -1..1."""
        return points

    def regularizers(self) -> dict[str, jax.Array]:
        """None."""
        return {}
