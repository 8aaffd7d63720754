"""Penalties on weights: how rough a filter is in space and in time.

In: kernels as our convolutions hold them; out: scalars, to be weighted by the caller. Formulas of
neuralpredictors (baselines 3.1, 3.4), whose names the configs use.
"""

import jax
import jax.numpy as jnp

LAPLACE = ((0.0, -1.0, 0.0), (-1.0, 4.0, -1.0), (0.0, -1.0, 0.0))
# Sums to 2, so it penalises the mean too: the published temporal penalty is no second difference.
LAPLACE_IN_TIME = (-1.0, 4.0, -1.0)


def _correlate(planes: jax.Array, stencil: jax.Array, padding: int) -> jax.Array:
    """Correlates the last axes of planes [plane ...] with a stencil over as many axes."""
    axes = "HWD"[: stencil.ndim]
    return jax.lax.conv_general_dilated(
        planes[:, None],
        stencil[None, None],
        window_strides=(1,) * stencil.ndim,
        padding=[(padding, padding)] * stencil.ndim,
        dimension_numbers=("NC" + axes, "OI" + axes, "NC" + axes),
    )


def _filters(kernel: jax.Array) -> jax.Array:
    """[height width channel feature] -> [filter height width]."""
    height, width, channel, feature = kernel.shape
    return kernel.transpose(3, 2, 0, 1).reshape(feature * channel, height, width)


def laplace_l2(kernel: jax.Array, padding: int = 1) -> jax.Array:
    """Half the mean squared Laplacian of the filters in kernel [height width channel feature]."""
    rough = _correlate(_filters(kernel), jnp.array(LAPLACE), padding)
    return 0.5 * jnp.mean(jnp.square(rough))


def laplace_l2_norm(kernel: jax.Array, padding: int = 1) -> jax.Array:
    """Squared Laplacian of the filters over their squares: does not shrink with the weights."""
    filters = _filters(kernel)
    rough = _correlate(filters, jnp.array(LAPLACE), padding)
    return jnp.sum(jnp.square(rough)) / jnp.sum(jnp.square(filters))


def temporal_l2_norm(kernel: jax.Array) -> jax.Array:
    """The published penalty on kernel [time channel feature]: squares of [-1 4 -1] over squares."""
    time, channel, feature = kernel.shape
    courses = kernel.transpose(2, 1, 0).reshape(feature * channel, time)
    rough = _correlate(courses, jnp.array(LAPLACE_IN_TIME), padding=1)
    return jnp.sum(jnp.square(rough)) / jnp.sum(jnp.square(courses))


SPATIAL = {"laplace_l2": laplace_l2, "laplace_l2_norm": laplace_l2_norm}
