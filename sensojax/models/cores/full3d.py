"""The full 3-D core of Sensorium 2023: every layer convolves over space and time at once.

Each layer is one 3-D convolution, batch norm and a nonlinearity. As in `factorized3d` nothing is
padded in time, so the first frames of a clip are lost and the core is causal. (Baselines 3.3; the
defaults are the published demo, 8.1.)
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from sensojax.errors import check_name
from sensojax.models import geometry, layers, regularizers, spacetime, volume
from sensojax.models.layers import pair, per_layer

# The smallest useful core, for tests of the contract that all cores keep.
TINY = dict(channels=(3, 4), spatial_kernels=(5, 3), temporal_kernels=(3, 2), padding=False)


class Layer(nnx.Module):
    """Convolution, batch norm, nonlinearity: [batch time height width channel] to the same axes."""

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
        norm_bias: bool,
        weight_of_new: float,
        nonlinearity: str,
        rngs: nnx.Rngs,
    ):
        check_name(nonlinearity, layers.NONLINEARITIES, "core.nonlinearity")
        self.geometry = geometry.Step(
            spatial_kernel,
            stride=pair(stride),
            padding=tuple(k // 2 for k in spatial_kernel) if padding else (0, 0),
            dilation=pair(spatial_dilation),
        )
        self.temporal_dilation = temporal_dilation
        self.nonlinearity = nonlinearity
        shape = (temporal_kernel, *spatial_kernel, inputs, outputs)
        self.kernel = nnx.Param(layers.xavier_normal(rngs.params(), shape))
        self.bias = nnx.Param(jnp.zeros(outputs)) if bias else None
        self.norm = (
            layers.BatchNorm(outputs, weight_of_new=weight_of_new, scale=norm_scale, bias=norm_bias)
            if batch_norm
            else None
        )

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = volume.spatiotemporal(
            x,
            self.kernel[...],
            stride=self.geometry.stride,
            padding=self.geometry.padding,
            dilation=self.geometry.dilation,
            temporal_dilation=self.temporal_dilation,
        )
        x = layers.add_bias(x, self.bias, idle=train and self.norm is not None)
        if self.norm is not None:
            x = self.norm(x, train=train)
        return layers.NONLINEARITIES[self.nonlinearity](x)

    @property
    def lost_frames(self) -> int:
        return (self.kernel.shape[0] - 1) * self.temporal_dilation


class Core(spacetime.Stack):
    """Video [batch time height width channel] -> features [batch time' height' width' feature].

    channels: one entry per layer; every other setting of layers is one entry per layer or one for
    all. spatial_kernels: an int or (height, width). padding: spatial "same" instead of "valid".
    bias: of the convolutions (idle before batch norm, and published nonetheless); norm_scale,
    norm_bias: whether batch norm has a gain and an offset. weight_of_new: share of the new batch in
    batch norm's running statistics. spatial_smoothness, temporal_smoothness: weights of the two
    penalties on the first layer, summed over its frames and over its pixels.
    """

    def __init__(
        self,
        input_channels: int,
        *,
        channels: Sequence[int] = (64, 64),
        spatial_kernels: int | Sequence[int | Sequence[int]] = (9, 7),
        temporal_kernels: int | Sequence[int] = 9,
        strides: int | Sequence[int] = 1,
        spatial_dilations: int | Sequence[int] = 1,
        temporal_dilations: int | Sequence[int] = 1,
        padding: bool = True,
        bias: bool | Sequence[bool] = True,
        batch_norm: bool | Sequence[bool] = True,
        norm_scale: bool | Sequence[bool] = True,
        norm_bias: bool | Sequence[bool] = True,
        weight_of_new: float = 0.7,
        nonlinearity: str | Sequence[str] = "elu",
        spatial_smoothness: float = 0.0,
        temporal_smoothness: float = 0.0,
        smoothness: str = "laplace_l2_norm",
        laplace_padding: int = 1,
        rngs: nnx.Rngs,
    ):
        check_name(smoothness, regularizers.SPATIAL, "core.smoothness")
        of_layers = dict(
            spatial_kernels=spatial_kernels,
            temporal_kernels=temporal_kernels,
            strides=strides,
            spatial_dilations=spatial_dilations,
            temporal_dilations=temporal_dilations,
            bias=bias,
            batch_norm=batch_norm,
            norm_scale=norm_scale,
            norm_bias=norm_bias,
            nonlinearity=nonlinearity,
        )
        each = {name: per_layer(it, len(channels), name) for name, it in of_layers.items()}
        self.channels = tuple(channels)
        self.spatial_smoothness = spatial_smoothness
        self.temporal_smoothness = temporal_smoothness
        self.smoothness = smoothness
        self.laplace_padding = laplace_padding
        self.layers = nnx.List(
            Layer(
                inputs,
                outputs,
                pair(each["spatial_kernels"][i]),
                each["temporal_kernels"][i],
                stride=each["strides"][i],
                padding=padding,
                spatial_dilation=each["spatial_dilations"][i],
                temporal_dilation=each["temporal_dilations"][i],
                bias=each["bias"][i],
                batch_norm=each["batch_norm"][i],
                norm_scale=each["norm_scale"][i],
                norm_bias=each["norm_bias"][i],
                weight_of_new=weight_of_new,
                nonlinearity=each["nonlinearity"][i],
                rngs=rngs,
            )
            for i, (inputs, outputs) in enumerate(
                zip((input_channels, *channels[:-1]), channels, strict=True)
            )
        )

    def regularizers(self) -> dict[str, jax.Array]:
        """The weighted penalties on the first layer: each frame of it, each pixel's time course."""
        kernel = self.layers[0].kernel[...]
        _, height, width, inputs, outputs = kernel.shape
        rough = regularizers.SPATIAL[self.smoothness]
        of_frames = jax.vmap(lambda frame: rough(frame, self.laplace_padding))(kernel)
        courses = kernel.reshape(-1, height * width, inputs, outputs)
        of_pixels = jax.vmap(regularizers.temporal_l2_norm, in_axes=1)(courses)
        return {
            "core_spatial": self.spatial_smoothness * jnp.sum(of_frames),
            "core_temporal": self.temporal_smoothness * jnp.sum(of_pixels),
        }
