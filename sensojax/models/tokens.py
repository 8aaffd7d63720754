"""Tokens of a video: each tells what a small patch of a few frames shows.

Video [batch time height width channel] in, tokens [batch time' row column feature] out. Patches
overlap and lie on a grid; each is normalised, mapped to features, and these are normalised again.
A token belongs to the last of its frames and sees none after it. `padded` puts zeros in front of
the first frame and around every frame, so that there is a token for every frame and for every
`stride` pixels (sota 3.2); without it the first frames have none (sota 2.2).

Patches are never cut out, which would copy a published clip 600 times over: mapping a patch is a
convolution, and so is it after normalising, once the mean and the spread of each patch are known.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from sensojax.models import layers, volume
from sensojax.models.norms import NORMS, DyT, LayerNorm, RMSNorm, Same, widened

Pair = tuple[int, int]


class Tokenizer(nnx.Module):
    """patch, stride: pixels; frames: of a patch; norm: of `norms.NORMS`, or "" for none.

    patch_norm: whether the pixels of a patch are normalised first.
    """

    def __init__(
        self,
        channels: int,
        features: int,
        *,
        frames: int,
        patch: int,
        stride: int,
        padded: bool,
        patch_norm: bool,
        norm: str,
        rngs: nnx.Rngs,
    ):
        shape = (frames, patch, patch, channels)
        bound = 1.0 / math.sqrt(math.prod(shape))

        def uniform(*shape):
            return nnx.Param(jax.random.uniform(rngs.params(), shape, minval=-bound, maxval=bound))

        self.patch_norm = NORMS[norm](*shape) if patch_norm else None
        self.kernel = uniform(*shape, features)
        self.bias = uniform(features)
        self.norm = NORMS[norm](features) if norm else Same()
        self.stride = stride
        self.padded = padded

    @property
    def lost_frames(self) -> int:
        """Frames at the beginning without a token."""
        return 0 if self.padded else self.kernel.shape[0] - 1

    def __call__(self, video: jax.Array) -> jax.Array:
        if self.padded:
            _, _, height, width, _ = video.shape
            around = (self._around(height), self._around(width))
            before = self.kernel.shape[0] - 1
            video = jnp.pad(video, ((0, 0), (before, 0), *around, (0, 0)))
        kernel, bias = self.kernel[...], self.bias[...]
        if self.patch_norm is None:
            return self.norm(layers.add(self._convolved(video, kernel), bias))
        if self.patch_norm.bias is not None:
            bias = bias + jnp.einsum("thwc,thwcf->f", self.patch_norm.bias[...], kernel)
        kernel = kernel * self.patch_norm.scale[...][..., None]
        if isinstance(self.patch_norm, DyT):  # of single pixels, whatever patch they are in
            squeezed = self.patch_norm.squeezed(widened(video)).astype(video.dtype)
            return self.norm(layers.add(self._convolved(squeezed, kernel), bias))
        out = self._convolved(video, kernel)
        power = self._patch_mean(jnp.square(widened(video)))
        if isinstance(self.patch_norm, LayerNorm):
            mean = self._patch_mean(widened(video))
            out = out - jnp.dot(mean, jnp.sum(kernel, axis=(0, 1, 2, 3))[None])
            variance = jnp.maximum(power - jnp.square(mean), 0.0)
            rate = lax.rsqrt(variance + LayerNorm.epsilon)
        else:
            rate = RMSNorm.rate(power)
        return self.norm(layers.add(out * rate, bias).astype(video.dtype))

    def _convolved(self, video, kernel):
        return volume.spatiotemporal(video, kernel, stride=(self.stride, self.stride))

    def _patch_mean(self, x):
        """The mean of every patch: [batch time height width channel] -> [... row column 1]."""
        x = jnp.mean(x, axis=-1, keepdims=True)
        frames, patch = self.kernel.shape[:2]
        for axis, size, stride in (
            (1, frames, 1),
            (2, patch, self.stride),
            (3, patch, self.stride),
        ):
            last = x.shape[axis] - size
            starts = range(size)
            x = sum(lax.slice_in_dim(x, i, last + i + 1, stride, axis) for i in starts) / size
        return x

    def _around(self, size: int) -> Pair:
        """Zeros before and after `size` pixels, as many as give each `stride` of them a token."""
        patch = self.kernel.shape[1]
        missing = (-(-size // self.stride) - 1) * self.stride + patch - size
        return max(missing // 2, 0), max(missing - missing // 2, 0)

    def grid(self, height: int, width: int) -> Pair:
        """(rows, columns) of tokens of a frame of this size."""
        patch = self.kernel.shape[1]
        padding = (sum(self._around(size)) * self.padded for size in (height, width))
        sizes = zip((height, width), padding, strict=True)
        return tuple((size + more - patch) // self.stride + 1 for size, more in sizes)

    def map_to_image(self, points: jax.Array, height: int, width: int) -> jax.Array:
        """Where in a frame the patches around points of the grid lie.

        points: [point 2] as (x, y) in -1..1 of the grid; the result likewise of the frame.
        """
        rows, columns = self.grid(height, width)
        found = []
        for axis, (size, count) in enumerate(((width, columns), (height, rows))):
            first = (self.kernel.shape[1] - 1) / 2 - self._around(size)[0] * self.padded
            pixel = first + self.stride * (points[:, axis] + 1.0) * (count - 1) / 2
            found.append(2.0 * pixel / (size - 1) - 1.0)
        return jnp.stack(found, axis=-1)


class OfTokens(nnx.Module):
    """A core that sets `tokenizer`, and `drops`: whether it leaves anything out in training."""

    def draw_noise(self, key: jax.Array, batch: int, time: int) -> jax.Array | None:
        """A key for each example, from which all that it leaves out is drawn: [batch]."""
        return jax.random.split(key, batch) if self.drops else None

    def map_size(self, height: int, width: int) -> tuple[int, int]:
        """(rows, columns) of tokens for a video of this size."""
        return self.tokenizer.grid(height, width)

    def map_to_image(self, points: jax.Array, height: int, width: int) -> jax.Array:
        """Where the patches of points of the map lie in the video, both [point 2] in -1..1."""
        return self.tokenizer.map_to_image(points, height, width)

    def regularizers(self) -> dict[str, jax.Array]:
        """None: weights decay in the optimizer, and much is left out."""
        return {}
