"""One simulated session as files: the trials, the meta data, the statistics, the truth.

In go a mouse (`Mouse`) and a folder; out come the files of the published layout (baselines 1.1) and
`truth/` beside them. Every file is written under another name and renamed, so one that exists is
complete, and a trial that is there is not made again.
"""

import functools
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sensojax.recordings.simulation import anatomy, behavior, neurons
from sensojax.recordings.simulation import schedule as schedules
from sensojax.recordings.simulation.settings import Settings
from sensojax.recordings.simulation.statistics import summaries
from sensojax.stimuli import synthesis
from sensojax.types import MODALITIES
from sensojax.writing import write_atomically

TRIALS_AT_ONCE = 1
BLOCK_BYTES = 48e6  # of trials held at once while their statistics are computed
# What the random generators of a mouse are for; the numbers are part of the seeds.
HABITS, ANATOMY, SCHEDULE, CLIP, BEHAVIOR, NOISE = range(6)
SHARED = 2**32 - 1  # in the place of a mouse's number: what all mice have in common
WITHHELD = ("live_test_main", "live_test_bonus", "final_test_main", "final_test_bonus")


@dataclass(frozen=True)
class Mouse:
    """One simulated mouse: everything follows from the settings and its number."""

    settings: Settings
    number: int

    @property
    def animal_id(self) -> int:
        return 91001 + self.number

    def rng(self, *key: int) -> np.random.Generator:
        """A generator of its own for every mouse and purpose, whoever asks first."""
        return np.random.default_rng(
            np.random.SeedSequence(self.settings.seed, spawn_key=(self.number, *key))
        )

    @property
    def screen(self) -> tuple[int, int]:
        """(height, width) of what the neurons see, pixels."""
        return self.settings.height, self.settings.width

    @functools.cached_property
    def habits(self) -> behavior.Habits:
        return behavior.habits(self.rng(HABITS))

    @functools.cached_property
    def neurons(self) -> neurons.Population:
        chosen = self.settings
        return anatomy.population(
            self.rng(ANATOMY),
            chosen.neurons,
            *self.screen,
            self.habits,
            noise=chosen.noise,
            eye_shift=chosen.eye_shift,
            normalization=chosen.normalization,
            types=self.types,
            still=chosen.kind == "static",
        )

    @property
    def types(self) -> dict[str, np.ndarray] | None:
        """The cell types that all mice share, None for each neuron its own."""
        if not self.settings.types:
            return None
        shared = np.random.default_rng(
            np.random.SeedSequence(self.settings.seed, spawn_key=(SHARED, ANATOMY))
        )
        chosen = self.settings
        return anatomy.cell_types(shared, chosen.types, self.screen[0], chosen.kind == "static")

    @functools.cached_property
    def schedule(self) -> schedules.Schedule:
        chosen = self.settings
        return schedules.schedule(
            self.rng(SCHEDULE),
            self.number,
            chosen.trials,
            chosen.train_share,
            chosen.frames,
            chosen.padded,
        )

    def clip(self, index: int) -> np.ndarray:
        """A distinct clip, [time height width] uint8."""
        kind = getattr(synthesis, self.schedule.kinds[index])
        length = int(self.schedule.lengths[index])
        return kind(self.rng(CLIP, index), length, self.settings.height, self.settings.width)


def trial_files(folder: Path, index: int) -> dict[str, Path]:
    """Where the arrays of a trial belong; the rates are the last to be written."""
    paths = {key: folder / "data" / key / f"{index}.npy" for key in MODALITIES}
    return paths | {"rates": folder / "truth" / "rates" / f"{index}.npy"}


def write_trials(folder: Path, mouse: Mouse, clips: list[np.ndarray], indices: list[int]) -> None:
    """Simulates and writes some trials, each with its clip."""
    for clip, index in zip(clips, indices, strict=True):
        write_trial(folder, mouse, clip, index)


def write_trial(folder: Path, mouse: Mouse, clip: np.ndarray, index: int) -> None:
    """Simulates and writes one trial, padded with NaN; behavior may go on after the clip."""
    padded, length = mouse.settings.padded, len(clip)
    rng = mouse.rng(BEHAVIOR, index)
    behaved, center = behavior.behave(rng, mouse.habits, neurons.LEAD_FRAMES + padded)
    longer = min(length + rng.choice([0, 0, 0, 1, 2]), padded)
    shown = slice(neurons.LEAD_FRAMES + length)
    rates, responses = neurons.respond(
        mouse.neurons, clip, behaved[shown], center[shown], mouse.rng(NOISE, index)
    )
    recorded = slice(neurons.LEAD_FRAMES, neurons.LEAD_FRAMES + longer)
    arrays = {
        "videos": _padded(clip, padded),
        "responses": _padded(responses, padded),
        "behavior": _padded(behaved[recorded], padded),
        "pupil_center": _padded(center[recorded], padded),
        "rates": _padded(rates, padded),
    }
    if mouse.settings.withhold and mouse.schedule.tiers[index] in WITHHELD:
        arrays["responses"] = np.zeros_like(arrays["responses"])  # the padding too, as published
    for key, path in trial_files(folder, index).items():
        save(path, arrays[key])


