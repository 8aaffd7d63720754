"""Neurons whose every property is known: fields, kernels, gains, noise.

In go a clip and the behavior of a trial; out come `rates`, the exact expected responses, and
`responses` drawn around them. A neuron is linear-nonlinear: the video, displaced by the eye, is
projected on two Gabor fields a quarter cycle apart; each projection is filtered in time by a fast
and a slow biphasic kernel; a simple cell rectifies one sum of the four, a complex cell takes the
energy of two (Adelson & Bergen 1985); threshold, power, optional division by the activity of all,
a gain by running and pupil. The microscope then averages over its own slower frames, and its
samples are interpolated back to the video's frames, later by one of them so that no rate depends on
a later frame. Noise enters at the microscope's samples; interpolation is linear, so the expected
response is the interpolated expected sample.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from sensojax.stimuli import textures

FRAME_RATE_HZ = 30.0
IMAGING_RATE_HZ = 8.0
KERNEL_FRAMES = 11  # 0.37 s
LEAD_FRAMES = 30  # of grey screen before every clip: more than kernel and microscope remember
LEVEL_STD = 57.0  # grey levels; the video enters as (level - GREY) / LEVEL_STD
BANK_BYTES = 32e6  # of fields that are projected on at once
SIGNAL_STEPS, FIELD_STEPS = 2**10, 2**14


@dataclass(frozen=True)
class Population:
    """The neurons of one mouse; per-neuron arrays, [neuron ...], unless said otherwise.

    center: (x, y) pixels, 0 is the middle of the first pixel. orientation_deg: of the bars that
    drive it, direction_deg: of motion that drives it (90 degrees away), both counter-clockwise from
    rightward. direction_selectivity: 0 none to 1 only this direction. fields: [neuron 2 height
    width], the second a quarter cycle on. kernels: [neuron 2 lag], lag 0 is the current frame.
    drive_std: root mean square of the drive on movies. amplitude: makes 1 the mean rate on movies,
    of which the baseline is a part. scale: responses per unit rate. noise: variance of a microscope
    sample over its mean, in unit rates. eye_matrix: [2 2] pixels (right, down) by which all fields
    move per unit of pupil center, from eye_reference [2]. dilation_reference: mean and standard
    deviation of the pupil dilation.
    """

    position_um: np.ndarray
    unit_ids: np.ndarray
    center: np.ndarray
    is_complex: np.ndarray
    orientation_deg: np.ndarray
    direction_deg: np.ndarray
    direction_selectivity: np.ndarray
    wavelength: np.ndarray
    size: np.ndarray
    phase_deg: np.ndarray
    fields: np.ndarray
    kernels: np.ndarray
    threshold: np.ndarray
    exponent: np.ndarray
    amplitude: np.ndarray
    baseline: np.ndarray
    running_gain: np.ndarray
    pupil_gain: np.ndarray
    drive_std: np.ndarray
    scale: np.ndarray
    noise: np.ndarray
    eye_matrix: np.ndarray
    eye_reference: np.ndarray
    dilation_reference: np.ndarray
    normalization: float

    def __len__(self) -> int:
        return len(self.center)


def drive(neurons: Population, video: np.ndarray, pupil_center: np.ndarray) -> np.ndarray:
    """Linear drive of simple cells and energy of complex cells, before the nonlinearity.

    video: [time height width] grey levels. pupil_center: [time 2]. Returns [time neuron] float32;
    before the first frame the screen was grey.
    """
    even, odd = _seen(neurons, video, pupil_center)
    fast, slow = neurons.kernels[:, 0].astype(np.float32), neurons.kernels[:, 1].astype(np.float32)
    selectivity = neurons.direction_selectivity.astype(np.float32)
    first = _causal(even, fast) - selectivity * _causal(odd, slow)
    chosen = np.flatnonzero(neurons.is_complex)
    if len(chosen):
        second = _causal(odd[:, chosen], fast[chosen])
        second += selectivity[chosen] * _causal(even[:, chosen], slow[chosen])
        first[:, chosen] = np.hypot(first[:, chosen], second)
    return first


def drive_by_images(
    neurons: Population, images: np.ndarray, pupil_center: np.ndarray
) -> np.ndarray:
    """The same for images, each by itself: [image neuron] float32 from [image height width].

    pupil_center: [image 2]. A simple cell is driven by its first field, a complex cell by the
    energy of both; there is no time, hence neither kernels nor directions.
    """
    even, odd = _seen(neurons, images, pupil_center)
    return np.where(neurons.is_complex, np.hypot(even, odd), even)


def _seen(neurons, video: np.ndarray, pupil_center: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every frame on the first and on the second field of all neurons, [time neuron] float32."""
    signal = (video.astype(np.float32) - np.float32(textures.GREY)) / np.float32(LEVEL_STD)
    shift = (pupil_center - neurons.eye_reference) @ neurons.eye_matrix.T
    if shift.any():
        signal = textures.displace(signal, shift[:, 0], shift[:, 1])
    projected = _projected(neurons.fields, signal)
    return projected[..., 0], projected[..., 1]


