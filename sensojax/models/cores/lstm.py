"""The core of SCML 2017's organisers: a stack of LSTMs that see all pixels of a frame.

Each layer remembers what its frames were (`models.lstm_cell`); batch norm follows each of them, and
between two of them a nonlinearity (data_systems 2.2; the defaults are the published model, whose
batch norm keeps the statistics of the last batch alone). The first matrix, from pixels to gates, is
one product for all frames; only what depends on the state before is done frame by frame.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from sensojax.errors import check_name
from sensojax.models import layers, lstm_cell, recomputing, whole_frames

# The smallest useful core, for tests of the contract that all cores keep.
TINY = dict(units=(4,))


class Layer(nnx.Module):
    """[batch time input] -> states [batch time unit]; the first memory is empty."""

    def __init__(self, inputs: int, units: int, gate: str, rngs: nnx.Rngs):
        start, remember = nnx.initializers.glorot_uniform(), nnx.initializers.orthogonal()
        self.weight = nnx.Param(start(rngs.params(), (inputs, 4 * units)))
        self.recurrent = nnx.Param(remember(rngs.params(), (units, 4 * units)))
        self.bias = nnx.Param(lstm_cell.first_biases(units))
        self.gate = gate

    def __call__(self, x: jax.Array) -> jax.Array:
        seen = layers.add_bias(jnp.dot(x, self.weight[...]), self.bias, idle=False)
        recurrent = self.recurrent[...]

        def one_frame(so_far, seen):
            state, memory = so_far
            state, memory = lstm_cell.step(seen + jnp.dot(state, recurrent), memory, self.gate)
            return (state, memory), state

        nothing = jnp.zeros((len(x), recurrent.shape[0]), x.dtype)
        _, states = lax.scan(one_frame, (nothing, nothing), seen.swapaxes(0, 1))
        return states.swapaxes(0, 1)


class Core(whole_frames.Core):
    """Video [batch time height width channel] -> features [batch time 1 1 unit].

    frame_size: (height, width) of the video, pixels. units: of each layer. nonlinearity: between
    layers. gate: of `lstm_cell.GATES`. batch_norm: after every layer; weight_of_new: share of the
    new batch in its running statistics; epsilon: added to its variances.
    """

    def __init__(
        self,
        input_channels: int,
        *,
        frame_size: tuple[int, int],
        units: Sequence[int] = (100, 100, 100),
        nonlinearity: str = "relu",
        gate: str = "hard_sigmoid",
        batch_norm: bool = True,
        weight_of_new: float = 1.0,
        epsilon: float = 1e-3,
        rngs: nnx.Rngs,
    ):
        super().__init__(frame_size)
        check_name(nonlinearity, layers.NONLINEARITIES, "core.nonlinearity")
        check_name(gate, lstm_cell.GATES, "core.gate")
        height, width = frame_size
        inputs = (height * width * input_channels, *units[:-1])
        self.num_features = units[-1]
        self.nonlinearity = nonlinearity
        self.layers = nnx.List(
            Layer(before, after, gate, rngs) for before, after in zip(inputs, units, strict=True)
        )
        self.norms = nnx.List(
            layers.BatchNorm(each, weight_of_new=weight_of_new, epsilon=epsilon)
            for each in units
            if batch_norm
        )

    def __call__(self, video: jax.Array, *, train: bool) -> jax.Array:
        x = self.vectors(video)
        for index, layer in enumerate(self.layers):
            x = layers.NONLINEARITIES[self.nonlinearity](x) if index else x
            x = recomputing.layer(layer, self.recompute, x)
            x = self.norms[index](x, train=train) if self.norms else x
        return whole_frames.one_pixel(x)
