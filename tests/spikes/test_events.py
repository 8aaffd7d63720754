"""An event store gives back every time, and counts of any window by the published rule."""

import dataclasses
import math
import pickle
import shutil

import numpy as np
import pytest

from scripts.benchmarks import pile_store_rows
from scripts.benchmarks.pile import Synthetic
from sensojax.errors import UserError
from sensojax.spikes import binning, event_writing, layout, trains
from sensojax.spikes.counts import Counts
from sensojax.spikes.events import EventStore
from sensojax.spikes.sessions import open_sessions
from tests import runs
from tests.spikes import recorded

SECONDS = 40.0


@pytest.fixture(scope="module")
def made():
    return recorded.session(3, seconds=SECONDS)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of one second, files of a few hundred events: every border that there is."""
    monkeypatch.setattr(layout, "BLOCK_EVENTS", 64)
    monkeypatch.setattr(layout, "PIECE_EVENTS", 50)
    monkeypatch.setattr(layout, "FILE_EVENTS", 150)
    monkeypatch.setattr(layout, "PIECE_COUNTS", 14)
    monkeypatch.setattr(layout, "FILE_COUNTS", 28)
    monkeypatch.setattr(event_writing, "BATCH_EVENTS", 100)


def opened(folder, made: trains.Trains) -> EventStore:
    return EventStore.open(event_writing.write(folder, made))


def same(store: EventStore, made: trains.Trains) -> None:
    """Everything of the trains is in the store."""
    kept = store.trains()
    for field in dataclasses.fields(trains.Trains):
        expected, found = getattr(made, field.name), getattr(kept, field.name)
        if field.name == "columns":
            assert list(found) == list(expected)
            for name in expected:
                np.testing.assert_array_equal(found[name], expected[name], strict=True)
        else:
            np.testing.assert_array_equal(found, expected)


def times_of(made: trains.Trains) -> list[np.ndarray]:
    return np.split(made.times, made.offsets[1:-1])


# Everything comes back ----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["samples", "aligned", "any", "negative", "two clocks", "no probe"])
def test_times_and_columns_come_back_to_the_last_bit(tmp_path, made, small_blocks, how):
    rng = np.random.default_rng(0)
    times = made.times
    if how == "aligned":
        times = times * (30_000 / 29_999.97) - 0.123456
    elif how == "any":
        times = np.sort(rng.random(len(times)))  # a block alone, in which neurons follow neurons
        times = np.concatenate([np.sort(each) for each in np.split(times, made.offsets[1:-1])])
    elif how == "negative":
        times = times - 9.7
    elif how == "two clocks":
        late = np.repeat(made.columns["probe"] == "probeB", np.diff(made.offsets))
        times = np.where(late, times * (30_000 / 30_000.7) + 1.2345, times)
    columns = {} if how == "no probe" else made.columns
    changed = dataclasses.replace(made, times=times, columns=columns, end_s=float(times.max()))
    store = opened(tmp_path, changed)
    same(store, changed)
    store.verify()
    assert store.num_spikes == len(times) and store.num_neurons == made.num_neurons
    clocks = store._description["clocks"]
    assert len(clocks) == (1 if how == "no probe" else 2)
    assert (tmp_path / store.name / "residuals").exists() == (how not in ("samples", "no probe"))
    if how == "two clocks":
        assert clocks[1][0] == pytest.approx(30_000.7, rel=1e-9)


def test_blocks_and_files_change_nothing_that_is_read(tmp_path, made, small_blocks, monkeypatch):
    cut = opened(tmp_path / "cut", made)
    assert len(list((cut.path / "spikes").rglob("c*"))) > 5
    monkeypatch.undo()
    whole = opened(tmp_path / "whole", made)
    assert cut._block_s == 1.0 and whole._block_s > 16
    for window in [(0, None), (3, 77), (1000, 1001)]:
        first, second = (store.counts(0.02, *window) for store in (cut, whole))
        np.testing.assert_array_equal(first.dense(), second.dense())


def test_equal_trains_give_equal_bytes_and_other_trains_another_fingerprint(tmp_path, made):
    first, second = (opened(tmp_path / name, made) for name in "ab")
    assert contents(first.path) == contents(second.path)
    other = dataclasses.replace(made, columns=made.columns | {"snr": made.columns["snr"] + 1})
    assert opened(tmp_path / "c", other).fingerprint != first.fingerprint
    assert opened(tmp_path / "a", other).columns["snr"][0] == 1  # replaced


def contents(folder) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


# Counts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bin_s", [0.02, 0.001, 0.0333, 1.0, 100.0])
def test_counts_are_those_of_a_histogram_over_the_published_edges(
    tmp_path, made, small_blocks, bin_s
):
    store = opened(tmp_path, made)
    bins = binning.num_bins(made.end_s, bin_s)
    expected = recorded.dense(times_of(made), bin_s, bins)
    assert store.num_bins(bin_s) == bins
    counts = store.counts(bin_s)
    np.testing.assert_array_equal(counts.dense(), expected)
    for array in (counts.neuron, counts.bin, counts.count):
        assert array.dtype == (np.int32 if array is counts.neuron else np.int64)
    rng = np.random.default_rng(1)
    for _ in range(20):
        start, stop = sorted(rng.integers(0, bins + 1, 2).tolist())
        part = store.counts(bin_s, start, stop)
        np.testing.assert_array_equal(part.dense(), expected[:, start:stop])


def test_spikes_on_edges_of_bins_and_blocks_are_counted_once_and_rightly(tmp_path, small_blocks):
    """Every multiple of 20 ms, and the doubles on both sides of it, for 30 s."""
    edges = np.arange(1500) * 0.02
    times = np.concatenate([edges, np.nextafter(edges, 0), np.nextafter(edges, 99)])
    made = trains.of_units(
        [np.sort(times[times >= 0]), np.round(edges, 2)],
        "edges",
        component="",
        subject="a",
        session="b",
        columns={},
    )
    store = opened(tmp_path, made)
    expected = recorded.dense(times_of(made), 0.02, store.num_bins(0.02))
    np.testing.assert_array_equal(store.counts(0.02).dense(), expected)
    parts = [store.counts(0.02, i, i + 50).dense() for i in range(0, 1500, 50)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), expected[:, :1500])


def test_more_spikes_than_a_byte_holds_are_counted(tmp_path):
    many = np.sort(np.random.default_rng(0).random(700)) * 0.019
    made = trains.of_units(
        [many, [0.5]], "many", component="", subject="a", session="b", columns={}
    )
    dense = opened(tmp_path, made).counts(0.02).dense()
    assert dense.dtype == np.uint16 and dense[0, 0] == 700


def test_a_window_reads_only_its_own_blocks(tmp_path, made, small_blocks, monkeypatch):
    store = opened(tmp_path, made)
    read, arrays = [], store._arrays

    def noted(start, stop):
        found = arrays(start, stop)
        read.append((start, stop, len(found["spikes"])))
        return found

    monkeypatch.setattr(store, "_arrays", noted)
    counts = store.counts(0.02, 500, 600)  # seconds 10 to 12
    ((start, stop, events),) = read
    assert (start, stop) == (9, 13) and events < 0.15 * store.num_spikes
    assert 0 < counts.count.sum() <= events


@pytest.mark.parametrize("clock", ["samples", "aligned", "microseconds"])
def test_exact_times_take_a_quarter_of_the_bytes_of_the_published_table(tmp_path, clock):
    """Counts as published: 9 of 10 bins empty, 0.098 spikes per bin; its table has a byte each."""
    samples, offsets = pile_store_rows.samples_of(Synthetic("synthetic", 400, 6000))
    times = {
        "samples": samples / 30_000,
        "aligned": samples / 29_999.949611 - 0.0123,
        "microseconds": np.round(samples / 30_000, 6),
    }[clock]
    about = {"component": "", "subject": "a", "session": "b", "columns": {}}
    made = trains.of_flat(times, offsets, "synthetic", **about)
    store = opened(tmp_path, made)
    same(store, made)
    size = sum(len(content) for content in contents(store.path).values())
    tokens = store.num_neurons * store.num_bins(0.02)
    assert size < 0.25 * tokens and 0.08 < store.num_spikes / tokens < 0.12


# Times that are not exact -------------------------------------------------------------------------


@pytest.mark.parametrize("resolution", [0.001, 0.005, 0.02])
def test_coarse_times_keep_the_published_counts(tmp_path, made, resolution):
    rng = np.random.default_rng(0)
    on_edges = np.round(rng.integers(0, 2000, 3000) * 0.02, 2)
    units = [*times_of(made), np.sort(on_edges)]
    exact = trains.of_units(units, "x", component="", subject="a", session="b", columns={})
    store = opened(tmp_path / "exact", exact)
    coarse = opened(tmp_path / "coarse", exact.at_resolution(resolution))
    for bin_s in (0.02, 0.04):
        found, expected = coarse.counts(bin_s), store.counts(bin_s)
        np.testing.assert_array_equal(found.dense(), expected.dense())
    assert not (coarse.path / "residuals").exists()
    if resolution == 0.02:
        for bin_s in (0.01, 0.03):
            with pytest.raises(UserError, match=r"expected a multiple of 0\.02 s"):
                coarse.counts(bin_s)
    with pytest.raises(UserError, match="expected one above zero, and exact times"):
        coarse.trains().at_resolution(0.1)


def test_the_rule_of_quotients_cuts_where_times_are_divided(tmp_path):
    times = np.arange(30) * 0.02
    made = trains.of_units(
        [times], "x", component="", subject="a", session="b", columns={}, rule="quotient"
    )
    store = opened(tmp_path, made)
    expected = np.bincount((times / 0.02).astype(int), minlength=30)
    assert expected.max() == 2  # 0.58 / 0.02 is less than 29
    bins = math.ceil(times[-1] / 0.02)
    expected[bins - 1] += expected[bins:].sum()  # one past the end, where the published code stops
    assert store.num_bins(0.02) == bins
    np.testing.assert_array_equal(store.counts(0.02).dense()[0], expected[:bins])


# What is wrong is told ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["spikes", "residuals", "counts", "neurons.npz"])
@pytest.mark.parametrize("how", runs.DAMAGES)
def test_a_damaged_file_is_found(tmp_path, made, name, how):
    shifted = dataclasses.replace(made, times=made.times * 1.0000001)
    store = opened(tmp_path, shifted)
    files = store.path / name
    (file,) = [files] if files.is_file() else [p for p in files.rglob("c*") if p.is_file()]
    file.write_bytes(runs.DAMAGES[how](file.read_bytes()))
    with pytest.raises(UserError, match=r"the event store .* is damaged \(.*build it again"):
        EventStore.open(store.path).verify()
    file.unlink()
    with pytest.raises(UserError, match="is damaged"):
        EventStore.open(store.path).counts(0.02)


def test_a_changed_description_is_found(tmp_path, made):
    store = opened(tmp_path, made)
    text = (store.path / layout.DESCRIPTION).read_text()
    (store.path / layout.DESCRIPTION).write_text(text.replace('"ses-3"', '"ses-4"'))
    with pytest.raises(UserError, match=r"events\.json was changed"):
        EventStore.open(store.path).verify()
    (store.path / layout.DESCRIPTION).write_text(text.replace('"format": 1', '"format": 9'))
    with pytest.raises(UserError, match="has format 9, expected 1"):
        EventStore.open(store.path)
    (store.path / layout.DESCRIPTION).write_text(text[:100])
    with pytest.raises(UserError, match="is damaged"):
        EventStore.open(store.path)


def test_half_a_store_is_no_store_and_is_begun_anew(tmp_path, made):
    store = opened(tmp_path, made)
    whole = contents(store.path)
    partial = store.path.with_name(store.name + layout.PARTIAL)
    store.path.rename(partial)
    (partial / "spikes" / "stray").write_text("of a killed process")
    for path in (partial, store.path):
        with pytest.raises(UserError, match="found no finished event store"):
            EventStore.open(path)
    with pytest.raises(UserError, match="found no event store"):
        open_sessions(tmp_path)
    assert contents(opened(tmp_path, made).path) == whole and not partial.exists()


def test_a_folder_of_other_things_is_never_replaced(tmp_path, made):
    store = opened(tmp_path, made)
    whole = contents(store.path)
    (store.path / layout.DESCRIPTION).unlink()  # a store that was being removed
    assert contents(opened(tmp_path, made).path) == whole
    recording = store.path / "recording.nwb"
    recording.write_text("weeks of work")
    with pytest.raises(UserError, match=r"found recording.nwb in .*; choose another --out"):
        event_writing.write(tmp_path, made)
    assert recording.read_text() == "weeks of work"


def test_two_writers_of_one_session_are_refused(tmp_path, made):
    partial = tmp_path / f"{made.name}{layout.PARTIAL}"
    with (
        event_writing._alone_in(partial),
        pytest.raises(UserError, match="being written by another"),
    ):
        event_writing.write(tmp_path, made)


def test_bins_that_are_none_are_refused(tmp_path, made):
    store = opened(tmp_path, made)
    for bin_s in (0.0, -1.0, float("nan")):
        with pytest.raises(UserError, match="expected a width above zero"):
            store.counts(bin_s)
    with pytest.raises(ValueError, match="of a session that has"):
        store.counts(0.02, 5, 10_000)


# Finding sessions ---------------------------------------------------------------------------------


def test_a_folder_of_folders_of_stores_is_opened_in_the_order_of_names(tmp_path):
    for seed in (5, 1, 3):
        recorded.store(tmp_path / f"set{seed % 2}" / "deep", seed, seconds=2)
    found = open_sessions(tmp_path)
    assert [session.name for session in found] == ["sub-0_ses-3", "sub-1_ses-1", "sub-2_ses-5"]
    assert open_sessions(found[0].path)[0].fingerprint == found[0].fingerprint
    again = pickle.loads(pickle.dumps(found[0]))
    assert isinstance(again.counts(0.02), Counts) and again.name == found[0].name
    shutil.copytree(found[0].path, tmp_path / "twice" / found[0].name)
    with pytest.raises(UserError, match="found more than one session named made_sub-0_ses-3"):
        open_sessions(tmp_path)


def test_sessions_of_equal_names_are_told_apart_by_their_data_sets(tmp_path):
    for component in ("one", "two"):
        recorded.store(tmp_path / component, 0, seconds=2, component=component)
    recorded.store(tmp_path / "one", 1, seconds=2)
    found = pickle.loads(pickle.dumps(open_sessions(tmp_path)))
    assert [session.name for session in found] == [
        "one_sub-0_ses-0",
        "sub-1_ses-1",
        "two_sub-0_ses-0",
    ]
