"""Draws rasters of spikes: random stretches of a pile, or chosen ones.

    python scripts/pile_show.py data/pile/vcn data/pile/ibl --out data/rasters

Each data set becomes one picture, `--out/<name>.png`, of `--examples` random rows of the published
table; of each row a window of `--seconds` (0: the whole row). Dark is active; above each raster
runs the mean rate, beside it colours tell brain areas where the source knows them (--group).
`--rows sub-1_ses-2:5` shows that row, `--order` sorts neurons as scripts/pile_order.py found.
"""

import argparse
import sys
from pathlib import Path

# From a checkout this runs without installing.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sensojax import errors
from sensojax.spikes import pictures
from sensojax.spikes.order import stored
from sensojax.spikes.rows import Settings, rows_of
from sensojax.spikes.session import TOKEN_LIMIT
from sensojax.tools.pile import arguments, showing
from sensojax.writing import write_bytes_atomically

GROUP = "brain_area"


@errors.command_line
def main(words: list[str] | None = None) -> None:
    """Draws one picture for each data set."""
    args = _parser().parse_args(words)
    if args.examples < 1 or args.seconds < 0:
        raise errors.UserError(
            f"found --examples {args.examples} and --seconds {args.seconds}, expected at least 1 "
            "example, and seconds of at least 0."
        )
    found = arguments.sessions_of(args)
    _check_group(args.group, found)
    if args.order:
        found = [stored.reordered(session, args.order) for session in found]
    for component in sorted({session.component for session in found}):
        own = [session for session in found if session.component == component]
        path = args.out / f"{component or 'spikes'}.png"
        write_bytes_atomically(path, pictures.png(_draw(own, component, args)))
        print(path, flush=True)


def _check_group(group: str, sessions) -> None:
    """UserError for a column that no session has, but for the default, which few need."""
    known = sorted({name for session in sessions for name in session.columns})
    if group not in ("", GROUP, *known):
        raise errors.UserError(
            f"found --group {group}, expected one of {', '.join(known) or 'none'}, or nothing"
            f"{errors.nearest(group, known) or '.'}"
        )


def _draw(sessions, component: str, args: argparse.Namespace):
    rows = rows_of(sessions, Settings(args.bin_size, TOKEN_LIMIT))
    last = {row.session: row.segment for row in rows}
    if args.rows:
        chosen = showing.named(sessions, rows, args.rows.split(","))
    else:
        chosen = showing.some(rows, args.examples, args.seed)
    how = (args.bin_size, args.seconds, args.seed, args.group)
    panels = [showing.panel(sessions[row.session], row, last[row.session], *how) for row in chosen]
    bins = f"bins of {args.bin_size * 1e3:g} ms"
    title = f"{component}: {len(chosen)} of {len(rows)} rows, {bins}"
    return pictures.draw(panels, title)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_sources(parser)
    parser.add_argument("--out", type=Path, default=Path("data/rasters"), help="folder of pictures")
    parser.add_argument("--examples", type=int, default=9, help="random rows of each data set")
    parser.add_argument("--rows", default="", help="chosen rows, session:segment, with commas")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each row; 0: all of it")
    parser.add_argument("--seed", type=int, default=0, help="of rows and windows")
    parser.add_argument("--group", default=GROUP, help="column of the neurons; '': in order")
    parser.add_argument("--order", type=Path, help="folder filled by scripts/pile_order.py")
    return parser


if __name__ == "__main__":
    main()
