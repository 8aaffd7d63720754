"""Perceptual hashes of videos, as the winning code of Sensorium 2023 makes its folds (sota 1.8).

In go frames of grey levels; out come 64-bit numbers that stay alike when a picture changes a
little: one per frame (`hash_frames`), or one per video from five of its frames (`hash_video`). A
frame is shrunk to 32 x 32 exactly as the imaging library Pillow does it with a Lanczos filter on
8-bit pictures, transformed by a two-dimensional cosine transform, and each of the 8 x 8 lowest
coefficients says with a bit whether it is above their median.
"""

import functools

import numpy as np
import scipy.fft

FRAMES = 5  # of a video that enter its hash
SIDE = 32  # pixels of the shrunk picture
CORNER = 8  # coefficients in each direction
LOBES = 3  # of the Lanczos filter
FIXED_POINT = 1 << 22  # 8-bit pictures are resized with weights in parts of this


def used_frames(num_frames: int) -> np.ndarray:
    """The frames that the hash of a video of so many frames looks at, [5].

    The middles of five equal parts; fewer than five frames are used all.
    """
    step = max(num_frames // FRAMES, 1)
    return np.arange(step // 2, num_frames, step)[:FRAMES]


def hash_video(video: np.ndarray) -> int:
    """The 64-bit hash of a video [time height width] of grey levels 0..255."""
    return combine(hash_frames(video[used_frames(len(video))]))


def combine(hashes: np.ndarray) -> int:
    """The hash of a video from those of its `used_frames`."""
    return int(np.bitwise_xor.reduce(hashes))


def hash_frames(frames: np.ndarray) -> np.ndarray:
    """The hash of each frame, [frame] uint64; frames [frame height width], fractions are cut off.

    The first bit of a hash, which belongs to the mean of the picture, is the most significant one.
    """
    corner = low_frequencies(shrink(frames))
    above = corner > np.median(corner, axis=(1, 2), keepdims=True)
    bits = np.packbits(above.reshape(len(above), -1), axis=1)
    return bits.view(">u8")[:, 0].astype(np.uint64)


def low_frequencies(pictures: np.ndarray) -> np.ndarray:
    """The lowest coefficients of the cosine transform (type II, unnormalised), [frame 8 8]."""
    # One axis after the other, as published: the rounding of zeros decides bits of blank frames.
    columns = scipy.fft.dct(pictures.astype(np.float64), axis=1)
    return scipy.fft.dct(columns, axis=2)[:, :CORNER, :CORNER]


def shrink(frames: np.ndarray, side: int = SIDE) -> np.ndarray:
    """Frames [frame height width] resized to [frame side side] uint8, as Pillow does it.

    The width first, then the height, each rounded to 8 bits.
    """
    levels = frames.astype(np.int64).astype(np.uint8)
    narrow = _resized(levels, side)
    return _resized(narrow.swapaxes(1, 2), side).swapaxes(1, 2)


def _resized(levels: np.ndarray, size: int) -> np.ndarray:
    """The last axis resized; whole numbers below 2^53, so float64 products are exact."""
    if levels.shape[-1] == size:  # Pillow leaves out a step that changes nothing
        return levels
    weights = lanczos_weights(levels.shape[-1], size)
    sums = levels.astype(np.float64) @ weights.T.astype(np.float64)
    return np.clip(np.floor(sums / FIXED_POINT + 0.5), 0, 255).astype(np.uint8)


@functools.lru_cache(maxsize=16)
def lanczos_weights(source: int, target: int) -> np.ndarray:
    """What each source pixel adds to each target pixel, [target source] int64 in fixed point.

    When shrinking, the filter is as wide as three target pixels on each side; it is cut at the
    borders of the picture, and the weights of a target pixel have the sum 1 before they are rounded
    to multiples of 2^-22, halves away from zero.
    """
    scale = source / target
    stretch = max(scale, 1.0)
    weights = np.zeros((target, source), np.int64)
    for pixel in range(target):
        center = (pixel + 0.5) * scale
        first = max(int(center - LOBES * stretch + 0.5), 0)
        last = min(int(center + LOBES * stretch + 0.5), source)
        distance = (np.arange(first, last) - center + 0.5) / stretch
        inside = np.abs(distance) < LOBES
        curve = np.where(inside, np.sinc(distance) * np.sinc(distance / LOBES), 0.0)
        scaled = curve / curve.sum() * FIXED_POINT
        weights[pixel, first:last] = np.trunc(scaled + np.copysign(0.5, scaled))
    return weights
