"""Builds event stores from the recordings of the neural pile, or from recordings of your own.

    python scripts/pile_build.py --component vcn
    python scripts/pile_build.py RECORDINGS --out data/pile/mine

The first line reads the sorted units of all sessions of a published data set straight from its
archive: of every file only the spike times and what is known of the neurons, no voltage. --list
shows the 25 data sets, --download brings whole files first. The second line reads files of this
machine, or addresses (https://.../a.nwb) of files that are read in parts, in the format --format
(nwb, lemerre, gonzalez, steinmetz2). A store keeps every spike with its exact time; counts at any
bin width follow from it. The same command again goes on where one was stopped, and --verify
compares the stores with their sources. Files without units are passed over. `--scheduler
tcp://host:8786` builds on a dask cluster whose machines see the same folders.
"""

import argparse
import sys
from pathlib import Path

# From a checkout this runs without installing.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sensojax import errors
from sensojax.spikes.sources import components
from sensojax.spikes.sources.files import File, local
from sensojax.tools.pile import archives, arguments, building, obtaining


@errors.command_line
def main(words: list[str] | None = None) -> None:
    """Builds every session; exit code 1 when one of them could not be built."""
    args = _parser().parse_args(words)
    if args.list:
        print(components.table())
        return
    published = components.BY_NAME.get(args.component)
    if not args.sources:
        if not args.component:
            raise errors.UserError(
                "found neither recordings nor --component, expected one of them; --list shows the "
                "published data sets."
            )
        published = components.named(args.component)
    name = args.format or (published.reader if published else "nwb")
    settings = building.Settings(
        out=(args.out or Path("data/pile") / (args.component or "own")).absolute(),
        component=args.component,
        reader=name,
        columns=tuple(word for word in args.columns.split(",") if word),
        resolution_s=args.resolution,
        verify=args.verify,
    )
    suffix = building.reader(name).SUFFIX
    files = _given(args, suffix) if args.sources else _published(published, suffix, args)
    with arguments.workers_of(args) as workers:
        building.build(files, settings, workers, args.match)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", nargs="*", help="files, folders of them, addresses")
    parser.add_argument("--component", default="", help="a published data set, or a name for yours")
    parser.add_argument("--list", action="store_true", help="show the published data sets")
    parser.add_argument("--out", type=Path, help="folder of stores (data/pile/<component>)")
    parser.add_argument("--format", default="", help="module in sensojax/spikes/sources")
    parser.add_argument("--match", default="", help="only sessions whose name has this")
    parser.add_argument("--columns", default="", help="more columns of the units, with commas")
    parser.add_argument(
        "--resolution",
        type=float,
        default=0.0,
        help="seconds; keeps times only this well, e.g. 0.001 (0: exact)",
    )
    arguments.add_workers(parser, processes=1)
    parser.add_argument("--verify", action="store_true", help="compare with the source afterwards")
    parser.add_argument("--download", action="store_true", help="fetch whole files first")
    parser.add_argument("--keep", type=Path, default=Path("data/pile_sources"), help="for them")
    parser.add_argument("--archive", default="", help="another address of the archive, http(s)://")
    return parser


def _given(args: argparse.Namespace, suffix: str) -> list[File]:
    """The files at paths and addresses, by path."""
    addresses = [each for each in args.sources if each.startswith(("http://", "https://"))]
    paths = [Path(each) for each in args.sources if each not in addresses]
    if args.scheduler:  # whose workers stand elsewhere
        paths = [path.absolute() for path in paths]
    here = local(paths, suffix) if paths else []
    return sorted([*here, *map(archives.at, addresses)], key=lambda file: file.path)


def _published(component: components.Component, suffix: str, args: argparse.Namespace):
    """The files of a published data set, in its archive or, once fetched, here."""
    files = archives.files(component, args.archive)
    # MATLAB files are packed as a whole: there are no parts to read.
    if args.download or suffix != ".nwb":
        return local([obtaining.obtain(files, args.keep.absolute() / component.name)], suffix)
    return files


if __name__ == "__main__":
    main()
