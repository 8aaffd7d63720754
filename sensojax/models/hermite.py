"""Filters that can be turned by any angle: a basis of Hermite functions and its rotations.

Each function of the basis is, in polar coordinates, a radial part times a wave cos(m a) or
sin(m a) of the angle a, so turning a filter mixes only the two coefficients of each pair
(baselines 3.2). In: coefficients of filters in this basis; out: the filters in every orientation.
The basis is sampled on a grid finer than the filters and summed down, which keeps high orders from
aliasing. Basis and rotations are made once, in float64.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special


def orders(size: int) -> Iterator[tuple[int, int]]:
    """(angular order m, radial order) of the functions for filters of `size` pixels.

    Rank by rank, m ascending; those with m > 0 stand for a pair, the cosine and the sine.
    """
    for rank in range(size):
        for angular in range(rank % 2, rank + 1, 2):
            yield angular, (rank - angular) // 2


def basis(size: int, upsampling: int = 2) -> np.ndarray:
    """[function y x] with size (size + 1) / 2 functions on size * upsampling points each way.

    Every function has unit length over its pixels.
    """
    points = size * upsampling
    grid = np.linspace(-1, 1, points) * 2 * np.sqrt(size) * (1 - 1 / points)
    x, y = np.meshgrid(grid, grid)
    squared, angle = x**2 + y**2, np.arctan2(y, x)
    functions = []
    for angular, radial in orders(size):
        # The published polynomial is (-1)^n n! 2^n times this one; its length is set below.
        polynomial = special.eval_genlaguerre(radial, angular, squared / 2) * (-1.0) ** radial
        amplitude = np.exp(-squared / 4) * squared ** (angular / 2) * polynomial
        functions.append(amplitude * np.cos(angular * angle))
        if angular:
            functions.append(amplitude * np.sin(angular * angle))
    functions = np.stack(functions)
    return functions / np.linalg.norm(functions, axis=(1, 2), keepdims=True)


def rotations(size: int, count: int) -> np.ndarray:
    """[rotation function function]: what turns a filter's coefficients by k / count of a circle.

    The product with a vector of coefficients gives those of the turned filter, counter-clockwise
    as an image is seen.
    """
    angles = 2 * np.pi * np.arange(count) / count
    total = size * (size + 1) // 2
    found = np.zeros((count, total, total))
    at = 0
    for angular, _ in orders(size):
        if angular == 0:
            found[:, at, at] = 1.0
            at += 1
            continue
        cosine, sine = np.cos(angular * angles), np.sin(angular * angles)
        found[:, at, at] = found[:, at + 1, at + 1] = cosine
        found[:, at, at + 1], found[:, at + 1, at] = sine, -sine
        at += 2
    return found


def expand(
    coefficients: jax.Array,
    functions: jax.Array,
    turns: jax.Array,
    *,
    upsampling: int = 2,
    oriented: bool,
) -> jax.Array:
    """Filters in all orientations, as one kernel [height width channel (rotation feature)].

    coefficients: [function channel feature]; functions, turns: of `basis` and `rotations`.
    oriented: the channels themselves are (rotation feature) of the layer before; then a filter
    that is turned by k steps reads orientation i where the first one reads i - k.
    """
    count, points, _ = functions.shape
    size = points // upsampling
    _, channel, feature = coefficients.shape
    blocks = functions.reshape(count, size, upsampling, size, upsampling)
    pixels = jnp.sum(blocks, (2, 4)).reshape(count, size * size)
    # Never in lower precision: it would bend the filters themselves, and costs nothing here.
    exact = jax.lax.Precision.HIGHEST
    turned = jnp.einsum("rij,ip->rpj", turns, pixels, precision=exact)
    if oriented:
        steps = np.arange(len(turns))
        read = (steps[None] - steps[:, None]) % len(turns)  # [turn orientation]
        each = coefficients.reshape(count, len(turns), -1, feature)[:, read]
        each = each.reshape(count, len(turns), channel, feature)
        kernel = jnp.einsum("rpj,jrcf->pcrf", turned, each, precision=exact)
    else:
        kernel = jnp.einsum("rpj,jcf->pcrf", turned, coefficients, precision=exact)
    return kernel.reshape(size, size, channel, len(turns) * feature)
