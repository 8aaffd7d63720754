"""Penalties on weights: how rough a filter is in space and in time, and how many filters are used.

In: kernels as our convolutions hold them; out: scalars, to be weighted by the caller. Formulas of
neuralpredictors (baselines 3.1, 3.4), whose names the configs use. `padding` is the number of zeros
around each filter (None: half the stencil, so that nothing is cut off); `average` takes means over
weights where the alternative is sums.
"""

import jax
import jax.numpy as jnp
import numpy as np

from sensojax.errors import UserError

# Laplacians by their size: second differences, then of Gaussians ever wider.
LAPLACE = {
    3: ((0, -1, 0), (-1, 4, -1), (0, -1, 0)),
    5: (
        (0, 0, -1, 0, 0),
        (0, -1, -2, -1, 0),
        (-1, -2, 16, -2, -1),
        (0, -1, -2, -1, 0),
        (0, 0, -1, 0, 0),
    ),
    7: (
        (0, 0, 1, 1, 1, 0, 0),
        (0, 1, 3, 3, 3, 1, 0),
        (1, 3, 0, -7, 0, 3, 1),
        (1, 3, -7, -24, -7, 3, 1),
        (1, 3, 0, -7, 0, 3, 1),
        (0, 1, 3, 3, 3, 1, 0),
        (0, 0, 1, 1, 1, 0, 0),
    ),
}
# Sums to 2, so it penalises the mean too: the published temporal penalty is no second difference.
LAPLACE_IN_TIME = (-1, 4, -1)


def _correlate(planes: jax.Array, stencil, padding: int | None) -> jax.Array:
    """Correlates the last axes of planes [plane ...] with a stencil over as many axes."""
    stencil = jnp.asarray(stencil, planes.dtype)
    pads = [(n // 2 if padding is None else padding,) * 2 for n in stencil.shape]
    axes = "HWD"[: stencil.ndim]
    return jax.lax.conv_general_dilated(
        planes[:, None],
        stencil[None, None],
        window_strides=(1,) * stencil.ndim,
        padding=pads,
        dimension_numbers=("NC" + axes, "OI" + axes, "NC" + axes),
        precision=jax.lax.Precision.HIGHEST,  # differences of neighbours: rounding would show
    )[:, 0]


def _filters(kernel: jax.Array) -> jax.Array:
    """[... channel feature] -> [filter ...]."""
    *extent, channel, feature = kernel.shape
    return kernel.reshape(*extent, channel * feature).transpose(-1, *range(len(extent)))


def _total(values: jax.Array, average: bool) -> jax.Array:
    return jnp.mean(values) if average else jnp.sum(values)


def laplace_l2(
    kernel: jax.Array, padding: int | None = None, *, average: bool = True, size: int = 3
) -> jax.Array:
    """Half the squared Laplacian of the filters in kernel [height width channel feature].

    size: of the Laplacian's stencil, a key of LAPLACE.
    """
    return 0.5 * _total(jnp.square(_correlate(_filters(kernel), LAPLACE[size], padding)), average)


def laplace_l1(kernel: jax.Array, padding: int | None = None, *, average: bool = True) -> jax.Array:
    """The absolute Laplacian of the filters in kernel [height width channel feature]."""
    return _total(jnp.abs(_correlate(_filters(kernel), LAPLACE[3], padding)), average)


def laplace_l2_norm(
    kernel: jax.Array, padding: int | None = None, *, average: bool = True
) -> jax.Array:
    """Squared Laplacian of the filters over their squares: does not shrink with the weights."""
    filters = _filters(kernel)
    rough = _correlate(filters, LAPLACE[3], padding)
    return _total(jnp.square(rough), average) / _total(jnp.square(filters), average)


def gaussian_laplace_l2(
    kernel: jax.Array, padding: int | None = None, *, average: bool = True
) -> jax.Array:
    """`laplace_l2_norm` that lets filters be rough in the middle and wants smooth borders.

    The Laplacian is multiplied by 1 - g, with g a Gaussian (deviation: a quarter of the smaller
    side) stretched to 0..1. UserError for a padding that changes the filters' size.
    """
    if padding not in (None, 1):
        raise UserError(
            f"found laplace_padding {padding}, expected 1 with gaussian_laplace_l2, which weights "
            "every place of a filter; set it to 1."
        )
    filters = _filters(kernel)
    away = jnp.broadcast_to(_away_from_centre(kernel.shape[:2])[None], filters.shape)
    rough = _correlate(filters, LAPLACE[3], padding) * away
    return _total(jnp.square(rough), average) / _total(jnp.square(filters), average)


def _away_from_centre(shape: tuple[int, int]) -> np.ndarray:
    """1 at the corners, 0 in the middle: [height width]."""
    y, x = (np.arange(size) - (size - 1) / 2 for size in shape)
    gaussian = np.exp(-(y[:, None] ** 2 + x**2) / (2 * (min(shape) / 4) ** 2))
    gaussian = (gaussian - gaussian.min()) / (gaussian.max() - gaussian.min())
    return np.float32(1 - gaussian)


def laplace_l2_3d(kernel: jax.Array, padding: int = 0, *, average: bool = True) -> jax.Array:
    """Half the squared Laplacian in space and time of kernel [time height width channel feature].

    Unlike the others without padding, as published.
    """
    centre = np.zeros((3, 3, 3))
    centre[1, 1, 1] = 1.0
    stencil = sum(np.roll(centre, step, axis) for axis in range(3) for step in (-1, 1)) - 6 * centre
    return 0.5 * _total(jnp.square(_correlate(_filters(kernel), stencil, padding)), average)


def temporal_l2_norm(
    kernel: jax.Array, padding: int | None = None, *, average: bool = True
) -> jax.Array:
    """The published penalty on kernel [time channel feature]: squares of [-1 4 -1] over squares."""
    courses = _filters(kernel)
    rough = _correlate(courses, LAPLACE_IN_TIME, padding)
    return _total(jnp.square(rough), average) / _total(jnp.square(courses), average)


def group_sparsity(kernel: jax.Array) -> jax.Array:
    """Mean length of the filters in kernel [height width channel feature]: drives whole ones to 0.

    A filter of zeros has gradient 0 here; the published formula gives it not-a-number.
    """
    squares = jnp.sum(jnp.square(kernel), (0, 1))
    used = squares > 0
    return jnp.mean(jnp.where(used, jnp.sqrt(jnp.where(used, squares, 1.0)), 0.0))


SPATIAL = {
    "laplace_l1": laplace_l1,
    "laplace_l2": laplace_l2,
    "laplace_l2_norm": laplace_l2_norm,
    "gaussian_laplace_l2": gaussian_laplace_l2,
}
