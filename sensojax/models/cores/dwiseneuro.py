"""The core of DwiseNeuro, which won Sensorium 2023: a video becomes one vector of features a frame.

Its blocks are inverted residuals with convolutions taken apart: every block widens its channels,
looks at each channel's 3 x 3 pixels, then at its 5 frames, weighs channels by what the whole clip
says of them, and narrows them again; what comes in is added to what comes out. Then the mean over
pixels, and a `cortex` that mixes channels. (sota 1.2; the defaults are the published model.)

Frames are padded in time and channels weighed by the whole clip: it is not causal, and a frame's
features depend on its place in the clip. `evaluation.sliding` predicts long trials with it.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from sensojax.errors import UserError
from sensojax.models import dropping, layers, position_code, recomputing
from sensojax.models.cortex import Cortex
from sensojax.models.depthwise import depthwise, temporal
from sensojax.models.norms import widened

# The smallest useful core, for tests of the contract that all cores keep.
TINY = dict(features=(4,), strides=(2,), expansion=2, squeeze=4, cortex=(8,))


class Gates(nnx.Module):
    """How much each channel counts in a clip, by its channels' means: squeeze and excitation."""

    def __init__(self, channels: int, hidden: int, rngs: nnx.Rngs):
        key = rngs.params
        self.squeeze = nnx.Param(layers.fan_out_normal(key(), (channels, hidden), hidden))
        self.squeeze_bias = nnx.Param(jnp.zeros(hidden))
        self.excite = nnx.Param(layers.fan_out_normal(key(), (hidden, channels), channels))
        self.excite_bias = nnx.Param(jnp.zeros(channels))

    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch time height width channel] -> [batch channel], between 0 and 1."""
        means = jnp.mean(x, axis=(1, 2, 3))
        hidden = means @ self.squeeze[...] + self.squeeze_bias[...][None]
        return jax.nn.sigmoid(layers.silu(hidden) @ self.excite[...] + self.excite_bias[...][None])


class Block(nnx.Module):
    """Where and when, then an inverted residual: [batch time height width channel] to the same.

    With a stride s the result has every s-th row and column (rounded up).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        stride: int,
        expansion: int,
        spatial_kernel: int,
        temporal_kernel: int,
        squeeze: int,
        weight_of_new: float,
        rngs: nnx.Rngs,
    ):
        hidden, key = inputs * expansion, rngs.params
        near, soon = spatial_kernel, temporal_kernel
        self.stride = stride

        def norm(channels):
            return layers.BatchNorm(channels, weight_of_new=weight_of_new)

        self.widen = nnx.Param(layers.fan_out_normal(key(), (inputs, hidden), hidden))
        self.widen_norm = norm(hidden)
        self.space = nnx.Param(layers.fan_out_normal(key(), (near, near, hidden), near**2))
        self.space_norm = norm(hidden)
        self.time = nnx.Param(layers.fan_out_normal(key(), (soon, hidden), soon))
        self.time_norm = norm(hidden)
        self.gates = Gates(hidden, max(hidden // squeeze, 1), rngs)
        self.narrow = nnx.Param(layers.fan_out_normal(key(), (hidden, outputs), outputs))
        self.narrow_norm = norm(outputs)
        self.shortcut_norm = norm(outputs)

    def __call__(self, x: jax.Array, *, train: bool, kept: jax.Array | None = None) -> jax.Array:
        """kept: factors of the residual, [batch], None where nothing is dropped."""
        x = position_code.add(x)
        out = layers.pointwise(x, self.widen[...])
        out = layers.silu(self.widen_norm(out, train=train))
        around = (self.space.shape[0] // 2,) * 2
        out = depthwise(out, self.space[...], stride=(self.stride,) * 2, padding=around)
        out = layers.silu(self.space_norm(out, train=train))
        out = temporal(out, self.time[...], padding=self.time.shape[0] // 2)
        out = layers.silu(self.time_norm(out, train=train))
        # The gates scale few weights instead of many pixels.
        gates, narrow = widened(self.gates(out)), widened(self.narrow[...])
        narrow = (gates[..., None] * narrow[None]).astype(out.dtype)
        size = out.shape[:-1]
        out = jnp.einsum("bpi,bio->bpo", out.reshape(size[0], -1, out.shape[-1]), narrow)
        out = out.reshape(*size, -1)
        out = self.narrow_norm(out, train=train)
        if kept is not None:
            out = out * layers.per_example(kept, out)
        return out + self.shortcut_norm(self._shortcut(x), train=train)

    def _shortcut(self, x):
        """The nearest pixels of the input, its channels repeated or cut to those of the result."""
        for axis in (2, 3):
            x = nearest(x, -(-x.shape[axis] // self.stride), axis)
        return layers.repeat_channels(x, self.narrow.shape[-1])


class Core(nnx.Module):
    """Video [batch time height width channel] -> features [batch time 1 1 feature].

    features: channels of each block's input, the last of them also of the last block's result; so a
    block widens its result for the next one (as the published code does, not as it says). strides:
    of each block, in space. expansion: how many times more channels there are within a block.
    spatial_kernel, temporal_kernel: odd. squeeze: channels within a block over those of its gates.
    cortex, groups: features of the layers of the cortex, and of how many groups. drop_path: the
    rate at which residuals of blocks are dropped in training, rising from 0 in the first block;
    cortex_drop_path: of every layer of the cortex. weight_of_new: share of the new batch in batch
    norm's running statistics.
    """

    causal = False
    lost_frames = 0
    recompute = False  # see `recomputing`

    def __init__(
        self,
        input_channels: int,
        *,
        features: Sequence[int] = (64, 64, 64, 64, 128, 128, 128, 256, 256),
        strides: Sequence[int] = (2, 1, 1, 1, 2, 1, 1, 2, 1),
        expansion: int = 7,
        spatial_kernel: int = 3,
        temporal_kernel: int = 5,
        squeeze: int = 32,
        cortex: Sequence[int] = (1024, 2048, 4096),
        groups: int = 2,
        drop_path: float = 0.1,
        cortex_drop_path: float = 0.1,
        weight_of_new: float = 0.1,
        rngs: nnx.Rngs,
    ):
        _refuse(features, strides, spatial_kernel, temporal_kernel)
        dropping.check(drop_path, "core.drop_path")
        dropping.check(cortex_drop_path, "core.cortex_drop_path")
        count = len(features)
        key = rngs.params()
        self.stem = nnx.Param(
            layers.fan_out_normal(key, (input_channels, features[0]), features[0])
        )
        self.stem_norm = layers.BatchNorm(features[0], weight_of_new=weight_of_new)
        self.blocks = nnx.List(
            Block(
                features[i],
                features[min(i + 1, count - 1)],
                stride=strides[i],
                expansion=expansion,
                spatial_kernel=spatial_kernel,
                temporal_kernel=temporal_kernel,
                squeeze=squeeze,
                weight_of_new=weight_of_new,
                rngs=rngs,
            )
            for i in range(count)
        )
        self.cortex = Cortex(
            features[-1], cortex, groups=groups, weight_of_new=weight_of_new, rngs=rngs
        )
        self.num_features = (*features, *cortex)[-1]
        self.drop_rates = tuple(drop_path * i / count for i in range(count))
        self.drop_rates += (cortex_drop_path,) * len(cortex)

    def __call__(
        self, video: jax.Array, *, train: bool, noise: jax.Array | None = None
    ) -> jax.Array:
        """noise: from `draw_noise` in training, else None."""
        of_cortex = None if noise is None else noise[:, len(self.blocks) :]
        return self.cortex(
            self.pooled(video, train=train, noise=noise), train=train, kept=of_cortex
        )

    def pooled(self, video: jax.Array, *, train: bool, noise: jax.Array | None = None) -> jax.Array:
        """What the blocks make of a video, its mean over pixels: [batch time 1 1 channel]."""
        x = self.stem_norm(layers.pointwise(video, self.stem[...]), train=train)
        for index, block in enumerate(self.blocks):
            kept = None if noise is None else noise[:, index]
            x = recomputing.layer(block, self.recompute, x, train=train, kept=kept)
        return jnp.mean(x, axis=(2, 3), keepdims=True)

    def draw_noise(self, key: jax.Array, batch: int, time: int) -> jax.Array | None:
        """Factors of every residual in one training step, [batch residual]; None to drop none."""
        if not any(self.drop_rates):
            return None
        return dropping.factors(key, self.drop_rates, (batch, len(self.drop_rates)))

    def map_size(self, height: int, width: int) -> tuple[int, int]:
        """(1, 1): features are means over all pixels."""
        return 1, 1

    def map_to_image(self, points: jax.Array, height: int, width: int) -> jax.Array:
        """[point 2] of zeros: the only point of the map sees the whole video around its middle."""
        return jnp.zeros_like(points)

    def regularizers(self) -> dict[str, jax.Array]:
        """None: batch norm makes the size of nearly every filter idle, and weights decay."""
        return {}


def nearest(x: jax.Array, size: int, axis: int) -> jax.Array:
    """An axis brought to `size` entries: entry i is the old one at floor(i * old size / size).

    For an even size and half of it these are every second entry, the first of them included; for
    an odd size they are not (goldens: 9 -> 5 takes 0, 1, 3, 5, 7).
    """
    old = x.shape[axis]
    if size == old:
        return x
    if old % size == 0:
        return jax.lax.slice_in_dim(x, 0, old, old // size, axis)
    return jnp.take(x, np.arange(size) * old // size, axis)


def _refuse(features, strides, spatial_kernel, temporal_kernel) -> None:
    if len(strides) != len(features):
        raise UserError(
            f"found {len(strides)} core.strides for {len(features)} core.features, expected as "
            "many, one for each block; make them equal."
        )
    for setting, kernel in (
        ("spatial_kernel", spatial_kernel),
        ("temporal_kernel", temporal_kernel),
    ):
        if kernel % 2 == 0:
            raise UserError(
                f"found core.{setting} {kernel}, expected an odd number, so that maps keep their "
                "size; take one more or one less."
            )
