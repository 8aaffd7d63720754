"""Tables in the published schema: written in rows by the published rule, and read as sessions."""

import itertools
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sensojax.errors import UserError
from sensojax.spikes import choosing, rows, shards, tables
from sensojax.spikes.counts import Counts
from sensojax.spikes.rows import Row, Settings
from sensojax.spikes.session import CountsSession
from sensojax.spikes.sessions import open_sessions
from sensojax.spikes.statistics import Tally
from sensojax.spikes.workers import Workers
from tests import runs
from tests.spikes import recorded

SETTINGS = Settings(bin_s=0.02, tokens=2000, shard_tokens=4100)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    return [recorded.store(folder, seed, 4 + seed, seconds=20) for seed in range(3)]


def export(folder, sessions, settings=SETTINGS, splits=None):
    splits = splits or {"train": rows.rows_of(sessions, settings)}
    with Workers(1) as workers:
        return shards.export(folder, sessions, splits, settings, workers)


def table(folder) -> pa.Table:
    """All rows of a folder of shards, in the order of their names."""
    found = []
    for path in sorted((folder / "data").iterdir()):
        if path.suffix == ".parquet":
            found.append(pq.read_table(path))
        else:
            found.append(pa.ipc.open_stream(path.read_bytes()).read_all())
    return pa.concat_tables(found)


# Written ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", rows.FORMATS)
def test_rows_hold_the_chunks_of_each_session_in_the_published_columns(stores, tmp_path, kind):
    export(tmp_path, stores, Settings(0.02, 2000, format=kind, shard_tokens=4100))
    found = table(tmp_path)
    assert found.column_names == [tables.COUNTS, *tables.TEXTS]
    listed = found.to_pylist()
    expected = []
    for store in stores:
        for number, (start, stop) in enumerate(rows.chunk_borders(*shape(store), 2000)):
            texts = (store.subject, store.session, f"segment_{number}", "made")
            expected.append((store.counts(0.02, start, stop).dense().tolist(), *texts))
    assert [tuple(row.values()) for row in listed] == expected
    sizes = [len(row[tables.COUNTS]) * len(row[tables.COUNTS][0]) for row in listed]
    assert len(sizes) > 6 and max(sizes) <= 2000 + 10
    assert len(list((tmp_path / "data").iterdir())) == len(list((tmp_path / "tallies").iterdir()))


def shape(session) -> tuple[int, int]:
    return session.num_neurons, session.num_bins(0.02)


def test_files_are_as_full_as_the_limit_allows_and_named_for_their_number():
    made = [Row(0, number, 0, 1) for number in range(6)]
    found = rows.pack("train", made, [4, 4, 4, 20, 1, 1], Settings(0.02, 1, shard_tokens=9))
    assert [shard.name for shard in found] == [
        f"train-{number:05d}-of-00004.parquet" for number in range(4)
    ]
    assert [[row.segment for row in shard.rows] for shard in found] == [[0, 1], [2], [3], [4, 5]]


def test_the_metadata_are_those_that_the_library_datasets_reads(stores, tmp_path):
    """As its version 5 reads them (checked with it): List(List(Value('uint8'))), four texts."""
    export(tmp_path, stores)
    path = next((tmp_path / "data").iterdir())
    schema = pq.read_schema(path)
    info = json.loads(schema.metadata[b"huggingface"])["info"]
    text = {"dtype": "string", "_type": "Value"}
    value = {"dtype": "uint8", "_type": "Value"}
    inner = {"feature": value, "_type": "Sequence"}
    assert info == {
        "features": {
            "spike_counts": {"feature": inner, "_type": "Sequence"},
            **dict.fromkeys(tables.TEXTS, text),
        }
    }
    assert [str(kind) for kind in schema.types] == [
        "list<element: list<element: uint8>>",
        *["string"] * 4,
    ]
    file = pq.ParquetFile(path)
    assert file.metadata.num_row_groups == file.metadata.num_rows  # a row is read by itself


def test_published_chunks_are_taken_where_nothing_else_is_asked_for(stores):
    published = rows.rows_of(stores, Settings(rows.BIN_S, rows.TOKEN_LIMIT))
    assert [(row.start, row.stop) for row in published] == [
        chunk for store in stores for chunk in store.chunks
    ]
    finer = rows.rows_of(stores, Settings(0.001, 20_000))
    assert len(finer) > 10 and finer[0].stop > 1000


