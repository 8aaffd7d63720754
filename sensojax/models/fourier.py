"""Convolutions in the transform domain: how CPUs correlate frames with large kernels.

In: frames [width height frame channel] and a kernel; out: their correlation in the same order of
axes, stride 1, zeros outside. Transformed, a correlation is one product of matrices over channels
for each frequency, and far fewer multiplications: 9x9 kernels from 64 to 192 channels need less
than a tenth of them, and run six times as fast (numbers: `spectral`).

The transforms are matrix products as well, so that maps of any size do, with exactly the period
that keeps what wraps around out of the result, and so that no array is ever transposed: the width
becomes frequencies (half of them, since frames are real), then for one of these after the other the
height does, channels are contracted, and the height comes back while all of it is in the cache.
Errors are those of float32 sums (relative 1e-6).
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Pair = tuple[int, int]


@dataclass(frozen=True)
class Plan:
    """Everything that is known before the numbers: sizes as (height, width), padding on both sides.

    padding is at most kernel - 1.
    """

    size: Pair
    kernel: Pair
    padding: Pair

    @property
    def output(self) -> Pair:
        """Size of the correlation."""
        return tuple(
            n + 2 * p - k + 1 for n, k, p in zip(self.size, self.kernel, self.padding, strict=True)
        )

    @property
    def period(self) -> Pair:
        """The zeros on one side also serve the other side."""
        return tuple(n + p for n, p in zip(self.size, self.padding, strict=True))

    @property
    def rows(self) -> int:
        """Frequencies of the width; frames are real, so half of them say all."""
        return self.period[1] // 2 + 1

    @property
    def reverse(self) -> "Plan":
        """Of the correlation that leads from the gradient of the output to that of the input."""
        padding = tuple(k - 1 - p for k, p in zip(self.kernel, self.padding, strict=True))
        return Plan(self.output, self.kernel, padding)


def reversed_kernel(kernel: jax.Array) -> jax.Array:
    """The kernel of that correlation: [height width channel feature] -> feature to channel."""
    return jnp.flip(kernel, (0, 1)).swapaxes(2, 3)


# --- matrices: complex numbers as pairs of real ones (part), the width's frequencies first --------


def _waves(period: int, positions: np.ndarray, sign: int, half: bool) -> np.ndarray:
    """exp(sign 2 pi i frequency position / period): [frequency position], complex."""
    frequencies = np.arange(period // 2 + 1 if half else period)
    turns = np.outer(frequencies, positions) % period / period
    return np.exp(sign * 2j * np.pi * turns)


def _real_to_complex(matrix: np.ndarray) -> np.ndarray:
    """[frequency position] complex -> [frequency part position]."""
    return np.stack([matrix.real, matrix.imag], 1).astype(np.float32)


def _complex_to_complex(matrix: np.ndarray) -> np.ndarray:
    """[to from] complex -> [to part part from]: as it acts on pairs."""
    real = np.stack([matrix.real, -matrix.imag], 1)
    imaginary = np.stack([matrix.imag, matrix.real], 1)
    return np.stack([real, imaginary], 1).astype(np.float32)


def _back_to_real(period: int, positions: np.ndarray) -> np.ndarray:
    """From half the frequencies, which say all of a real signal: [position frequency part].

    Every frequency stands for its mirror image too, but for the constant and the fastest one.
    """
    waves = _waves(period, positions, +1, half=True).T / period
    count = np.full(waves.shape[1], 2.0)
    count[0] = 1.0
    if period % 2 == 0:
        count[-1] = 1.0
    waves = waves * count
    return np.stack([waves.real, -waves.imag], -1).astype(np.float32)


def _width_forward(plan):
    period, size = plan.period[1], plan.size[1]
    return _real_to_complex(_waves(period, np.arange(size), -1, half=True)).reshape(-1, size)


def _height_forward(plan):
    """[(frequency part) (part height)]."""
    period, size = plan.period[0], plan.size[0]
    matrix = _complex_to_complex(_waves(period, np.arange(size), -1, half=False))
    return matrix.reshape(2 * period, 2 * size)


def _height_back(plan):
    """[(part height') (frequency part)]."""
    period, size = plan.period[0], plan.output[0]
    waves = _waves(period, np.arange(size), +1, half=False).T / period
    matrix = _complex_to_complex(waves).transpose(1, 0, 3, 2)
    return matrix.reshape(2 * size, 2 * period)


def _width_back(plan):
    period, size = plan.period[1], plan.output[1]
    return _back_to_real(period, np.arange(size)).reshape(size, -1)


def _taps(plan, axis):
    """Where the kernel's rows or columns lie, seen from the pixel of the result."""
    return np.arange(plan.kernel[axis]) - plan.padding[axis]


# --- how much at a time --------------------------------------------------------------------------

MOST_BYTES = 2**29  # of one spectrum, of which a backward pass has several


def fits(plan: Plan, channel: int, feature: int) -> bool:
    """Whether spectra of so many channels are small enough to be kept."""
    return 8 * plan.rows * plan.period[0] * channel * feature <= MOST_BYTES


def frames_at_once(plan: Plan, channel: int, feature: int) -> int:
    """How many frames to transform together.

    Enough that a spectrum, which is read once for all of them, costs little; few enough for the
    cache (32 to 64 are best for 28 x 56 pixels) and for memory (128 MB per array of large maps).
    """
    height, width = plan.period
    return max(1, min(64, 2**25 // (height * width * max(channel, feature))))


# --- correlation ----------------------------------------------------------------------------------


def spectrum(plan: Plan, kernel: jax.Array) -> jax.Array:
    """The transformed kernel: [height width channel feature] -> [row column channel part feature].

    row, column: frequencies of width and height. Made once for every kernel, it serves all frames.
    """
    across = _real_to_complex(_waves(plan.period[1], _taps(plan, 1), +1, half=True))
    down = _complex_to_complex(_waves(plan.period[0], _taps(plan, 0), +1, half=False))
    columns = jnp.einsum("rpx,yxcf->rpycf", across, kernel)
    return jnp.einsum("sqpy,rpycf->rscqf", down, columns)


def correlate(plan: Plan, x: jax.Array, transformed: jax.Array) -> jax.Array:
    """[width height frame channel], `spectrum` of a kernel -> [width' height' frame feature]."""
    frames, feature = x.shape[2], transformed.shape[-1]
    down, back = _height_forward(plan), _height_back(plan)

    def one_row(_, row):
        x, weights = row
        product = _contract(_split(down @ x, frames), weights)
        return None, back @ product.reshape(back.shape[1], frames * feature)

    _, rows = lax.scan(one_row, None, (_rows(_width_forward(plan), x), transformed))
    return _from_rows(plan, rows, frames)


def no_gradient(plan: Plan, channel: int, feature: int) -> jax.Array:
    """What `kernel_gradient` begins with: [row column part channel feature]."""
    return jnp.zeros((plan.rows, plan.period[0], 2, channel, feature))


def kernel_gradient(plan: Plan, x: jax.Array, gradient: jax.Array, so_far: jax.Array) -> jax.Array:
    """so_far + the gradient of the kernel, transformed; `kernel_of` brings it back, once.

    x: [width height frame channel]; gradient: of the output, [width' height' frame feature];
    so_far: [row column part channel feature].
    """
    return _gradients(plan, x, gradient, so_far, None)[0]


def gradients(
    plan: Plan, x: jax.Array, gradient: jax.Array, so_far: jax.Array, reverse: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """`kernel_gradient`, and the gradient of x; reverse: spectrum of the reversed kernel."""
    return _gradients(plan, x, gradient, so_far, reverse)


def _gradients(plan, x, gradient, so_far, reverse):
    frames, channel = x.shape[2:]
    down_x, down_g = _height_forward(plan), _height_forward(plan.reverse)
    back = _height_back(plan.reverse)
    of_x, of_g = _width_forward(plan), _width_forward(plan.reverse)

    def one_row(total, row):
        index, x, g, weights = row
        x, g = _split(down_x @ x, frames), _split(down_g @ g, frames)
        total = total.at[index].add(_contract_frames(x, g))
        if weights is None:
            return total, None
        product = _contract(g, weights)
        return total, back @ product.reshape(back.shape[1], frames * channel)

    indices = jnp.arange(so_far.shape[0])
    rows = (indices, _rows(of_x, x), _rows(of_g, gradient), reverse)
    total, d_x = lax.scan(one_row, so_far, rows)
    return total, None if reverse is None else _from_rows(plan.reverse, d_x, frames)


def kernel_of(plan: Plan, transformed: jax.Array) -> jax.Array:
    """A kernel's transformed gradient [row column part channel feature] as the kernel has it."""
    waves = _waves(plan.period[0], _taps(plan, 0), +1, half=False).T / plan.period[0]
    down = _complex_to_complex(waves)
    across = _back_to_real(plan.period[1], _taps(plan, 1))
    rows = jnp.einsum("yqps,rspcf->rqycf", down, transformed)
    return jnp.einsum("xrq,rqycf->yxcf", across, rows)


def _rows(matrix, x):
    """The width becomes frequencies: [row (part height) (frame channel)]."""
    width, height, frames, channel = x.shape
    out = matrix @ x.reshape(width, height * frames * channel)
    return out.reshape(-1, 2 * height, frames * channel)


def _from_rows(plan, rows, frames):
    height, width = plan.output
    matrix = _width_back(plan)
    out = matrix @ rows.reshape(matrix.shape[1], -1)
    return out.reshape(width, height, frames, -1)


def _split(row, frames):
    """[(column part) (frame channel)] -> [column part frame channel]."""
    return row.reshape(row.shape[0] // 2, 2, frames, -1)


def _contract(x, weights):
    """Product of complex numbers, summed over channels: [column part frame feature].

    x: [column part frame channel]; weights: [column channel part feature]. All four real products
    are one product of matrices.
    """
    columns, _, frames, channel = x.shape
    feature = weights.shape[-1]
    left = x.reshape(columns, 2 * frames, channel)
    right = weights.reshape(columns, channel, 2 * feature)
    each = jnp.einsum("snc,scf->snf", left, right).reshape(columns, 2, frames, 2, feature)
    real = each[:, 0, :, 0] - each[:, 1, :, 1]
    imaginary = each[:, 0, :, 1] + each[:, 1, :, 0]
    return jnp.stack([real, imaginary], 1)


def _contract_frames(x, gradient):
    """x times the conjugate of gradient, summed over frames: [column part channel feature].

    Both: [column part frame channel].
    """
    columns, _, frames, channel = x.shape
    turned = jnp.stack([x[:, 1], -x[:, 0]], 1)  # divided by i
    both = jnp.concatenate([x, turned], -1).reshape(columns, 2 * frames, 2 * channel)
    each = jnp.einsum("snc,snf->scf", both, gradient.reshape(columns, 2 * frames, -1))
    return each.reshape(columns, 2, channel, -1)
