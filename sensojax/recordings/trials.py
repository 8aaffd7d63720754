"""One trial of a session in a published layout, read, checked and cut.

In goes the number of a trial; out comes a `types.Trial` with time first and without the padding.
On disk a video's four arrays have time as their last axis, padded with NaN to one length per
session; an image's have no time axis, and are here those of a single frame (`Layout`).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sensojax.errors import UserError
from sensojax.recordings import files, official
from sensojax.types import MODALITIES, Trial


@dataclass(frozen=True)
class Layout:
    """How a format keeps the arrays of a trial.

    videos: what the folder of videos is called. axes: what an array has, as told to the user.
    still: an image, (1, height, width), and no other array with a time axis.
    """

    videos: str
    axes: Mapping[str, str]
    still: bool

    def folder(self, key: str, within: str = "data") -> str:
        """Where the files of a modality lie."""
        return f"{within}/{self.videos if key == 'videos' else key}"

    def rows(self, key: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """What of an array's shape belongs to one frame."""
        if not self.still:
            return shape[:-1]
        return shape[1:] if key == "videos" else shape

    def time_last(self, key: str, array: np.ndarray) -> np.ndarray:
        """The array with time as its last axis, of length 1 for an image."""
        if not self.still:
            return array
        return (array[0] if key == "videos" else array)[..., None]

    def check_axes(self, source, name: str, key: str, shape: tuple[int, ...]) -> None:
        axes = self.axes[key]
        if len(shape) != axes.count(",") + 1:
            raise UserError(
                f"{source.where(name)} has {len(shape)} axes (shape {shape}), expected {axes}; "
                "copy this file again from its source."
            )
        if self.still and key == "videos" and shape[0] != 1:
            raise UserError(
                f"{source.where(name)} has shape {shape}, expected {axes}: one gray image; copy "
                "this file again from its source."
            )

    def statistic(self, source, name: str, key: str, array: np.ndarray, shape) -> np.ndarray:
        """A published statistic with time last; that of images may be one number for all pixels.

        shape: of the files of a trial.
        """
        if not self.still:
            self.check_axes(source, name, key, array.shape)
            return array
        if array.size != 1 and array.shape != shape:
            raise UserError(
                f"{source.where(name)} has shape {array.shape}, expected one number or {shape} as "
                "in the first trial; copy the meta folder again from its source."
            )
        number_or_shape = array.reshape(-1) if array.size == 1 else array
        return self.time_last(key, np.broadcast_to(number_or_shape, shape))


class Trials:
    """Reads one trial at a time and checks it against the first one."""

    def __init__(self, source, layout, tiers, num_neurons, shapes, statistics, simulated, holes):
        self.source = source
        self.layout = layout
        self.tiers = tiers
        self.rows = {key: layout.rows(key, shape) for key, shape in shapes.items()}
        self.rows["responses"] = (num_neurons,)
        # The published loader of images cuts nothing.
        self.official = official.Cut({} if layout.still else statistics)
        self.simulated = simulated
        self.holes = holes

    def read(self, index: int) -> Trial:
        if not 0 <= index < len(self.tiers):
            raise IndexError(f"trial {index} of {len(self.tiers)}")
        digest = hashlib.sha256()
        raw = {}
        for key in MODALITIES:
            name = self._name(key, index)
            found = files.load(self.source, name, digest.update)
            self._check(name, key, found)
            raw[key] = self.layout.time_last(key, found)
        padded = raw["videos"].shape[-1]
        for key, array in raw.items():
            if array.shape[-1] != padded:
                raise UserError(
                    f"{self.source.where(self._name(key, index))} has {array.shape[-1]} frames "
                    f"but the video of this trial has {padded}; all four signals must be equally "
                    "long: copy this trial again from its source."
                )
        self._check_statistics(index, padded)
        valid = {key: self._valid(self._name(key, index), raw[key]) for key in MODALITIES}
        num_frames = min(valid.values())
        if num_frames == 0 and self.holes == "refuse":
            name = self._name(min(valid, key=valid.get), index)
            raise UserError(
                f"trial {index} of {self.source.name} has no frame in which everything was "
                f"recorded ({self.source.where(name)} is NaN from the start); remove the trial "
                'from the session, or read with holes="cut" to get it empty.'
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
        self.layout.check_axes(self.source, name, key, array.shape)
        rows = self.layout.rows(key, array.shape)
        if array.dtype.kind not in "fiu":
            raise UserError(
                f"{self.source.where(name)} holds {array.dtype}, expected numbers; copy this file "
                "again from its source."
            )
        if key == "responses" and rows != self.rows[key]:
            raise UserError(
                f"{self.source.where(name)} has responses of {array.shape[0]} neurons but the "
                f"session has {self.rows[key][0]} neurons; is the file from another session? Copy "
                "it again from its source."
            )
        if rows != self.rows[key]:
            first = self._name(key, 0).removeprefix("data/")
            raise UserError(
                f"{self.source.where(name)} has shape {array.shape} but {first} of this session "
                f"has {self.rows[key]} in each frame; copy the file again from its source."
            )

    def _name(self, key: str, index: int) -> str:
        return f"{self.layout.folder(key)}/{index}.npy"

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
        axes = self.layout.axes["responses"]
        if self.layout.rows("responses", rates.shape) != self.rows["responses"]:
            raise UserError(
                f"{self.source.where(name)} has shape {rates.shape}, expected {axes} as in this "
                "session; simulate the session again."
            )
        rates = self.layout.time_last("responses", rates)
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


def _time_first(array: np.ndarray, num_frames: int) -> np.ndarray:
    return np.moveaxis(array[..., :num_frames], -1, 0)
