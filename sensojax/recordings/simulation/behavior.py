"""How a simulated mouse behaves: pupil dilation, running speed, pupil position.

In go a random generator and a mouse's habits; out come smooth random processes at 30 Hz with the
magnitudes of the real recordings (baselines 1.1): dilation with slow changes that follow running,
running in bouts between long rests, an eye that drifts and sometimes jumps.
"""

from dataclasses import dataclass

import numpy as np
import scipy.signal
import scipy.special

FRAME_RATE_HZ = 30.0
SMOOTH_FRAMES = 7


@dataclass(frozen=True)
class Habits:
    """One mouse: means and standard deviations, as recorded (pupil in pixels of the eye camera).

    running_share: of the time that it runs. running_speed: typical cm/s of a bout. eye_mean and
    eye_std: [2], horizontal and vertical.
    """

    dilation_mean: float
    dilation_std: float
    running_share: float
    running_speed: float
    eye_mean: np.ndarray
    eye_std: np.ndarray


def habits(rng: np.random.Generator) -> Habits:
    """A mouse with magnitudes in the range of the real ones."""
    return Habits(
        dilation_mean=rng.uniform(40, 58),
        dilation_std=rng.uniform(12, 16),
        running_share=rng.uniform(0.15, 0.4),
        running_speed=rng.uniform(5, 15),
        eye_mean=rng.uniform((120, 125), (180, 155)),
        eye_std=rng.uniform((5, 4), (8, 6)),
    )


def behave(rng: np.random.Generator, mouse: Habits, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """One trial: (dilation, speed) [time 2] and pupil center [time 2], float64."""
    arousal = _wander(rng, frames, seconds=6.0)
    # Runs while a slow process is above the threshold that leaves the mouse's share of the time.
    urge = 0.6 * arousal + 0.8 * _wander(rng, frames, seconds=4.0)
    threshold = -np.sqrt(2) * scipy.special.erfinv(2 * mouse.running_share - 1)
    vigor = 1.0 - np.exp(-1.5 * np.maximum(urge - threshold, 0.0))
    wobble = np.exp(0.15 * _wander(rng, frames, seconds=0.5))
    speed = _smooth(1.5 * mouse.running_speed * vigor * wobble)
    dilation = 0.85 * arousal + 0.5 * _wander(rng, frames, seconds=1.5)
    dilation = mouse.dilation_mean + mouse.dilation_std * dilation
    center = np.stack([_gaze(rng, frames) for _ in range(2)], axis=1)
    behavior = np.stack([np.maximum(dilation, 5.0), speed], axis=1)
    return behavior, mouse.eye_mean + mouse.eye_std * center


def _gaze(rng: np.random.Generator, frames: int) -> np.ndarray:
    """Drift plus jumps to new positions about every 3 s, variance 1."""
    jumps = rng.uniform(size=frames) < 1 / (3.0 * FRAME_RATE_HZ)
    jumps[0] = True
    places = rng.standard_normal(frames)[np.maximum.accumulate(np.arange(frames) * jumps)]
    return _smooth(0.85 * places + 0.5 * _wander(rng, frames, seconds=3.0))


def _wander(rng: np.random.Generator, frames: int, seconds: float) -> np.ndarray:
    """A smooth stationary Gaussian process [time], mean 0, variance 1, with this time constant."""
    keep = np.exp(-1.0 / (seconds * FRAME_RATE_HZ))
    kicks = rng.standard_normal(frames + SMOOTH_FRAMES) * np.sqrt(1 - keep**2)
    kicks[0] = rng.standard_normal()
    path = scipy.signal.lfilter([1.0], [1.0, -keep], kicks)
    window = np.hanning(SMOOTH_FRAMES + 2)[1:-1]
    return np.convolve(path, window / window.sum(), "valid")[:frames]


def _smooth(signal: np.ndarray) -> np.ndarray:
    window = np.hanning(SMOOTH_FRAMES + 2)[1:-1]
    edge = SMOOTH_FRAMES // 2
    return np.convolve(np.pad(signal, edge, mode="edge"), window / window.sum(), "valid")
