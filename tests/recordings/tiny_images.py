"""A tiny session in the published layout of Sensorium 2022, written plainly, to be damaged."""

from pathlib import Path

import numpy as np

from tests.recordings.tiny import save

NAME = "static90001-1-1-GrayImageNet-0"
NEURONS, HEIGHT, WIDTH = 3, 4, 6
TIERS = ("train", "validation", "test", "test", "final_test")
IMAGES = (11, 12, 13, 13, 14)
SHAPES = {
    "images": (1, HEIGHT, WIDTH),
    "responses": (NEURONS,),
    "behavior": (3,),
    "pupil_center": (2,),
}


def write(folder: Path, dtype: type = np.uint8) -> Path:
    """Five trials, of which two show the same image; returns the session folder."""
    session = folder / NAME
    rng = np.random.default_rng(0)
    for key, shape in SHAPES.items():
        values = rng.integers(0, 255, (len(TIERS), *shape)).astype(np.float64)
        if key == "images":
            values = values.astype(dtype)
            values[3] = values[2]
        for index, array in enumerate(values):
            save(session / "data" / key / f"{index}.npy", array)
        for name in ("mean", "std"):
            statistic = getattr(np, name)(values, axis=0, dtype=np.float64)
            for which, added in (("all", 0), ("stimulus_frame", 1)):
                path = session / "meta" / "statistics" / key / which / f"{name}.npy"
                save(path, statistic + added)
    trials = {
        "tiers": np.array(TIERS),
        "frame_image_id": np.array(IMAGES),
        "trial_idx": np.array([f"{index:032x}" for index in range(len(TIERS))]),
    }
    neurons = {
        "unit_ids": np.array([7, 9, 4]),
        "cell_motor_coordinates": np.arange(3 * NEURONS).reshape(NEURONS, 3),
        "area": np.array(["V1", "LM", "V1"]),
        "layer": np.array(["L2/3", "L2/3", "L4"]),
        "sessions": np.array([1, 1, 1]),
    }
    for table, columns in (("trials", trials), ("neurons", neurons)):
        for name, column in columns.items():
            save(session / "meta" / table / f"{name}.npy", column)
    return session
