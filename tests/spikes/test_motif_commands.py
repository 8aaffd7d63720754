"""The commands for motifs, orders and tokens, from stores or shards, and what they say."""

import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from dask import distributed

from scripts import pile_motifs, pile_order, pile_tokens
from sensojax.spikes import event_writing, sessions
from sensojax.spikes.motifs import table
from sensojax.spikes.order import ordering, stored
from sensojax.spikes.trains import Trains
from tests import disasters
from tests.spikes import bursts

MATRICES = {"mouse_a": bursts.matrix(0, 9, 400), "mouse_b": bursts.matrix(1, 6, 251)}
for _counts in MATRICES.values():
    _counts[0, -1] = 1  # the last spike is in the last bin
SMALL = ("--workers", 1, "--top", 2)  # of scripts/pile_motifs.py, in this process


def write(folder, name: str, counts: np.ndarray) -> None:
    """An event store with these counts."""
    neuron, bins = np.nonzero(counts)
    times = np.repeat((bins + 0.5) * 0.02, counts[neuron, bins])
    ends = np.searchsorted(neuron, np.arange(len(counts) + 1))
    offsets = np.append(0, np.cumsum(counts[neuron, bins]))[ends]
    subject, session = name.split("_")
    end_s = (counts.shape[1] - 0.5) * 0.02
    event_writing.write(folder, Trains("made", subject, session, times, offsets, {}, end_s))


@pytest.fixture(scope="module")
def pile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pile")
    for name, counts in MATRICES.items():
        write(folder / "stores", name, counts)
    return folder


def words(*given) -> list[str]:
    return [str(each) for each in given]


def test_motifs_are_counted_ordered_and_drawn(pile, capsys):
    out = pile / "motifs.parquet"
    arguments = words(pile / "stores", "--patch", "2x4", "--out", out, *SMALL)
    pile_motifs.main(arguments)
    found = table.read(out)
    expected = bursts.by_frequency(list(MATRICES.values()), 2, 4)
    assert list(map(tuple, found.motifs.tolist())) == [motif for motif, _ in expected]
    assert out.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"
    said = capsys.readouterr().out
    patches = sum(frequency for _, frequency in expected)
    assert f"{len(expected):,} motifs 2x4 in {patches:,} patches" in said
    pile_motifs.main(arguments)  # there already
    assert capsys.readouterr().out == said


@pytest.mark.slow
def test_processes_of_a_cluster_count_the_same_with_the_same_command(pile):
    asked = [pile / "stores", "--patch", "2x4", "--top", 2]
    here, there = pile / "here.parquet", pile / "there.parquet"
    pile_motifs.main(words(*asked, "--out", here, "--workers", 1))
    machines = dict(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with distributed.LocalCluster(processes=True, **machines) as cluster:
        pile_motifs.main(words(*asked, "--out", there, "--scheduler", cluster.scheduler_address))
    assert there.read_bytes() == here.read_bytes()


def test_an_order_is_stored_told_and_used(pile, capsys):
    orders, stores = pile / "orders", pile / "stores"
    shards, motifs = pile / "reordered", pile / "ordered.parquet"
    more = ["--out", orders, "--workers", 1]
    pile_order.main(words(stores, *more, "--export", shards))
    said = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in said] == [*MATRICES, str(shards)]
    ordered = {}
    for session in sessions.open_sessions(stores):
        order = stored.load(stored.path_of(orders, session), session)
        ordered[session.name] = MATRICES[session.name][order.order[0]]
        recorded, tree, best = order.costs[0]
        assert f"{best:.4g} ordered" in said[list(MATRICES).index(session.name)]
        assert best < tree < recorded
    pile_motifs.main(words(stores, "--patch", "3x2", "--order", orders, "--out", motifs, *SMALL))
    expected = bursts.by_frequency(list(ordered.values()), 3, 2)
    assert [tuple(each) for each in table.read(motifs).motifs.tolist()] == [m for m, _ in expected]
    for session in sessions.open_sessions(shards):
        np.testing.assert_array_equal(session.counts(0.02).dense(), ordered[session.name])
    other = pile / "published"
    pile_order.main(words(stores, "--out", other, "--workers", 1, "--linkage", "published"))
    assert "in 1 chunks" in capsys.readouterr().out
    session = sessions.open_sessions(stores)[0]
    found = stored.load(stored.path_of(other, session), session)
    assert found.linkage == "published" and found.silent.shape == (1,)
    np.testing.assert_array_equal(
        found.order, ordering.of_session(session, 0.02, "published").order
    )


