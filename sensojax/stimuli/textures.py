"""Noise images and how to look at them: what synthetic stimuli are made of.

In go a random generator and sizes; out come Gaussian textures with 1/f spectra (`pink_image`,
`pink_video`), the view of a window that travels over a periodic texture (`travel`), a video as seen
by a displaced eye (`displace`), and grey levels (`to_levels`). All float32 until grey levels.
"""

import functools

import numpy as np
import scipy.fft

GREY = 80.0  # mean grey level of the published videos; also what the screen shows between clips
MEDIAN_LOGIT = -1.05  # logit of their median, 70 of 255


@functools.lru_cache(maxsize=32)
def _amplitude(shape: tuple[int, ...], exponent: float, units: tuple[float, ...]) -> np.ndarray:
    """1/f^exponent on the grid of rfftn, unit variance after the inverse transform; 0 at f = 0."""
    frequencies = [np.fft.fftfreq(size) for size in shape[:-1]] + [np.fft.rfftfreq(shape[-1])]
    grids = np.meshgrid(*(f * u for f, u in zip(frequencies, units, strict=True)), indexing="ij")
    radius = np.sqrt(sum(grid**2 for grid in grids))
    radius.flat[0] = np.inf
    return radius ** -np.float64(exponent)


def _filtered(rng: np.random.Generator, shape: tuple[int, ...], amplitude: np.ndarray):
    white = scipy.fft.rfftn(rng.standard_normal(shape, dtype=np.float32))
    texture = scipy.fft.irfftn(white * amplitude.astype(np.float32), shape)
    return texture / np.float32(texture.std() + 1e-12)


def pink_image(
    rng: np.random.Generator,
    height: int,
    width: int,
    *,
    orientation_deg: float | None = None,
    bandwidth_deg: float = 20.0,
) -> np.ndarray:
    """Periodic Gaussian texture with amplitude spectrum 1/f, mean 0, std 1: [height width].

    orientation_deg: direction of the wave vectors, counter-clockwise from rightward; the spectrum
    is then a Gaussian of this standard deviation in angle around it.
    """
    amplitude = _amplitude((height, width), 1.0, (1.0, 1.0))
    if orientation_deg is not None:
        rows, columns = np.meshgrid(np.fft.fftfreq(height), np.fft.rfftfreq(width), indexing="ij")
        angle = np.degrees(np.arctan2(-rows, columns))  # rows count downwards
        away = (angle - orientation_deg + 90.0) % 180.0 - 90.0
        amplitude = amplitude * np.exp(-0.5 * (away / bandwidth_deg) ** 2)
    return _filtered(rng, (height, width), amplitude)


def pink_video(rng: np.random.Generator, frames: int, height: int, width: int, speed: float):
    """Gaussian noise video with 1/f spectrum in space and time, mean 0, std 1; no uniform flicker.

    speed: pixels per frame at which a temporal frequency counts as much as a spatial one.
    """
    # The power falls as the cube of the radius in three dimensions, which leaves each frame with
    # a 1/f amplitude spectrum of its own.
    amplitude = _amplitude((frames, height, width), 1.5, (1.0 / speed, 1.0, 1.0)).copy()
    amplitude[:, 0, 0] = 0.0
    return _filtered(rng, (frames, height, width), amplitude)


def travel(texture: np.ndarray, top: np.ndarray, left: np.ndarray, height: int, width: int):
    """What a window sees whose upper left corner travels over a periodic texture.

    texture: [height width], any size. top, left: [time] pixels, fractional positions are
    interpolated bilinearly. Returns [time height width].
    """
    rows, columns = texture.shape
    row, down = _split(top)
    column, right = _split(left)
    row = (row[:, None] + np.arange(height + 1)) % rows
    column = (column[:, None] + np.arange(width + 1)) % columns
    view = np.take(texture.ravel(), row[:, :, None] * columns + column[:, None, :])
    return _interpolated(view, down, right)


def displace(video: np.ndarray, right: np.ndarray, down: np.ndarray) -> np.ndarray:
    """The video as seen by fields that moved: out[y, x] = in[y + down, x + right].

    video: [time height width], zero beyond its edges. right, down: [time] pixels; fractions are
    interpolated bilinearly.
    """
    frames, height, width = video.shape
    row, row_part = _split(down)
    column, column_part = _split(right)
    row = np.clip(row[:, None] + np.arange(height + 1), -1, height) + 1
    column = np.clip(column[:, None] + np.arange(width + 1), -1, width) + 1
    framed = np.pad(video, ((0, 0), (1, 1), (1, 1)))
    start = np.arange(frames)[:, None] * (height + 2)
    index = ((start + row) * (width + 2))[:, :, None] + column[:, None, :]
    return _interpolated(np.take(framed.ravel(), index), row_part, column_part)


def _split(position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    whole = np.floor(position)
    part = (position - whole).astype(np.float32)[:, None, None]
    return whole.astype(np.int64), part


def _interpolated(view: np.ndarray, down: np.ndarray, right: np.ndarray) -> np.ndarray:
    view = view[:, :-1] + down * (view[:, 1:] - view[:, :-1])
    return view[:, :, :-1] + right * (view[:, :, 1:] - view[:, :, :-1])


def to_levels(texture: np.ndarray, contrast: float = 1.0, brightness: float = 0.0) -> np.ndarray:
    """Grey levels 0..255 (uint8) of a Gaussian texture, skewed like those of natural movies.

    contrast and brightness scale and move the texture, in its standard deviations, before a
    sigmoid; at 1 and 0 the levels have about the mean, median and std of the published videos.
    """
    logit = np.float32(1.45 * contrast) * (texture + np.float32(brightness)) + MEDIAN_LOGIT
    return np.rint(255.0 / (1.0 + np.exp(-logit))).astype(np.uint8)
