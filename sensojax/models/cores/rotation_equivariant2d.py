"""The rotation-equivariant 2-D core: every filter in eight orientations, of which it learns one.

Filters are sums of Hermite functions (`models.hermite`), whose coefficients are the parameters;
they are turned and drawn as pixels once per call. Channels come rotation by rotation, each with the
same features, and batch norm treats the orientations of a feature alike: turning the video by 90
degrees turns the map and moves the channels on by a quarter of the rotations. Frames do not see
each other. (Baselines 3.2; the defaults are the core of the published GRU benchmark, 8.1.)
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from sensojax.errors import UserError
from sensojax.models import convolution, framewise, geometry, hermite, layers
from sensojax.models.layers import per_layer

# The smallest useful core, for tests of the contract that all cores keep.
TINY = dict(channels=(2, 1), kernels=(5, 3), paddings=("valid", "same"), rotations=4)


class HermiteConvolution(nnx.Module):
    """Correlates every frame with filters in all orientations; channels are (rotation feature)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        seen: geometry.Step,
        *,
        rotations: int,
        upsampling: int,
        oriented: bool,
        init_std: float,
        rngs: nnx.Rngs,
    ):
        size, across = seen.kernel
        if size != across:
            raise UserError(
                f"found core.kernels with {size} by {across} pixels, expected square ones, since "
                "filters are turned; give one number per layer."
            )
        functions = hermite.basis(size, upsampling)
        turns = hermite.rotations(size, rotations)
        draw = jax.random.normal(rngs.params(), (len(functions), inputs, outputs))
        self.coefficients = nnx.Param(init_std * draw)
        self.functions = layers.Fixed(jnp.asarray(functions, jnp.float32))
        self.turns = nnx.List(layers.Fixed(jnp.asarray(turn, jnp.float32)) for turn in turns)
        self.upsampling = upsampling
        self.oriented = oriented
        self.geometry = seen

    def __call__(self, x: jax.Array, *, idle_bias: bool) -> jax.Array:
        del idle_bias  # there is none
        _, stride, padding, _ = self.geometry
        return convolution.spatial(x, self.kernel(), stride=stride, padding=padding)

    @property
    def num_features(self) -> int:
        return len(self.turns) * self.coefficients.shape[-1]

    def kernel(self) -> jax.Array:
        """[height width channel (rotation feature)]."""
        return hermite.expand(
            self.coefficients[...],
            self.functions[...],
            jnp.stack([turn[...] for turn in self.turns]),
            upsampling=self.upsampling,
            oriented=self.oriented,
        )


class Core(framewise.Stack):
    """Video [batch time height width channel] -> features [.. height' width' (rotation feature)].

    channels: features in each orientation, one entry per layer; kernels (square), strides, paddings
    ("valid", "same" or pixels): one entry per layer or one for all. rotations: how many
    orientations; upsampling: how much finer the grid is on which filters are drawn. shared_norm:
    one batch norm for all orientations of a feature; without it the core is not equivariant any
    more. The other settings are those of `stacked2d.Core`; init_std is that of the coefficients.
    """

    def __init__(
        self,
        input_channels: int,
        *,
        channels: Sequence[int] = (8, 8, 8, 8),
        kernels: int | Sequence[int] = (9, 7, 7, 7),
        strides: int | Sequence[int] = 1,
        paddings: str | int | Sequence = ("valid", "same", "same", "same"),
        rotations: int = 8,
        upsampling: int = 2,
        stack: int | Sequence[int] = -1,
        batch_norm: bool | Sequence[bool] = True,
        shared_norm: bool = True,
        norm_scale: bool | Sequence[bool] = True,
        norm_bias: bool | Sequence[bool] = True,
        weight_of_new: float = 0.9,
        nonlinearity: str = "elu",
        elu_shift: Sequence[float] = (0.0, 0.0),
        linear: bool = False,
        final_nonlinearity: bool = False,
        init_std: float = 0.1,
        spatial_smoothness: float = 500.0,
        smoothness: str = "laplace_l2_norm",
        laplace_padding: int = 1,
        group_sparsity: float = 500_000.0,
        average_penalties: bool = False,
        rngs: nnx.Rngs,
    ):
        count = len(channels)
        seen = framewise.steps(count, kernels, strides, paddings)
        activations = framewise.nonlinearities(count, nonlinearity, linear, final_nonlinearity)
        norms = per_layer(batch_norm, count, "batch_norm")
        scales = per_layer(norm_scale, count, "norm_scale")
        offsets = per_layer(norm_bias, count, "norm_bias")
        made = []
        for i, features in enumerate(channels):
            filters = HermiteConvolution(
                rotations * channels[i - 1] if i else input_channels,
                features,
                seen[i],
                rotations=rotations,
                upsampling=upsampling,
                oriented=i > 0,
                init_std=init_std,
                rngs=rngs,
            )
            norm = (
                layers.BatchNorm(
                    features if shared_norm else rotations * features,
                    weight_of_new=weight_of_new,
                    scale=scales[i],
                    bias=offsets[i],
                    repeats=rotations if shared_norm else 1,
                )
                if norms[i]
                else None
            )
            made.append(framewise.Layer(filters, norm, activations[i], elu_shift))
        self.channels = tuple(channels)
        self.shared_norm = shared_norm
        super().__init__(
            made,
            skip=0,
            stack=stack,
            spatial_smoothness=spatial_smoothness,
            smoothness=smoothness,
            laplace_padding=laplace_padding,
            group_sparsity=group_sparsity,
            average_penalties=average_penalties,
        )
