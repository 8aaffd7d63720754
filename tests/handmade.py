"""A recording made by hand, in memory or as a session on disk, for tests of what comes after it.

Its trials differ in length, repeat clips (also cut earlier and later), and some responses are
withheld; every number follows from the seed.
"""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np

from sensojax import types

HEIGHT, WIDTH, NEURONS, BEHAVIORS = 4, 6, 5, 2
TIERS = ("train", "oracle", "train", "live_test_main", "oracle", "train", "none", "train")
FRAMES = (45, 60, 33, 50, 48, 70, 20, 41)
VIDEOS = (0, 1, 2, 3, 1, 1, 4, 0)  # which clip each trial shows: 1 is cut at 60, 48 and 70 frames
CLIPS = (0, 1, 2, 3, 1, 1, 4, 0)  # the rows they must get: numbered as they appear


def trial(index: int, seed: int = 0, *, rates: bool = False) -> types.Trial:
    """One trial; its responses are mostly zeros with events, as deconvolved calcium is."""
    rng = np.random.default_rng((seed, index))
    clip = np.random.default_rng((seed, 100 + VIDEOS[index]))
    frames = FRAMES[index]
    video = clip.integers(0, 256, (max(FRAMES), HEIGHT, WIDTH))[:frames].astype(np.float64)
    events = rng.exponential(20.0, (frames, NEURONS)) * (rng.random((frames, NEURONS)) < 0.3)
    responses = events * (TIERS[index] != "live_test_main")
    behavior = rng.normal(30, 5, (frames, BEHAVIORS))
    pupil_center = rng.normal(150, 5, (frames, 2))
    return types.Trial(
        index=index,
        tier=TIERS[index],
        video=video,
        responses=responses,
        behavior=behavior,
        pupil_center=pupil_center,
        official_frames=frames - index % 2,
        checksum=checksum(video, responses, behavior, pupil_center),
        rates=events + 1.0 if rates else None,
    )


def checksum(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def recording(seed: int = 0, *, rates: bool = False, **changes) -> types.Recording:
    """The whole mouse; `changes` replace fields of the recording."""
    rng = np.random.default_rng(seed)
    shapes = {
        "videos": (HEIGHT, WIDTH),
        "responses": (NEURONS,),
        "behavior": (BEHAVIORS,),
        "pupil_center": (2,),
    }
    statistics = {
        modality: {name: rng.random((80, *shape)) for name in ("mean", "std", "max")}
        for modality, shape in shapes.items()
    }
    made = types.Recording(
        mouse="dynamic1-2-3-Video-handmade",
        source="made by hand",
        frame_rate_hz=30.0,
        neurons=types.Neurons(np.arange(NEURONS) + 7, rng.random((NEURONS, 3)) * 600),
        tiers=TIERS,
        read=lambda index: trial(index, seed, rates=rates),
        trial_columns={"trial_idx": np.arange(len(TIERS))[::-1], "kind": np.array(TIERS, object)},
        statistics=statistics,
        truth={"center": rng.random((NEURONS, 2))} if rates else {},
        simulated=rates,
    )
    return dataclasses.replace(made, **changes)


def altered(made: types.Recording, index: int, **changes) -> types.Recording:
    """The recording with fields of one trial replaced by functions of the old value."""

    def read(i: int) -> types.Trial:
        found = made.read(i)
        if i != index:
            return found
        return dataclasses.replace(
            found, **{name: change(getattr(found, name)) for name, change in changes.items()}
        )

    return dataclasses.replace(made, read=read)


def cut(made: types.Recording, index: int, frames: int) -> types.Recording:
    """The recording with one trial cut to its first frames."""
    signals = ("video", "responses", "behavior", "pupil_center")
    return altered(made, index, **dict.fromkeys(signals, lambda values: values[:frames]))


def write_session(folder: Path, name: str, num_trials: int = 8, repeats: int = 1) -> Path:
    """A session in the published layout of Sensorium 2023: the trials above, over and over."""
    session = folder / name
    padded = max(FRAMES) * repeats + 4
    for number in range(num_trials):
        one = trial(number % len(TIERS), seed=number // len(TIERS))
        signals = {
            "videos": one.video,
            "responses": one.responses,
            "behavior": one.behavior,
            "pupil_center": one.pupil_center,
        }
        for key, values in signals.items():
            values = np.concatenate([values] * repeats)
            array = np.full((*values.shape[1:], padded), np.nan)
            array[..., : len(values)] = np.moveaxis(values, 0, -1)
            save(session / "data" / key / f"{number}.npy", array)
    tiers = [TIERS[number % len(TIERS)] for number in range(num_trials)]
    save(session / "meta" / "trials" / "tiers.npy", np.array(tiers))
    return session


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)
