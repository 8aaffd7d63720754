"""The rows of the stimulus tools measure two sides that give the same answers."""

import json

import numpy as np
import pytest

from scripts import bench
from scripts.benchmarks import meaning

ROWS = ("gabors", "video_ids", "statistics")


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    path = folder / "result.json"
    words = ["--tiny", "--repeats", "1", "--folder", str(folder), "--json", str(path)]
    bench.main([*words, "--rows", ",".join(ROWS)])
    (run,) = json.loads(path.read_text())["runs"]
    return run


@pytest.mark.slow
def test_every_row_has_both_sides_and_its_memory(result):
    assert tuple(row["row"] for row in result["rows"]) == ROWS
    for row in result["rows"]:
        for side in ("ours", "theirs"):
            assert np.min(row[side]["values"]) > 0
        assert row["ratio"] > 0 and row["more"]["peak_gb"][0] > 0


@pytest.mark.slow
def test_both_sides_agree(result):
    said = str(result["said"])
    assert "both sides give the same in 100% of the frames" in said
    assert "both sides give the same numbers" in said
    (sentence,) = result["said"]["statistics"]
    assert float(sentence.split(" at most ")[1].split()[0]) < 1e-5  # float32


def test_every_row_of_the_page_is_explained():
    assert set(bench.ROWS) == set(meaning.MEANING)
