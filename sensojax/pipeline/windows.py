"""Which frames of a trial make a sample, and which of those frames count; nothing is loaded here.

A trial table goes in, windows come out: a `Window` is a trial's row, the frame it starts with and
its length. Two rules draw the start of a training window, by name: `published`, which never
reaches the last frame of a trial (baselines 1.3, step 5), and `uniform`, in which every window of a
trial is equally likely and a shorter trial is padded at its end. Evaluation sees whole trials,
padded at the end to a common length. Padding and warm-up frames are told apart from the frames that
count by `valid_frames` and by nothing else.
"""

from dataclasses import dataclass

import numpy as np

from sensojax.errors import UserError, check_name

RULES = ("published", "uniform")
NORMALIZATIONS = ("official", "per_neuron")


@dataclass(frozen=True)
class Window:
    """Frames [start, start + length) of the trial in row `row`; they may pass the trial's end."""

    row: int
    start: int
    length: int


def usable_frames(trials, normalization: str) -> np.ndarray:
    """Frames of each trial that a sample may show, [trial].

    Under `official` these end where the published loader cuts a trial, because its per-frame
    statistics may not reach to the end; under `per_neuron` all recorded frames are usable.
    Raises UserError for another normalization.
    """
    check_name(normalization, NORMALIZATIONS, "normalization")
    frames = trials.official_frames if normalization == "official" else trials.num_frames
    return np.asarray(frames)


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


def valid_frames(window: Window, num_frames: int, skip_frames: int) -> np.ndarray:
    """The frames of a window that count, [time] bool.

    Padding (frames past the `num_frames` of the trial) never counts, nor do the first
    `skip_frames` frames of the trial, from which a model has seen too little of the past (the 2023
    competition scores from frame 50).
    """
    frame = window.start + np.arange(window.length)
    return (frame >= skip_frames) & (frame < num_frames)
