"""The convolutional GRU of Sensorium 2023: a map of hidden states, one frame after the other.

Features of a core [batch time height width channel] in, the hidden states of the same frames out.
With * for correlation, x for a frame of features and h for the state before it, zero at first,

    update = sigmoid(U_x * x + U_h * h)         reset = sigmoid(R_x * x + R_h * h)
    new    = tanh(O_x * x + O_h * (reset h))    state = (1 - update) h + update new

all six correlations with biases (baselines 3.5; the defaults are the published benchmark, 8.1).

How that is computed, and differentiated, is in `models.gated_states`.
"""

import functools
from types import ModuleType

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.sharding import PartitionSpec

from sensojax.errors import UserError
from sensojax.models import direct, fourier, geometry, layers
from sensojax.models.gated_states import states

# The smallest useful recurrence, for tests of the contract that all recurrences keep.
TINY = dict(channels=3, input_kernel=3, recurrent_kernel=3)


class Convolution(nnx.Module):
    """Kernel [height width channel feature] and bias [feature] of one of the six correlations."""

    def __init__(self, inputs: int, outputs: int, kernel: int, groups: int, rngs: nnx.Rngs):
        shape = (kernel, kernel, inputs // groups, outputs)
        self.kernel = nnx.Param(layers.xavier_normal(rngs.params(), shape))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def dense(self, groups: int) -> jax.Array:
        """The kernel from all channels, zero between different groups."""
        height, width, channel, feature = self.kernel.shape
        parts = self.kernel[...].reshape(height, width, channel, groups, feature // groups)
        spread = jnp.einsum("hwcgf,ag->hwacgf", parts, jnp.eye(groups))
        return spread.reshape(height, width, groups * channel, feature)


class Recurrence(nnx.Module):
    """Features [batch time height width channel] -> states [batch time height' width' channel].

    channels: of the state. input_kernel, recurrent_kernel: pixels, both square. groups: channels
    are in so many groups that do not see each other, in all six correlations. padding: zeros around
    the features, so that odd kernels keep the size of the map; without, states lie in its middle.
    """

    causal = True
    lost_frames = 0

    def __init__(
        self,
        channels_in: int,
        *,
        channels: int = 64,
        input_kernel: int = 9,
        recurrent_kernel: int = 9,
        groups: int = 1,
        padding: bool = True,
        rngs: nnx.Rngs,
    ):
        if channels_in % groups or channels % groups:
            raise UserError(
                f"found recurrent.groups {groups} for {channels_in} channels in and {channels} "
                "out, expected a number that divides both; correct it."
            )
        if recurrent_kernel % 2 == 0:
            raise UserError(
                f"found recurrent.recurrent_kernel {recurrent_kernel}, expected an odd number, "
                "since a state has the size of the one before; correct it."
            )
        self.channels = channels
        self.groups = groups
        pad = input_kernel // 2 if padding else 0
        self.geometry = geometry.Step((input_kernel, input_kernel), padding=(pad, pad))
        of_input = functools.partial(Convolution, channels_in, channels, input_kernel)
        of_state = functools.partial(Convolution, channels, channels, recurrent_kernel)
        self.reset_gate_input = of_input(groups, rngs)
        self.reset_gate_hidden = of_state(groups, rngs)
        self.update_gate_input = of_input(groups, rngs)
        self.update_gate_hidden = of_state(groups, rngs)
        self.out_gate_input = of_input(groups, rngs)
        self.out_gate_hidden = of_state(groups, rngs)

    def __call__(self, features: jax.Array, *, train: bool = False) -> jax.Array:
        del train  # the same in training
        seeing, gating, proposing, bias = self._weights()
        height, width = features.shape[2:4]
        reach = seeing.shape[0] - 2 * self.geometry.padding[0]
        if min(height, width) < reach:
            raise UserError(
                f"found features of {height} by {width} pixels for a recurrence that needs "
                f"{reach}, expected at least as many; choose a smaller recurrent.input_kernel."
            )
        see = fourier.Plan((height, width), self.geometry.kernel, self.geometry.padding)
        size = gating.shape[0]
        remember = fourier.Plan(see.output, (size, size), (size // 2, size // 2))
        per_device = (PartitionSpec("data"), *[PartitionSpec()] * 4)
        on_cpu, default = (
            layers.on_each_device(functools.partial(states, how, see, remember), per_device)
            for how in (formulation_on_cpu(see, seeing), direct)
        )
        arguments = (features, seeing, gating, proposing, bias)
        return lax.platform_dependent(*arguments, cpu=on_cpu, default=default)

    def _weights(self):
        """Kernels of update, reset and new state joined on features, and the sum of all biases."""
        seen = (self.update_gate_input, self.reset_gate_input, self.out_gate_input)
        remembered = (self.update_gate_hidden, self.reset_gate_hidden, self.out_gate_hidden)
        seeing = jnp.concatenate([each.dense(self.groups) for each in seen], -1)
        *gating, proposing = (each.dense(self.groups) for each in remembered)
        pairs = zip(seen, remembered, strict=True)
        bias = jnp.concatenate([one.bias[...] + other.bias[...] for one, other in pairs])
        return seeing, jnp.concatenate(gating, -1), proposing, bias

    def map_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the states for features of this size."""
        return geometry.map_size([self.geometry], height, width)

    def map_to_image(self, points: jax.Array, height: int, width: int) -> jax.Array:
        """Where points of the map of states lie in that of the features, [point 2] in -1..1."""
        return geometry.map_to_image([self.geometry], points, height, width)

    def regularizers(self) -> dict[str, jax.Array]:
        """None: the published one is never called."""
        return {}


def formulation_on_cpu(see: fourier.Plan, seeing: jax.Array) -> ModuleType:
    """Transforms, but for maps so large that the transformed kernels would fill the memory."""
    return fourier if fourier.fits(see, *seeing.shape[2:]) else direct
