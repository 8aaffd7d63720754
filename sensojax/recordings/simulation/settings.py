"""What a user may choose about simulated mice, checked when it is chosen."""

from dataclasses import dataclass

import numpy as np

from sensojax.errors import UserError, check_name
from sensojax.recordings.simulation.schedule import FEWEST_TRIALS

REALISTIC_NOISE = 12.0
# Height and width in pixels, as published.
SIZES = {"video": (36, 64), "static": (144, 256), "colliculus": (96, 128)}
REPEATS = 6  # of every segment of the film that the colliculus sees


@dataclass(frozen=True)
class Settings:
    """What to simulate.

    kind: "video"; "static" for mice that look at images: a trial is one image, and frames and
    padded_frames mean nothing; "colliculus" for spike counts in the superior colliculus: trials are
    six repeats of each segment of a film between black bars, counts are Poisson's, so that noise
    decides how many spikes there are, and train_share, padded_frames, eye_shift and withhold mean
    nothing. types: cell types, which all mice share: neurons of one type differ in where their
    fields lie, in gains and noise only; 0 makes each neuron its own type. trials: files per mouse,
    all tiers together; train_share: the part that trains, the rest is spread over the other tiers
    as published. frames: of most clips, at 30 Hz; padded_frames: length of the arrays, 0 for 24
    more than frames (as 300 and 324). height, width: pixels, 0 for the published 36 x 64 of videos,
    144 x 256 of images and 96 x 128 of the colliculus. noise: variance of the response noise over
    that of the signal, per microscope frame: 0 gives the rates themselves, the default a median
    correlation of rates with responses of about 0.6, REALISTIC_NOISE about 0.3 (images 0.55, 0.2).
    eye_shift: 0 keeps the fields in place, 1 moves them by about a pixel (at 36 x 64).
    normalization: strength of the division by the mean activity of all neurons. withhold: zeros
    instead of responses in the live and final test tiers, as the five competition mice have. Raises
    UserError for a setting that makes no session.
    """

    kind: str = "video"
    mice: int = 2
    neurons: int = 100
    types: int = 0
    trials: int = 150
    train_share: float = 0.5
    frames: int = 300
    padded_frames: int = 0
    height: int = 0
    width: int = 0
    seed: int = 0
    noise: float = 2.0
    eye_shift: float = 1.0
    normalization: float = 0.0
    withhold: bool = False

    def __post_init__(self):
        check_name(self.kind, SIZES, "kind of simulation")
        for name, published in zip(("height", "width"), SIZES[self.kind], strict=True):
            object.__setattr__(self, name, getattr(self, name) or published)
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
        if self.kind == "colliculus":
            self._check_colliculus()
        if self.padded < self.frames:
            raise UserError(
                f"padded_frames is {self.padded_frames}, expected at least the {self.frames} "
                "frames of a clip, or 0 to choose it from them."
            )

    def _check_colliculus(self) -> None:
        for name, factor in (("trials", REPEATS), ("height", 6)):  # a sixth of the rows is a bar
            if getattr(self, name) % factor:
                raise UserError(
                    f"{name} is {getattr(self, name)}, expected a multiple of {factor} for the "
                    "colliculus; give another."
                )

    @property
    def padded(self) -> int:
        return self.padded_frames or self.frames + 24
