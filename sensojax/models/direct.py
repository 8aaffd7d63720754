"""The functions of `fourier` without transforms, as XLA's own convolution: for accelerators.

In: frames [width height frame channel], a `fourier.Plan` and kernels as they are; out: the same
results as from the functions of these names in `fourier`, so that what is written with one module
runs with the other.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from sensojax.models.fourier import Plan


def spectrum(plan: Plan, kernel: jax.Array) -> jax.Array:
    """What `correlate` takes: the kernel itself."""
    return kernel


def correlate(plan: Plan, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """[width height frame channel] -> [width' height' frame feature]."""
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(1, 1),
        padding=[(size, size) for size in plan.padding],
        dimension_numbers=("WHNC", "HWIO", "WHNC"),
    )


def no_gradient(plan: Plan, channel: int, feature: int) -> jax.Array:
    """What `kernel_gradient` begins with."""
    return jnp.zeros((*plan.kernel, channel, feature))


def kernel_gradient(plan: Plan, x: jax.Array, gradient: jax.Array, so_far: jax.Array) -> jax.Array:
    """so_far + the gradient of the kernel [height width channel feature]."""
    of_kernel = jax.linear_transpose(functools.partial(correlate, plan, x), so_far)
    return so_far + of_kernel(gradient)[0]


def gradients(
    plan: Plan, x: jax.Array, gradient: jax.Array, so_far: jax.Array, reverse: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """`kernel_gradient`, and the gradient of x; reverse: the reversed kernel."""
    d_x = correlate(plan.reverse, gradient, reverse)
    return kernel_gradient(plan, x, gradient, so_far), d_x


def kernel_of(plan: Plan, gradient: jax.Array) -> jax.Array:
    """The gradient as it is."""
    return gradient
