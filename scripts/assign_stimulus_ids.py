"""Finds out what kind of stimulus every trial showed: movie, noise, dots, Gabor or flashed images.

    python scripts/assign_stimulus_ids.py <source> [<more> ...] --out data/stimulus_ids

A source is a session, a folder or .zip of sessions, a store or a folder of stores. Every different
video is looked at once. Each mouse gets `--out/<mouse>.npy` with the published numbers (0 movie,
1 pink noise, 2 Gaussian dots, 3 random dots, 4 drifting Gabor, 5 flashed images, -1 unknown and
tier none) and `--out/<mouse>.csv` with what speaks for each; a store also keeps the names as its
annotation "stimulus_kind". Videos of tiers that hold movies in the published data but look like
something else are reported; with `--trust-tiers` they are taken for movies, as the published tool
does without looking.

`--check` compares with kinds that are known (of simulated mice, or stimulus_ids in the trial table)
and writes `--out/confusion.csv`. A mouse that is done is passed over, one that was stopped is begun
anew. A mouse that cannot be done does not keep the others from it.
"""

import argparse
import csv
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

# From a checkout this runs without installing.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from sensojax import errors
from sensojax.tools import sources
from sensojax.tools.annotating import shown, stimulus_ids
from sensojax.types import STIMULUS_KINDS
from sensojax.writing import write_atomically

REPORTED = 10  # surprising videos of one mouse; the .csv has all


@errors.command_line
def main(arguments: list[str] | None = None) -> None:
    """Goes over every mouse of every source; exit code 1 when one of them could not be done."""
    args = _parser().parse_args(arguments)
    if args.workers < 0:
        raise errors.UserError(f"--workers {args.workers}, expected 0 (one per core) or more.")
    mice = sources.find(args.sources)
    counts = {}
    try:
        sources.for_each(mice, lambda mouse: _one(mice[mouse], args, counts), "done")
    finally:
        if args.check and counts:
            _tell_confusion(sum(counts.values()), args.out / "confusion.csv")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", nargs="+", type=Path, help="folders or .zip files of sessions")
    parser.add_argument("--out", type=Path, default=Path("data/stimulus_ids"), help="folder of ids")
    parser.add_argument("--check", action="store_true", help="compare with known kinds")
    parser.add_argument("--trust-tiers", action="store_true", help="movies where tiers say so")
    parser.add_argument("--again", action="store_true", help="also the mice that are done")
    parser.add_argument("--workers", type=int, default=0, help="threads; 0: one per core")
    return parser


def _one(
    opening: Callable[[], sources.Source], args: argparse.Namespace, counts: dict[str, np.ndarray]
) -> None:
    videos = shown.of(opening())
    trust = dict(trust_tiers=args.trust_tiers)
    if not args.again and stimulus_ids.is_done(args.out, videos, **trust):
        print(f"{videos.mouse}: already there", flush=True)
    else:
        started = time.monotonic()
        found = stimulus_ids.look(videos, args.workers)
        stimulus_ids.keep(args.out, videos, found, **trust)
        _tell(videos.mouse, found, time.monotonic() - started)
    if args.check:
        known = stimulus_ids.known_codes(videos)
        if known is None:
            raise errors.UserError(
                f"found no known kinds for mouse {videos.mouse}, expected a simulated mouse or "
                "stimulus_ids in its trial table; leave --check out."
            )
        codes = np.load(args.out / f"{videos.mouse}.npy")
        known = np.where(np.array(videos.tiers) == "none", -1, known)
        counts[videos.mouse] = stimulus_ids.confusion(known, codes)


def _tell(mouse: str, found: stimulus_ids.Found, seconds: float) -> None:
    videos = [evidence.kind for evidence in found.evidence.values()]
    each = [f"{videos.count(kind)} {kind}" for kind in STIMULUS_KINDS if kind in videos]
    each += [f"{videos.count('')} unknown"] if "" in videos else []
    print(f"{mouse}: {len(videos)} videos ({', '.join(each)}), {seconds:.1f} s", flush=True)
    surprises = found.surprises()
    for trial, tier, evidence in surprises[:REPORTED]:
        said = evidence.kind.replace("_", " ") or "an empty screen"
        print(
            f"warning: {mouse} trial {trial} of tier {tier} looks like {said} "
            f"(score {max(evidence.scores.values()):.2f}), expected a movie",
            file=sys.stderr,
            flush=True,
        )
    if len(surprises) > REPORTED:
        print(f"warning: {mouse} has {len(surprises)} such videos", file=sys.stderr, flush=True)


def _tell_confusion(counts: np.ndarray, path: Path) -> None:
    rows = stimulus_ids.confusion_rows(counts)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_atomically(path, text.getvalue())
    for row in rows:
        print("".join(f"{cell:>16}" for cell in row))
    right, total = np.trace(counts), counts.sum()
    print(
        f"{right} of {total} trials are as known ({right / max(total, 1):.1%}); {path}", flush=True
    )


if __name__ == "__main__":
    main()
