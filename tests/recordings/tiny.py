"""A tiny session in the published layout, written plainly, for tests that damage it."""

from pathlib import Path

import numpy as np

NEURONS, FRAMES, HEIGHT, WIDTH = 3, 8, 4, 5
TIERS = ("train", "oracle", "train", "none")
ROWS = {"videos": (HEIGHT, WIDTH), "responses": (NEURONS,), "behavior": (2,), "pupil_center": (2,)}


def write(folder: Path, valid: int = 6) -> Path:
    """Four trials of 6 valid frames padded to 8; returns the session folder."""
    session = folder / "dynamic90001-1-1-Video-0"
    rng = np.random.default_rng(0)
    for key, rows in ROWS.items():
        values = rng.integers(0, 255, (len(TIERS), *rows, FRAMES)).astype(np.float64)
        values[..., valid:] = np.nan
        for index, array in enumerate(values):
            save(session / "data" / key / f"{index}.npy", array)
        for name in ("mean", "std"):
            with np.errstate(invalid="ignore"):
                statistic = getattr(np, name)(values, axis=0)
            save(session / "meta" / "statistics" / key / "all" / f"{name}.npy", statistic)
    save(session / "meta" / "trials" / "tiers.npy", np.array(TIERS))
    save(session / "meta" / "trials" / "target_fps.npy", np.full(len(TIERS), 25.0))
    save(session / "meta" / "neurons" / "unit_ids.npy", np.array([7, 9, 4]))
    position = np.arange(3 * NEURONS).reshape(NEURONS, 3)
    save(session / "meta" / "neurons" / "cell_motor_coordinates.npy", position)
    return session


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)
