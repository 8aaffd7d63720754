"""Which frames of a trial make a sample, and which of those frames count; nothing is loaded here.

A trial table goes in, windows come out: a `Window` is a trial's row, the frame it starts with and
its length. Two rules draw the start of a training window, by name: `published`, which never
reaches the last frame of a trial (baselines 1.3, step 5), and `uniform`, in which every window of a
trial is equally likely and a shorter trial is padded at its end. Evaluation sees whole trials,
padded at the end to a common length. Padding and warm-up frames are told apart from the frames that
count by `valid_frames` and by nothing else; which frames the systems of the field score is in
`SCORED_FRAMES`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sensojax.errors import UserError, check_name

RULES = ("published", "uniform")
NORMALIZATIONS = ("official", "per_neuron", "none", "counts", "min_max", "viv1t2023")
# Two normalisations that treat responses alike: models of the first are scored in the second.
RESPONSES_AS = {"viv1t2023": "official"}


class ScoredFrames(NamedTuple):
    """Which frames of a trial are scored.

    skip_frames: how many at its start are not. most_frames: a longer trial is cut to its first so
    many, also for the model; 0 cuts none. drop_last: how many at the end of what is left are not.
    """

    skip_frames: int
    most_frames: int
    drop_last: int


# The conventions of the field (sota 0.4), frames counted from 0, of a trial of 300 frames: the 2023
# kit and its server score 50 to 299 and whatever a longer trial has; DwiseNeuro scores and submits
# 50 to 298; ViV1T submits 51 to 299 and scores 50 to 299 itself. These last
# three never see more. "all" is for images, which have one frame.
SCORED_FRAMES = {
    "kit": ScoredFrames(50, 0, 0),
    "dwiseneuro": ScoredFrames(50, 300, 1),
    "viv1t": ScoredFrames(51, 300, 0),
    "viv1t_local": ScoredFrames(50, 300, 0),
    "all": ScoredFrames(0, 0, 0),
}


@dataclass(frozen=True)
class Window:
    """Frames [start, start + length) of the trial in row `row`; they may pass the trial's end."""

    row: int
    start: int
    length: int


def usable_frames(trials, normalization: str, most_frames: int = 0) -> np.ndarray:
    """Frames of each trial that a sample may show, [trial]; at most so many, unless that is 0.

    Under `official` these end where the published loader cuts a trial, because its per-frame
    statistics may not reach to the end; under the others all recorded frames are usable.
    Raises UserError for another normalization.
    """
    check_name(normalization, NORMALIZATIONS, "normalization")
    frames = trials.official_frames if normalization == "official" else trials.num_frames
    return np.minimum(frames, most_frames) if most_frames else np.asarray(frames)


def count_starts(rule: str, num_frames: int, length: int) -> int:
    """How many starts a rule has for a trial of `num_frames`; they are 0, 1, ... below that count.

    published: start in [0, num_frames - length - 1], so the last frame is never seen and a trial
    exactly as long as the window cannot be used (the kit crashes there; we raise UserError).
    uniform: start in [0, num_frames - length], and 0 alone for a trial shorter than the window.
    """
    check_name(rule, RULES, "window rule")
    if rule == "uniform":
        return max(num_frames - length, 0) + 1
    if num_frames <= length:
        raise UserError(
            f"found a trial of {num_frames} frames, expected more than the {length} of a window "
            "under the rule 'published'; use shorter windows or the rule 'uniform'."
        )
    return num_frames - length


def draw(row: int, num_frames: int, length: int, rule: str, rng: np.random.Generator) -> Window:
    """A window at random, every start of the rule being equally likely."""
    return Window(row, int(rng.integers(count_starts(rule, num_frames, length))), length)


def fixed(row: int, num_frames: int, length: int, start: int) -> Window:
    """The window that starts with the given frame; UserError when it passes the trial's end."""
    if start < 0 or start + length > num_frames:
        raise UserError(
            f"found a window of frames {start} to {start + length - 1}, expected it within the "
            f"{num_frames} frames of the trial in row {row}; move or shorten the window."
        )
    return Window(row, start, length)


def whole(row: int, num_frames: int, length: int) -> Window:
    """The whole trial, to be padded to `length`; UserError when the trial is longer than that."""
    if num_frames > length:
        raise UserError(
            f"found {num_frames} frames in the trial of row {row}, expected at most {length}; "
            "give a length that holds the longest trial."
        )
    return Window(row, 0, length)


def valid_frames(
    window: Window, num_frames: int, skip_frames: int, most_frames: int = 0, drop_last: int = 0
) -> np.ndarray:
    """The frames of a window that count, [time] bool.

    Padding (frames past the `num_frames` of the trial) never counts, nor do the first
    `skip_frames` frames of the trial, from which a model has seen too little of the past, those
    after its first `most_frames` (0: there is no such limit), and the last `drop_last` of what the
    limit leaves.
    """
    frame = window.start + np.arange(window.length)
    end = (min(num_frames, most_frames) if most_frames else num_frames) - drop_last
    return (frame >= skip_frames) & (frame < end)
