"""Convolution over space and time at once, lowered for the platform it runs on.

In: video or features [batch time height width channel] and a kernel over time, height and width;
out: the cross-correlation with it. Nothing is padded in time, so a result never sees frames later
than its own.

On the CPU XLA's 3-D convolution reaches 5 to 60 GFLOP/s. Here the frames that a kernel reaches are
stacked on the channel axis, and the kernel becomes one of `convolution.spatial`. A few frames at a
time, since a stack of many channels leaves the cache: of 64 channels, one frame at a time is 1.3
times as fast as all nine, of 32 channels three at a time are 1.5 times as fast as one or all, of 3
channels all nine are 2 to 4 times as fast as one. Measured on 2 cores, forward and backward, beside
XLA: 3 -> 16 channels, 9x9x9 on 18x32 pixels: 150 and 6 GFLOP/s; 3 -> 64, 9x9x9 on 36x64: 200 and 7;
64 -> 64, 9x7x7: 220 and 60; and where `spatial` transforms large kernels, two to four times that.
On accelerators XLA's own convolution is used.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from sensojax.models import convolution, geometry

Pair = tuple[int, int]
STACKED_CHANNELS = 96  # about as many at a time, see above


def spatiotemporal(
    x: jax.Array,
    kernel: jax.Array,
    *,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    temporal_dilation: int = 1,
) -> jax.Array:
    """Correlates a video with `kernel`.

    x: [batch time height width channel]; kernel: [time height width channel feature]; the pairs
    are (height, width), padding with zeros on both sides. Returns [batch time' height' width'
    feature] with time' = time - (kernel frames - 1) * temporal_dilation. Raises UserError when the
    kernel has nowhere to lie.
    """
    convolution.refuse_small(x.shape[1], kernel.shape[0], temporal_dilation, "frames")
    space = dict(stride=stride, padding=padding, dilation=dilation)
    stacked = functools.partial(_stacked, space, temporal_dilation)
    if x.dtype == jnp.bfloat16:
        stacked = convolution.in_float32(stacked)
    direct = functools.partial(_direct, space, temporal_dilation)
    return lax.platform_dependent(x, kernel, cpu=stacked, default=direct)


def _direct(space, temporal_dilation, x, kernel):
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(1, *space["stride"]),
        padding=[(0, 0), *((pad, pad) for pad in space["padding"])],
        rhs_dilation=(temporal_dilation, *space["dilation"]),
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
    )


def _stacked(space, temporal_dilation, x, kernel):
    kernel_frames, *_, channel, _ = kernel.shape
    together = max(1, STACKED_CHANNELS // channel)
    out_frames = geometry.output_size(x.shape[1], kernel_frames, dilation=temporal_dilation)
    out = 0.0
    for first in range(0, kernel_frames, together):
        starts = range(first, min(first + together, kernel_frames))
        seen = [x[:, t * temporal_dilation : t * temporal_dilation + out_frames] for t in starts]
        flat = jnp.concatenate([kernel[t] for t in starts], axis=2)
        out = out + convolution.spatial(jnp.concatenate(seen, axis=-1), flat, **space)
    return out
