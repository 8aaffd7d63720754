"""Depthwise convolutions: every channel correlated with a filter of its own, in space or in time.

In: features [batch time height width channel] and a kernel [height width channel] or [time
channel]; out: features. There is no matrix product in them, so on the CPU they are written as what
they are, a sum of shifted products (XLA's own grouped convolution is 10 to 100 times slower there),
of so little at a time that it stays in cache: some frames, or some pixels in all frames. Measured
on 2 cores, 16 frames of 32 x 32 pixels and 448 channels, processor time: 3 x 3 pixels 18 -> 5 ms
forward and 49 -> 15 ms with both gradients, compared with the same sums over the whole array;
5 frames 28 -> 5 ms. Accelerators use XLA's convolution.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from sensojax.models import convolution, geometry, layers

Pair = tuple[int, int]
AT_ONCE = 2**21  # bytes that stay in the second cache of two cores


def depthwise(
    x: jax.Array,
    kernel: jax.Array,
    *,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
) -> jax.Array:
    """Correlates channel c of every frame with kernel[..., c].

    x: [batch time height width channel]; kernel: [height width channel]; the pairs are (height,
    width), padding with zeros on both sides. Returns [batch time height' width' channel].
    """
    pad_h, pad_w = padding
    convolution.refuse_small(x.shape[2] + 2 * pad_h, kernel.shape[0], dilation[0], "rows of pixels")
    convolution.refuse_small(
        x.shape[3] + 2 * pad_w, kernel.shape[1], dilation[1], "columns of pixels"
    )
    shifts = functools.partial(_space, stride, padding, dilation)
    return _lowered(x, kernel, shifts, functools.partial(_space_direct, stride, padding, dilation))


def temporal(x: jax.Array, kernel: jax.Array, *, padding: int = 0) -> jax.Array:
    """Correlates channel c of every pixel's time course with kernel[:, c].

    x: [batch time height width channel]; kernel: [time channel]; padding: zeros before the first
    and after the last frame. Returns [batch time' height width channel].
    """
    convolution.refuse_small(x.shape[1] + 2 * padding, kernel.shape[0], 1, "frames")
    shifts = functools.partial(_time, padding)
    return _lowered(x, kernel, shifts, functools.partial(_time_direct, padding))


def _lowered(x, kernel, shifts, direct):
    kernel = kernel.astype(x.dtype)
    shifts = convolution.in_float32(shifts) if x.dtype == jnp.bfloat16 else shifts
    shifts = layers.on_each_device(shifts, (PartitionSpec("data"), PartitionSpec()))
    return lax.platform_dependent(x, kernel, cpu=shifts, default=direct)


def _space_direct(stride, padding, dilation, x, kernel):
    batch, time, height, width, channel = x.shape
    out = lax.conv_general_dilated(
        x.reshape(batch * time, height, width, channel),
        kernel[:, :, None],
        window_strides=stride,
        padding=[(size, size) for size in padding],
        rhs_dilation=dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=channel,
    )
    return out.reshape(batch, time, *out.shape[1:])


def _time_direct(padding, x, kernel):
    batch, time, height, width, channel = x.shape
    out = lax.conv_general_dilated(
        x.reshape(batch, time, height * width, channel),
        kernel[:, None, None],
        window_strides=(1, 1),
        padding=[(padding, padding), (0, 0)],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=channel,
    )
    return out.reshape(batch, -1, height, width, channel)


def _every(first: int, count: int, step: int) -> slice:
    return slice(first, first + (count - 1) * step + 1, step)


def _padded(x, around):
    """x with zeros around, before anything is done with it: fused, every sum asks where it is."""
    if not any(size for pixels in around for size in pixels):
        return x
    return lax.optimization_barrier(lax.pad(x, jnp.zeros((), x.dtype), around))


def _times(met, weights):
    return met * jnp.broadcast_to(weights, met.shape)


def _largest_divisor(count: int, at_most: int) -> int:
    return max(each for each in range(1, max(min(count, at_most), 1) + 1) if count % each == 0)


# --- space: frames by frames ----------------------------------------------------------------------


def _groups(*arrays):
    """Arrays [batch time ...] as groups of frames, [group frame ...], or as frames if these are
    large: [group ...]. An axis of length 1 would make XLA's loops several times slower."""
    count = arrays[0].shape[0] * arrays[0].shape[1]
    together = _largest_divisor(count, AT_ONCE // (4 * arrays[0][0, 0].size))
    lead = (count,) if together == 1 else (count // together, together)
    return tuple(x.reshape(*lead, *x.shape[2:]) for x in arrays)


def _correlated(x, kernel, size, stride, dilation):
    """Padded frames [... height width channel] -> [... height' width' channel]."""
    out = 0.0
    for i, j in itertools.product(*map(range, kernel.shape[:2])):
        rows = _every(i * dilation[0], size[0], stride[0])
        met = x[..., rows, _every(j * dilation[1], size[1], stride[1]), :]
        out = out + _times(met, kernel[i, j])
    return out


def _of_kernel(x, gradient, shape, stride, dilation):
    """The kernel's gradient from some padded frames: products with what each weight meets."""
    kh, kw, channel = shape
    height, width = gradient.shape[-3:-1]
    ones = jnp.ones((1, gradient.size // channel), gradient.dtype)
    reach = (height - 1) * stride[0] + 1

    def one_row(i):
        met = lax.dynamic_slice_in_dim(x, i * dilation[0], reach, x.ndim - 3)
        met = met[..., :: stride[0], :, :]
        found = (met[..., _every(j * dilation[1], width, stride[1]), :] * gradient
                 for j in range(kw))  # fmt: skip
        # As a product with ones the sum is vectorised; XLA's own is not.
        return jnp.concatenate([jnp.dot(ones, each.reshape(-1, channel)) for each in found])

    return lax.map(one_row, jnp.arange(kh))


def _around(lead, height, width):
    return [(0, 0, 0)] * lead + [height, width, (0, 0, 0)]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _space(stride, padding, dilation, x, kernel):
    sizes = zip(x.shape[2:4], kernel.shape, stride, padding, dilation, strict=False)
    size = tuple(geometry.output_size(*each) for each in sizes)
    (frames,) = _groups(x)
    around = _around(frames.ndim - 4, *((pixels, pixels, 0) for pixels in padding))

    def one_group(group):
        return _correlated(_padded(group, around), kernel, size, stride, dilation)

    return lax.map(one_group, frames).reshape(*x.shape[:2], *size, -1)


def _space_forward(stride, padding, dilation, x, kernel):
    return _space(stride, padding, dilation, x, kernel), (x, kernel)


def _space_backward(stride, padding, dilation, saved, gradient):
    x, kernel = saved
    size = gradient.shape[2:4]
    frames, gradients = _groups(x, gradient)
    around = _around(frames.ndim - 4, *((pixels, pixels, 0) for pixels in padding))
    # The gradient of a correlation is a correlation with the flipped kernel, around zeros.
    spread = []
    for n, k, out, s, p, d in zip(
        x.shape[2:4], kernel.shape, size, stride, padding, dilation, strict=False
    ):
        before = (k - 1) * d - p
        spread.append((before, n + p - (out - 1) * s - 1, s - 1))
    spread = _around(frames.ndim - 4, *spread)
    flipped = jnp.flip(kernel, (0, 1))

    def one_group(total, group):
        frame, g = group
        total += _of_kernel(_padded(frame, around), g, kernel.shape, stride, dilation)
        return total, _correlated(_padded(g, spread), flipped, x.shape[2:4], (1, 1), dilation)

    d_kernel, d_x = lax.scan(one_group, jnp.zeros_like(kernel), (frames, gradients))
    return d_x.reshape(x.shape), d_kernel


_space.defvjp(_space_forward, _space_backward)


# --- time: pixels by pixels -----------------------------------------------------------------------


def _pixels_at_once(x) -> int:
    """How many pixels of a clip stay in cache: of [batch time pixel channel]."""
    _, time, pixels, channel = x.shape
    return _largest_divisor(pixels, AT_ONCE // (8 * time * channel))


def _over_time(part, kernel, frames: int):
    """[time pixel channel] -> [time' pixel channel]."""
    return sum(_times(part[i : i + frames], weights) for i, weights in enumerate(kernel))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _time(padding, x, kernel):
    batch, time, height, width, channel = x.shape
    frames = geometry.output_size(time, kernel.shape[0], padding=padding)
    flat = x.reshape(batch, time, height * width, channel)
    pixels = _pixels_at_once(flat)
    around = [(padding, padding, 0), (0, 0, 0), (0, 0, 0)]

    def one_part(index, out):
        at = _at(index, flat, pixels)
        part = _padded(lax.dynamic_slice(flat, at, (1, time, pixels, channel))[0], around)
        found = _over_time(part, kernel, frames)
        return lax.dynamic_update_slice(out, found[None], at)

    nothing = jnp.zeros((batch, frames, height * width, channel), x.dtype)
    out = lax.fori_loop(0, batch * height * width // pixels, one_part, nothing)
    return out.reshape(batch, frames, height, width, channel)


def _at(index, flat, pixels):
    """Where part number `index` begins."""
    parts = flat.shape[2] // pixels
    return index // parts, 0, (index % parts) * pixels, 0


def _time_forward(padding, x, kernel):
    return _time(padding, x, kernel), (x, kernel)


def _time_backward(padding, saved, gradient):
    x, kernel = saved
    batch, time, height, width, channel = x.shape
    frames, reach = gradient.shape[1], kernel.shape[0] - 1
    flat = x.reshape(batch, time, height * width, channel)
    gradients = gradient.reshape(batch, frames, height * width, channel)
    pixels, flipped = _pixels_at_once(flat), jnp.flip(kernel, 0)
    around = [(padding, padding, 0), (0, 0, 0), (0, 0, 0)]
    spread = [(reach - padding, reach - padding, 0), (0, 0, 0), (0, 0, 0)]
    ones = jnp.ones((1, frames * pixels), gradient.dtype)

    def one_part(index, found):
        d_x, d_kernel = found
        at = _at(index, flat, pixels)
        part = _padded(lax.dynamic_slice(flat, at, (1, time, pixels, channel))[0], around)
        g = lax.dynamic_slice(gradients, at, (1, frames, pixels, channel))[0]
        sums = [
            jnp.dot(ones, (part[i : i + frames] * g).reshape(-1, channel)) for i in range(reach + 1)
        ]
        of_part = _over_time(_padded(g, spread), flipped, time)
        return lax.dynamic_update_slice(d_x, of_part[None], at), d_kernel + jnp.concatenate(sums)

    nothing = jnp.zeros_like(flat), jnp.zeros_like(kernel)
    parts = batch * height * width // pixels
    d_x, d_kernel = lax.fori_loop(0, parts, one_part, nothing)
    return d_x.reshape(x.shape), d_kernel


_time.defvjp(_time_forward, _time_backward)
