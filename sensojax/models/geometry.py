"""Where a stack of convolutions looks: from points of the feature map back to the image.

In: what each layer's convolution sees of a frame; out: the size of the map, and the place in the
image around which a point of the map is computed.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

Pair = tuple[int, int]


class Step(NamedTuple):
    """What one convolution sees of a frame: pairs of (height, width) in pixels of its input."""

    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)


def output_size(
    size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1
) -> int:
    """Length of an axis after a convolution."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def map_size(steps: Sequence[Step], height: int, width: int) -> Pair:
    """(height, width) of the features of a video of this size."""
    size = [height, width]
    for step in steps:
        for axis in (0, 1):
            size[axis] = output_size(size[axis], *(pairs[axis] for pairs in step))
    return tuple(size)


def map_to_image(steps: Sequence[Step], points: jax.Array, height: int, width: int) -> jax.Array:
    """Where the receptive fields of points of the feature map are centred in the video.

    points: [point 2] as (x, y) in -1..1 of the map; height, width: of the video, pixels.
    Returns [point 2] in -1..1 of the video, where +-1 are the centres of its border pixels.
    """
    lengths = map_size(steps, height, width)
    found = []
    for axis, size in ((1, width), (0, height)):
        first, spacing = 0.0, 1
        for step in steps:
            kernel, stride, padding, dilation = (pairs[axis] for pairs in step)
            first += spacing * (dilation * (kernel - 1) / 2 - padding)
            spacing *= stride
        pixel = first + spacing * (points[:, 1 - axis] + 1.0) * (lengths[axis] - 1) / 2
        found.append(2.0 * pixel / (size - 1) - 1.0)
    return jnp.stack(found, axis=-1)
