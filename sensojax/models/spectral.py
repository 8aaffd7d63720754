"""Spatial convolutions of whole videos in the transform domain, and when that is worthwhile.

In: video or features [batch time height width channel] and a kernel; out: the correlation of every
frame with it, and its gradients. A few dozen frames are done at a time, so that what they are
transformed into never takes more than a part of the memory that features take. Sums are float32
whatever the precision of the features.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from sensojax.models import fourier

# Making one number of a spectrum takes as long as so many multiplications (it is bound by memory):
# 65 ms for the 24 million of kernels from 64 to 192 channels and maps of 28 x 56 pixels.
COST_OF_SPECTRUM = 200
# Products of transforms are small, and reach half the rate of direct ones. Direct multiplications
# over those with transforms, and measured time (of the row formulation) over time in training:
#   64 -> 192, 9x9   11.1   6.3      32 -> 64, 5x5     2.1   1.4      64 -> 64, 3x3    1.1   1.0
#   64 -> 64, 7x7     5.3   4.0      3 -> 32, 11x11    1.8   1.9      64 -> 64, 9x9,
#   64 -> 128, 5x5    2.8   1.8      3 -> 64, 9x9      1.3   1.1         two frames    0.6   0.7
SMALLEST_SAVING = 1.5


def worthwhile(shape: tuple[int, ...], kernel: tuple[int, ...], padding: fourier.Pair) -> bool:
    """Whether frames [batch time height width channel] are better transformed.

    kernel: shape [height width channel feature].
    """
    batch, time, height, width, channel = shape
    if any(p > k - 1 for p, k in zip(padding, kernel[:2], strict=True)):
        return False
    plan = fourier.Plan((height, width), kernel[:2], padding)
    direct, transformed = multiplications(plan, batch * time, channel, kernel[3])
    return fourier.fits(plan, channel, kernel[3]) and direct > SMALLEST_SAVING * transformed


def multiplications(
    plan: fourier.Plan, frames: int, channel: int, feature: int
) -> tuple[float, float]:
    """What it takes to correlate so many frames: directly, and with transforms."""
    (height, width), (new_height, new_width) = plan.size, plan.output
    columns, numbers = plan.period[0], 2 * plan.rows * plan.period[0]
    there = 2 * plan.rows * height * (width + 2 * columns)
    back = 2 * plan.rows * new_height * (new_width + 2 * columns)
    pairs = channel * feature
    each_frame = channel * there + feature * back + 2 * numbers * pairs
    direct = new_height * new_width * plan.kernel[0] * plan.kernel[1] * pairs
    return float(frames * direct), float(frames * each_frame + COST_OF_SPECTRUM * numbers * pairs)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def spatial(padding: fourier.Pair, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """[batch time height width channel] -> [batch time height' width' feature].

    padding: zeros on each side, (height, width); kernel: [height width channel feature].
    """
    plan = fourier.Plan(x.shape[2:4], kernel.shape[:2], padding)
    transformed = fourier.spectrum(plan, kernel)
    frames = x.reshape(-1, *x.shape[2:])
    count, starts = _portions(len(frames), plan, *kernel.shape[2:])

    def one_portion(out, start):
        here = _width_first(lax.dynamic_slice_in_dim(frames, start, count))
        found = _width_first(fourier.correlate(plan, here, transformed))
        return lax.dynamic_update_slice_in_dim(out, found.astype(out.dtype), start, 0), None

    out = jnp.zeros((len(frames), *plan.output, kernel.shape[-1]), x.dtype)
    out, _ = lax.scan(one_portion, out, starts)
    return out.reshape(*x.shape[:2], *out.shape[1:])


def _width_first(frames):
    """[frame height width channel] -> [width height frame channel], and back."""
    return frames.transpose(2, 1, 0, 3)


def _spatial_forward(padding, x, kernel):
    return spatial(padding, x, kernel), (x, kernel)


def _spatial_backward(padding, saved, gradient):
    x, kernel = saved
    plan = fourier.Plan(x.shape[2:4], kernel.shape[:2], padding)
    reverse = fourier.spectrum(plan.reverse, fourier.reversed_kernel(kernel))
    frames, gradients = (each.reshape(-1, *each.shape[2:]) for each in (x, gradient))
    count, starts = _portions(len(frames), plan, *kernel.shape[2:])
    # The last portion may begin within the one before it: these frames are not counted twice.
    new = starts[:, None] + np.arange(count) >= count * np.arange(len(starts))[:, None]
    new = new[..., None, None, None]

    def one_portion(so_far, start_and_new):
        d_x, d_kernel = so_far
        start, new = start_and_new
        counted = jnp.where(new, lax.dynamic_slice_in_dim(frames, start, count), 0.0)
        g = lax.dynamic_slice_in_dim(gradients, start, count)
        x, g = _width_first(counted), _width_first(g)
        d_kernel, found = fourier.gradients(plan, x, g, d_kernel, reverse)
        found = _width_first(found).astype(d_x.dtype)
        return (lax.dynamic_update_slice_in_dim(d_x, found, start, 0), d_kernel), None

    so_far = (jnp.zeros_like(frames), fourier.no_gradient(plan, *kernel.shape[2:]))
    (d_x, d_kernel), _ = lax.scan(one_portion, so_far, (starts, new))
    return d_x.reshape(x.shape), fourier.kernel_of(plan, d_kernel).astype(kernel.dtype)


spatial.defvjp(_spatial_forward, _spatial_backward)


def _portions(
    frames: int, plan: fourier.Plan, channel: int, feature: int
) -> tuple[int, np.ndarray]:
    """How many frames to transform together, and the first ones of every such portion.

    The last portion ends with the last frame, so it may begin within the one before.
    """
    count = -(-frames // fourier.frames_at_once(plan, channel, feature))
    size = -(-frames // count)
    return size, np.minimum(size * np.arange(count), frames - size)
