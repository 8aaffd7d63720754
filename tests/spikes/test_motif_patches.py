"""Patches found in sparse counts are those of the padded matrix, whatever the counts."""

import numpy as np
import pytest

from sensojax.errors import UserError
from sensojax.spikes.counts import Counts
from sensojax.spikes.motifs import patches
from sensojax.spikes.motifs.patches import Layout, Patch
from tests.spikes import bursts

SIZES = ["1x1", "1x4", "1x10", "1x15", "2x3", "3x7", "4x8", "1x33", "5x13", "9x9", "2x90"]


def found_in(counts: np.ndarray, patch: Patch) -> list[tuple[int, ...]]:
    """All patches in their places; those that were not found are silent."""
    number = int(np.prod(patch.grid(*counts.shape)))
    cells = np.zeros((number, patch.cells), np.int64)
    times = np.zeros(number, int)
    layouts = patch.layouts
    limits = [0, *(layout.limit for layout in layouts)]
    for level, found in enumerate(patch.find(Counts.of_dense(counts, 0.02))):
        cells[found.place] = layouts[level].unpack(found.keys)
        times[found.place] += 1
        largest = cells[found.place].max(axis=1, initial=0)
        assert ((largest > limits[level]) | (level == 0)).all()  # the narrowest that holds it
        assert found.keys.dtype == layouts[level].dtype
    np.testing.assert_array_equal(times, cells.any(axis=1))  # once each, and never silence
    return list(map(tuple, cells.tolist()))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("largest", [0, 3, 20, 300, 70_000])
def test_patches_are_those_of_the_padded_matrix(size, largest, monkeypatch):
    monkeypatch.setattr(patches, "EVENTS_AT_ONCE", 5)
    patch = Patch.parse(size)
    for seed, shape in enumerate([(7, 41), (1, 100), (12, 5)]):
        counts = bursts.matrix(seed, *shape, largest)
        assert found_in(counts, patch) == bursts.patches(counts, patch.neurons, patch.bins)


def test_patches_are_numbered_time_first():
    counts = np.zeros((3, 7), int)
    counts[0, 0], counts[2, 1], counts[1, 4], counts[2, 6] = 1, 2, 3, 4
    patch = Patch(2, 3)
    assert patch.grid(3, 7) == (2, 3)  # padded to 4 x 9: six patches
    found = found_in(counts, patch)
    assert [max(each) for each in found] == [1, 2, 3, 0, 0, 4]


def test_nothing_is_found_where_there_is_nothing():
    for shape in [(4, 0), (0, 9), (3, 8)]:
        for found in Patch(2, 3).find(Counts.of_dense(np.zeros(shape, int), 0.02)):
            assert len(found.keys) == len(found.place) == 0


@pytest.mark.parametrize("cells", [1, 2, 3, 5, 10, 15, 16, 20, 32, 40, 41, 64, 65, 150])
def test_keys_hold_patches_and_sort_as_they_do(cells):
    rng = np.random.default_rng(cells)
    layouts = Patch(1, cells).layouts
    limits = [each.limit for each in layouts]
    assert limits == sorted(set(limits)) and limits[-1] == patches.LARGEST_COUNT
    assert len(layouts) <= 4 and min(limits) > 0
    for layout in layouts:
        motifs = rng.integers(0, layout.limit + 1, (50, cells)) * rng.integers(0, 2, (50, cells))
        motifs[0], motifs[1] = layout.limit, 0
        keys = layout.pack(motifs)
        np.testing.assert_array_equal(layout.unpack(keys), motifs)
        order = np.argsort(keys, kind="stable")
        assert motifs[order].tolist() == sorted(motifs.tolist())


def test_the_usual_sizes_fit_in_one_number_with_their_places():
    for size, limit in [("1x5", 15), ("1x10", 15), ("2x5", 15), ("1x15", 6)]:
        first = Patch.parse(size).layouts[0]
        assert first == Layout(Patch.parse(size).cells, limit) and first.dtype == np.uint64
        assert first.size * 2**21 <= 2**64


@pytest.mark.parametrize("text", ["", "10", "1x", "x5", "1x-5", "0x4", "3x0", "1 x 10", "1x10x2"])
def test_a_size_that_is_none_is_refused(text):
    with pytest.raises(UserError, match="found a patch"):
        Patch.parse(text)


def test_a_count_that_cannot_be_is_refused():
    counts = Counts(np.zeros(1, np.int32), np.zeros(1, np.int64), np.array([2**24]), 1, 1, 0.02)
    with pytest.raises(UserError, match="16777216 in one bin, expected at most 16777215"):
        Patch(1, 1).find(counts)
