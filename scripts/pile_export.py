"""Writes sessions as the published table of spike counts, in shards of Parquet or Arrow.

    python scripts/pile_export.py data/pile/vcn --out data/export/vcn

Sources are folders of event stores (or of shards, to change their format). Rows are the published
ones: chunks of about 10 M tokens in bins of 20 ms (--tokens, --bin-size). `datasets.load_dataset`
reads the folder, and so does every other command here. A count that does not fit one byte is an
error, unless --counts says uint16. The same command again goes on where one was stopped, and
--scheduler hands the work to a dask cluster.
"""

import argparse
import sys
from pathlib import Path

# From a checkout this runs without installing.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sensojax import errors
from sensojax.spikes import shards
from sensojax.spikes.rows import rows_of
from sensojax.spikes.statistics import Tally
from sensojax.tools.pile import arguments


@errors.command_line
def main(words: list[str] | None = None) -> None:
    """Writes all shards; exit code 1 when one of them could not be written."""
    args = _parser().parse_args(words)
    found = arguments.sessions_of(args)
    settings = arguments.settings_of(args)
    rows = rows_of(found, settings)
    with arguments.workers_of(args) as workers:
        tallies = shards.export(args.out.absolute(), found, {"train": rows}, settings, workers)
    tally = sum(tallies["train"].values(), start=Tally())
    size = sum(path.stat().st_size for path in (args.out / shards.FILES).iterdir())
    print(
        f"{args.out}: {len(found)} sessions, {tally.rows} rows, {tally.tokens:,} tokens, "
        f"{tally.spikes:,} spikes, largest count {tally.largest}, {size / 1e6:.1f} MB "
        f"({size / max(tally.tokens, 1):.3f} bytes per token)"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_sources(parser)
    parser.add_argument("--out", type=Path, default=Path("data/export"), help="folder of the table")
    arguments.add_table(parser)
    return parser


if __name__ == "__main__":
    main()
