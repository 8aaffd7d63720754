"""Superior colliculus, SCML 2017: 54 neurons that saw one film six times (data_systems 2).

In goes the competition's file `SCNeuronModelCompetition.mat` (or a folder of such files); out comes
a `types.Recording` whose trials are trials of 5 s. The film was cut into segments, of which some
were withheld; the trials of a segment's six repeats follow each other. Nobody recorded behaviour or
the pupil, so these have no column, and responses are spike counts in each frame.

Tiers go by segment: the last fifth of them is validation. The organisers' template split by trial
instead, so that two repeats of one segment trained and four tested; `split="template"` does the
same, and calls the tested ones `leaky_validation`. Published models see whole frames, of which the
rows 16 to 79 of 96 are the picture (`picture_rows`): a config's `inputs.rows` takes these alone.
"""

from pathlib import Path

import numpy as np

from sensojax.errors import UserError, check_name
from sensojax.recordings import matlab
from sensojax.recordings.colliculus_trials import COUNTS, MOVIE, RATES, Trials
from sensojax.types import Neurons, Recording

HIDDEN = "hiddendata"
TRUTH = "truth/neurons/"  # of a simulated file
FRAME_RATE_HZ = 30.0
VALIDATION_SHARE = 0.2
SPLITS = ("segment", "template")
LEAKY = "leaky_validation"
HOLES = ("refuse", "cut")


def find(path: str | Path) -> list[Path]:
    """The competition's files at a path: the file itself, or those in a folder, sorted by name.

    Other .mat files of a folder do not count, but a damaged one does: it is told when it is read.
    """
    path = Path(path).expanduser()
    if path.suffix == matlab.ENDING and not path.is_dir():
        return [path]
    inside = sorted(path.glob(f"*{matlab.ENDING}")) if path.is_dir() else []
    return [each for each in inside if _may_be(each)]


def _may_be(path: Path) -> bool:
    try:
        return {MOVIE, COUNTS} <= set(matlab.File(path).shapes)
    except UserError:
        return True


def sessions(path: str | Path) -> list[str]:
    """Names of the recordings at a path: those of the files."""
    return [each.stem for each in find(path)]


def read(
    path: str | Path,
    mouse: str | None = None,
    *,
    holes: str = "refuse",
    split: str = "segment",
    frame_size: tuple[int, int] | None = None,
) -> Recording:
    """The recording in a file; each trial is read when it is asked for.

    mouse: the name of the file without its ending, needed when a folder holds several. holes: what
    to do with a trial that has NaN: "refuse" (UserError) or "cut" (it ends before the first one).
    split: of SPLITS. frame_size: (height, width) of frames that are not 3 to 4. Raises UserError
    when the file is not as published. Recording.read may be called from several threads.
    """
    check_name(split, SPLITS, "split")
    check_name(holes, HOLES, "holes")
    files = find(path)
    chosen = [each for each in files if mouse in (None, each.stem)]
    if len(chosen) != 1:
        held = ", ".join(each.stem for each in files) or "no file of the competition"
        raise UserError(
            f"found {held} in {path}, expected {mouse or 'one'}; give the path of one file."
        )
    trials = Trials(matlab.File(chosen[0]), holes)
    height, width = trials.frame_size = frame_size or _frame_size(trials)
    if height * width != trials.num_pixels:
        raise UserError(
            f"found frames of {trials.num_pixels} pixels in {trials.where}, expected {height} x "
            f"{width}; give another frame_size."
        )
    segments = len(trials) // trials.repeats
    trials.tiers = _tiers(len(trials), segments, split)
    return Recording(
        mouse=trials.file.path.stem,
        source=str(path),
        frame_rate_hz=FRAME_RATE_HZ,
        neurons=Neurons(np.arange(trials.num_neurons), np.full((trials.num_neurons, 3), np.nan)),
        tiers=trials.tiers,
        read=trials.read,
        trial_columns=_columns(trials, segments),
        truth={
            name.removeprefix(TRUTH): trials.file.read(name)
            for name in trials.file.shapes
            if name.startswith(TRUTH)
        },
        simulated=RATES in trials.file.shapes,
    )


def picture_rows(height: int) -> tuple[int, int]:
    """The rows between the black bars of a frame: the middle two thirds, 16 to 80 of 96."""
    return height // 6, height - height // 6


def _frame_size(trials: Trials) -> tuple[int, int]:
    """(height, width) of frames whose sides are 3 to 4, as 96 x 128."""
    unit = round((trials.num_pixels / 12) ** 0.5)
    if 12 * unit**2 != trials.num_pixels:
        raise UserError(
            f"found frames of {trials.num_pixels} pixels in {trials.where}, expected sides of 3 to "
            "4 (96 x 128 are 12288); say their frame_size to colliculus2017.read."
        )
    return 3 * unit, 4 * unit


def _tiers(trials: int, segments: int, split: str) -> tuple[str, ...]:
    """One tier per trial. A single segment is there to train on."""
    if split == "template":
        trained = int(trials * (1 - VALIDATION_SHARE))
        return ("train",) * trained + (LEAKY,) * (trials - trained)
    tested = max(1, round(VALIDATION_SHARE * segments)) if segments > 1 else 0
    names = ("train",) * (segments - tested) + ("validation",) * tested
    return tuple(np.repeat(names, trials // segments).tolist())


def _columns(trials: Trials, segments: int) -> dict[str, np.ndarray]:
    """What is known of every trial: its segment's number in the film and when it was shown.

    Without the numbers of withheld segments, segments count as if none had been withheld.
    """
    hidden = _hidden(trials, segments)
    number = np.setdiff1d(np.arange(segments + len(hidden)), hidden)
    film_s = (segments + len(hidden)) * trials.num_frames / FRAME_RATE_HZ
    segment = np.repeat(number, trials.repeats)
    repeat = np.tile(np.arange(trials.repeats), segments)
    return {
        "video_ids": segment,
        "repeat": repeat,
        "start_s": repeat * film_s + segment * trials.num_frames / FRAME_RATE_HZ,
        "beside_hidden": np.isin(segment - 1, hidden) | np.isin(segment + 1, hidden),
    }


def _hidden(trials: Trials, segments: int) -> np.ndarray:
    """Numbers of the withheld segments, from 0; the file counts from 1. Empty if it has none."""
    if HIDDEN not in trials.file.shapes:
        return np.array([], int)
    told = trials.file.read(HIDDEN).ravel().astype(np.float64)
    total = segments + len(told)
    if not (np.isin(told, np.arange(1, total + 1)).all() and len(set(told)) == len(told)):
        raise UserError(
            f"{HIDDEN} in {trials.where} names the segments {', '.join(f'{n:g}' for n in told)}, "
            f"expected {len(told)} different ones of 1 to {total}; copy the file again from its "
            "source."
        )
    return told.astype(int) - 1
