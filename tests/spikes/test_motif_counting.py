"""Motifs of many sessions are counted exactly, whoever counts and whatever stops him."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
import pytest
from dask import distributed

from sensojax.errors import UserError
from sensojax.spikes.counts import Counts
from sensojax.spikes.motifs import counting, pieces, table
from sensojax.spikes.motifs.patches import Patch
from sensojax.spikes.session import CountsSession
from tests.goldens import REPOSITORY
from tests.spikes import bursts

SHAPES = [(7, 330), (5, 0), (4, 61), (11, 500), (1, 9)]
MATRICES = [bursts.matrix(i, *shape, largest=30 * i) for i, shape in enumerate(SHAPES)]
SESSIONS = [bursts.session(f"day {i}/a", counts) for i, counts in enumerate(MATRICES)]


class Chunked(CountsSession):
    """A session in chunks of 100 bins that notes what is read, and may fail or be stopped there."""

    def __init__(self, name, counts, error=None):
        super().__init__(name, Counts.of_dense(counts, 0.02))
        self.error, self.reads = error, 0

    @property
    def chunks(self):
        ends = [*range(0, self.num_bins(0.02), 100), self.num_bins(0.02)]
        return list(pairwise(ends))

    def counts(self, bin_s, start=0, stop=None):
        self.reads += 1
        if self.error:
            raise self.error
        return super().counts(bin_s, start, stop)


def counted(tmp_path, sessions, size="1x4", **settings) -> list[tuple[tuple, int]]:
    path = tmp_path / "motifs.parquet"
    path.unlink(missing_ok=True)
    counting.count(sessions, Patch.parse(size), path, **{"workers": 1, **settings})
    return listed(table.read(path))


def listed(found: table.Motifs) -> list[tuple[tuple, int]]:
    motifs = map(tuple, found.motifs.tolist())
    return list(zip(motifs, found.frequency.tolist(), strict=True))


@pytest.mark.parametrize("size", ["1x4", "2x5", "1x15", "3x20"])
def test_motifs_are_those_of_all_rows_in_the_published_order(tmp_path, size):
    patch = Patch.parse(size)
    expected = bursts.by_frequency(MATRICES, patch.neurons, patch.bins)
    assert counted(tmp_path, SESSIONS, size) == expected
    frequencies = [frequency for _, frequency in expected]
    assert len(set(frequencies)) < len(frequencies) / 2  # there were ties to be put in order


def test_patches_begin_anew_with_each_chunk_or_not(tmp_path):
    sessions = [Chunked(str(i), counts) for i, counts in enumerate(MATRICES)]
    borders = [session.chunks for session in sessions]
    rows = [m[:, a:b] for m, each in zip(MATRICES, borders, strict=True) for a, b in each]
    assert counted(tmp_path, sessions, "2x7") == bursts.by_frequency(rows, 2, 7)
    whole = bursts.by_frequency(MATRICES, 2, 7)
    assert counted(tmp_path, sessions, "2x7", rows="session") == whole


def test_silence_is_counted_and_ranked_without_being_seen(tmp_path):
    busy = np.ones((2, 6), int)
    busy[1, 4:] = 0
    quiet = [bursts.session("a", busy), bursts.session("b", np.zeros((2, 3), int))]
    found = counted(tmp_path, quiet, "1x2")
    assert found == [((1, 1), 5), ((0, 0), 5)]  # silence was seen last
    assert counted(tmp_path, [quiet[1]], "1x2") == [((0, 0), 4)]


def test_the_table_says_what_was_counted(tmp_path):
    counted(tmp_path, SESSIONS)
    path = tmp_path / "motifs.parquet"
    about = table.about(path)
    assert about["patches"] == sum(len(bursts.patches(each, 1, 4)) for each in MATRICES)
    assert about["tokens"] == sum(each.size for each in MATRICES)
    assert about["spikes"] == sum(each.sum() for each in MATRICES)
    assert about["largest"] == max(each.max(initial=0) for each in MATRICES)
    assert (about["patch"], about["bin_s"], about["rows"]) == ("1x4", 0.02, "chunk")
    read = pq.read_table(path)
    assert read.column_names == ["patch", "frequency", "probability"]
    assert [str(each) for each in read.schema.types[1:]] == ["int64", "float"]
    assert about["motifs"] == read.num_rows
    share = np.array(read["frequency"]) / about["patches"]
    np.testing.assert_array_equal(read["probability"], share.astype(np.float32))
    assert str(read.schema.types[0].value_type) == "uint8"
    assert [listed(table.read(path, n)) for n in (0, 3)] == [[], listed(table.read(path))[:3]]
    counted(tmp_path, [bursts.session("wide", np.array([[256, 0, 0, 1]]))])
    assert str(pq.read_schema(path).types[0].value_type) == "uint16"


def test_neither_workers_nor_pieces_change_a_byte(tmp_path, monkeypatch):
    once = tmp_path / "once.parquet"
    counting.count(SESSIONS, Patch(2, 3), once, workers=1)
    cut = tmp_path / "cut.parquet"
    monkeypatch.setattr(pieces.pieces_of, "__defaults__", (70,))
    monkeypatch.setattr(counting, "PART_TOKENS", 900)
    monkeypatch.setattr(counting, "RUNS_AT_ONCE", 2)
    monkeypatch.setattr(table, "CELLS_AT_ONCE", 60)
    counting.count(SESSIONS, Patch(2, 3), cut, workers=1)
    many = tmp_path / "many.parquet"
    counting.count(SESSIONS, Patch(2, 3), many, workers=2)
    assert listed(table.read(once)) == listed(table.read(cut))
    assert pq.read_table(once).equals(pq.read_table(cut))
    assert cut.read_bytes() == many.read_bytes()


def test_a_stopped_count_goes_on_where_it_was(tmp_path):
    path = tmp_path / "motifs.parquet"
    first, second = Chunked("a", MATRICES[0]), Chunked("b", MATRICES[3], KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        counting.count([first, second], Patch(1, 4), path, workers=1)
    assert not path.exists() and first.reads == 4
    second.error = None
    counting.count([first, second], Patch(1, 4), path, workers=1)
    assert first.reads == 4 and second.reads == 1 + 5
    expected = tmp_path / "expected.parquet"
    counting.count([first, second], Patch(1, 4), expected, workers=1)
    assert path.read_bytes() == expected.read_bytes()
    assert sorted(each.name for each in tmp_path.iterdir()) == [expected.name, path.name]


def test_a_session_that_cannot_be_read_is_named_after_all_others_were_counted(tmp_path):
    path = tmp_path / "motifs.parquet"
    bad = Chunked("bad one", MATRICES[0], UserError("its file is damaged."))
    good = Chunked("good", MATRICES[3])
    with pytest.raises(UserError, match="1 of 2 sessions could not be counted") as refused:
        counting.count([bad, good], Patch(1, 4), path, workers=1)
    assert "bad one: its file is damaged." in str(refused.value)
    assert not path.exists() and good.reads == 5
    counting.count([good], Patch(1, 4), path, workers=1)  # taken out, nothing is counted again
    assert good.reads == 5 and len(table.read(path).motifs)


def test_kept_parts_serve_for_more_sessions_and_only_for_the_same_counts(tmp_path):
    path = tmp_path / "motifs.parquet"
    first, second = Chunked("a", MATRICES[0]), Chunked("b", MATRICES[3])
    counting.count([first], Patch(1, 4), path, workers=1, keep=True)
    path.unlink()
    about = counting.count([first, second], Patch(1, 4), path, workers=1, keep=True)
    assert first.reads == 4 and about["sessions"] == 2
    path.unlink()
    first.fingerprint = "other counts"
    counting.count([first, second], Patch(1, 4), path, workers=1)
    assert first.reads == 8 and second.reads == 5


def test_a_table_that_is_there_is_kept_and_never_taken_for_another(tmp_path):
    path = tmp_path / "motifs.parquet"
    told = counting.count(SESSIONS, Patch(1, 4), path, workers=1)
    assert counting.count(SESSIONS, Patch(1, 4), path, workers=1) == told
    with pytest.raises(UserError, match="counted with sessions 5, not 2"):
        counting.count(SESSIONS[:2], Patch(1, 4), path, workers=1)
    with pytest.raises(UserError, match="counted with other sessions"):
        counting.count(SESSIONS[::-1], Patch(1, 4), path, workers=1)
    with pytest.raises(UserError, match="counted with patch '1x4', not '1x5'"):
        counting.count(SESSIONS, Patch(1, 5), path, workers=1)
    path.write_bytes(b"PAR1 no table")
    with pytest.raises(UserError, match="no table of motifs"):
        counting.count(SESSIONS, Patch(1, 4), path, workers=1)
    with pytest.raises(UserError, match="found no file"):
        table.about(tmp_path / "absent.parquet")


def test_two_counts_of_one_table_do_not_meet(tmp_path):
    path = tmp_path / "motifs.parquet"

    class Second(Chunked):
        def counts(self, *window):
            with pytest.raises(UserError, match="being written by another process"):
                counting.count([SESSIONS[0]], Patch(1, 4), path, workers=1)
            return super().counts(*window)

    counting.count([Second("a", MATRICES[0])], Patch(1, 4), path, workers=1)
    assert listed(table.read(path)) == counted(tmp_path, [Chunked("a", MATRICES[0])])


def test_what_cannot_be_counted_is_refused(tmp_path):
    for sessions, settings, words in [
        ([], {}, "found no session"),
        (SESSIONS, dict(rows="minute"), "rows 'minute'"),
        (SESSIONS, dict(workers=-1), "found -1 workers"),
        (SESSIONS, dict(bin_s=0.5), "expected bins of 0.5 s"),
    ]:
        with pytest.raises(UserError, match=words):
            counting.count(sessions, Patch(1, 4), tmp_path / "x", **{"workers": 1, **settings})


def test_a_cluster_counts_the_same(tmp_path):
    expected = tmp_path / "here.parquet"
    counting.count(SESSIONS, Patch(2, 3), expected, workers=1)
    cluster = distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
    )
    with cluster:
        path = tmp_path / "there.parquet"
        counting.count(SESSIONS, Patch(2, 3), path, scheduler=cluster.scheduler_address)
    assert path.read_bytes() == expected.read_bytes()


KILLED = """
import sys, time
from pathlib import Path
from scripts.benchmarks.pile import Synthetic
from sensojax.spikes.motifs import counting
from sensojax.spikes.motifs.patches import Patch
counting.PART_TOKENS = 2_000_000
if __name__ == "__main__":
    sessions = [Synthetic(f"s{i}", 100, 60_000, i) for i in range(4)]
    counting.count(sessions, Patch(1, 10), Path(sys.argv[1]), workers=2)
