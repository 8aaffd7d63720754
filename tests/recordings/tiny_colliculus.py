"""A tiny file in the layout of the superior colliculus competition, written plainly."""

from pathlib import Path

import h5py
import numpy as np
import scipy.io

NAME = "SCNeuronModelCompetition"
SEGMENTS, REPEATS, FRAMES, HEIGHT, WIDTH, NEURONS = 5, 2, 6, 6, 8, 3
HIDDEN = (7, 2)  # from 1, of seven segments


def arrays(
    segments: int = SEGMENTS,
    repeats: int = REPEATS,
    frames: int = FRAMES,
    size: tuple[int, int] = (HEIGHT, WIDTH),
    neurons: int = NEURONS,
    hidden: tuple[int, ...] = HIDDEN,
) -> dict[str, np.ndarray]:
    """What the competition's file holds, as h5py shows it."""
    rng = np.random.default_rng(0)
    film = rng.integers(0, 240, (segments, frames, size[0] * size[1])).astype(np.float64)
    shape = (segments * repeats, frames, neurons)
    return {
        "trainingmovie_mini": np.repeat(film, repeats, axis=0),
        "FRhist_tr": rng.poisson(0.4, shape).astype(np.float64),
        "hiddendata": np.array(hidden, np.float64)[:, None],
        "trialdata": np.zeros((2, 1)),
    }


def write(folder: Path, made: dict[str, np.ndarray] | None = None, name: str = NAME) -> Path:
    """As MATLAB 7.3 does; returns the file."""
    path = folder / f"{name}.mat"
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        for key, values in (made or arrays()).items():
            file[key] = values
        file.create_group("#refs#")["a"] = np.zeros(3)
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file")
    return path


def write_old(folder: Path, made: dict[str, np.ndarray] | None = None, *, by="matlab") -> Path:
    """As older MATLABs do, axes first to last; or as Python does with the arrays of h5py."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{NAME}.mat"
    made = made or arrays()
    turned = {key: values.T if by == "matlab" else values for key, values in made.items()}
    scipy.io.savemat(path, turned | {"note": "text"}, do_compression=True)
    return path