def test_tallies_count_every_token_and_spike(stores, tmp_path):
    for _ in range(2):  # written, and then looked up
        (tally,) = export(tmp_path, stores)["train"].values()
        dense = [store.counts(0.02).dense() for store in stores]
        assert tally.tokens == sum(each.size for each in dense)
        assert tally.spikes == sum(int(each.sum()) for each in dense)
        values, times = np.unique(np.concatenate([d.ravel() for d in dense]), return_counts=True)
        assert dict(tally.times) == dict(zip(values.tolist(), times.tolist(), strict=True))
        assert tally.rows == len(table(tmp_path))
    assert Tally.of_plain(json.loads(json.dumps(tally.plain()))) == tally
    share = times / times.sum()
    assert tally.entropy_bits == pytest.approx(-(share * np.log2(share)).sum())


def test_counts_that_do_not_fit_are_an_error_and_a_wider_type_holds_them(tmp_path):
    counts = np.zeros((2, 500), int)
    counts[1, 321] = 256
    session = CountsSession("wide", Counts.of_dense(counts, 0.02))
    said = r"found 256 spikes of neuron 1 in bin 321 of wide, expected at most 255 in uint8"
    with pytest.raises(UserError, match=f"{said}; give --counts uint16"):
        export(tmp_path / "a", [session], Settings(0.02, 300))
    assert not list((tmp_path / "a" / "data").glob("*.parquet"))
    export(tmp_path / "b", [session], Settings(0.02, 300, "uint16"))
    (read,) = open_sessions(tmp_path / "b")
    np.testing.assert_array_equal(read.counts(0.02).dense(), counts)


# Read ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*rows.FORMATS, "arrow file", "published", "regrouped"])
def test_sessions_of_tables_count_like_those_of_events(stores, tmp_path, kind):
    """Also of files that others wrote: without our notes, without the last column, regrouped."""
    written = "arrow" if kind.startswith("arrow") else "parquet"
    export(tmp_path, stores, Settings(0.02, 2000, format=written, shard_tokens=4100))
    folder = tmp_path / "data"
    if " " in kind or kind in ("published", "regrouped"):
        whole = table(tmp_path)
        folder = tmp_path / "others"
        folder.mkdir()
        whole = whole.take(np.random.default_rng(0).permutation(len(whole)))
        if kind == "published":
            whole = whole.drop_columns(["source_dataset"]).replace_schema_metadata()
        if kind == "arrow file":
            with pa.ipc.new_file(folder / "a.arrow", whole.schema) as file:
                file.write_table(whole)
        else:
            pq.write_table(whole, folder / "a.parquet", row_group_size=4)
    found = open_sessions(folder)
    assert [session.name for session in found] == [store.name for store in stores]
    for session, store in zip(found, stores, strict=True):
        assert (session.subject, session.session) == (store.subject, store.session)
        assert session.component == ("" if kind == "published" else "made")
        assert session.chunks == rows.chunk_borders(*shape(store), 2000)
        whole = store.counts(0.02).dense()
        for start, stop in [(0, None), (3, 700), (499, 501), (20, 20)]:
            counts = session.counts(0.02, start, stop)
            np.testing.assert_array_equal(counts.dense(), whole[:, start:stop])
            place = counts.neuron.astype(np.int64) * counts.num_bins + counts.bin
            assert (np.diff(place) > 0).all()
        bins = shape(store)[1]
        padded = np.pad(whole, ((0, 0), (0, -bins % 3)))
        coarse = padded.reshape(len(whole), -1, 3).sum(axis=2)
        np.testing.assert_array_equal(session.counts(0.06).dense(), coarse)
        np.testing.assert_array_equal(session.counts(0.06, 4, 9).dense(), coarse[:, 4:9])
        with pytest.raises(UserError, match=r"expected a multiple of 0\.02 s"):
            session.counts(0.03)


def test_arrow_is_read_without_copying(stores, tmp_path):
    export(tmp_path, stores[:1], Settings(0.02, 2000, format="arrow"))
    (path,) = (tmp_path / "data").iterdir()
    before = pa.total_allocated_bytes()
    shard = tables._Shard(path)
    matrices = [shard.matrix(row) for row in range(2)]
    assert pa.total_allocated_bytes() == before and not matrices[0].flags.owndata
    np.testing.assert_array_equal(
        np.concatenate(matrices, 1)[:, :600], stores[0].counts(0.02, 0, 600).dense()
    )


def test_counts_exported_at_another_width_know_their_width(stores, tmp_path):
    export(tmp_path, stores, Settings(0.005, 30_000))
    for session, store in zip(open_sessions(tmp_path), stores, strict=True):
        np.testing.assert_array_equal(session.counts(0.005).dense(), store.counts(0.005).dense())


@pytest.mark.parametrize("kind", rows.FORMATS)
@pytest.mark.parametrize("how", runs.DAMAGES)
def test_a_damaged_shard_is_one_sentence(stores, tmp_path, kind, how):
    export(tmp_path, stores[:1], Settings(0.02, 2000, format=kind))
    (path,) = (tmp_path / "data").iterdir()
    path.write_bytes(runs.DAMAGES[how](path.read_bytes()))
    with pytest.raises(UserError, match=r"the shard .* is damaged \(.*delete it"):
        for session in open_sessions(tmp_path):
            session.counts(0.02)


