"""Rows of the spike pile: counting motifs, and putting the neurons of a session in order.

In: a `Bench`; out: `Row`s, and in `bench.said` whether both sides agree. Both sides (`pile_sides`)
run in processes of their own with one thread and are measured in CPU seconds, since "per core" is
what was promised; memory is that of a process that does nothing else.
"""

from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path

from scripts.benchmarks import pile_sides
from scripts.benchmarks.measuring import Bench, Row, in_turn, row_of
from scripts.benchmarks.pile import Synthetic
from scripts.benchmarks.pile_store_rows import SAMPLES_HZ, samples_of
from sensojax.spikes import event_writing, rows, sessions, shards, trains
from sensojax.spikes.binning import BIN_S
from sensojax.spikes.motifs import table
from sensojax.spikes.order import ordering
from sensojax.spikes.session import TOKEN_LIMIT
from sensojax.spikes.workers import Workers, processes

PATCHES = ("1x10", "1x15", "2x5")
NEURONS, BINS = 2000, 100_000  # twenty chunks of 10 M tokens
ORDERED = (400, 100_000, 20)  # neurons, bins, chunks
TINY = 500  # times fewer bins, to try it out


def motifs(bench: Bench) -> list[Row]:
    """To the table of all motifs: from counts in memory, and from a session on disk."""
    bins = BINS // (TINY if bench.sizes.neurons < NEURONS else 1)
    session = Synthetic("synthetic", NEURONS, bins)
    stores, tables = written(session, bench.scratch / "motifs")
    tokens = NEURONS * bins
    common = NEURONS * pile_sides.kept(stores, pile_sides.COMMON).bins
    out = bench.scratch / "motifs.parquet"
    found = []
    with processes(1) as ours, processes(1) as theirs:
        for size in PATCHES:
            sides = [
                (pile_sides.count_kept, stores, size, out),
                (pile_sides.count_rows, tables, size),
            ]
            work = f"motifs {size} of {tokens / 1e6:g} M tokens"
            cores = (ours, theirs)
            found.append(_measured(bench, cores, "motifs", work, "tokens", tokens, sides, common))
            read = table.read(ours.submit(*sides[0], pile_sides.COMMON).result())
            listed = zip(map(bytes, read.motifs), read.frequency.tolist(), strict=True)
            expected = theirs.submit(*sides[1]).result().most_common()
            same = "the same" if list(listed) == expected else "DIFFERENT"
            bench.said.append(f"Motifs {size}: both sides give {same} motifs, counts and order.")
        size = PATCHES[0]
        sides = [
            (pile_sides.count_stores, stores, size, out),
            (pile_sides.count_tables, tables, size),
        ]
        work = f"motifs {size} of {tokens / 1e6:g} M tokens on disk"
        row = _measured(bench, cores, "motifs", work, "tokens", tokens, sides, common)
    row.more["peak_gb"] = [_peak_gb(side) for side in sides]
    return [*found, row]


def written(session: Synthetic, folder: Path) -> tuple[Path, Path]:
    """A session as an event store and as the published table; the folders of both."""
    samples, offsets = samples_of(session)
    about = {"component": "synthetic", "subject": "animal", "session": session.name, "columns": {}}
    made = trains.of_flat(samples / SAMPLES_HZ, offsets, "made", **about)
    event_writing.write(folder / "stores", made)
    stored = sessions.open_sessions(folder / "stores")
    settings = rows.Settings(BIN_S, TOKEN_LIMIT)
    splits = {"train": rows.rows_of(stored, settings)}
    with Workers(1) as workers:
        shards.export(folder / "tables", stored, splits, settings, workers)
    return folder / "stores", folder / "tables"


def order(bench: Bench) -> list[Row]:
    """One order of a session's neurons from all its bins, beside one for each of its chunks."""
    neurons, bins, chunks = ORDERED
    bins //= TINY if bench.sizes.neurons < NEURONS else 1
    session = (neurons, bins, chunks)
    sides = [(pile_sides.order_once, *session), (pile_sides.order_each, *session)]
    work = f"order of {neurons} neurons, {chunks} chunks of {bins // chunks} bins"
    with processes(1) as one, processes(1) as other:
        cores = (one, other)
        row = _measured(bench, cores, "order", work, "sessions", 1, sides, 1, "SciPy, each chunk")
        theirs = other.submit(*sides[1]).result()
    ours = [ordering.published(chunk)[2][-1] for chunk in pile_sides.chunks(*session)]
    apart = max(abs(one / other - 1) for one, other in zip(ours, theirs, strict=True))
    bench.said.append(
        f"Order: our orders of chunks, as published, cost what SciPy's do within {apart:.0e}; the "
        "row compares those with one order for the whole session."
    )
    return [row]


def _measured(
    bench: Bench,
    cores: tuple[Executor, Executor],
    row: str,
    work: str,
    unit: str,
    amount: float,
    sides: list[tuple],
    their_amount: float,
    other: str = "plain Python",
) -> Row:
    """A row in units per CPU second; cores: the process of each side."""

    def timed(core: Executor, side: tuple) -> Callable[[], float]:
        return lambda: core.submit(pile_sides.cpu_seconds, *side).result()

    ours, theirs = in_turn(bench.repeats, *map(timed, cores, sides))
    as_much = [each * amount / their_amount for each in theirs]
    return row_of(row, work, f"{unit} per CPU s", amount, [ours, as_much], other)


def _peak_gb(side: tuple) -> float:
    with processes(1) as core:
        return core.submit(pile_sides.peak_bytes, *side).result() / 1e9
