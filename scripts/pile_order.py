"""Finds an order of the neurons of each session in which those that fire together are neighbours.

    python scripts/pile_order.py <folder> --out data/orders

A folder holds event stores or published shards. Each session gets one order, from all its bins
(cosine distances, average linkage, the best order of the tree's leaves), stored as
`--out/<session>.order.npz`; silent neurons stand last. Told are the costs, sums of the distances of
neighbours: as recorded, as the tree is written down, and ordered. scripts/pile_motifs.py and
scripts/pile_tokens.py take the folder as `--order`; `--export` writes the published table in the
new order.

    python scripts/pile_order.py <folder> --linkage published

orders every chunk anew, as the published script means to (its sharded version silently leaves every
row as it was).
"""

import argparse
import sys
from pathlib import Path

# From a checkout this runs without installing.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sensojax.errors import command_line
from sensojax.spikes import rows, shards
from sensojax.spikes.order import ordering, stored
from sensojax.spikes.session import TOKEN_LIMIT
from sensojax.spikes.workers import one_of_each, refuse_failures
from sensojax.tools.pile import arguments


@command_line
def main(words: list[str] | None = None) -> None:
    args = _parser().parse_args(words)
    found = arguments.sessions_of(args)
    names = [session.name for session in found]
    one_of_each(names)
    out = args.out.absolute()
    tasks = [stored.Task(session, args.bin_size, args.linkage, out) for session in found]
    with arguments.workers_of(args) as workers:
        done = workers.run(stored.order_session, tasks, "ordering")
        for name, order in zip(names, done, strict=True):
            if isinstance(order, ordering.Order):
                print(f"{name}: {_told(order)}")
        refuse_failures(names, done, "ordered")
        if args.export:
            ordered = [stored.OrderedSession(*each) for each in zip(found, done, strict=True)]
            settings = rows.Settings(args.bin_size, TOKEN_LIMIT, args.counts)
            planned = rows.rows_of(ordered, settings)
            shards.export(args.export.absolute(), ordered, {"train": planned}, settings, workers)
            print(f"{args.export}: {len(planned)} rows in the new order")


def _told(order: ordering.Order) -> str:
    recorded, tree, best = order.costs.sum(axis=0)
    rows, neurons = order.order.shape
    of = f" in {rows} chunks" if order.linkage == "published" else ""
    return (
        f"{neurons} neurons{of}, {int(order.silent.max())} silent; cost {recorded:.4g} as "
        f"recorded, {tree:.4g} as in the tree, {best:.4g} ordered"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_sources(parser)
    parser.add_argument("--out", type=Path, default=Path("data/orders"), help="folder of files")
    parser.add_argument("--linkage", choices=ordering.LINKAGES, default="average")
    parser.add_argument("--export", type=Path, help="folder: writes the table in the new order")
    parser.add_argument("--counts", choices=rows.DTYPES, default="uint8", help="type of a count")
    arguments.add_workers(parser)
    return parser


if __name__ == "__main__":
    main()
