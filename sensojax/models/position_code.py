"""Where and when a pixel is, as sines and cosines that are added to its features.

In: features [batch time height width channel]; out: the same with the code of DwiseNeuro (sota
1.2). A third of the channels tells each axis: first sines, then cosines, of the pixel's index at
frequencies from 1 down to 1 / 10000. It follows from the size of the map alone, so nothing of it is
kept anywhere.
"""

import math

import jax
import numpy as np


def add(x: jax.Array) -> jax.Array:
    """x [batch time height width channel] plus the code of every frame, row and column."""
    _, *sizes, channels = x.shape
    for axis, table in enumerate(tables(tuple(sizes), channels)):
        shape = [1, 1, 1, 1, channels]
        shape[1 + axis] = sizes[axis]
        x = x + table.reshape(shape).astype(x.dtype)
    return x


def tables(sizes: tuple[int, ...], channels: int) -> list[np.ndarray]:
    """The code of each axis, [[time channel], [height channel], [width channel]] float32.

    Each is zero in the channels of the others. Three equal parts may have a few channels more than
    there are: the last cosines of the width are then left out.
    """
    rates, found = frequencies(channels), []
    width = 2 * len(rates)
    for axis, size in enumerate(sizes):
        angles = np.arange(size, dtype=np.float32)[:, None] * rates
        code = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
        everywhere = np.zeros((size, len(sizes) * width), np.float32)
        everywhere[:, axis * width : (axis + 1) * width] = code
        found.append(everywhere[:, :channels])
    return found


def frequencies(channels: int) -> np.ndarray:
    """Of the sines of one axis, which has a third of the channels, float32."""
    width = 2 * math.ceil(channels / 6)
    steps = np.arange(0, width, 2, dtype=np.float32) / width
    return (np.float32(1.0) / 10000**steps).astype(np.float32)
