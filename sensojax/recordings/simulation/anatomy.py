"""Who the neurons of a simulated mouse are: drawn once, from the mouse's own generator.

In go a random generator and settings; out comes a `neurons.Population`. Neurons lie in ten planes
under a window of 616 micrometers, as the real ones do; a smooth map takes their place in cortex to
the place of their field on the screen, with a little scatter.
"""

import dataclasses
import math

import numpy as np

from sensojax.recordings.simulation import behavior, neurons
from sensojax.stimuli import synthesis

WINDOW_UM = 616
PLANES_UM = np.arange(200, 426, 25)
COMPLEX_SHARE = 0.4
# Fields lie within this share of the screen around its middle: what the released models of 2022
# learned of 15,000 real neurons in such a window (baselines 10).
FIELD_SPREAD = 0.35
CALIBRATION = (10, 150)  # clips and frames of the movies that set the units of drives and rates
CALIBRATION_IMAGES = 200


def population(
    rng: np.random.Generator,
    number: int,
    height: int,
    width: int,
    mouse: behavior.Habits,
    *,
    noise: float,
    eye_shift: float,
    normalization: float,
    types: dict[str, np.ndarray] | None = None,
    still: bool = False,
) -> neurons.Population:
    """A mouse's neurons; noise, eye_shift and normalization as in `simulated.Settings`.

    types: `cell_types` that all neurons are of, None for each neuron its own. still: the mouse
    looks at images, which then set the units, not at movies.
    """
    position_um, center = _retinotopy(rng, number, height, width)
    if types is None:
        kind = cell_types(rng, number, height, still)
    else:
        of = rng.integers(len(types["size"]), size=number)
        kind = {name: values[of] for name, values in types.items()}
    direction, is_complex = kind["direction"], kind["is_complex"]
    size, wavelength, phase = kind["size"], kind["wavelength"], kind["phase"]
    fields = gabors(height, width, center, direction, wavelength, size, phase)
    fresh = neurons.Population(
        position_um=position_um,
        unit_ids=np.sort(rng.choice(10 * number, number, replace=False)) + 1,
        center=center,
        is_complex=is_complex,
        orientation_deg=(direction + 90) % 180,
        direction_deg=direction,
        direction_selectivity=kind["selectivity"],
        wavelength=wavelength,
        size=size,
        phase_deg=phase,
        fields=fields,
        kernels=kernels(kind["speed"], kind["rebound"]),
        threshold=kind["threshold"],
        exponent=kind["exponent"],
        amplitude=np.ones(number),
        baseline=rng.uniform(0.05, 0.25, number),
        running_gain=rng.uniform(-0.1, 0.7, number),
        pupil_gain=rng.normal(0.12, 0.12, number),
        drive_std=np.ones(number),
        scale=np.ones(number),
        noise=np.zeros(number),
        eye_matrix=_eye_matrix(rng, height, width, eye_shift),
        eye_reference=mouse.eye_mean,
        dilation_reference=np.array([mouse.dilation_mean, mouse.dilation_std]),
        normalization=normalization,
    )
    driven = _by_images if still else _by_movies
    return _calibrated(rng, fresh, mouse, driven(rng, fresh, mouse, height, width), noise)


def cell_types(
    rng: np.random.Generator, number: int, height: int, still: bool = False
) -> dict[str, np.ndarray]:
    """What makes a cell type, drawn for `number` of them: [type] each, pixels and degrees.

    still: every second one is complex. To images there is no motion that could tell a linear model
    from others, so these must, also where types are few.
    """
    is_complex = rng.uniform(size=number) < COMPLEX_SHARE
    if still:
        is_complex = np.arange(number) % 2 == 1
    size = height * rng.uniform(0.06, 0.11, number)
    return dict(
        is_complex=is_complex,
        direction=rng.uniform(0, 360, number),
        size=size,
        wavelength=size * rng.uniform(2.0, 3.2, number),
        phase=rng.uniform(0, 360, number),
        selectivity=rng.uniform(0, 1, number) ** 2,
        speed=rng.uniform(1.2, 1.8, number),
        rebound=rng.uniform(0.6, 1.0, number),
        threshold=np.where(is_complex, 0.3, -0.1) + rng.uniform(0, 0.5, number),
        exponent=rng.uniform(1.0, 1.7, number),
    )


