"""The convolutions that cores are made of, lowered for the platform they run on.

In: video or features [batch time height width channel] and a kernel; out: the cross-correlation
with it, as in every published system. `spatial` works within frames, `temporal` across them and
never looks ahead of the frames it is given (no padding in time).

Why not simply `lax.conv_general_dilated`: on the CPU it reaches a tenth to a third of the matmul
rate for these layers, because it unrolls whole videos into memory. Here a frame's columns are
stacked on the channel axis once (one contiguous copy per kernel column, small enough to stay in
cache), and then each kernel row is one matrix product with a contiguous slab of that frame.
Measured on 2 cores, published layers, forward: 20 -> 130, 57 -> 280 and 83 -> 370 GFLOP/s
(`scripts/bench.py`). Gradients are written the same way, since the derivative of the loop would
keep every frame's stack in memory. Where kernels and channels are large, even fewer operations are
needed in the transform domain (`models.spectral`). On accelerators XLA's own convolution is used.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from sensojax.errors import UserError
from sensojax.models import layers, spectral

Pair = tuple[int, int]


def spatial(
    x: jax.Array,
    kernel: jax.Array,
    *,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
) -> jax.Array:
    """Correlates every frame with `kernel`.

    x: [batch time height width channel]; kernel: [height width channel feature]; the pairs are
    (height, width), padding with zeros on both sides. Returns [batch time height' width' feature].
    """
    pad_h, pad_w = padding
    refuse_small(x.shape[2] + 2 * pad_h, kernel.shape[0], dilation[0], "rows of pixels")
    refuse_small(x.shape[3] + 2 * pad_w, kernel.shape[1], dilation[1], "columns of pixels")
    if stride == dilation == (1, 1) and spectral.worthwhile(x.shape, kernel.shape, padding):
        on_cpu = functools.partial(spectral.spatial, padding)
    else:
        on_cpu = functools.partial(_spatial_padded, stride, padding, dilation)
    direct = functools.partial(_spatial_direct, stride, padding, dilation)
    return _lowered(x, kernel, cpu=on_cpu, default=direct)


def temporal(x: jax.Array, kernel: jax.Array, *, dilation: int = 1) -> jax.Array:
    """Correlates every pixel's time course with `kernel`, without padding.

    x: [batch time height width channel]; kernel: [time channel feature]. Returns
    [batch time' height width feature] with time' = time - (kernel frames - 1) * dilation; frame
    t of the result has seen frames t .. t + (kernel frames - 1) * dilation of x.
    """
    refuse_small(x.shape[1], kernel.shape[0], dilation, "frames")
    slabs = functools.partial(_temporal_slabs, dilation)
    direct = functools.partial(_temporal_direct, dilation)
    return _lowered(x, kernel, cpu=slabs, default=direct)


def refuse_small(size: int, kernel: int, dilation: int, what: str) -> None:
    """UserError when a kernel has nowhere to lie."""
    reach = dilation * (kernel - 1) + 1
    if size < reach:
        raise UserError(
            f"found {size} {what} for a kernel that reaches over {reach}, expected at least as "
            "many; choose smaller kernels in config.core, or larger (less pooled, longer) videos."
        )


def output_size(
    size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1
) -> int:
    """Length of an axis after a convolution."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def _lowered(x, kernel, *, cpu, default):
    """Picks the formulation for the platform; loops over frames stay within each device."""
    kernel = kernel.astype(x.dtype)
    cpu = in_float32(cpu) if x.dtype == jnp.bfloat16 else cpu
    cpu = layers.on_each_device(cpu, (PartitionSpec("data"), PartitionSpec()))
    return lax.platform_dependent(x, kernel, cpu=cpu, default=default)


def in_float32(function):
    """A formulation for CPUs given bfloat16: their products and sums are of float32."""

    def run(x, kernel):
        wide = (each.astype(jnp.float32) for each in (x, kernel))
        return function(*wide).astype(x.dtype)

    return run


def _spatial_direct(stride, padding, dilation, x, kernel):
    batch, time, height, width, channel = x.shape
    out = lax.conv_general_dilated(
        x.reshape(batch * time, height, width, channel),
        kernel,
        window_strides=stride,
        padding=[(size, size) for size in padding],
        rhs_dilation=dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return out.reshape(batch, time, *out.shape[1:])


def _temporal_direct(dilation, x, kernel):
    batch, time, height, width, channel = x.shape
    out = lax.conv_general_dilated(
        x.reshape(batch, time, height * width, channel),
        kernel[:, None],
        window_strides=(1, 1),
        padding="VALID",
        rhs_dilation=(dilation, 1),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return out.reshape(batch, out.shape[1], height, width, out.shape[-1])


# --- CPU, space: a frame's columns stacked on channels, one product per kernel row ---------------


def _stack_columns(frame, num_columns, stride, dilation):
    """[height width channel] -> [height width' (column channel)]."""
    reach = frame.shape[1] - dilation * (num_columns - 1)
    shifted = [frame[:, i * dilation : i * dilation + reach : stride] for i in range(num_columns)]
    return jnp.concatenate(shifted, axis=-1)


def _slab(row, num_out, stride, dilation):
    """The rows of a stacked frame that kernel row `row` meets."""
    first = row * dilation
    return slice(first, first + (num_out - 1) * stride + 1, stride)


def _spatial_padded(stride, padding, dilation, x, kernel):
    if any(padding):
        x = jnp.pad(x, ((0, 0), (0, 0), *((size, size) for size in padding), (0, 0)))
    return _spatial_slabs(stride, dilation, x, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _spatial_slabs(stride, dilation, x, kernel):
    kh, kw, channel, feature = kernel.shape
    batch, time, height, width, _ = x.shape
    out_h = output_size(height, kh, stride[0], 0, dilation[0])
    out_w = output_size(width, kw, stride[1], 0, dilation[1])
    rows = kernel.reshape(kh, kw * channel, feature)

    def one_frame(frame):
        stacked = _stack_columns(frame, kw, stride[1], dilation[1])
        out = 0.0
        for row in range(kh):
            slab = stacked[_slab(row, out_h, stride[0], dilation[0])]
            out = out + jnp.dot(slab.reshape(out_h * out_w, kw * channel), rows[row])
        return out.reshape(out_h, out_w, feature)

    out = lax.map(one_frame, x.reshape(batch * time, height, width, channel))
    return out.reshape(batch, time, out_h, out_w, feature)


def _spatial_slabs_forward(stride, dilation, x, kernel):
    return _spatial_slabs(stride, dilation, x, kernel), (x, kernel)


def _spatial_slabs_backward(stride, dilation, saved, gradient):
    x, kernel = saved
    kh, kw, channel, feature = kernel.shape
    batch, time, out_h, out_w, _ = gradient.shape
    rows = kernel.reshape(kh, kw * channel, feature)
    stack = functools.partial(
        _stack_columns, num_columns=kw, stride=stride[1], dilation=dilation[1]
    )

    def one_frame(d_rows, frame_and_gradient):
        frame, g = frame_and_gradient
        g = g.reshape(out_h * out_w, feature)
        stacked, unstack = jax.vjp(stack, frame)
        d_stacked = jnp.zeros_like(stacked)
        d_each_row = []
        for row in range(kh):
            slab = _slab(row, out_h, stride[0], dilation[0])
            met = stacked[slab].reshape(out_h * out_w, kw * channel)
            d_each_row.append(jnp.dot(met.T, g))
            d_met = jnp.dot(g, rows[row].T).reshape(out_h, out_w, kw * channel)
            d_stacked = d_stacked.at[slab].add(d_met)
        return d_rows + jnp.stack(d_each_row), unstack(d_stacked)[0]

    frames = x.reshape(batch * time, *x.shape[2:])
    gradients = gradient.reshape(batch * time, out_h, out_w, feature)
    d_rows, d_frames = lax.scan(one_frame, jnp.zeros_like(rows), (frames, gradients))
    return d_frames.reshape(x.shape), d_rows.reshape(kernel.shape)


_spatial_slabs.defvjp(_spatial_slabs_forward, _spatial_slabs_backward)


# --- CPU, time: each output frame is a sum of products with a few neighbouring frames ------------


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _temporal_slabs(dilation, x, kernel):
    frames_in_kernel, channel, feature = kernel.shape
    batch, time, height, width, _ = x.shape
    out_time = output_size(time, frames_in_kernel, dilation=dilation)
    flat = x.reshape(batch, time, height * width, channel)

    def one_frame(index):
        clip, first = index // out_time, index % out_time
        seen = _neighbours(flat, clip, first, frames_in_kernel, dilation)
        return sum(jnp.dot(seen[i], kernel[i]) for i in range(frames_in_kernel))

    out = lax.map(one_frame, jnp.arange(batch * out_time))
    return out.reshape(batch, out_time, height, width, feature)


def _neighbours(flat, clip, first, count, dilation):
    """Frames first, first + dilation, ... of one clip: [frame pixel channel]."""
    reach = (count - 1) * dilation + 1
    size = (1, reach, *flat.shape[2:])
    return lax.dynamic_slice(flat, (clip, first, 0, 0), size)[0, ::dilation]


def _temporal_slabs_forward(dilation, x, kernel):
    return _temporal_slabs(dilation, x, kernel), (x, kernel)


def _temporal_slabs_backward(dilation, saved, gradient):
    x, kernel = saved
    frames_in_kernel, channel, _ = kernel.shape
    batch, time, height, width, _ = x.shape
    out_time = gradient.shape[1]
    reach = (frames_in_kernel - 1) * dilation

    padded = jnp.pad(gradient, ((0, 0), (reach, reach), (0, 0), (0, 0), (0, 0)))
    d_x = _temporal_slabs(dilation, padded, jnp.flip(kernel, 0).transpose(0, 2, 1))

    flat = x.reshape(batch, time, height * width, channel)
    gradients = gradient.reshape(batch * out_time, height * width, -1)

    def one_frame(d_kernel, index):
        clip, first = index // out_time, index % out_time
        seen = _neighbours(flat, clip, first, frames_in_kernel, dilation)
        g = gradients[index]
        return d_kernel + jnp.stack([jnp.dot(frame.T, g) for frame in seen]), None

    d_kernel, _ = lax.scan(one_frame, jnp.zeros_like(kernel), jnp.arange(batch * out_time))
    return d_x, d_kernel


_temporal_slabs.defvjp(_temporal_slabs_forward, _temporal_slabs_backward)