def test_tokens_are_made_used_and_read_back(pile, capsys):
    motifs, known = pile / "tokenised.parquet", pile / "vocabulary.npz"
    common = ["--vocabulary", known, "--workers", 1]
    pile_motifs.main(words(pile / "stores", "--patch", "1x5", "--out", motifs, *SMALL))
    pile_tokens.main(words("fit", motifs, "--largest-token", 9, "--out", known))
    said = capsys.readouterr().out
    share = table.read(motifs, 10).frequency.sum() / table.about(motifs)["patches"]
    assert f"10 motifs 1x5; lossless in what was counted: {share:.4%}" in said
    for rest in ("escape", "euclidean"):
        tokens, back = pile / f"{rest}_tokens", pile / f"{rest}_back"
        pile_tokens.main(words("encode", pile / "stores", *common, "--rest", rest, "--out", tokens))
        *each, total = capsys.readouterr().out.splitlines()
        assert [line.split(":")[0] for line in each] == list(MATRICES)
        percent = 100 if rest == "escape" else share * 100
        assert f"2 sessions: {percent:.4g} % of" in total
        pile_tokens.main(words("decode", tokens, *common, "--out", back))
        assert capsys.readouterr().out == f"{back}: 2 sessions, 2 rows\n"
        for session in sessions.open_sessions(back):
            found, counts = session.counts(0.02).dense(), MATRICES[session.name]
            assert (session.subject, session.component) == ("mouse", "made")
            assert np.array_equal(found, counts) == (rest == "escape")
            assert abs(found.sum() - counts.sum()) < 0.5 * counts.sum()
    listed = pile / "assigned.parquet"
    pile_tokens.main(
        words("assign", motifs, "--vocabulary", known, "--rest", "euclidean", "--out", listed)
    )
    assert capsys.readouterr().out.split(": ")[1] == total.split(": ")[1] + "\n"
    assert pq.read_table(listed)["token"].to_pylist()[:10] == list(range(10))


def test_a_damaged_session_is_named_and_the_others_are_done(pile, tmp_path, capsys):
    stores = tmp_path / "stores"
    for name, counts in MATRICES.items():
        write(stores, name, counts)
    for path in (stores / "mouse_a" / "spikes").rglob("*"):
        if path.is_file() and path.name != "zarr.json":
            path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(SystemExit) as stopped:
        pile_order.main(words(stores, "--out", tmp_path / "orders", "--workers", 1))
    said = str(stopped.value)
    assert said.startswith("error: 1 of 2 sessions could not be ordered")
    assert "mouse_a: " in said and "mouse_b" not in said
    assert [path.name for path in (tmp_path / "orders").iterdir()] == ["mouse_b.order.npz"]
    assert capsys.readouterr().out.startswith("mouse_b: 6 neurons")
    out = tmp_path / "motifs.parquet"
    with pytest.raises(SystemExit, match="could not be counted, so there is no table yet"):
        pile_motifs.main(words(stores, "--patch", "1x4", "--out", out, "--workers", 1))
    write(stores, "mouse_a", MATRICES["mouse_a"])
    pile_motifs.main(words(stores, "--patch", "1x4", "--out", out, *SMALL))
    expected = bursts.by_frequency(list(MATRICES.values()), 1, 4)
    assert table.read(out).frequency.tolist() == [frequency for _, frequency in expected]


@pytest.mark.slow
def test_a_full_disk_is_one_sentence_and_what_was_there_stays(pile, tmp_path):
    def line(command, *given):
        return [sys.executable, command.__file__, *words(*given)]

    folder, motifs = tmp_path / "stores", tmp_path / "motifs.parquet"
    for seed, name in enumerate(MATRICES):
        write(folder, name, bursts.matrix(seed, 60, 4000))
    count = line(pile_motifs, folder, "--patch", "1x8", "--out", motifs)
    for kib, workers in [(0, 1), (20, 2)]:  # no room for a part, for the table
        disasters.on_a_full_disk([*count, "--workers", str(workers)], kib)
        assert not motifs.exists()
    pile_motifs.main(count[2:])
    before = motifs.read_bytes()
    pile_tokens.main(words("fit", motifs, "--largest-token", 50, "--out", tmp_path / "v.npz"))
    known = ("--vocabulary", tmp_path / "v.npz")
    for given in [
        (pile_order, folder, "--out", tmp_path / "orders"),
        (pile_tokens, "encode", folder, *known, "--out", tmp_path / "tokens"),
        (pile_tokens, "assign", motifs, *known, "--out", tmp_path / "map.parquet"),
    ]:
        disasters.on_a_full_disk(line(*given), 0)
    left = [path for path in tmp_path.rglob("*") if path.is_file() and folder not in path.parents]
    assert sorted(path.name for path in left) == ["motifs.parquet", "motifs.png", "v.npz"]
    assert motifs.read_bytes() == before


@pytest.mark.parametrize(
    ("command", "given", "sentence"),
    [
        (pile_motifs, ["nowhere"], "found no event store"),
        (pile_motifs, ["nowhere", "--patch", "10"], "found a patch '10'"),
        (pile_motifs, ["nowhere", "--top", "0"], "found --top 0"),
        (pile_motifs, ["STORES", "--out", "motifs.png"], "found --out motifs.png"),
        (pile_motifs, ["STORES", "--scheduler", "tcp://127.0.0.1:1"], "dask"),
        (pile_order, ["STORES", "STORES"], "found 2 sessions named mouse_a"),
        (pile_tokens, ["fit", "nowhere.parquet"], "found no file nowhere.parquet"),
        (pile_tokens, ["encode", "STORES", "--vocabulary", "nowhere"], "found no file nowhere"),
    ],
)
def test_mistakes_get_one_sentence(pile, tmp_path, monkeypatch, command, given, sentence):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sensojax.spikes.workers.PATIENCE", "1s")
    given = [str(pile / "stores") if each == "STORES" else each for each in given]
    with pytest.raises(SystemExit, match="error: ") as stopped:
        command.main(given)
    assert sentence in str(stopped.value)
