"""Responses of one mouse as a file that later analyses read: HDF5, one data set per trial.

In go trials of responses, recorded or predicted, in the units of the recording; out comes
`<mouse>.h5` with a data set [neuron time] float32 for each trial, named by the trial's number and
with its tier as an attribute, and on the whole file what the responses are (`about`, JSON). Any
HDF5 reader opens it; `read_responses` gives trials in the order asked. A file that has its name is
whole: it is written to `<mouse>.h5.partial` first.
"""

import contextlib
import json
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from sensojax.errors import UserError, nearest

# gzip at level 4 packs 8 MB of events in 0.1 s to 31 %; at the published 9 in 1.7 s to 30 %.
LEVEL = 4
CHUNK_NEURONS = 512  # a chunk holds so many neurons and all frames
UNITS = "as recorded"


@dataclass(frozen=True)
class Packed:
    """The responses of one trial, compressed and ready to be written. shape: neurons, frames."""

    trial: str
    tier: str
    shape: tuple[int, int]
    chunks: list[bytes]
    shuffled: bool


def pack(trial: int, tier: str, responses: np.ndarray, *, smooth: bool) -> Packed:
    """Responses [time neuron] of a trial, ready for `write`; may be called in any thread.

    smooth: predictions, which pack better when bytes of equal weight stand together; recorded
    events, mostly zeros, do not.
    """
    values = np.ascontiguousarray(responses.T, np.float32)
    rows = min(CHUNK_NEURONS, len(values))
    chunks = []
    for first in range(0, len(values), rows):
        chunk = np.zeros((rows, values.shape[1]), "<f4")  # the last one reaches past the end
        part = values[first : first + rows]
        chunk[: len(part)] = part
        data = chunk.view(np.uint8).reshape(-1, 4).T.tobytes() if smooth else chunk.tobytes()
        chunks.append(zlib.compress(data, LEVEL))
    return Packed(str(trial), tier, values.shape, chunks, smooth)


def write(path: Path, trials: Iterable[Packed], about: Mapping) -> None:
    """Writes the file of one mouse; about: plain values that say what its responses are.

    Raises UserError when there is no trial.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    file = h5py.File(partial, "w")
    try:
        file.attrs["about"] = json.dumps(about)
        file.attrs["units"] = UNITS
        for each in trials:
            _add(file, each)
        if not len(file):
            raise UserError(
                f"found no responses to write to {path}: all were withheld, or trials are too "
                "short; choose other --tiers or --frames."
            )
        file.flush()
    except BaseException:
        _give_up(file)
        raise
    file.close()
    with open(partial, "rb") as written:
        os.fsync(written.fileno())
    os.replace(partial, path)


def about(path: str | Path) -> dict:
    """What a file says of itself; UserError when it is not one of ours."""
    with _opened(path) as file:
        return json.loads(file.attrs["about"])


def tiers(path: str | Path) -> dict[str, str]:
    """The trials of a file and their tiers, in the order of their numbers."""
    with _opened(path) as file:
        names = sorted(file, key=int)
        return {name: file[name].attrs["tier"] for name in names}


def read_responses(path: str | Path, ids: Sequence[int | str]) -> list[np.ndarray]:
    """Responses [neuron time] float32 of these trials, in the order asked.

    Raises UserError when the file is not there or not whole, or has no such trial.
    """
    with _opened(path) as file:
        for name in map(str, ids):
            if name not in file:
                raise UserError(
                    f"{path} has no trial {name!r}{nearest(name, file)}; it has {len(file)} trials."
                )
        return [file[str(name)][...] for name in ids]


def _opened(path: str | Path) -> h5py.File:
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        said = " ".join(str(error).split())
        raise UserError(
            f"cannot read responses from {path} ({said}); write the file with "
            "scripts/save_responses.py, once more if it is damaged."
        ) from error
    if "about" not in file.attrs:
        file.close()
        raise UserError(f"{path} was not written by scripts/save_responses.py; give such a file.")
    return file


def _add(file: h5py.File, packed: Packed) -> None:
    neurons, frames = packed.shape
    rows = min(CHUNK_NEURONS, neurons)
    made = file.create_dataset(
        packed.trial,
        shape=packed.shape,
        dtype="<f4",
        chunks=(rows, frames),
        compression="gzip",
        compression_opts=LEVEL,
        shuffle=packed.shuffled,
    )
    made.attrs["tier"] = packed.tier
    for number, chunk in enumerate(packed.chunks):  # compressed by threads, which HDF5 cannot do
        made.id.write_direct_chunk((number * rows, 0), chunk)


def _give_up(file: h5py.File) -> None:
    """Closes a file that cannot be finished; on a full disk closing fails as writing did."""
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        file.close()
