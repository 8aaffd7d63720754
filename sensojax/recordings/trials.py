"""One trial of a session in the published layout of Sensorium 2023, read, checked and cut.

In goes the number of a trial; out comes a `types.Trial` with time first and without the padding.
On disk time is the last axis of four arrays, padded with NaN to one length per session.
"""

import hashlib

import numpy as np

from sensojax.errors import UserError
from sensojax.recordings import files, official
from sensojax.types import MODALITIES, Trial

LAYOUT = {
    "videos": "(height, width, time)",
    "responses": "(neuron, time)",
    "behavior": "(channel, time)",
    "pupil_center": "(2, time)",
}


class Trials:
    """Reads one trial at a time and checks it against the first one."""

    def __init__(self, source, tiers, num_neurons, shapes, statistics, simulated, holes):
        self.source = source
        self.tiers = tiers
        self.rows = {key: shape[:-1] for key, shape in shapes.items()}
        self.rows["responses"] = (num_neurons,)
        self.official = official.Cut(statistics)
        self.simulated = simulated
        self.holes = holes

    def read(self, index: int) -> Trial:
        if not 0 <= index < len(self.tiers):
            raise IndexError(f"trial {index} of {len(self.tiers)}")
        digest = hashlib.sha256()
        raw = {}
        for key in MODALITIES:
            name = f"data/{key}/{index}.npy"
            raw[key] = files.load(self.source, name, digest.update)
            self._check(name, key, raw[key])
        padded = raw["videos"].shape[-1]
        for key, array in raw.items():
            if array.shape[-1] != padded:
                raise UserError(
                    f"{self.source.where(f'data/{key}/{index}.npy')} has {array.shape[-1]} frames "
                    f"but the video of this trial has {padded}; all four signals must be equally "
                    "long: copy this trial again from its source."
                )
        self._check_statistics(index, padded)
        num_frames = min(self._valid(f"data/{key}/{index}.npy", raw[key]) for key in MODALITIES)
        if num_frames == 0 and self.holes == "refuse":
            raise UserError(
                f"trial {index} of {self.source.name} has no frame in which everything was "
                "recorded (some signal is NaN from the start); remove the trial from the session, "
                'or read with holes="cut" to get it empty.'
            )
        cut = {key: np.ascontiguousarray(_time_first(raw[key], num_frames)) for key in MODALITIES}
        return Trial(
            index=index,
            tier=self.tiers[index],
            video=cut["videos"],
            responses=cut["responses"].astype(np.float64, copy=False),
            behavior=cut["behavior"].astype(np.float64, copy=False),
            pupil_center=cut["pupil_center"].astype(np.float64, copy=False),
            official_frames=self.official.frames(cut),
            checksum=digest.hexdigest(),
            rates=self._rates(index, num_frames) if self.simulated else None,
        )

    def _check(self, name: str, key: str, array: np.ndarray) -> None:
        check_axes(self.source, name, key, array.shape)
        if array.dtype.kind not in "fiu":
            raise UserError(
                f"{self.source.where(name)} holds {array.dtype}, expected numbers; copy this file "
                "again from its source."
            )
        if key == "responses" and array.shape[:-1] != self.rows[key]:
            raise UserError(
                f"{self.source.where(name)} has responses of {array.shape[0]} neurons but the "
                f"session has {self.rows[key][0]} neurons; is the file from another session? Copy "
                "it again from its source."
            )
        if array.shape[:-1] != self.rows[key]:
            raise UserError(
                f"{self.source.where(name)} has shape {array.shape} but {key}/0.npy of this "
                f"session has {self.rows[key]} before its time axis; copy the file again from its "
                "source."
            )

    def _valid(self, name: str, array: np.ndarray) -> int:
        """Frames before the first one that holds a NaN; refuses NaN followed by numbers."""
        missing = np.isnan(array)
        per_frame = missing.any(axis=tuple(range(array.ndim - 1)))
        if not per_frame.any():
            return array.shape[-1]
        first = int(np.argmax(per_frame))
        resumed = missing[..., first:-1] & ~missing[..., first + 1 :]
        if self.holes == "refuse" and resumed.any():
            frame = first + 1 + int(np.argmax(resumed.any(axis=tuple(range(array.ndim - 1)))))
            raise UserError(
                f"{self.source.where(name)} is NaN from frame {first} but has numbers again from "
                f"frame {frame}; NaN may only pad the end of a trial: repair the file, or read "
                'with holes="cut" to end the trial at its first NaN.'
            )
        return first

    def _rates(self, index: int, num_frames: int) -> np.ndarray:
        name = f"truth/rates/{index}.npy"
        rates = files.load(self.source, name)
        if rates.ndim != 2 or len(rates) != self.rows["responses"][0]:
            raise UserError(
                f"{self.source.where(name)} has shape {rates.shape}, expected "
                f"{LAYOUT['responses']} as in this session; simulate the session again."
            )
        return np.ascontiguousarray(_time_first(rates, num_frames))

    def _check_statistics(self, index: int, padded: int) -> None:
        for key, scaling in self.official.scalings.items():
            found, expected = scaling[0].shape, (padded, *self.rows[key])
            if found != expected:
                raise UserError(
                    f"the statistics of {key} in {self.source.where('meta/statistics')} cover "
                    f"{found[0]} frames of shape {found[1:]} but trial {index} has {expected[0]} "
                    f"of shape {expected[1:]}; copy the meta folder again from its source."
                )


def check_axes(source, name: str, key: str, shape: tuple[int, ...]) -> None:
    axes = LAYOUT[key]
    if len(shape) != axes.count(",") + 1:
        raise UserError(
            f"{source.where(name)} has {len(shape)} axes (shape {shape}), expected {axes}; copy "
            "this file again from its source."
        )


def _time_first(array: np.ndarray, num_frames: int) -> np.ndarray:
    return np.moveaxis(array[..., :num_frames], -1, 0)
