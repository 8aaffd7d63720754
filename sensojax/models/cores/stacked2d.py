"""The stacked 2-D core of Sensorium: convolutions of single frames, one after the other.

Each layer is a convolution (ordinary, or depth-separable: across channels, within each channel,
across channels), batch norm and a nonlinearity, on the last layers perhaps squeeze-excitation.
Frames do not see each other, so no frame is lost, and an image is a video of one frame.
(Baselines 3.1, 3.6; the defaults are the published model of images of 2022, 8.2.)
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from sensojax.models import convolution, framewise, geometry, layers
from sensojax.models.depthwise import depthwise
from sensojax.models.layers import per_layer

# The smallest useful core, for tests of the contract that all cores keep.
TINY = dict(channels=(6, 8), kernels=(5, 3), paddings=("valid", "same"))


class Convolution(nnx.Module):
    """An ordinary convolution of frames: [batch time height width channel] -> the same axes."""

    def __init__(self, inputs: int, outputs: int, seen: geometry.Step, bias: bool, rngs: nnx.Rngs):
        shape = (*seen.kernel, inputs, outputs)
        self.weight = nnx.Param(layers.xavier_normal(rngs.params(), shape))
        self.bias = nnx.Param(jnp.zeros(outputs)) if bias else None
        self.geometry = seen

    def __call__(self, x: jax.Array, *, idle_bias: bool) -> jax.Array:
        _, stride, padding, dilation = self.geometry
        weight = self.weight[...]
        x = convolution.spatial(x, weight, stride=stride, padding=padding, dilation=dilation)
        return layers.add_bias(x, self.bias, idle=idle_bias)

    @property
    def num_features(self) -> int:
        return self.weight.shape[-1]

    def kernel(self) -> jax.Array:
        """[height width channel feature]."""
        return self.weight[...]


class Separable(nnx.Module):
    """Across channels, within each channel, across channels, with nothing in between."""

    def __init__(self, inputs: int, outputs: int, seen: geometry.Step, bias: bool, rngs: nnx.Rngs):
        key = rngs.params
        self.mixing = nnx.Param(layers.xavier_normal(key(), (inputs, outputs)))
        within = layers.xavier_normal(key(), (*seen.kernel, 1, outputs))
        self.within = nnx.Param(within[:, :, 0])
        self.remixing = nnx.Param(layers.xavier_normal(key(), (outputs, outputs)))
        self.biases = nnx.List(nnx.Param(jnp.zeros(outputs)) for _ in range(3 * bias))
        self.geometry = seen

    def __call__(self, x: jax.Array, *, idle_bias: bool) -> jax.Array:
        _, stride, padding, dilation = self.geometry
        first, second, third = self.biases or (None, None, None)
        x = jnp.dot(x, self.mixing[...])
        # With zeros around the map the border does not see the first bias: batch norm keeps it.
        x = layers.add_bias(x, first, idle=idle_bias and padding == (0, 0))
        within = self.within[...]
        x = depthwise(x, within, stride=stride, padding=padding, dilation=dilation)
        x = layers.add_bias(x, second, idle=idle_bias)
        x = jnp.dot(x, self.remixing[...])
        return layers.add_bias(x, third, idle=idle_bias)

    @property
    def num_features(self) -> int:
        return self.remixing.shape[-1]

    def kernel(self) -> None:
        """None: depth-separable filters are not penalised, as published."""


class SqueezeExcitation(nnx.Module):
    """Scales each channel of a frame by what the means of all its channels say."""

    def __init__(self, channels: int, reduction: int, rngs: nnx.Rngs):
        hidden = max(channels // reduction, 1)
        self.squeeze = layers.Linear(channels, hidden, rngs=rngs)
        self.excite = layers.Linear(hidden, channels, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        means = jnp.mean(x, axis=(2, 3))
        scale = jax.nn.sigmoid(self.excite(jax.nn.relu(self.squeeze(means))))
        return x * jnp.broadcast_to(scale[:, :, None, None], x.shape)


class Core(framewise.Stack):
    """Video [batch time height width channel] -> features [batch time height' width' feature].

    channels: one entry per layer; kernels, strides, paddings ("valid", "same" or pixels),
    dilations: one entry per layer or one for all. separable: layers after the first are
    depth-separable. skip, stack: see `framewise.Stack`. batch_norm, norm_scale, norm_bias,
    conv_bias: per layer or for all; the published code decided on the last one in several ways.
    linear: no nonlinearities at all; final_nonlinearity: whether the last layer has one.
    weight_of_new: share of the new batch in batch norm's running statistics. se_blocks: how many
    of the last layers end in squeeze-excitation, through channels / se_reduction numbers.
    spatial_smoothness, group_sparsity: weights of the two penalties, on the first and on the other
    layers; average_penalties: see `regularizers`.
    """

    def __init__(
        self,
        input_channels: int,
        *,
        channels: Sequence[int] = (64, 64, 64, 64),
        kernels: int | Sequence[int | Sequence[int]] = (9, 7, 7, 7),
        strides: int | Sequence[int] = 1,
        paddings: str | int | Sequence = ("valid", "same", "same", "same"),
        dilations: int | Sequence[int] = 1,
        separable: bool = True,
        skip: int = 0,
        stack: int | Sequence[int] = -1,
        batch_norm: bool | Sequence[bool] = True,
        norm_scale: bool | Sequence[bool] = True,
        norm_bias: bool | Sequence[bool] = True,
        conv_bias: bool | Sequence[bool] = False,
        weight_of_new: float = 0.9,
        nonlinearity: str = "elu",
        elu_shift: Sequence[float] = (0.0, 0.0),
        linear: bool = False,
        final_nonlinearity: bool = True,
        se_blocks: int = 0,
        se_reduction: int = 32,
        spatial_smoothness: float = 6.3831,
        smoothness: str = "laplace_l2_norm",
        laplace_padding: int = 1,
        group_sparsity: float = 0.0,
        average_penalties: bool = False,
        rngs: nnx.Rngs,
    ):
        count = len(channels)
        seen = framewise.steps(count, kernels, strides, paddings, dilations)
        activations = framewise.nonlinearities(count, nonlinearity, linear, final_nonlinearity)
        norms = per_layer(batch_norm, count, "batch_norm")
        scales = per_layer(norm_scale, count, "norm_scale")
        offsets = per_layer(norm_bias, count, "norm_bias")
        biases = per_layer(conv_bias, count, "conv_bias")
        made = []
        for i, outputs in enumerate(channels):
            inputs = sum(channels[max(0, i - max(skip, 1)) : i]) if i else input_channels
            kind = Separable if separable and i else Convolution
            filters = kind(inputs, outputs, seen[i], biases[i], rngs)
            norm = (
                layers.BatchNorm(
                    outputs, weight_of_new=weight_of_new, scale=scales[i], bias=offsets[i]
                )
                if norms[i]
                else None
            )
            squeezed = i >= count - se_blocks
            after = SqueezeExcitation(outputs, se_reduction, rngs) if squeezed else None
            made.append(framewise.Layer(filters, norm, activations[i], elu_shift, after))
        self.channels = tuple(channels)
        super().__init__(
            made,
            skip=skip,
            stack=stack,
            spatial_smoothness=spatial_smoothness,
            smoothness=smoothness,
            laplace_padding=laplace_padding,
            group_sparsity=group_sparsity,
            average_penalties=average_penalties,
        )
