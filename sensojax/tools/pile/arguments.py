"""What the commands that write or show tables of counts have in common on their command lines.

In goes a parser, or what it has read; out come its options, or sessions and `Settings`.
"""

import argparse
from pathlib import Path

from sensojax.errors import UserError
from sensojax.spikes import choosing, rows
from sensojax.spikes.binning import BIN_S
from sensojax.spikes.session import TOKEN_LIMIT, Session
from sensojax.spikes.sessions import open_sessions
from sensojax.spikes.workers import Workers


def add_sources(parser: argparse.ArgumentParser) -> None:
    """Folders of sessions, and which of their neurons; `sessions_of` opens them."""
    parser.add_argument("sources", nargs="+", type=Path, help="folders of stores or shards")
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        help="only neurons with this, e.g. quality=good or presence_ratio>=0.9; may come twice",
    )
    parser.add_argument("--bin-size", type=float, default=BIN_S, help="seconds")


def sessions_of(args: argparse.Namespace) -> list[Session]:
    """All sessions of the sources, with the chosen neurons.

    A session that knows no data set belongs to one with the name of its source.
    """
    if not args.bin_size > 0:
        raise UserError(f"found --bin-size {args.bin_size}, expected seconds above zero.")
    found: list[Session] = []
    for source in args.sources:
        opened = open_sessions(source.absolute())  # the workers of a cluster stand elsewhere
        for session in opened:
            session.component = session.component or source.resolve().name
        found += opened
    return choosing.choose(found, args.where)


def add_table(parser: argparse.ArgumentParser) -> None:
    """How a table is written; `settings_of` reads it."""
    parser.add_argument("--format", choices=rows.FORMATS, default="parquet", help="of the shards")
    parser.add_argument("--counts", choices=rows.DTYPES, default="uint8", help="type of a count")
    parser.add_argument("--tokens", type=int, default=TOKEN_LIMIT, help="about the most of a row")
    parser.add_argument("--shard-tokens", type=int, default=rows.SHARD_TOKENS, help="of a file")
    add_workers(parser)


def add_workers(parser: argparse.ArgumentParser, processes: int = 0) -> None:
    """Who does the work; `workers_of` hires them. processes: when nothing is said."""
    parser.add_argument(
        "--workers", type=int, default=processes, help="processes; 0: one per core (%(default)s)"
    )
    parser.add_argument("--scheduler", default="", help="dask's; its workers do it")


def workers_of(args: argparse.Namespace) -> Workers:
    """Processes of this machine, or those of a cluster."""
    return Workers(args.workers, args.scheduler)


def settings_of(args: argparse.Namespace) -> rows.Settings:
    """The settings of a command line; UserError for sizes that are none."""
    for name in ("tokens", "shard_tokens"):
        if getattr(args, name) < 1:
            option = name.replace("_", "-")
            raise UserError(f"found --{option} {getattr(args, name)}, expected at least 1.")
    return rows.Settings(args.bin_size, args.tokens, args.counts, args.format, args.shard_tokens)
