"""A simulated recording in the superior colliculus, in the format of the competition's file.

In goes a mouse (`Mouse`); out comes one .mat (HDF5, as MATLAB 7.3 writes it) that `colliculus2017`
reads like the real one, with a group `truth` beside the arrays of the competition. One film, cut
into segments, is shown six times; some segments are withheld, but shown with the others, so the
beginning of a segment also follows from the one before. Neurons are those of `neurons`, in an
animal at rest. Each has a mean spike count, and adapts from the first minute of the first repeat to
the last of the sixth, more or less and sooner or later; its counts are Poisson about that rate. The
rates, adaptation included, are the truth, and the best that any model could say.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from sensojax.progress import track
from sensojax.recordings import colliculus2017, colliculus_trials
from sensojax.recordings.simulation import neurons, session
from sensojax.recordings.simulation.settings import REPEATS
from sensojax.stimuli import synthesis
from sensojax.writing import replacing

WITHHELD_SHARE = 10 / 48  # of the segments that are not withheld
HIDDEN, ADAPTATION = 101, 102  # what random generators are for, beside those of `session`
MOST_SPIKES = 10.0  # mean of a frame
TOLD = "simulation"  # attribute of the group `truth`
# MATLAB's 512 bytes before the HDF5 part: 116 of text, then version 2.0 and the order of bytes.
USERBLOCK = b"MATLAB 7.3 MAT-file, simulated by sensojax".ljust(116) + bytes(8) + b"\x00\x02IM"
CLASSES = {"uint8": b"uint8", "float32": b"single", "float64": b"double"}
OF_NEURONS = (
    *("is_complex", "orientation_deg", "direction_deg", "direction_selectivity", "wavelength"),
    *("size", "phase_deg", "kernels", "drive_std", "threshold", "exponent", "amplitude"),
    "baseline",
)


@dataclass(frozen=True)
class Adaptation:
    """How each neuron tires: from 1 towards 1 - strength, by this time constant; [neuron] each."""

    strength: np.ndarray
    seconds: np.ndarray

    def gain(self, time_s: np.ndarray) -> np.ndarray:
        """[time neuron], of times since the first frame of the first repeat."""
        return 1 - self.strength * -np.expm1(-time_s[:, None] / self.seconds)


class Mouse(session.Mouse):
    """One simulated animal, or what of it is recorded in the colliculus."""

    @property
    def screen(self) -> tuple[int, int]:
        """(height, width) of the picture between the black bars."""
        first, last = colliculus2017.picture_rows(self.settings.height)
        return last - first, self.settings.width

    @functools.cached_property
    def shown(self) -> np.ndarray:
        """Numbers, from 0, of the segments that are not withheld, ascending."""
        segments = self.settings.trials // REPEATS
        total = segments + max(1, round(WITHHELD_SHARE * segments))
        return np.sort(self.rng(HIDDEN).permutation(total)[:segments])

    @property
    def hidden(self) -> np.ndarray:
        """Numbers, from 0, of the withheld ones, in no order."""
        segments = self.settings.trials // REPEATS
        total = segments + max(1, round(WITHHELD_SHARE * segments))
        return self.rng(HIDDEN).permutation(total)[segments:]

    @functools.cached_property
    def film(self) -> np.ndarray:
        """The picture from the first frame to the last, [time height width] uint8."""
        frames = (len(self.shown) + len(self.hidden)) * self.settings.frames
        return synthesis.movie(self.rng(session.CLIP), frames, *self.screen)

    @functools.cached_property
    def mean_count(self) -> np.ndarray:
        """Spikes in a frame at the mean rate on movies, before adaptation: [neuron].

        As many as make the variance of counts over that of rates what `noise` says.
        """
        return 1 / np.maximum(self.neurons.noise, 1 / MOST_SPIKES)

    @functools.cached_property
    def adaptation(self) -> Adaptation:
        rng, number = self.rng(ADAPTATION), len(self.neurons)
        film_s = len(self.film) / neurons.FRAME_RATE_HZ
        return Adaptation(rng.uniform(0, 0.9, number), film_s * rng.uniform(0.5, 3, number))


def write(path: Path, mouse: Mouse, told: str) -> None:
    """Writes the whole file, or nothing; told: what `told` is to give back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    settings, number = mouse.settings, len(mouse.neurons)
    shape = (settings.trials, settings.frames)
    with replacing(path) as temporary:
        with h5py.File(temporary, "w", userblock_size=512) as file:
            pixels = settings.height * settings.width
            movie = _create(file, colliculus_trials.MOVIE, (*shape, pixels), np.uint8)
            counts = _create(file, colliculus_trials.COUNTS, (*shape, number), np.float64)
            rates = _create(file, colliculus_trials.RATES, (*shape, number), np.float32)
            what = f"simulating {path.stem}"
            for trial, (frames, of_frames, spikes) in enumerate(
                track(_trials(mouse), what, settings.trials)
            ):
                movie[trial], rates[trial], counts[trial] = frames, of_frames, spikes
            tables = {colliculus2017.HIDDEN: (mouse.hidden + 1.0)[:, None]} | _truth(mouse)
            for name, table in tables.items():
                _create(file, name, table.shape, table.dtype)[...] = table
            file["truth"].attrs[TOLD] = told
        with open(temporary, "r+b") as file:
            file.write(USERBLOCK)


