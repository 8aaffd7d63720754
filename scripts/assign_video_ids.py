"""Gives equal numbers to trials that showed the same video, within a mouse or across all mice.

    python scripts/assign_video_ids.py <source> [<more> ...] --out data/video_ids
    python scripts/assign_video_ids.py <source> [<more> ...] --out data/video_ids --across

A source is a session, a folder or .zip of sessions, a store or a folder of stores. Two videos are
the same when more than 85 % of their frames agree in every pixel within one grey level. Without
`--across` every mouse is numbered by itself as the published tool does it: -1 for tier none, always
a new number in tier train. With it the same video has the same number in every mouse, whatever its
tiers, and `--out/shared.csv` says how many videos every two mice have in common.

Each mouse gets `--out/<mouse>.npy`, [trial]; a store also keeps the numbers as its annotation
"video_id", and `--write` puts them into session folders as meta/trials/video_ids.npy. A mouse that
is done is passed over, one that was stopped is begun anew. A mouse that cannot be done does not
keep the others from it.
"""

import argparse
import functools
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

# From a checkout this runs without installing.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from sensojax import errors
from sensojax.stimuli import identity
from sensojax.tools import sources
from sensojax.tools.annotating import shown, video_ids

Mice = Mapping[str, Callable[[], sources.Source]]


@errors.command_line
def main(arguments: list[str] | None = None) -> None:
    """Goes over every mouse of every source; exit code 1 when one of them could not be done."""
    args = _parser().parse_args(arguments)
    if args.workers < 0:
        raise errors.UserError(f"--workers {args.workers}, expected 0 (one per core) or more.")
    mice = sources.find(args.sources)
    if args.across:
        _across(mice, args)
    else:
        sources.for_each(mice, functools.partial(_alone, mice, args), "done")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", nargs="+", type=Path, help="folders or .zip files of sessions")
    parser.add_argument("--out", type=Path, default=Path("data/video_ids"), help="folder of ids")
    parser.add_argument("--across", action="store_true", help="one numbering for all mice")
    parser.add_argument("--write", action="store_true", help="also into the session folders")
    parser.add_argument("--again", action="store_true", help="also the mice that are done")
    parser.add_argument("--workers", type=int, default=0, help="threads; 0: one per core")
    return parser


def _alone(mice: Mice, args: argparse.Namespace, mouse: str) -> None:
    videos = _opened(mice, args, mouse)
    number = video_ids.numbering({mouse: videos})
    if not args.again and video_ids.is_done(args.out, videos, number, column=args.write):
        print(f"{mouse}: already there", flush=True)
        return
    started = time.monotonic()
    sketches = {mouse: video_ids.see(videos, args.workers)}
    ids = video_ids.numbered({mouse: videos}, sketches, across=False)[mouse]
    video_ids.keep(args.out, videos, ids, number, column=args.write)
    _tell(videos, ids, f"{time.monotonic() - started:.1f} s")


def _across(mice: Mice, args: argparse.Namespace) -> None:
    opened, sketches = {}, {}
    started = time.monotonic()

    def open_one(mouse: str) -> None:
        opened[mouse] = _opened(mice, args, mouse)

    def see_one(mouse: str) -> None:
        sketches[mouse] = video_ids.see(opened[mouse], args.workers, keep=args.out)

    failure = _tried(mice, open_one)
    if not failure and not args.again and _all_done(opened, args):
        print(f"{', '.join(opened)}: already there", flush=True)
        return
    failure = _tried(opened, see_one) or failure
    if sketches:
        seen = {mouse: opened[mouse] for mouse in sketches}
        ids = video_ids.numbered(seen, sketches, across=True)
        for mouse, videos in seen.items():
            number = video_ids.numbering(seen)
            video_ids.keep(args.out, videos, ids[mouse], number, column=args.write)
            _tell(videos, ids[mouse])
        _tell_shared(ids, video_ids.keep_shared(args.out, ids))
        print(f"{len(ids)} mice in {time.monotonic() - started:.1f} s", flush=True)
    if failure:
        raise failure


def _opened(mice: Mice, args: argparse.Namespace, mouse: str) -> shown.Shown:
    videos = shown.of(mice[mouse]())
    if args.write:
        video_ids.column_of(videos)  # refuses at once what has no folder
    return videos


def _tried(mice: Mapping, act: Callable[[str], None]) -> errors.UserError | None:
    """Goes over the mice and returns what to say at the end of those that failed."""
    try:
        sources.for_each(mice, act, "done")
    except errors.UserError as error:
        return error
    return None


def _all_done(opened: Mapping[str, shown.Shown], args: argparse.Namespace) -> bool:
    number = video_ids.numbering(opened)
    return (args.out / video_ids.SHARED).is_file() and all(
        video_ids.is_done(args.out, videos, number, column=args.write) for videos in opened.values()
    )


def _tell(videos: shown.Shown, ids: np.ndarray, *more: str) -> None:
    found = len(set(ids[ids >= 0].tolist()))
    said = ", ".join([f"{len(ids)} trials", f"{found} different videos", *more])
    print(f"{videos.mouse}: {said}", flush=True)
    # Images of validation are shown once, so what is odd in films is not in them.
    odd = identity.odd_repeats(ids, videos.tiers) if videos.padded_frames > 1 else {}
    for video, times in odd.items():
        print(
            f"warning: {videos.mouse} shows video {video} {times} times outside tier train, "
            f"expected {identity.REPEATS[0]} to {identity.REPEATS[1]}",
            file=sys.stderr,
            flush=True,
        )


def _tell_shared(mice: Mapping, counts: np.ndarray) -> None:
    for mouse, row in zip(mice, counts, strict=True):
        others = [f"{n} with {other}" for other, n in zip(mice, row, strict=True) if other != mouse]
        print(f"{mouse} shares {', '.join(others) or 'nothing'}", flush=True)


if __name__ == "__main__":
    main()
