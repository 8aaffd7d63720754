"""What the scripts that measure stimuli share: arguments, the walk over the mice, what they say.

In go a kind of stimulus, a parser with the script's own arguments, and how a video is measured; out
come the files that `sensojax/tools/annotating/stimulus_features.py` writes.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from sensojax import errors
from sensojax.tools import sources
from sensojax.tools.annotating import shown, stimulus_features

Measure = Callable[[np.ndarray], np.ndarray]


def parser(told: str) -> argparse.ArgumentParser:
    """The arguments that all of them have; told: the docstring of the script."""
    made = argparse.ArgumentParser(
        description=told, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument(
        "sources", nargs="+", type=Path, help="sessions or stores, or folders of them"
    )
    made.add_argument("--out", type=Path, default=Path("data/ood_features"), help="folder of files")
    made.add_argument("--ids", type=Path, help="folder filled by scripts/assign_stimulus_ids.py")
    made.add_argument("--trials", default="", help="only these, whatever their kind: 2,8,10")
    made.add_argument("--again", action="store_true", help="also what is done")
    made.add_argument("--workers", type=int, default=0, help="reading threads; 0: one per core")
    return made


def numbers(text: str, name: str, kind: type = float) -> tuple:
    """The numbers of an argument such as 1,2.5; UserError for anything else."""
    try:
        return tuple(kind(word) for word in text.split(",") if word.strip())
    except ValueError as error:
        raise errors.UserError(
            f"found {name} {text!r}, expected numbers with commas between them."
        ) from error


def run(
    args: argparse.Namespace, kind: str, new: Callable[[], Measure], settings: Mapping, **more
) -> None:
    """Measures every mouse; new: makes what measures the videos of one mouse."""
    if args.workers < 0:
        raise errors.UserError(f"--workers {args.workers}, expected 0 (one per core) or more.")
    trials = numbers(args.trials, "--trials", int)
    folder, shown_as = args.out / stimulus_features.FOLDERS[kind], kind.replace("_", " ")
    mice = sources.find(args.sources)
    without = []

    def one(mouse: str) -> None:
        videos = shown.of(mice[mouse]())
        if trials:
            rows = stimulus_features.rows_of_trials(videos, trials)
        else:
            rows = stimulus_features.rows_of_kind(videos, kind, args.ids)
        if not rows:
            without.append(mouse)
            print(f"{mouse}: was shown no {shown_as}", flush=True)
            return
        if args.again:
            stimulus_features.forget(folder, videos)
        began = time.monotonic()
        done = stimulus_features.measure(
            folder, videos, rows, new(), settings, workers=args.workers, **more
        )
        _tell(mouse, done, time.monotonic() - began)

    sources.for_each(mice, one, "measured")
    if len(without) == len(mice):
        raise errors.UserError(
            f"found no {shown_as} in {', '.join(map(str, args.sources))}, expected at least one "
            "trial with it; find the kinds anew with scripts/assign_stimulus_ids.py, or name "
            "--trials."
        )


def _tell(mouse: str, done: stimulus_features.Measured | None, seconds: float) -> None:
    if done is None:
        print(f"{mouse}: already there", flush=True)
        return
    unclear = f", {done.unclear_frames} frames without an answer" if done.unclear_frames else ""
    videos = f"different videos measured: {done.videos}"
    print(f"{mouse}: {done.trials} trials, {videos}{unclear}, {seconds:.1f} s", flush=True)
