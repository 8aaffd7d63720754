"""Joins data sets into one table with a training and a test split, statistics and a page about it.

    python scripts/pile_merge.py data/pile/vcn data/pile/ibl --out data/merged

Sources are folders of event stores or of shards. Whole sessions are in one split or the other
(--split subject: whole animals), chosen by a hash of their names and --seed, so that a data set
added later moves nothing. `--split chunk_leaking` is the published split: it takes rows at random,
and the minutes next to a test row are trained on. Rows come in a random order, as --seed has it.
The same command again goes on where one was stopped, and --scheduler hands the work to a cluster.
"""

import argparse
import sys
from pathlib import Path

# From a checkout this runs without installing.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sensojax import errors
from sensojax.spikes import merging, shards, splits
from sensojax.spikes.rows import rows_of
from sensojax.tools.pile import arguments


@errors.command_line
def main(words: list[str] | None = None) -> None:
    """Writes all shards, then statistics and page; exit code 1 when a shard failed."""
    args = _parser().parse_args(words)
    found = arguments.sessions_of(args)
    merging.check_names(found)
    settings = arguments.settings_of(args)
    rows = rows_of(found, settings)
    parts = splits.split(found, rows, args.split, args.test_share, args.seed)
    if args.test_share and len(parts) < 2:
        print(f"note: with seed {args.seed} all rows are in {next(iter(parts))}", file=sys.stderr)
    with arguments.workers_of(args) as workers:
        tallies = shards.export(args.out.absolute(), found, parts, settings, workers)
    how = {"level": args.split, "share": args.test_share, "seed": args.seed}
    numbers = merging.describe(args.out, found, parts, tallies, settings, how)
    for name, part in numbers["splits"].items():
        print(
            f"{name}: {part['rows']} rows, {part['tokens']:,} tokens of {part['sessions']} "
            f"sessions and {part['subjects']} subjects"
        )
    print(f"{args.out}: {', '.join(numbers['components'])}; described in {args.out / merging.CARD}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_sources(parser)
    parser.add_argument("--out", type=Path, default=Path("data/merged"), help="folder of the table")
    parser.add_argument("--split", choices=splits.LEVELS, default="session", help="what is whole")
    parser.add_argument("--test-share", type=float, default=0.01, help="about; 0: no test split")
    parser.add_argument("--seed", type=int, default=0, help="of split and order")
    arguments.add_table(parser)
    return parser


if __name__ == "__main__":
    main()
