"""Counts, chunks, rows and weights of the published pile, from its own builders' results."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.io import savemat

from sensojax.spikes import binning, event_writing, shards, splits, statistics, trains
from sensojax.spikes.events import EventStore
from sensojax.spikes.rows import Row, Settings, rows_of
from sensojax.spikes.session import chunk_borders
from sensojax.spikes.sessions import open_sessions
from sensojax.spikes.sources import lemerre, nwb, steinmetz2
from sensojax.spikes.sources.files import local
from sensojax.spikes.workers import Workers
from tests import real_data
from tests.goldens import Golden, golden_files
from tests.spikes.recorded import write_nwb


def parts_of(golden: Golden, times: str, offsets: str) -> list[np.ndarray]:
    """The trains of one file, an array per neuron; of one neuron alone there are no offsets."""
    every = golden[f"input/{times}"]
    if f"input/{offsets}" not in golden:
        return [every]
    return np.split(every, golden[f"input/{offsets}"][1:-1])


def stored(folder: Path, made: trains.Trains) -> EventStore:
    return EventStore.open(event_writing.write(folder, made))


@pytest.mark.parametrize("path", golden_files("spikes_binning"))
def test_counts_of_stored_events_are_the_published_ones(path, tmp_path):
    """Spikes on edges, below zero, beyond the last edge; 300 in one bin, which wrapped there."""
    golden = Golden(path)
    bin_s = golden.config["rule"]["bin_size"]
    for about in golden.config["sessions"]:
        number = about["index"]
        units = parts_of(golden, f"spike_times{number}", f"spike_offsets{number}")
        names = {"component": "", "subject": about["subject"], "session": about["session"]}
        store = stored(tmp_path, trains.of_units(units, "golden", columns={}, **names))
        found = store.counts(bin_s).dense()
        assert store.num_bins(bin_s) == about["bins"]
        np.testing.assert_array_equal(found, golden[f"output/unwrapped_counts{number}"])
        published = golden[f"output/counts{number}"]
        np.testing.assert_array_equal(found.astype(np.uint8), published)
        inside = sum(int((each >= 0).sum()) for each in units)
        assert inside - found.sum() == about["lost_spikes"]
    silent = parts_of(golden, "silent_unit_times", "silent_unit_offsets")
    names = {"component": "", "subject": "silent", "session": "unit"}
    store = stored(tmp_path, trains.of_units(silent, "golden", columns={}, **names))
    np.testing.assert_array_equal(store.counts(bin_s).dense(), golden["output/silent_unit_counts"])


@pytest.mark.parametrize("path", golden_files("spikes_binning"))
def test_number_of_bins_and_lost_spikes_follow_the_published_rule(path):
    golden = Golden(path)
    bin_s = golden.config["rule"]["bin_size"]
    ends, lost = golden["input/last_spike_times"], golden["output/last_spike_lost"]
    bins = [binning.num_bins(end, bin_s) for end in ends]
    np.testing.assert_array_equal(bins, golden["output/number_of_bins"])
    last = [binning.bins_of(ends[i : i + 1], bin_s, bins[i])[0] for i in range(len(ends))]
    np.testing.assert_array_equal(np.array(last) < 0, lost)


@pytest.mark.parametrize("path", golden_files("spikes_binning"))
def test_chunks_have_the_published_lengths_and_names(path):
    golden = Golden(path)
    cases = [name for name in golden.config if name.startswith("chunk_")]
    assert cases
    for case in cases:
        about = golden.config[case]
        chunks = chunk_borders(about["neurons"], about["bins"], about["limit"])
        lengths = golden[f"output/chunk_lengths_{case.removeprefix('chunk_')}"]
        np.testing.assert_array_equal([stop - start for start, stop in chunks], lengths)
        assert [f"segment_{number}" for number in range(len(chunks))] == about["segments"]


@pytest.mark.parametrize("path", golden_files("spikes_binning"))
def test_probes_are_joined_and_clusters_numbered_as_published(path, tmp_path):
    golden = Golden(path)
    bin_s = golden.config["rule"]["bin_size"]
    about = golden.config["probes"]
    for number, name in enumerate(about["files"]):
        units = parts_of(golden, f"probes_times{number}", f"probes_offsets{number}")
        write_nwb(tmp_path / "probes" / f"{name}.nwb", units)
    found = lemerre.sessions(local([tmp_path / "probes"], ".nwb"))
    assert [[each.subject, each.session] for each in found] == [row[:2] for row in about["rows"]]
    for number, each in enumerate(found):
        store = stored(tmp_path / "stores", lemerre.read(each))
        expected = golden[f"output/probes_counts{number}"]
        np.testing.assert_array_equal(store.counts(bin_s).dense(), expected)
    probes = len([key for key in golden.arrays if key.startswith("input/cluster_times")])
    spks = np.empty((1, probes), [("st", object), ("clu", object)])
    for number in range(probes):
        times, clusters = (golden[f"input/cluster_{name}{number}"] for name in ("times", "numbers"))
        spks[0, number] = (times[:, None], clusters[:, None])
    (tmp_path / "mat").mkdir()
    savemat(tmp_path / "mat" / "spksKrebs_Feb18.mat", {"spks": spks})
    (mouse,) = steinmetz2.sessions(local([tmp_path / "mat"], ".mat"))
    store = stored(tmp_path / "stores", steinmetz2.read(mouse))
    np.testing.assert_array_equal(store.counts(bin_s).dense(), golden["output/cluster_counts"])
    assert store.subject == "Krebs" and set(store.columns["quality"]) == {"kept", "rejected"}


def named_type(kind: pa.DataType) -> str:
    """A type as the table library of the published code writes it."""
    if pa.types.is_list(kind):
        return f"List({named_type(kind.value_type)})"
    return f"Value('{kind}')"


@pytest.mark.parametrize("path", golden_files("spikes_table"))
def test_table_has_the_published_schema_split_sizes_and_weights(path):
    golden = Golden(path)
    schema = shards.schema(Settings(binning.BIN_S, 10_000_000))
    assert schema.names == golden["output/column_names"].tolist()
    assert [named_type(kind) for kind in schema.types] == golden["output/column_types"].tolist()
    rows = [Row(0, number, 0, 1) for number in range(sum(golden.config["components"].values()))]
    parts = splits.split([], rows, "chunk_leaking", golden.config["test_fraction"], seed=0)
    sizes = [len(parts["train"]), len(parts["test"])]
    np.testing.assert_array_equal(sizes, golden["output/rows_train_test"])
    weights = statistics.class_weights(golden["input/count_probabilities"])
    np.testing.assert_allclose(weights, golden["output/class_weights"], rtol=3e-7)  # float32 steps


@pytest.mark.parametrize("path", golden_files("spikes_nwb"))
def test_a_real_nwb_file_gives_the_published_rows(path, tmp_path):
    golden = Golden(path)
    about = golden.config
    subject, session, _ = about["rows"][0]
    file = real_data.found("nwb") / f"{session}.nwb"
    (tmp_path / subject).mkdir()
    (tmp_path / subject / file.name).write_bytes(file.read_bytes())
    (found,) = nwb.sessions(local([tmp_path / subject], ".nwb"))
    store = stored(tmp_path / "stores", nwb.read(found))
    assert (store.num_neurons, store.num_spikes) == (about["units"], about["spikes"])
    settings = Settings(about["bin_size"], about["limit"])
    rows = rows_of([store], settings)
    with Workers(1) as workers:
        shards.export(tmp_path / "table", [store], {"train": rows}, settings, workers)
    (shard,) = (tmp_path / "table" / "data").iterdir()
    table = pa.parquet.read_table(shard)
    columns = ("subject_id", "session_id", "segment_id")
    texts = [table.column(name).to_pylist() for name in columns]
    assert [list(row) for row in zip(*texts, strict=True)] == about["rows"]
    (read,) = open_sessions(tmp_path / "table")
    lengths = [stop - start for start, stop in read.chunks]
    np.testing.assert_array_equal(lengths, golden["output/chunk_lengths"])
    for counts in (store.counts(about["bin_size"]), read.counts(about["bin_size"])):
        assert [counts.num_neurons, counts.num_bins] == golden["output/shape"].tolist()
        np.testing.assert_array_equal(counts.neuron, golden["output/nonzero_neuron"])
        np.testing.assert_array_equal(counts.bin, golden["output/nonzero_bin"])
        np.testing.assert_array_equal(counts.count, golden["output/nonzero_count"])
        assert counts.count.sum() == about["counted"]
        assert counts.count.max() == about["largest_count"]
    assert re.fullmatch("[0-9a-f]{64}", store.fingerprint)
