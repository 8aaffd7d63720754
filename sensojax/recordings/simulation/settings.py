"""What a user may choose about simulated mice, checked when it is chosen."""

from dataclasses import dataclass

import numpy as np

from sensojax.errors import UserError
from sensojax.recordings.simulation.schedule import FEWEST_TRIALS

REALISTIC_NOISE = 12.0


@dataclass(frozen=True)
class Settings:
    """What to simulate.

    types: cell types, which all mice share: neurons of one type differ in where their fields lie,
    in gains and noise only; 0 makes each neuron its own type. trials: files per mouse, all tiers
    together; train_share: the part that trains, the rest is
    spread over the other tiers as published. frames: of most clips, at 30 Hz; padded_frames: length
    of the arrays, 0 for 24 more than frames (as 300 and 324). noise: variance of the response noise
    over that of the signal, per microscope frame: 0 gives the rates themselves, the default a
    median correlation of rates with responses of about 0.6, REALISTIC_NOISE about 0.3. eye_shift: 0
    keeps the fields in place, 1 moves them by about a pixel (at 36 x 64). normalization: strength
    of the division by the mean activity of all neurons. withhold: zeros instead of responses in the
    live and final test tiers, as the five competition mice have. Raises UserError for a setting
    that makes no session.
    """

    mice: int = 2
    neurons: int = 100
    types: int = 0
    trials: int = 150
    train_share: float = 0.5
    frames: int = 300
    padded_frames: int = 0
    height: int = 36
    width: int = 64
    seed: int = 0
    noise: float = 2.0
    eye_shift: float = 1.0
    normalization: float = 0.0
    withhold: bool = False

    def __post_init__(self):
        least = {"mice": 1, "neurons": 1, "trials": FEWEST_TRIALS, "frames": 10}
        least |= {"height": 8, "width": 8, "seed": 0, "noise": 0, "eye_shift": 0}
        least |= {"normalization": 0, "types": 0}
        for name, bound in least.items():
            if not bound <= getattr(self, name) < np.inf:
                raise UserError(
                    f"{name} is {getattr(self, name)}, expected at least {bound}; give another."
                )
        if not 0 < self.train_share < 1:
            raise UserError(f"train_share is {self.train_share}, expected between 0 and 1.")
        if self.padded < self.frames:
            raise UserError(
                f"padded_frames is {self.padded_frames}, expected at least the {self.frames} "
                "frames of a clip, or 0 to choose it from them."
            )

    @property
    def padded(self) -> int:
        return self.padded_frames or self.frames + 24
