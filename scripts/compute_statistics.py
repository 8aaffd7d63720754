"""Minimum, maximum, median, mean and standard deviation of all that a mouse saw and did.

    python scripts/compute_statistics.py <source> [<more> ...] --out data/statistics

A source is a session, a folder or .zip of sessions, a store or a folder of stores. Each mouse gets
`--out/<mouse>/{video,response,behavior,pupil_center}/{min,max,median,mean,std}.npy`, over all
frames of tier train: a number for the video, for each neuron, behaviour column, pupil coordinate.
Memory does not grow with the trials, the medians are exact.

    python scripts/compute_statistics.py SESSIONS --out SESSIONS --official

completes a laboratory's own sessions: statistics for every frame, as the published sessions have
them in `meta/statistics`, which the normalization "official" needs.

A mouse that is done is passed over; one that was stopped is begun anew. A mouse that cannot be done
does not keep the others from it.
"""

import argparse
import sys
import time
from pathlib import Path

# From a checkout this runs without installing.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sensojax import errors, types
from sensojax.recordings import frame_statistics
from sensojax.tools import sources, tier_statistics


@errors.command_line
def main(arguments: list[str] | None = None) -> None:
    """Goes over every mouse of every source; exit code 1 when one of them could not be done."""
    args = _parser().parse_args(arguments)
    if args.workers < 0:
        raise errors.UserError(f"--workers {args.workers}, expected 0 (one per core) or more.")
    for tier in args.tiers:
        errors.check_name(tier, types.TIERS, "--tiers")
    mice = sources.find(args.sources)

    def act(mouse: str) -> None:
        started = time.monotonic()
        done = _official(mice[mouse], args) if args.official else _plain(mice[mouse], args)
        seconds = time.monotonic() - started
        print(f"{mouse}: {f'{seconds:.1f} s' if done else 'already there'}", flush=True)

    sources.for_each(mice, act, "done")


def _plain(opening, args) -> bool:
    return tier_statistics.write(args.out, opening(), args.tiers, args.workers)


def _official(opening, args) -> bool:
    source = opening()
    if source.fingerprint:
        raise errors.UserError(
            f"{source.where} is a store, expected the session folder that it was made of; the "
            "statistics belong there, and the session is converted again with them."
        )
    return frame_statistics.write(args.out, source.where, source.mouse, args.tiers, args.workers)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", nargs="+", type=Path, help="folders or .zip files of sessions")
    parser.add_argument("--out", type=Path, default=Path("data/statistics"), help="folder of mice")
    parser.add_argument("--tiers", nargs="+", default=["train"], help="whose trials count")
    parser.add_argument("--official", action="store_true", help="for every frame, as published")
    parser.add_argument("--workers", type=int, default=0, help="threads; 0: one per core")
    return parser


if __name__ == "__main__":
    main()
