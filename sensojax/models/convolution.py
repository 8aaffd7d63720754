"""The convolutions that cores are made of, lowered for the platform they run on.

In: video or features [batch time height width channel] and a kernel; out: the cross-correlation
with it, as in every published system. `spatial` works within frames, `temporal` across them and
never looks ahead of the frames it is given (no padding in time).

Why not simply `lax.conv_general_dilated`: on the CPU it reaches a tenth to a third of the matmul
rate for these layers, and less for their gradients, because it unrolls whole videos into memory.
There frames are taken one by one, as products of matrices (`models.slabs`), or, where kernels and
channels are large, in the transform domain, which needs far fewer operations (`models.spectral`).
How they compare, layer by layer: docs/convolutions.md. On accelerators XLA's own convolution is
used.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from sensojax.errors import UserError
from sensojax.models import layers, slabs, spectral

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
    if kernel.shape[:2] == stride == (1, 1) and padding == (0, 0):
        on_cpu = slabs.pointwise
    elif stride == dilation == (1, 1) and spectral.worthwhile(x.shape, kernel.shape, padding):
        on_cpu = functools.partial(spectral.spatial, padding)
    else:
        on_cpu = functools.partial(slabs.spatial, stride, padding, dilation)
    direct = functools.partial(_spatial_direct, stride, padding, dilation)
    return _lowered(x, kernel, cpu=on_cpu, default=direct)


def temporal(x: jax.Array, kernel: jax.Array, *, dilation: int = 1) -> jax.Array:
    """Correlates every pixel's time course with `kernel`, without padding.

    x: [batch time height width channel]; kernel: [time channel feature]. Returns
    [batch time' height width feature] with time' = time - (kernel frames - 1) * dilation; frame
    t of the result has seen frames t .. t + (kernel frames - 1) * dilation of x.
    """
    refuse_small(x.shape[1], kernel.shape[0], dilation, "frames")
    on_cpu = functools.partial(slabs.temporal, dilation)
    direct = functools.partial(_temporal_direct, dilation)
    return _lowered(x, kernel, cpu=on_cpu, default=direct)


def refuse_small(size: int, kernel: int, dilation: int, what: str) -> None:
    """UserError when a kernel has nowhere to lie."""
    reach = dilation * (kernel - 1) + 1
    if size < reach:
        raise UserError(
            f"found {size} {what} for a kernel that reaches over {reach}, expected at least as "
            "many; choose smaller kernels in config.core, or larger (less pooled, longer) videos."
        )


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
