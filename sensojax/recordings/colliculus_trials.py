"""The trials of the superior colliculus file, one at a time: frames, spike counts, repeats.

In goes an open `matlab.File`; out come `types.Trial`s, checked: trials of one segment show the same
film, counts are numbers from 0 on. Arrays are [trial time pixel] and [trial time neuron]; a file in
which they are the other way round is read alike.
"""

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from sensojax.errors import UserError
from sensojax.recordings import matlab
from sensojax.types import Trial

MOVIE, COUNTS = "trainingmovie_mini", "FRhist_tr"
RATES = "truth/rates"  # of a simulated file
COMPARED_FRAMES = 8  # of two trials that may show one segment


@dataclass
class Trials:
    """The trials of a file; `len` of them, `repeats` of each segment one after the other."""

    file: matlab.File
    holes: str
    tiers: Sequence[str] = ()
    frame_size: tuple[int, int] = (0, 0)
    _shown: dict[int, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self):
        shapes = {name: self.file.shapes.get(name) for name in (MOVIE, COUNTS)}
        if None in shapes.values() or {len(shape) for shape in shapes.values()} != {3}:
            raise UserError(
                f"found {self.file.described()}, expected {MOVIE} [trial time pixel] and {COUNTS} "
                "[trial time neuron]; is it the file of the competition?"
            )
        movie, counts = shapes.values()
        self._backwards = movie[:2] != counts[:2]  # as Python writes files of version 5
        if self._backwards:
            movie, counts = movie[::-1], counts[::-1]
        if movie[:2] != counts[:2] or 0 in movie + counts:
            raise UserError(
                f"found {self.file.described()}, expected as many trials and frames in {MOVIE} as "
                f"in {COUNTS}, and no empty one; copy the file again from its source."
            )
        self._num_trials, self.num_frames, self.num_pixels = movie
        self.num_neurons = counts[2]

    def __len__(self) -> int:
        return self._num_trials

    @property
    def where(self) -> str:
        return str(self.file.path)

    @cached_property
    def repeats(self) -> int:
        """How many trials in a row show one segment, as the first trials of the file have it."""
        first, trial = self._some_frames(0), 1
        while trial < len(self) and np.array_equal(self._some_frames(trial), first, equal_nan=True):
            trial += 1
        if len(self) % trial:
            raise UserError(
                f"found {len(self)} trials in {self.where}, the first {trial} of which show the "
                f"same film, expected a multiple of {trial}; copy the file again from its source."
            )
        return trial

    def read(self, index: int) -> Trial:
        """One trial, checked."""
        if not 0 <= index < len(self):
            raise IndexError(f"trial {index} of {len(self)}")
        movie, counts = self._of(MOVIE, index), self._of(COUNTS, index)
        shown = hashlib.sha256(np.ascontiguousarray(movie))
        self._refuse_another_film(index, shown.hexdigest())
        shown.update(np.ascontiguousarray(counts))
        num_frames = self._whole_frames(index, movie, counts)
        counts = counts[:num_frames].astype(np.float64)
        if (counts < 0).any():
            raise UserError(
                f"trial {index} of {self.where} has a spike count of {counts.min():g}, expected "
                "none below 0; copy the file again from its source."
            )
        rates = None
        if RATES in self.file.shapes:
            rates = self.file.read(RATES, index)[:num_frames].astype(np.float64)
        return Trial(
            index=index,
            tier=self.tiers[index],
            video=np.ascontiguousarray(movie[:num_frames]).reshape(num_frames, *self.frame_size),
            responses=counts,
            behavior=np.zeros((num_frames, 0)),
            pupil_center=np.zeros((num_frames, 0)),
            official_frames=num_frames,
            checksum=shown.hexdigest(),
            rates=rates,
        )

    def _of(self, name: str, index: int) -> np.ndarray:
        """[time pixel] or [time neuron] of one trial."""
        if self._backwards:
            return self.file.read(name, (slice(None), slice(None), index)).T
        return self.file.read(name, index)

    def _some_frames(self, index: int) -> np.ndarray:
        """A few frames of a trial, from its first to its last."""
        spread = np.linspace(0, self.num_frames - 1, COMPARED_FRAMES)
        frames = np.unique(spread.astype(int)).tolist()
        at = (slice(None), frames, index) if self._backwards else (index, frames)
        return self.file.read(MOVIE, at)

    def _refuse_another_film(self, index: int, shown: str) -> None:
        """UserError when this trial shows another film than the repeats that were read before."""
        segment = index // self.repeats
        with self._lock:
            first = self._shown.setdefault(segment, shown)
        if first != shown:
            raise UserError(
                f"trial {index} of {self.where} does not show the film of the other repeats of "
                f"segment {segment}, expected {self.repeats} trials in a row to be alike; copy the "
                "file again from its source."
            )

    def _whole_frames(self, index: int, *arrays: np.ndarray) -> int:
        """Frames before the first one with a NaN."""
        missing = np.logical_or.reduce([np.isnan(array).any(axis=1) for array in arrays])
        if missing.any() and self.holes == "refuse":
            raise UserError(
                f"trial {index} of {self.where} is NaN in frame {np.argmax(missing)}, expected "
                'numbers; copy the file again, or read with holes="cut" to end the trial there.'
            )
        return int(np.argmax(missing)) if missing.any() else len(missing)
