"""One simulated session of a mouse that looks at images, in the published layout of 2022.

In go a mouse (`Mouse`) and a folder; out come the files of a session (baselines 2.1) and `truth/`
beside them, with the functions that `session` has for videos. Fields are not written: with 36,864
pixels they would be most of a session, and `anatomy.gabors` makes them from what is.
"""

import functools
import hashlib
import json
import operator
from pathlib import Path

import numpy as np

from sensojax.recordings import sensorium2022
from sensojax.recordings.simulation import behavior, neurons, session
from sensojax.recordings.simulation import schedule as schedules
from sensojax.recordings.simulation.session import save
from sensojax.recordings.simulation.statistics import summaries
from sensojax.statistics.running import Levels
from sensojax.stimuli import synthesis
from sensojax.types import MODALITIES
from sensojax.writing import write_atomically

WITHHELD = ("test", "final_test")
SHOWN_FRAMES = round(behavior.FRAME_RATE_HZ / sensorium2022.FRAME_RATE_HZ)
DILATION, CHANGE, SPEED = range(3)  # columns of behavior
TRIALS_AT_ONCE = 32  # so that each field is put on 32 images whenever it is fetched from memory
LAYOUT = sensorium2022.LAYOUT


class Mouse(session.Mouse):
    """One simulated mouse that looks at images."""

    @functools.cached_property
    def schedule(self) -> schedules.Schedule:
        chosen = self.settings
        return schedules.of_images(self.rng(session.SCHEDULE), chosen.trials, chosen.train_share)

    def clip(self, index: int) -> np.ndarray:
        """A distinct image, [height width] uint8."""
        rng = self.rng(session.CLIP, index)
        return synthesis.image(rng, self.settings.height, self.settings.width)


def trial_files(folder: Path, index: int) -> dict[str, Path]:
    """Where the arrays of a trial belong; the rates are the last to be written."""
    paths = {key: folder / LAYOUT.folder(key) / f"{index}.npy" for key in MODALITIES}
    return paths | {"rates": folder / "truth" / "rates" / f"{index}.npy"}


def write_trials(folder: Path, mouse: Mouse, images: list[np.ndarray], indices: list[int]) -> None:
    """Simulates and writes some trials, each with its image."""
    behaved = [_behaved(mouse, index) for index in indices]
    behavior_of, center = (np.stack(each) for each in zip(*behaved, strict=True))
    rates, responses = neurons.respond_to_images(
        mouse.neurons,
        np.stack(images),
        behavior_of[:, [DILATION, SPEED]],
        center,
        [mouse.rng(session.NOISE, index) for index in indices],
    )
    for row, index in enumerate(indices):
        withheld = mouse.settings.withhold and mouse.schedule.tiers[index] in WITHHELD
        arrays = {
            "videos": images[row][None],
            "responses": responses[row] * (0 if withheld else 1),
            "behavior": behavior_of[row],
            "pupil_center": center[row],
            "rates": rates[row],
        }
        for key, path in trial_files(folder, index).items():
            save(path, arrays[key])


def _behaved(mouse: Mouse, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Means over the time an image is shown: (dilation, its change per second, speed), center."""
    behaved, center = behavior.behave(
        mouse.rng(session.BEHAVIOR, index), mouse.habits, SHOWN_FRAMES
    )
    dilation, speed = behaved.T
    seconds = (SHOWN_FRAMES - 1) / behavior.FRAME_RATE_HZ
    change = (dilation[-1] - dilation[0]) / seconds
    return np.array([dilation.mean(), change, speed.mean()]), center.mean(axis=0)


def write_meta(folder: Path, mouse: Mouse) -> None:
    """Neuron and trial tables, and the truth that does not change from trial to trial."""
    plan, people, number = mouse.schedule, mouse.neurons, len(mouse.neurons)
    write_atomically(folder / "config.json", json.dumps({"links": {}}))
    area, layer = areas_and_layers(people.position_um)
    seconds = np.datetime64("2000-01-01 00:00:00") + plan.presented.astype("timedelta64[s]")
    tables = {
        "meta/neurons/unit_ids": people.unit_ids,
        "meta/neurons/cell_motor_coordinates": people.position_um,
        "meta/neurons/area": area,
        "meta/neurons/layer": layer,
        "meta/neurons/animal_ids": np.full(number, mouse.animal_id),
        "meta/neurons/sessions": np.full(number, 1),
        "meta/neurons/scan_idx": np.full(number, 1),
        "meta/trials/tiers": plan.tiers,
        "meta/trials/trial_idx": np.array([_hashed(mouse, each) for each in plan.presented]),
        # No other mouse sees the same images.
        "meta/trials/frame_image_id": 100_000 * mouse.number + plan.clips + 1,
        "meta/trials/frame_image_class": np.full(len(plan.clips), "simulated"),
        "meta/trials/frame_trial_ts": np.char.replace(seconds.astype(str), "T", " "),
    }
    per_neuron = (
        *("center", "is_complex", "orientation_deg", "direction_deg", "wavelength", "size"),
        *("phase_deg", "drive_std", "threshold", "exponent", "amplitude", "baseline"),
        *("running_gain", "pupil_gain", "scale", "noise"),
    )
    tables |= {f"truth/neurons/{name}": getattr(people, name) for name in per_neuron}
    for name, array in tables.items():
        save(folder / f"{name}.npy", array)


def _hashed(mouse: Mouse, presented: int) -> str:
    told = f"{mouse.settings.seed} {mouse.number} {presented}"
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def areas_and_layers(position_um: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Names [neuron] by place in cortex: V1 with LM and RL to one side, layers by depth."""
    x, y = (position_um - position_um.min(axis=0))[:, :2].T
    beside = np.where(y < np.median(y), "LM", "RL")
    area = np.where(x < 0.6 * x.max(initial=1), "V1", beside)
    depth = position_um[:, 2]
    layer = np.select([depth <= 300, depth <= 375], ["L2/3", "L4"], "L5")
    return area, layer


def write_statistics(folder: Path, mouse: Mouse, clips: list[np.ndarray], over=map) -> None:
    """Statistics over all trials: of all pixels together, of each neuron, of each column."""
    del over
    tiers = mouse.schedule.tiers
    for key in MODALITIES[1:]:
        kept = np.full(len(tiers), True)
        if key == "responses" and mouse.settings.withhold:
            kept = ~np.isin(tiers, WITHHELD)
        paths = [trial_files(folder, int(index))[key] for index in np.flatnonzero(kept)]
        _save_statistics(folder, key, summaries(np.stack([np.load(path) for path in paths])))
    shown = (Levels.of(clips[clip]) for clip in mouse.schedule.clips)
    _save_statistics(folder, "videos", functools.reduce(operator.add, shown).statistics())


def _save_statistics(folder: Path, key: str, found: dict[str, np.ndarray]) -> None:
    """As published: over all of a recording, and over the frames with images, which is the same."""
    for which in ("all", "stimulus_frame"):
        for name, values in found.items():
            where = folder / LAYOUT.folder(key, "meta/statistics")
            save(where / which / f"{name}.npy", np.asarray(values))