def told(path: Path) -> str:
    """What a file says of its simulation; ValueError or OSError for other files."""
    with h5py.File(path, "r") as file:
        if "truth" not in file:
            raise ValueError("no truth in the file")
        return str(file["truth"].attrs[TOLD])


def _create(file: h5py.File, name: str, shape: tuple[int, ...], dtype) -> h5py.Dataset:
    chunks = (1, *shape[1:]) if len(shape) == 3 else None
    made = file.create_dataset(name, shape, dtype, chunks=chunks, compression=chunks and 1)
    if made.dtype.name in CLASSES:
        made.attrs["MATLAB_class"] = np.bytes_(CLASSES[made.dtype.name])
    return made


def _trials(mouse: Mouse) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Frames [time pixel], rates and counts [time neuron], repeat after repeat of each segment."""
    frames, bar = mouse.settings.frames, colliculus2017.picture_rows(mouse.settings.height)[0]
    film_s = len(mouse.film) / neurons.FRAME_RATE_HZ
    for segment in mouse.shown.tolist():
        at = np.arange(segment * frames, (segment + 1) * frames)
        seen = np.pad(mouse.film[at], ((0, 0), (bar, bar), (0, 0))).reshape(frames, -1)
        rested = mouse.mean_count * _activity(mouse, at[0])
        for repeat in range(REPEATS):
            time_s = repeat * film_s + at / neurons.FRAME_RATE_HZ
            rates = rested * mouse.adaptation.gain(time_s)
            yield seen, rates, mouse.rng(session.NOISE, segment, repeat).poisson(rates)


def _activity(mouse: Mouse, first: int) -> np.ndarray:
    """What a segment of the film does to rested neurons, [time neuron], 1 in the mean on movies."""
    people, habits = mouse.neurons, mouse.habits
    lead = min(first, neurons.KERNEL_FRAMES - 1)
    picture = mouse.film[first - lead : first + mouse.settings.frames]
    still = np.broadcast_to(people.eye_reference, (len(picture), 2))
    driven = neurons.drive(people, picture, still)[lead:]
    return neurons.activity(people, driven, np.array([[habits.dilation_mean, 0.0]]))


def _truth(mouse: Mouse) -> dict[str, np.ndarray]:
    top = colliculus2017.picture_rows(mouse.settings.height)[0]
    found = {name: getattr(mouse.neurons, name) for name in OF_NEURONS}
    found |= {
        "center": mouse.neurons.center + np.array([0, top]),
        "mean_count": mouse.mean_count,
        "adaptation": mouse.adaptation.strength,
        "adaptation_s": mouse.adaptation.seconds,
    }
    return {f"{colliculus2017.TRUTH}{name}": values for name, values in found.items()}
