"""The depthwise convolution: every channel of a frame correlated with a filter of its own.

In: features [batch time height width channel] and a kernel [height width channel]; out: features.
There is no matrix product in it, so on the CPU it is written as what it is, a sum of shifted
products (XLA's own grouped convolution is 10 to 100 times slower there), and its gradient for the
kernel as sums over single frames, which stay in cache. Accelerators use XLA's convolution.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from sensojax.models import convolution, layers

Pair = tuple[int, int]


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
    if pad_h or pad_w:
        x = jnp.pad(x, ((0, 0), (0, 0), (pad_h, pad_h), (pad_w, pad_w), (0, 0)))
    shifts = functools.partial(_shifts, stride, dilation)
    direct = functools.partial(_direct, stride, dilation)
    shifts = layers.on_each_device(shifts, (PartitionSpec("data"), PartitionSpec()))
    return lax.platform_dependent(x, kernel, cpu=shifts, default=direct)


def _direct(stride, dilation, x, kernel):
    batch, time, height, width, channel = x.shape
    out = lax.conv_general_dilated(
        x.reshape(batch * time, height, width, channel),
        kernel[:, :, None],
        window_strides=stride,
        padding="VALID",
        rhs_dilation=dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=channel,
    )
    return out.reshape(batch, time, *out.shape[1:])


def _every(first: int, count: int, step: int) -> slice:
    return slice(first, first + (count - 1) * step + 1, step)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _shifts(stride, dilation, x, kernel):
    sizes = zip(x.shape[2:4], kernel.shape, stride, dilation, strict=False)
    height, width = (convolution.output_size(n, k, s, 0, d) for n, k, s, d in sizes)
    out = 0.0
    for i, j in itertools.product(*map(range, kernel.shape[:2])):
        rows = _every(i * dilation[0], height, stride[0])
        met = x[:, :, rows, _every(j * dilation[1], width, stride[1])]
        out = out + met * jnp.broadcast_to(kernel[i, j], met.shape)
    return out


def _forward(stride, dilation, x, kernel):
    return _shifts(stride, dilation, x, kernel), (x, kernel)


def _backward(stride, dilation, saved, gradient):
    x, kernel = saved
    # The gradient of a correlation is a correlation with the flipped kernel, around zeros.
    around = [(0, 0, 0), (0, 0, 0)]
    for size, k, out, s, d in zip(
        x.shape[2:4], kernel.shape, gradient.shape[2:4], stride, dilation, strict=False
    ):
        around.append(((k - 1) * d, size - (out - 1) * s - 1, s - 1))
    spread = lax.pad(gradient, jnp.zeros((), gradient.dtype), (*around, (0, 0, 0)))
    d_x = _shifts((1, 1), dilation, spread, jnp.flip(kernel, (0, 1)))
    return d_x, _of_kernel(stride, dilation, x, gradient, kernel.shape)


def _of_kernel(stride, dilation, x, gradient, shape):
    """The kernel's gradient, frame by frame: products of shifted maps, summed over pixels."""
    kh, kw, channel = shape
    height, width = gradient.shape[2:4]
    ones = jnp.ones((1, height * width), gradient.dtype)
    reach = (height - 1) * stride[0] + 1

    def one_frame(total, frame_and_gradient):
        frame, g = frame_and_gradient

        def one_row(i):
            met = lax.dynamic_slice_in_dim(frame, i * dilation[0], reach)[:: stride[0]]
            found = (met[:, _every(j * dilation[1], width, stride[1])] * g for j in range(kw))
            # As a product with ones the sum is vectorised; XLA's own is not.
            return jnp.concatenate([jnp.dot(ones, each.reshape(-1, channel)) for each in found])

        return total + lax.map(one_row, jnp.arange(kh)), None

    frames = tuple(each.reshape(-1, *each.shape[2:]) for each in (x, gradient))
    return lax.scan(one_frame, jnp.zeros(shape, gradient.dtype), frames)[0]


_shifts.defvjp(_forward, _backward)
