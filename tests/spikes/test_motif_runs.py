"""Runs of motifs give the same counts in memory, on disk, and merged in any pieces."""

from collections import Counter

import numpy as np
import pytest

from sensojax.spikes.motifs import runs
from sensojax.spikes.motifs.patches import Layout

NARROW, WIDE = Layout(10, 15), Layout(3, 2**24 - 1)


def keys_of(layout: Layout, seed: int, number: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return layout.pack(rng.integers(0, 3, (number, layout.cells)) * (rng.random((number, 1)) < 0.5))


def plain(keys, first: int = 0) -> dict:
    """{key: (count, first)}, one key at a time."""
    listed = keys.tolist()
    return {key: (n, first + listed.index(key)) for key, n in Counter(listed).items()}


def as_dict(run) -> dict:
    keys = run["key"].tolist()
    assert keys == sorted(set(keys))
    return {key: (n, first) for key, n, first in run.tolist()}


@pytest.mark.parametrize("layout", [NARROW, WIDE])
@pytest.mark.parametrize("place_bits", [0, 30])  # key and place in one number, or not
def test_a_tally_is_that_of_counting_one_by_one(layout, place_bits):
    keys = keys_of(layout, 0, 200)
    shuffled = np.random.default_rng(1).permutation(200)
    far = np.arange(200) + (1 << place_bits) - 1
    found = runs.tally(keys[shuffled], far[shuffled], layout, first=1000)
    assert as_dict(found) == plain(keys, 1000 + (1 << place_bits) - 1)
    assert len(runs.tally(keys[:0], far[:0], layout)) == 0


@pytest.mark.parametrize("at_once", [1, 100, 10_000])
def test_merging_adds_counts_and_keeps_the_first_place(at_once):
    keys = keys_of(NARROW, 2, 500)
    parts = np.split(keys, [20, 20, 300])  # one of them empty
    starts = [0, 20, 20, 300]
    each = [runs.tally(part, np.arange(len(part)), NARROW) for part in parts]
    merged = list(runs.merge(each, starts, at_once))
    assert as_dict(np.concatenate(merged)) == plain(keys)
    assert (len(merged) > 5) == (at_once < 10_000)
    assert [run["first"].min() for run in each if len(run)] == [0, 0, 0]  # as they were


@pytest.mark.parametrize("layout", [NARROW, WIDE])
def test_what_does_not_fit_in_memory_goes_to_disk_and_comes_back(tmp_path, layout):
    keys = keys_of(layout, 3, 4000)
    small = runs.Tally(tmp_path, "a", layout, held=30 * runs.record(layout).itemsize)
    large = runs.Tally(tmp_path, "b", layout)
    for tally in (small, large):
        for start in range(0, 4000, 250):
            part = keys[start : start + 250]
            tally.add(part, np.arange(len(part)), start)
        tally.finish(tmp_path / f"{tally.name}.run")
    assert len(small.written) > 3 and not large.written
    found = [runs.opened(tmp_path / f"{name}.run", runs.record(layout)) for name in "ab"]
    assert as_dict(found[0]) == as_dict(found[1]) == plain(keys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.run", "b.run"]


def test_an_empty_run_is_a_file_too(tmp_path):
    tally = runs.Tally(tmp_path, "none", NARROW)
    tally.finish(tmp_path / "none.run")
    assert len(runs.opened(tmp_path / "none.run", runs.record(NARROW))) == 0