def _retinotopy(rng, number: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions in cortex [neuron 3], micrometers, and on the screen [neuron 2], pixels."""
    corner = np.round(rng.uniform((-1200, -700), (-400, -50)))
    place = rng.integers(0, WINDOW_UM + 1, (number, 2))
    depth = rng.choice(PLANES_UM, number)
    turn = np.radians(rng.uniform(-20, 20))
    x, y = (place / WINDOW_UM * 2 - 1).T
    u = x * np.cos(turn) - y * np.sin(turn)
    v = x * np.sin(turn) + y * np.cos(turn)
    bend = rng.uniform(-0.12, 0.12, 2)
    half = np.array([width - 1, height - 1]) / 2
    bent = np.stack([u + bend[0] * v**2, -(v + bend[1] * u**2)], 1)
    center = half * (1 + FIELD_SPREAD * bent)
    center += 0.02 * height * rng.standard_normal((number, 2))
    position_um = np.column_stack([place + corner, depth]).astype(np.int64)
    return position_um, np.clip(center, 1, 2 * half - 1)


def gabors(height, width, center, direction_deg, wavelength, size, phase_deg) -> np.ndarray:
    """Pairs of Gabor fields a quarter cycle apart, norm about 1: [neuron 2 height width] float32.

    The carrier runs along the direction (counter-clockwise from rightward) and has this phase at
    the center; the envelope is round with standard deviation `size` pixels. Values are rounded so
    that sums over pixels are exact (see `neurons.drive`).
    """
    y = np.arange(height)[:, None] - center[:, 1, None, None]
    x = np.arange(width) - center[:, 0, None, None]
    angle = np.radians(direction_deg)[:, None, None]
    along = x * np.cos(angle) - y * np.sin(angle)  # rows count downwards
    cycle = 2 * np.pi * along / wavelength[:, None, None] + np.radians(phase_deg)[:, None, None]
    size = size[:, None, None]
    envelope = np.exp(-(x**2 + y**2) / (2 * size**2)) / (np.sqrt(np.pi / 2) * size)
    pair = np.stack([envelope * np.cos(cycle), envelope * np.sin(cycle)], 1)
    return (np.rint(pair * neurons.FIELD_STEPS) / neurons.FIELD_STEPS).astype(np.float32)


def kernels(speed: np.ndarray, rebound: np.ndarray) -> np.ndarray:
    """A fast and a slow biphasic kernel per neuron, norm 1: [neuron 2 lag] (Adelson & Bergen 1985).

    speed: decay per frame. rebound: weight of the second, negative lobe.
    """
    time = speed[:, None] * (np.arange(neurons.KERNEL_FRAMES) + 0.5)
    pair = []
    for order in (3, 5):
        first = 1 / math.factorial(order)
        second = rebound[:, None] * time**2 / math.factorial(order + 2)
        kernel = time**order * np.exp(-time) * (first - second)
        pair.append(kernel / np.linalg.norm(kernel, axis=1, keepdims=True))
    return np.stack(pair, 1)


def _eye_matrix(rng, height: int, width: int, eye_shift: float) -> np.ndarray:
    """[2 2] pixels of field per unit of pupil center: mainly right by right, down by down."""
    gain = np.diag([0.13 * width / 64, 0.13 * height / 36]) * rng.uniform(0.8, 1.2, 2)
    turn = np.radians(rng.uniform(-10, 10))
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return eye_shift * rotation @ gain


def _by_movies(rng, fresh, mouse, height: int, width: int) -> np.ndarray:
    """What drives the neurons while a resting mouse watches movies, [frame neuron]."""
    clips, frames = CALIBRATION
    return np.concatenate(
        [
            neurons.drive(
                fresh,
                synthesis.movie(rng, frames, height, width),
                np.broadcast_to(mouse.eye_mean, (frames, 2)),
            )[neurons.KERNEL_FRAMES :]
            for _ in range(clips)
        ]
    )


def _by_images(rng, fresh, mouse, height: int, width: int) -> np.ndarray:
    """The same while it looks at images, [image neuron]."""
    images = [synthesis.image(rng, height, width) for _ in range(CALIBRATION_IMAGES)]
    center = np.broadcast_to(mouse.eye_mean, (len(images), 2))
    return neurons.drive_by_images(fresh, np.stack(images), center)


def _calibrated(rng, fresh, mouse, driven: np.ndarray, noise: float) -> neurons.Population:
    """Sets the units: drives of rms 1, mean rates of 1 at rest, noise, standard deviations."""
    rested = np.array([[mouse.dilation_mean, 0.0]])
    drive_std = np.sqrt(np.mean(driven**2, axis=0, dtype=np.float64)) + 1e-12
    fresh = dataclasses.replace(fresh, drive_std=drive_std)
    bare = dataclasses.replace(fresh, baseline=np.zeros(len(fresh)))
    above = neurons.activity(bare, driven, rested).mean(axis=0)
    fresh = dataclasses.replace(fresh, amplitude=(1 - fresh.baseline) / (above + 1e-12))
    signal = neurons.activity(fresh, driven, rested).var(axis=0)
    spread = noise * signal * np.exp(0.4 * rng.standard_normal(len(fresh)))
    # Responses of real neurons have standard deviations from about 1 to above 100, median 10.
    wanted = np.clip(14 * np.exp(0.85 * rng.standard_normal(len(fresh))), 1, 130)
    return dataclasses.replace(fresh, noise=spread, scale=wanted / np.sqrt(signal + spread))