def test_a_row_that_comes_twice_and_other_tables_are_told_apart(stores, tmp_path):
    export(tmp_path / "a", stores[:1])
    export(tmp_path / "b", stores[:1])
    with pytest.raises(UserError, match="found segment_0 of session ses-0 of sub-0 in"):
        open_sessions(tmp_path)
    pq.write_table(pa.table({"patch": [1]}), tmp_path / "a" / "motifs.parquet")
    assert len(open_sessions(tmp_path / "a")) == 1
    recorded.store(tmp_path / "a" / "stores", seconds=2)
    with pytest.raises(UserError, match="found event stores and shards of tables"):
        open_sessions(tmp_path / "a")


# Going on -----------------------------------------------------------------------------------------


def test_a_stopped_export_goes_on_and_another_one_is_refused(stores, tmp_path, monkeypatch):
    export(tmp_path / "whole", stores)
    paths = sorted((tmp_path / "whole" / "data").iterdir())
    assert len(paths) > 2
    written = itertools.count()
    replace = shards.os.replace

    def failing(source, target):
        if str(target).endswith(".parquet") and next(written) == 1:
            raise OSError(28, "No space left on device", str(target))
        replace(source, target)

    monkeypatch.setattr(shards.os, "replace", failing)
    with pytest.raises(OSError, match="No space left"):
        export(tmp_path / "cut", stores)
    left = sorted(path.name for path in (tmp_path / "cut" / "data").glob("*.parquet"))
    assert left == [paths[0].name]
    kept = (tmp_path / "cut" / "data" / paths[0].name).stat()
    export(tmp_path / "cut", stores)
    assert (tmp_path / "cut" / "data" / paths[0].name).stat().st_mtime_ns == kept.st_mtime_ns
    for path in paths:
        assert (tmp_path / "cut" / "data" / path.name).read_bytes() == path.read_bytes()
    assert len(list((tmp_path / "cut" / "data").iterdir())) == len(paths)
    with pytest.raises(UserError, match="found shards of other settings and shards in"):
        export(tmp_path / "cut", stores, Settings(0.02, 6000))
    with pytest.raises(UserError, match="found shards of other sessions and shards in"):
        export(tmp_path / "cut", stores[:2])
    (tmp_path / "cut" / shards.PLAN).unlink()
    with pytest.raises(UserError, match="that this command did not write"):
        export(tmp_path / "cut", stores)


def test_a_damaged_session_does_not_keep_the_others_from_their_shards(tmp_path, capsys):
    found = [recorded.store(tmp_path, seed, seconds=4) for seed in range(3)]
    for file in (found[1].path / "spikes").rglob("c*"):
        file.unlink()
    settings = Settings(0.02, 10_000, shard_tokens=1)
    with pytest.raises(UserError, match="1 of 3 shards could not be written"):
        export(tmp_path / "out", found, settings)
    assert "sub-1_ses-1 is damaged" in capsys.readouterr().err
    assert len(open_sessions(tmp_path / "out")) == 2


# Some neurons -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conditions", "kept"),
    [
        (["quality=good"], [1, 3, 5]),
        (["quality = good, noise", "snr>=2"], [4, 5]),
        (["snr<1"], [0, 1]),
        (["id=101,103", "brain_area=CA1"], [1]),
    ],
)
def test_conditions_keep_the_neurons_that_meet_all(stores, conditions, kept):
    (chosen,) = choosing.choose(stores[2:], conditions)
    whole = stores[2].counts(0.02, 10, 600)
    found = chosen.counts(0.02, 10, 600)
    np.testing.assert_array_equal(found.dense(), whole.dense()[kept])
    assert (chosen.num_neurons, chosen.num_bins(0.02)) == (len(kept), stores[2].num_bins(0.02))
    assert chosen.columns["id"].tolist() == [100 + number for number in kept]
    assert chosen.fingerprint != stores[2].fingerprint and chosen.name == stores[2].name


@pytest.mark.parametrize(
    ("condition", "sentence"),
    [
        ("quality", "expected a column, a sign"),
        ("qualty=good", r"found no column 'qualty'.*did you mean 'quality'"),
        ("quality=excellent", "found no neuron with quality=excellent in 1 sessions"),
        ("quality>3", r"expected quality=\.\.\. there"),
        ("snr>high", "found snr compared with 'high', expected a number"),
    ],
)
def test_conditions_that_cannot_be_met_are_refused(stores, condition, sentence):
    with pytest.raises(UserError, match=sentence):
        choosing.choose(stores[2:], [condition])
