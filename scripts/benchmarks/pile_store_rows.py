"""Rows of the pile on disk: how small events are, and how fast they are built and counted.

In: a `Bench`; out: `Row`s, and in `bench.said` the bytes per spike for each kind of clock. The
other side of each row is written here by the published rule, as the published builders work: one
histogram per neuron over all edges, cut into chunks and written as an Arrow table of bytes.
"""

from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa

from scripts.benchmarks.measuring import Bench, Row, in_turn, row_of, timed
from scripts.benchmarks.pile import Synthetic
from sensojax.spikes import event_writing, shards, trains
from sensojax.spikes.binning import BIN_S, num_bins
from sensojax.spikes.events import EventStore
from sensojax.spikes.rows import Settings
from sensojax.spikes.session import TOKEN_LIMIT, chunk_borders
from sensojax.spikes.sources import nwb
from sensojax.spikes.sources.files import local

NEURONS, BINS = 2000, 20_000  # four chunks of 10 M tokens
TINY = 50  # times fewer bins, to try it out
SAMPLES_HZ = 30_000


def building(bench: Bench) -> list[Row]:
    """From the spike times of an NWB file to a store, and from a store to counts."""
    bins = BINS // (TINY if bench.sizes.neurons < NEURONS else 1)
    samples, offsets = samples_of(Synthetic("synthetic", NEURONS, bins))
    folder = bench.scratch / "building"
    path = folder / "sub-1" / "sub-1_a.nwb"
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        file["units/spike_times"] = samples / SAMPLES_HZ
        file["units/spike_times_index"] = offsets[1:]
    spikes, tokens = len(samples), NEURONS * bins
    sides = (lambda: build(path, folder), lambda: build_as_published(path, folder))
    seconds = in_turn(bench.repeats, *(lambda side=side: timed(side) for side in sides))
    store, table = build(path, folder), build_as_published(path, folder)
    work = f"NWB to disk, {spikes / 1e6:.1f} M spikes, {tokens / 1e6:g} M tokens"
    rows = [row_of("pile", work, "spikes/s", spikes, seconds, "Arrow by histograms")]
    times = np.split(samples / SAMPLES_HZ, offsets[1:-1])
    chunks = store.chunks
    sides = (
        lambda: [store.counts(BIN_S, *chunk).dense() for chunk in chunks],
        lambda: histograms(times),
    )
    seconds = in_turn(bench.repeats, *(lambda side=side: timed(side) for side in sides))
    work = f"store to counts in bytes, {tokens / 1e6:g} M tokens"
    rows.append(row_of("pile", work, "tokens/s", tokens, seconds, "histograms of times in memory"))
    same = np.array_equal(np.concatenate(sides[0](), axis=1), sides[1]())
    bench.said.append(f"Counts: both sides give {'the same' if same else 'DIFFERENT'} numbers.")
    arrow = table.stat().st_size
    bench.said.append(f"Events: {sizes(samples, offsets, arrow, folder)}.")
    return rows


def samples_of(session: Synthetic) -> tuple[np.ndarray, np.ndarray]:
    """Spikes at samples of 30 kHz that give the counts of a session, by neuron; and offsets."""
    counts = session.counts(BIN_S)
    neuron, bins = (np.repeat(each, counts.count) for each in (counts.neuron, counts.bin))
    wide = round(BIN_S * SAMPLES_HZ)
    rng = np.random.default_rng(0)
    samples = bins * wide + rng.integers(1, wide, len(bins))  # never on an edge
    order = np.lexsort((samples, neuron))
    return samples[order], np.searchsorted(neuron[order], np.arange(session.num_neurons + 1))


def build(path: Path, folder: Path) -> EventStore:
    """Ours, in one process."""
    (found,) = nwb.sessions(local([path], nwb.SUFFIX))
    return EventStore.open(event_writing.write(folder / "stores", nwb.read(found, "bench")))


def build_as_published(path: Path, folder: Path) -> Path:
    """All times at once, a histogram for each neuron, and a table of bytes in rows of chunks."""
    with h5py.File(path) as file:
        times = np.split(file["units/spike_times"][:], file["units/spike_times_index"][:-1])
    matrix = histograms(times)
    table = folder / "published.arrow"
    columns = shards.schema(Settings(BIN_S, TOKEN_LIMIT))
    with pa.ipc.new_stream(str(table), columns) as writer:
        for number, (start, stop) in enumerate(chunk_borders(*matrix.shape)):
            texts = ("sub-1", "sub-1_a", f"segment_{number}", "bench")
            writer.write_batch(shards.batch_of(matrix[:, start:stop], texts, columns))
    return table


def histograms(times: list[np.ndarray]) -> np.ndarray:
    """The published counting, [neuron bin] uint8."""
    last = max(each.max(initial=0) for each in times)
    edges = np.arange(num_bins(last, BIN_S) + 1) * BIN_S
    return np.array([np.histogram(each, edges)[0] for each in times]).astype(np.uint8)


def sizes(samples: np.ndarray, offsets: np.ndarray, arrow: int, folder: Path) -> str:
    """Bytes per spike, and as a share of the Arrow table, of the same spikes by several clocks."""
    steps = np.arange(0, int(samples.max()) + 2 * SAMPLES_HZ, SAMPLES_HZ)
    drifting = np.cumsum(np.random.default_rng(0).normal(1.0, 1e-6, len(steps)))
    kinds = {
        "30 kHz samples": samples / SAMPLES_HZ,
        "aligned by a line": samples / 29_999.949611 - 0.0123,
        "rounded to microseconds": np.round(samples / SAMPLES_HZ, 6),
        "aligned piece by piece": np.interp(samples, steps, drifting),
    }
    said = []
    for kind, times in kinds.items():
        about = {"component": "", "subject": "a", "session": kind, "columns": {}}
        made = trains.of_flat(times, offsets, kind, **about)
        said.append(f"{kind} {share(folder, made, arrow)}")
    said.append(f"kept to 1 ms {share(folder, made.at_resolution(0.001), arrow)}")
    return f"bytes per spike (share of the Arrow table's): {', '.join(said)}"


def share(folder: Path, made: trains.Trains, arrow: int) -> str:
    path = event_writing.write(folder / "sizes", made)
    size = sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
    return f"{size / len(made.times):.2f} ({size / arrow:.3f})"
