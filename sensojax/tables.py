"""The tables of a store: its trials, and the small arrays in `tables.npz` by group and name.

In goes the folder of a store; out come arrays, or the sentence that says that they are damaged.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from sensojax import errors

FILE = "tables.npz"


@dataclass(frozen=True)
class TrialTable:
    """One entry per trial, in file order; all [trial].

    index: the source's file number. tier: name of the split. num_frames: valid frames.
    official_frames: how many of these the published loader keeps. clip: row of its distinct clip;
    trials of equal `clip` showed the same video (one may be cut earlier). has_responses: False
    where the source holds only zeros, that is, where the laboratory withheld them. checksum:
    SHA-256 of the source files. columns: other columns of the source by name, [trial ...].
    """

    index: np.ndarray
    tier: np.ndarray
    num_frames: np.ndarray
    official_frames: np.ndarray
    clip: np.ndarray
    has_responses: np.ndarray
    checksum: np.ndarray
    columns: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True)
class Statistics:
    """Two ways to normalise, by modality and then `mean` or `std`.

    official: as published, per frame: videos [time height width], responses [time neuron],
    behavior and pupil_center [time 2]; empty when the source has none.
    per_neuron: over all valid frames of the train tier (population std, float64): videos scalars,
    responses [neuron], behavior and pupil_center [2]; empty without a train tier.
    """

    official: dict[str, dict[str, np.ndarray]]
    per_neuron: dict[str, dict[str, np.ndarray]]


def read(folder: Path, group: str) -> dict[str, np.ndarray]:
    """The arrays of a group, such as `neurons` or `official`, by the rest of their names."""
    try:
        with open(folder / FILE, "rb") as file, np.load(file) as tables:
            names = [name for name in tables.files if name.startswith(f"{group}/")]
            return {name.removeprefix(f"{group}/"): tables[name] for name in names}
    except (OSError, ValueError, EOFError, BadZipFile, zlib.error) as error:
        raise damaged(folder, error) from error


def nested(statistics: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """From `<modality>/<statistic>` to the two one in the other."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, array in statistics.items():
        modality, statistic = name.split("/")
        found.setdefault(modality, {})[statistic] = array
    return found


def damaged(path: Path, error: Exception) -> errors.UserError:
    """What to tell the user of a store that was complete and no longer is."""
    found = str(error).splitlines()[0].split(" [")[0] if str(error) else type(error).__name__
    return errors.UserError(
        f"store {path} is damaged ({found}); delete the folder and convert the recording again."
    )