"""


@pytest.mark.slow
def test_a_killed_count_gives_the_same_bytes_when_it_is_begun_again(tmp_path):
    def begun(path):
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        words = [sys.executable, str(script), str(path)]
        return subprocess.Popen(words, env=environment, start_new_session=True)

    script = tmp_path / "count.py"
    script.write_text(KILLED)
    killed, whole = tmp_path / "killed.parquet", tmp_path / "whole.parquet"
    run = begun(killed)
    parts = tmp_path / "killed.parquet.partial"
    deadline = time.monotonic() + 60
    while len(list(parts.glob("*/about.json"))) < 3:
        assert time.monotonic() < deadline and run.poll() is None
        time.sleep(0.01)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert not killed.exists()
    assert begun(killed).wait() == 0 and begun(whole).wait() == 0
    assert killed.read_bytes() == whole.read_bytes()
    assert table.about(killed)["tokens"] == 4 * 100 * 60_000


LARGE = """
import json, sys
from pathlib import Path
from scripts.benchmarks.pile import Synthetic
from scripts.benchmarks.pile_sides import peak_bytes
from sensojax.spikes.motifs import counting
from sensojax.spikes.motifs.patches import Patch
session, path = Synthetic("long", 2000, 500_000), Path(sys.argv[1])
peak = peak_bytes(lambda: counting.count([session], Patch(1, 15), path, workers=1))
print(json.dumps(counting.table.about(path) | dict(peak=peak)))
"""


@pytest.mark.slow
def test_a_thousand_million_tokens_need_less_than_2_gb(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", LARGE, str(tmp_path / "motifs.parquet")],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(run.stdout)
    assert told["tokens"] == 1_000_000_000 and told["motifs"] > 100_000
    assert told["peak"] < 0.7e9  # 2 GB are promised
