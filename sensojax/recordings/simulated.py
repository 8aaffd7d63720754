"""Simulated mice: recordings in published formats whose truth is known.

In go a folder and `Settings`; out come session folders that `sensorium2023` (videos) or
`sensorium2022` (images) reads like real ones, or files that `colliculus2017` does. They hold a part
`truth` beside what was published: the noiseless expected responses of every trial (the best
possible prediction, so the ceiling of every metric is exact), the neurons' fields and everything
else about them. The bytes depend only on the settings, not on the number of workers or on how often
the work was interrupted.
"""

import dataclasses
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np

from sensojax.errors import UserError
from sensojax.progress import track
from sensojax.recordings import matlab
from sensojax.recordings.simulation import colliculus_session, image_session, session
from sensojax.recordings.simulation.settings import REALISTIC_NOISE, Settings
from sensojax.writing import write_atomically

__all__ = ["REALISTIC_NOISE", "Settings", "name", "write"]

VERSION = 1  # of the simulation: other numbers from the same settings need another version
SESSIONS = {"video": session, "static": image_session, "colliculus": colliculus_session}
TRUTH_FILE = "truth/simulation.json"
WITHOUT = {  # settings that mean nothing to a kind
    "video": (),
    "static": ("frames", "padded_frames"),
    "colliculus": ("train_share", "padded_frames", "eye_shift", "withhold"),
}


def name(mouse: int, kind: str = "video") -> str:
    """Name of the folder, or file, of the `mouse`-th simulated mouse, like the published ones."""
    if kind == "colliculus":
        return f"colliculus{91001 + mouse}-simulated{matlab.ENDING}"
    digest = hashlib.sha256(f"simulated mouse {mouse}".encode()).hexdigest()[:32]
    begin, middle = {"video": ("dynamic", "Video"), "static": ("static", "GrayImageNet")}[kind]
    return f"{begin}{91001 + mouse}-1-1-{middle}-{digest}"


def write(folder: str | Path, settings: Settings, workers: int = 0) -> list[Path]:
    """Writes the mice that are not there yet; returns the session folder, or file, of every mouse.

    A session is written to `<name>.partial` and renamed when complete; a finished one with equal
    settings is left alone and an unfinished folder continued. workers: threads, 0 for one per core.
    Raises UserError when a session of other settings is in the way.
    """
    folder = Path(folder).expanduser()
    paths = []
    for number in range(settings.mice):
        mouse = SESSIONS[settings.kind].Mouse(settings, number)
        path = folder / name(number, settings.kind)
        if path.exists():
            _check_same(path, settings)
        elif settings.kind == "colliculus":
            colliculus_session.write(path, mouse, _description(mouse))
        else:
            what = f"simulating mouse {number + 1} of {settings.mice}"
            _write_session(path, mouse, what, workers or os.cpu_count() or 1)
        paths.append(path)
    return paths


def _write_session(path: Path, mouse: session.Mouse, what: str, workers: int) -> None:
    session = SESSIONS[mouse.settings.kind]
    partial = path.with_name(path.name + ".partial")
    if (partial / TRUTH_FILE).exists():
        _check_same(partial, mouse.settings)
    write_atomically(partial / TRUTH_FILE, _description(mouse))
    session.write_meta(partial, mouse)
    todo = [
        index
        for index in range(mouse.settings.trials)
        if not all(file.exists() for file in session.trial_files(partial, index).values())
    ]
    clips = _Clips(mouse)

    def write_trials(indices: list[int]) -> int:
        shown = [clips[mouse.schedule.clips[index]] for index in indices]
        session.write_trials(partial, mouse, shown, indices)
        return len(indices)

    at_once = session.TRIALS_AT_ONCE
    parts = [todo[first : first + at_once] for first in range(0, len(todo), at_once)]
    with ThreadPoolExecutor(workers) as pool:
        done = mouse.settings.trials - len(todo)
        for _ in track(_finished(pool, write_trials, parts), what, mouse.settings.trials, done):
            pass
        every = list(pool.map(clips.__getitem__, range(len(mouse.schedule.kinds))))
        session.write_statistics(partial, mouse, every, pool.map)
    os.replace(partial, path)


class _Clips:
    """The clips of a mouse, each made by the first thread that asks for it and then kept."""

    def __init__(self, mouse: session.Mouse):
        self._mouse = mouse
        self._locks = [threading.Lock() for _ in mouse.schedule.kinds]
        self._made: dict[int, np.ndarray] = {}

    def __getitem__(self, index: int) -> np.ndarray:
        with self._locks[index]:
            if index not in self._made:
                self._made[index] = self._mouse.clip(index)
            return self._made[index]


def _finished(pool: ThreadPoolExecutor, work: Callable, parts: list) -> Iterator[None]:
    """As many yields as `work` of a part returns; the first failure drops what has not begun."""
    futures = [pool.submit(work, part) for part in parts]
    try:
        for future in as_completed(futures):
            yield from [None] * future.result()
    finally:
        for future in futures:
            future.cancel()


def _description(mouse: session.Mouse) -> str:
    habits = {
        key: np.asarray(value).tolist() for key, value in dataclasses.asdict(mouse.habits).items()
    }
    return json.dumps(
        {
            "note": "A simulated mouse: no animal was recorded.",
            **_identity(mouse.settings),
            "mouse": mouse.number,
            "habits": habits,
            "eye_matrix": mouse.neurons.eye_matrix.tolist(),
            "eye_reference": mouse.neurons.eye_reference.tolist(),
        },
        indent=1,
    )


def _identity(settings: Settings) -> dict:
    """What makes two sessions the same; how many mice there are does not."""
    chosen = dataclasses.asdict(settings) | {"padded_frames": settings.padded}
    del chosen["mice"]
    if settings.kind == "video":
        del chosen["kind"]  # sessions made when there was no other kind do not say it
    for without in WITHOUT[settings.kind]:
        del chosen[without]
    return {"version": VERSION, "settings": chosen}


def _check_same(path: Path, settings: Settings) -> None:
    wanted = _identity(settings)
    try:
        in_file = path.suffix == matlab.ENDING
        found = colliculus_session.told(path) if in_file else (path / TRUTH_FILE).read_text()
        found = json.loads(found)
        found = {"version": found["version"], **found["settings"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is in the way and is not a simulated session (no readable {TRUTH_FILE} or "
            "truth in it); choose another folder."
        ) from error
    wanted = {"version": wanted["version"], **wanted["settings"]}
    other = [key for key in wanted if found.get(key) != wanted[key]]
    if other:
        differences = ", ".join(f"{key} {found.get(key)} instead of {wanted[key]}" for key in other)
        raise UserError(
            f"{path} was simulated with other settings ({differences}); choose another folder, "
            "delete this one, or use its settings."
        )