def write_meta(folder: Path, mouse: Mouse) -> None:
    """Neuron and trial tables, and the truth that does not change from trial to trial."""
    plan, people, trials = mouse.schedule, mouse.neurons, mouse.settings.trials
    write_atomically(folder / "config.json", json.dumps({"links": {}}))
    tables = {
        "meta/neurons/unit_ids": people.unit_ids,
        "meta/neurons/cell_motor_coordinates": people.position_um,
        "meta/trials/tiers": plan.tiers,
        "meta/trials/trial_idx": plan.presented,
        "meta/trials/animal_id": np.full(trials, mouse.animal_id),
        "meta/trials/session": np.full(trials, 1),
        "meta/trials/scan_idx": np.full(trials, 1),
        "meta/trials/target_fps": np.full(trials, neurons.FRAME_RATE_HZ),
        "truth/trials/clip": plan.clips,
        "truth/trials/kind": plan.kinds[plan.clips],
    }
    per_neuron = (
        *("center", "is_complex", "orientation_deg", "direction_deg", "direction_selectivity"),
        *("wavelength", "size", "phase_deg", "fields", "kernels", "drive_std", "threshold"),
        *("exponent", "amplitude", "baseline", "running_gain", "pupil_gain", "scale", "noise"),
    )
    tables |= {f"truth/neurons/{name}": getattr(people, name) for name in per_neuron}
    for name, array in tables.items():
        save(folder / f"{name}.npy", array)


def write_statistics(folder: Path, mouse: Mouse, clips: list[np.ndarray], over=map) -> None:
    """Statistics of all trials per frame, a block of rows at a time; `over` maps over blocks."""
    chosen = mouse.settings
    shown = [clips[clip] for clip in mouse.schedule.clips]

    def video_rows(rows: slice) -> dict[str, np.ndarray]:
        values = np.full((len(shown), *clips[0][0][rows].shape, chosen.padded), np.nan, np.float32)
        for trial, clip in enumerate(shown):
            values[trial, :, :, : len(clip)] = np.moveaxis(clip[:, rows], 0, -1)
        return summaries(values)

    def signal_rows(key: str, rows: slice) -> dict[str, np.ndarray]:
        paths = (trial_files(folder, index)[key] for index in range(chosen.trials))
        return summaries(
            np.stack([_rows(path, rows, signals[key], chosen.padded) for path in paths])
        )

    signals = {"responses": chosen.neurons, "behavior": 2, "pupil_center": 2}
    jobs = {"videos": (video_rows, chosen.height, chosen.width)}
    jobs |= {
        key: (functools.partial(signal_rows, key), rows, 2)  # float64: twice the bytes
        for key, rows in signals.items()
    }
    for key, (summarize, rows, columns) in jobs.items():
        bytes_per_row = 4 * columns * chosen.padded * chosen.trials
        step = max(1, int(BLOCK_BYTES // bytes_per_row))
        parts = list(over(summarize, [slice(top, top + step) for top in range(0, rows, step)]))
        for name in parts[0]:
            array = np.concatenate([part[name] for part in parts])
            save(folder / "meta" / "statistics" / key / "all" / f"{name}.npy", array)


def _rows(path: Path, rows: slice, number: int, length: int) -> np.ndarray:
    """Some rows of a file of ours that holds [row time] of this size.

    Not through numpy's reader: threads may not parse headers at once (see `files.load`).
    """
    start, stop, _ = rows.indices(number)
    header_bytes = path.stat().st_size - 8 * number * length
    count, offset = (stop - start) * length, header_bytes + 8 * start * length
    return np.fromfile(path, np.float64, count, offset=offset).reshape(-1, length)


def _padded(signal: np.ndarray, length: int) -> np.ndarray:
    """[time ...] as published: time last, float64, NaN after the end."""
    padded = np.full((*signal.shape[1:], length), np.nan)
    padded[..., : len(signal)] = np.moveaxis(signal, 0, -1)
    return padded


def save(path: Path, array: np.ndarray) -> None:
    """Writes an .npy that is either complete or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".tmp")
    with open(unfinished, "wb") as file:
        np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
    os.replace(unfinished, path)