def _projected(fields: np.ndarray, signal: np.ndarray) -> np.ndarray:
    """The signal [time height width] on every field, [time neuron 2] float32.

    Fields are multiples of 1/FIELD_STEPS and the signal is rounded to multiples of 1/SIGNAL_STEPS,
    so the sums are exact in float64, and the same whatever the number of cores and threads.
    """
    pixels = np.rint(signal.reshape(len(signal), -1).astype(np.float64) * SIGNAL_STEPS)
    projected = np.empty((len(signal), len(fields), 2), np.float32)
    step = int(np.clip(BANK_BYTES / (16 * pixels.shape[1]), 1, 256))  # to bound the memory
    for first in range(0, len(fields), step):
        some = fields[first : first + step]
        bank = some.reshape(len(some) * 2, -1).astype(np.float64)
        sums = (bank @ pixels.T).T  # in this order up to 80 times faster
        projected[:, first : first + step] = (sums / SIGNAL_STEPS).reshape(len(signal), -1, 2)
    return projected


def _causal(signal: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Each neuron's signal [time neuron] filtered by its kernel [neuron lag]."""
    out = signal * kernel[:, 0]
    for lag in range(1, min(kernel.shape[1], len(signal))):
        out[lag:] += signal[:-lag] * kernel[:, lag]
    return out


def activity(neurons: Population, driven: np.ndarray, behavior: np.ndarray) -> np.ndarray:
    """Instantaneous rate [time neuron] float64, in units of the mean on movies.

    driven: what `drive` gave. behavior: [time 2], pupil dilation and running speed.
    """
    above = np.maximum(driven / neurons.drive_std - neurons.threshold, 0.0) ** neurons.exponent
    above *= neurons.amplitude
    if neurons.normalization:
        above /= 1 + neurons.normalization * above.mean(axis=1, keepdims=True)
    return (neurons.baseline + above) * gain(neurons, behavior)


def gain(neurons: Population, behavior: np.ndarray) -> np.ndarray:
    """Multiplicative gain [time neuron] by running (saturating near 10 cm/s) and pupil size."""
    mean, std = neurons.dilation_reference
    dilation = np.clip((behavior[:, :1] - mean) / std, -2.5, 2.5)
    running = np.tanh(behavior[:, 1:2] / 10.0)
    return np.exp(neurons.running_gain * running + neurons.pupil_gain * dilation)


@functools.lru_cache(maxsize=64)
def microscope(frames: int) -> tuple[scipy.sparse.csr_array, scipy.sparse.csr_array]:
    """Sparse matrices of sampling and of interpolation for a clip of so many frames.

    The first, [sample lead+time], averages the rate over each microscope frame; the second, [time
    sample], interpolates linearly between the ends of the microscope frames, one of them late:
    every weight is on samples that ended before the end of the video frame.
    """
    edges = np.arange(LEAD_FRAMES + frames + 1) / FRAME_RATE_HZ
    period = 1.0 / IMAGING_RATE_HZ
    samples = int(edges[-1] / period + 1e-9)
    starts = np.arange(samples)[:, None] * period
    overlap = np.minimum(edges[1:], starts + period) - np.maximum(edges[:-1], starts)
    average = np.maximum(overlap, 0.0) / period
    place = (edges[LEAD_FRAMES + 1 :] + 1e-9) / period - 2  # one late, and sample k ends at k + 1
    weight = np.maximum(1 - np.abs(place[:, None] - np.arange(samples)), 0.0)
    return scipy.sparse.csr_array(average), scipy.sparse.csr_array(weight)


def respond(
    neurons: Population,
    video: np.ndarray,
    behavior: np.ndarray,
    pupil_center: np.ndarray,
    rng: np.random.Generator | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Rates and responses [time neuron] float64 to one clip; responses are rates without `rng`.

    video: [time height width]. behavior and pupil_center: [lead+time 2], beginning LEAD_FRAMES
    before the clip.
    """
    average, weight = microscope(len(video))
    still = np.zeros((LEAD_FRAMES, len(neurons)), np.float32)
    driven = np.concatenate([still, drive(neurons, video, pupil_center[LEAD_FRAMES:])])
    expected = average @ activity(neurons, driven, behavior)
    rates = (weight @ expected) * neurons.scale
    if rng is None:
        return rates, rates
    return rates, (weight @ draw(rng, expected, neurons.noise)) * neurons.scale


def respond_to_images(
    neurons: Population,
    images: np.ndarray,
    behavior: np.ndarray,
    pupil_center: np.ndarray,
    rngs: Sequence[np.random.Generator],
) -> tuple[np.ndarray, np.ndarray]:
    """Rates and responses [image neuron] float64, one number for each image.

    images: [image height width]. behavior: [image 2], dilation and speed; pupil_center: [image 2].
    rngs: one for each image.
    """
    expected = activity(neurons, drive_by_images(neurons, images, pupil_center), behavior)
    drawn = [draw(rng, mean, neurons.noise) for rng, mean in zip(rngs, expected, strict=True)]
    return expected * neurons.scale, np.stack(drawn) * neurons.scale


def draw(rng: np.random.Generator, expected: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Zero-inflated gamma samples with exactly the expected mean and variance noise * mean.

    expected: [sample neuron] >= 0. A Poisson number of events, each exponentially distributed, so
    that a sample is 0 with probability exp(-2 * expected / noise), else gamma.
    """
    event = np.maximum(noise, 1e-12) / 2
    count = rng.poisson(expected / event)
    return rng.standard_gamma(count) * event
