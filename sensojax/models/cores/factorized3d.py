"""The factorised 3-D core of Sensorium 2023: space and time convolved one after the other.

Each layer is a spatial convolution, a temporal one of the same width (nothing in between), batch
norm and a nonlinearity. Without padding in time it loses the first frames of a clip: the frame t
of the result has seen input frames t .. t + lost_frames, so results belong to the *last* frames of
the input and the core is causal. (Baselines 3.4; the defaults are the published benchmark, 8.1.)
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from sensojax.errors import check_name
from sensojax.models import convolution, geometry, layers, regularizers, spacetime
from sensojax.models.layers import pair, per_layer

# The smallest useful core, for tests of the contract that all cores keep.
TINY = dict(channels=(3, 4), spatial_kernels=(5, 3), temporal_kernels=(3, 3))


class Layer(nnx.Module):
    """Space, time, batch norm, nonlinearity: [batch time height width channel] -> the same axes."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        spatial_kernel: tuple[int, int],
        temporal_kernel: int,
        *,
        stride: int,
        padding: bool,
        spatial_dilation: int,
        temporal_dilation: int,
        bias: bool,
        batch_norm: bool,
        norm_scale: bool,
        weight_of_new: float,
        nonlinearity: str,
        rngs: nnx.Rngs,
    ):
        self.stride = (stride, stride)
        self.padding = tuple(k // 2 for k in spatial_kernel) if padding else (0, 0)
        self.spatial_dilation = (spatial_dilation, spatial_dilation)
        self.temporal_dilation = temporal_dilation
        self.nonlinearity = nonlinearity
        key = rngs.params
        self.spatial = nnx.Param(layers.xavier_normal(key(), (*spatial_kernel, inputs, outputs)))
        self.temporal = nnx.Param(layers.xavier_normal(key(), (temporal_kernel, outputs, outputs)))
        self.spatial_bias = nnx.Param(jnp.zeros(outputs)) if bias else None
        self.temporal_bias = nnx.Param(jnp.zeros(outputs)) if bias else None
        self.norm = (
            layers.BatchNorm(outputs, weight_of_new=weight_of_new, scale=norm_scale, bias=bias)
            if batch_norm
            else None
        )

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = convolution.spatial(
            x,
            self.spatial[...],
            stride=self.stride,
            padding=self.padding,
            dilation=self.spatial_dilation,
        )
        idle = train and self.norm is not None
        x = layers.add_bias(x, self.spatial_bias, idle=idle)
        x = convolution.temporal(x, self.temporal[...], dilation=self.temporal_dilation)
        x = layers.add_bias(x, self.temporal_bias, idle=idle)
        if self.norm is not None:
            x = self.norm(x, train=train)
        return layers.NONLINEARITIES[self.nonlinearity](x)

    @property
    def lost_frames(self) -> int:
        return (self.temporal.shape[0] - 1) * self.temporal_dilation

    @property
    def geometry(self) -> geometry.Step:
        kernel = self.spatial.shape[:2]
        return geometry.Step(kernel, self.stride, self.padding, self.spatial_dilation)


class Core(spacetime.Stack):
    """Video [batch time height width channel] -> features [batch time' height' width' feature].

    channels, spatial_kernels, temporal_kernels: one entry per layer; strides, dilations: one entry
    per layer or one for all. padding: spatial "same" instead of "valid". bias: of convolutions
    and batch norm; norm_scale: whether batch norm has a gain. weight_of_new: share of the new batch
    in batch norm's running statistics. spatial_smoothness, temporal_smoothness: weights of the
    two penalties on the first layer.
    """

    def __init__(
        self,
        input_channels: int,
        *,
        channels: Sequence[int] = (32, 64, 128),
        spatial_kernels: Sequence[int | Sequence[int]] = (11, 5, 5),
        temporal_kernels: Sequence[int] = (11, 5, 5),
        strides: int | Sequence[int] = 1,
        spatial_dilations: int | Sequence[int] = 1,
        temporal_dilations: int | Sequence[int] = 1,
        padding: bool = False,
        bias: bool = True,
        batch_norm: bool = True,
        norm_scale: bool = True,
        weight_of_new: float = 0.7,
        nonlinearity: str = "elu",
        spatial_smoothness: float = 10.0,
        temporal_smoothness: float = 0.01,
        smoothness: str = "laplace_l2_norm",
        laplace_padding: int = 1,
        rngs: nnx.Rngs,
    ):
        check_name(nonlinearity, layers.NONLINEARITIES, "core.nonlinearity")
        check_name(smoothness, regularizers.SPATIAL, "core.smoothness")
        count = len(channels)
        inputs = (input_channels, *channels[:-1])
        spatial_kernels = per_layer(spatial_kernels, count, "spatial_kernels")
        temporal_kernels = per_layer(temporal_kernels, count, "temporal_kernels")
        strides = per_layer(strides, count, "strides")
        spatial_dilations = per_layer(spatial_dilations, count, "spatial_dilations")
        temporal_dilations = per_layer(temporal_dilations, count, "temporal_dilations")
        self.channels = tuple(channels)
        self.spatial_smoothness = spatial_smoothness
        self.temporal_smoothness = temporal_smoothness
        self.smoothness = smoothness
        self.laplace_padding = laplace_padding
        self.layers = nnx.List(
            Layer(
                inputs[i],
                channels[i],
                pair(spatial_kernels[i]),
                temporal_kernels[i],
                stride=strides[i],
                padding=padding,
                spatial_dilation=spatial_dilations[i],
                temporal_dilation=temporal_dilations[i],
                bias=bias,
                batch_norm=batch_norm,
                norm_scale=norm_scale,
                weight_of_new=weight_of_new,
                nonlinearity=nonlinearity,
                rngs=rngs,
            )
            for i in range(count)
        )

    def regularizers(self) -> dict[str, jax.Array]:
        """The weighted penalties on the first layer."""
        first = self.layers[0]
        rough = regularizers.SPATIAL[self.smoothness](first.spatial[...], self.laplace_padding)
        slow = regularizers.temporal_l2_norm(first.temporal[...])
        return {
            "core_spatial": self.spatial_smoothness * rough,
            "core_temporal": self.temporal_smoothness * slow,
        }
