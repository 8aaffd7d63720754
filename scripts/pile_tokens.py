"""Writes a pile in tokens, one for each patch of neurons and time, and reads it back.

    python scripts/pile_tokens.py fit data/motifs_1x15.parquet --out data/vocabulary.npz
    python scripts/pile_tokens.py encode <folder> --vocabulary data/vocabulary.npz
    python scripts/pile_tokens.py decode data/tokens --vocabulary data/vocabulary.npz

`fit` makes a vocabulary of the most frequent motifs of a table of scripts/pile_motifs.py. `encode`
gives a patch whose motif is not in it the nearest one: by `--rest cosine`, as published, which does
not know amplitudes, or `euclidean`, which does; or it writes the patch out (`escape`) and loses
nothing. It tells how much is lossless, and how wrong the rest is. `decode` writes the published
table of counts.

    python scripts/pile_tokens.py assign data/motifs_1x15.parquet --vocabulary ... --out map.parquet

gives every motif of a table its token, as the published tool does, and tells what a vocabulary
would do to everything that was counted.
"""

import argparse
import sys
from functools import reduce
from operator import add
from pathlib import Path

# From a checkout this runs without installing.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sensojax.errors import command_line
from sensojax.spikes import rows, shards
from sensojax.spikes.binning import BIN_S
from sensojax.spikes.motifs import pieces
from sensojax.spikes.order import stored
from sensojax.spikes.session import TOKEN_LIMIT
from sensojax.spikes.tokens import assigning, coding, files, vocabulary
from sensojax.spikes.tokens.fidelity import Fidelity
from sensojax.spikes.workers import one_of_each, refuse_failures
from sensojax.tools.pile import arguments


@command_line
def main(words: list[str] | None = None) -> None:
    args = _parser().parse_args(words)
    args.act(args)


def fit(args: argparse.Namespace) -> None:
    made = vocabulary.of_table(args.motifs, args.largest_token)
    vocabulary.save(args.out, made)
    print(
        f"{args.out}: {len(made.motifs):,} motifs {made.patch}; lossless in what was counted: "
        f"{made.lossless:.4%} of the tokens, {made.lossless_spikes:.4%} of the spikes"
    )


def assign(args: argparse.Namespace) -> None:
    known = vocabulary.load(args.vocabulary)
    print(f"{args.out}: {assigning.assign(args.motifs, known, args.rest, args.out)}")


def encode(args: argparse.Namespace) -> None:
    found = stored.in_order(arguments.sessions_of(args), args.order)
    names = [session.name for session in found]
    one_of_each(names)
    vocabulary.load(args.vocabulary)  # refused before any process is started
    path = args.vocabulary.absolute()
    tasks = [files.Task(each, path, args.rest, args.rows, args.out.absolute()) for each in found]
    with arguments.workers_of(args) as workers:
        done = workers.run(files.encode_session, tasks, "encoding")
    for name, fidelity in zip(names, done, strict=True):
        if isinstance(fidelity, Fidelity):
            print(f"{name}: {fidelity}")
    refuse_failures(names, done, "encoded")
    if len(done) > 1:
        print(f"{len(done)} sessions: {reduce(add, done)}")


def decode(args: argparse.Namespace) -> None:
    known = vocabulary.load(args.vocabulary)
    found = files.open_tokens(args.folder.absolute(), known)
    settings = rows.Settings(known.bin_s, TOKEN_LIMIT, args.counts, args.format)
    planned = [
        rows.Row(number, segment, *chunk)
        for number, session in enumerate(found)
        for segment, chunk in enumerate(session.chunks)
    ]
    with arguments.workers_of(args) as workers:
        shards.export(args.out.absolute(), found, {"train": planned}, settings, workers)
    print(f"{args.out}: {len(found)} sessions, {len(planned)} rows")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    acts = parser.add_subparsers(required=True, metavar="fit|assign|encode|decode")
    one = acts.add_parser("fit", help="a vocabulary from a table of motifs")
    one.add_argument("motifs", type=Path, help="table of scripts/pile_motifs.py")
    one.add_argument("--largest-token", type=int, default=vocabulary.LARGEST_TOKEN)
    one.add_argument("--out", type=Path, default=Path("data/vocabulary.npz"))
    one.set_defaults(act=fit)
    one = acts.add_parser("assign", help="the token of every motif of a table")
    one.add_argument("motifs", type=Path, help="table of scripts/pile_motifs.py")
    _vocabulary(one)
    one.add_argument("--rest", choices=coding.RESTS, default="cosine", help="of unlisted motifs")
    one.add_argument("--out", type=Path, default=Path("data/motif_tokens.parquet"))
    one.set_defaults(act=assign)
    one = acts.add_parser("encode", help="counts to tokens")
    one.add_argument("sources", nargs="+", type=Path, help="folders of stores or shards")
    one.add_argument("--where", action="append", default=[], help="only neurons with this")
    _vocabulary(one)
    one.add_argument("--rest", choices=coding.RESTS, default="cosine", help="of unlisted motifs")
    one.add_argument("--rows", choices=pieces.ROWS, default="chunk", help="one row of tokens for")
    one.add_argument("--order", type=Path, help="folder filled by scripts/pile_order.py")
    one.add_argument("--out", type=Path, default=Path("data/tokens"), help="folder of files")
    arguments.add_workers(one)
    one.set_defaults(act=encode, bin_size=BIN_S)  # the vocabulary has its own
    one = acts.add_parser("decode", help="tokens to the published table of counts")
    one.add_argument("folder", type=Path, help="filled by encode")
    _vocabulary(one)
    one.add_argument("--counts", choices=rows.DTYPES, default="uint8", help="type of a count")
    one.add_argument("--format", choices=rows.FORMATS, default="parquet", help="of the shards")
    one.add_argument("--out", type=Path, default=Path("data/decoded"), help="folder of shards")
    arguments.add_workers(one)
    one.set_defaults(act=decode)
    return parser


def _vocabulary(parser: argparse.ArgumentParser) -> None:
    path = Path("data/vocabulary.npz")
    parser.add_argument("--vocabulary", type=Path, default=path, help="file made by fit")


if __name__ == "__main__":
    main()
