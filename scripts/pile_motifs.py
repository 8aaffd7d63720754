"""Counts all motifs of a pile: the patterns of spike counts in small patches of neurons and time.

    python scripts/pile_motifs.py <folder> [<more> ...] --patch 1x10 --out data/motifs_1x10.parquet

A folder holds event stores or published Arrow or Parquet shards; several are counted together.
The table lists every motif that occurs with its exact frequency (columns `patch`, `frequency`,
`probability`), and the most frequent ones are drawn beside it (`--top`). Memory stays bounded
whatever is counted, on every core; the same command again goes on where this one was stopped, with
the same result.

    python scripts/pile_motifs.py <folder> --patch 1x10 --scheduler tcp://host:8786

counts on a dask cluster whose machines see the same folders.
"""

import argparse
import sys
from pathlib import Path

# From a checkout this runs without installing.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sensojax import errors
from sensojax.spikes.motifs import counting, figure, pieces, table
from sensojax.spikes.motifs.patches import Patch
from sensojax.spikes.order import stored
from sensojax.tools.pile import arguments


@errors.command_line
def main(words: list[str] | None = None) -> None:
    args = _parser().parse_args(words)
    if args.top < 1:
        raise errors.UserError(f"found --top {args.top}, expected at least 1.")
    patch = Patch.parse(args.patch)
    found = stored.in_order(arguments.sessions_of(args), args.order)
    out = args.out or Path(f"data/motifs_{patch}.parquet")
    if out.suffix == ".png":
        raise errors.UserError(f"found --out {out}, expected a .parquet; the picture goes beside.")
    about = counting.count(
        found,
        patch,
        out,
        bin_s=args.bin_size,
        rows=args.rows,
        workers=args.workers,
        scheduler=args.scheduler,
        keep=args.keep,
    )
    figure.write(out.with_suffix(".png"), table.read(out, args.top))
    print(
        f"{out}: {about['motifs']:,} motifs {patch} in {about['patches']:,} patches, "
        f"{about['silent'] / max(about['patches'], 1):.1%} of them silent "
        f"({about['sessions']} sessions, {about['tokens']:,} tokens, {about['spikes']:,} spikes)"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_sources(parser)
    parser.add_argument("--patch", default="1x15", help="neurons x bins, such as 1x10")
    parser.add_argument("--out", type=Path, help="file; default: data/motifs_<patch>.parquet")
    parser.add_argument(
        "--rows",
        choices=pieces.ROWS,
        default="chunk",
        help="where patches begin anew: at each published chunk, or at each session",
    )
    parser.add_argument("--order", type=Path, help="folder filled by scripts/pile_order.py")
    parser.add_argument("--top", type=int, default=16, help="motifs in the picture")
    arguments.add_workers(parser)
    parser.add_argument(
        "--keep", action="store_true", help="keeps the parts, to add sessions later"
    )
    return parser


if __name__ == "__main__":
    main()
