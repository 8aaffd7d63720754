"""The rows of motifs and orders measure two sides that agree, on counts like the published ones."""

import json

import numpy as np
import pyarrow as pa
import pytest

from scripts import bench
from scripts.benchmarks import pile_sides
from scripts.benchmarks.pile import Synthetic
from sensojax.spikes.motifs.patches import Patch
from tests.spikes import bursts

# Shares of the counts 0, 1, 2, 3 in the published pile, and of silent patches.
COUNTS = (0.918506, 0.068946, 0.009933, 0.001933)
SILENT = {"1x5": 0.753, "1x10": 0.662}


def test_synthetic_counts_are_distributed_as_the_published_ones():
    counts = Synthetic("made", 500, 8000).counts(0.02)
    dense = counts.dense()
    found = np.bincount(dense.ravel(), minlength=4)[:4] / dense.size
    np.testing.assert_allclose(found, COUNTS, rtol=0.12)
    assert dense.mean() == pytest.approx(0.0977, rel=0.02)
    for size, silent in SILENT.items():
        patch = Patch.parse(size)
        spiking = sum(len(each.keys) for each in patch.find(counts))
        share = 1 - spiking / np.prod(patch.grid(*dense.shape))
        assert share == pytest.approx(silent, abs=0.015)


def test_the_same_bins_are_drawn_whenever_they_are_read():
    session = Synthetic("made", 7, 1234, seed=3)
    for window in [(0, 1234), (100, 157), (1200, 1234)]:
        first, again = (session.counts(0.02, *window).dense() for _ in range(2))
        np.testing.assert_array_equal(first, again)
        assert first.shape == (7, window[1] - window[0])
    assert (session.counts(0.02).dense() != Synthetic("b", 7, 1234).counts(0.02).dense()).any()


@pytest.mark.parametrize("size", ["1x4", "2x3"])
def test_the_other_side_counts_by_the_published_rule(size):
    rows, patch = [bursts.matrix(seed, 5, 83) for seed in range(2)], Patch.parse(size)
    tables = [pa.table({"spike_counts": [row.tolist()]}) for row in rows]
    found = pile_sides.by_dictionary(tables, patch)
    listed = [(tuple(motif), number) for motif, number in found.most_common()]
    assert listed == bursts.by_frequency(rows, patch.neurons, patch.bins)


@pytest.mark.slow
def test_both_sides_of_the_rows_agree(tmp_path):
    path = tmp_path / "result.json"
    words = ["--tiny", "--repeats", "1", "--json", str(path), "--rows", "motifs,order"]
    bench.main(words)
    (result,) = json.loads(path.read_text())["runs"]
    assert [row["row"] for row in result["rows"]] == ["motifs"] * 4 + ["order"]
    assert all(row["ratio"] > 0 for row in result["rows"])
    (disk,) = (row for row in result["rows"] if row["work"].endswith("on disk"))
    assert min(disk["more"]["peak_gb"]) > 0.05
    said = str(result["said"])
    assert said.count("both sides give the same motifs") == 3 and "DIFFERENT" not in said
