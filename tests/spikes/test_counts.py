"""Sparse counts are the dense ones without the silence."""

import itertools

import numpy as np
import pytest

from sensojax.errors import UserError
from sensojax.spikes import binning
from sensojax.spikes.clocks import Clock
from sensojax.spikes.counts import Counts
from sensojax.spikes.sessions import CountsSession, chunk_borders


def matrix(seed: int = 0, neurons: int = 5, bins: int = 40) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.poisson(0.3, (neurons, bins)) * (rng.random((neurons, 1)) < 0.8)


def test_dense_and_sparse_are_the_same_counts():
    array = matrix()
    counts = Counts.of_dense(array, 0.02)
    np.testing.assert_array_equal(counts.dense(), array.astype(np.uint8), strict=True)
    assert counts.count.min() > 0 and counts.count.sum() == array.sum()
    place = counts.neuron.astype(np.int64) * counts.num_bins + counts.bin
    assert (np.diff(place) > 0).all()
    dtypes = [each.dtype.name for each in (counts.neuron, counts.bin, counts.count)]
    assert dtypes == ["int32", "int64", "int64"]


def test_a_stretch_of_bins_is_the_same_stretch_of_the_matrix():
    array = matrix(1)
    counts = Counts.of_dense(array, 0.02)
    for start, stop in [(0, 40), (3, 17), (5, 5), (39, 40), (12, None)]:
        expected = array[:, start:stop]
        np.testing.assert_array_equal(counts.dense(start, stop), expected)
        part = counts.chunk(start, stop)
        assert (part.num_neurons, part.num_bins) == expected.shape
        np.testing.assert_array_equal(part.dense(), expected)
    for start, stop in [(-1, 3), (4, 2), (0, 41)]:
        with pytest.raises(ValueError, match="of a session that has 40"):
            counts.chunk(start, stop)


@pytest.mark.parametrize(
    ("largest", "dtype"),
    [(255, "uint8"), (256, "uint16"), (65_535, "uint16"), (65_536, "uint32")],
)
def test_counts_above_255_widen_the_matrix_and_never_wrap(largest, dtype):
    array = np.array([[0, 1, largest]])
    dense = Counts.of_dense(array, 0.02).dense()
    np.testing.assert_array_equal(dense, array)
    assert dense.dtype == dtype


def test_no_neurons_and_no_bins_are_counts_too():
    for shape in [(0, 7), (3, 0), (3, 7)]:
        counts = Counts.of_dense(np.zeros(shape, int), 0.02)
        assert counts.dense().shape == shape and counts.dense().dtype == np.uint8
        assert len(counts.count) == 0


@pytest.mark.parametrize("array", [np.zeros(3, int), np.full((2, 2), -1), np.zeros((2, 2))])
def test_what_is_no_matrix_of_counts_is_refused(array):
    with pytest.raises(UserError, match="expected spike counts"):
        Counts.of_dense(array, 0.02)


def test_chunks_follow_the_published_rule():
    """n=2207, B=508,178 gives 113 chunks of 4,498 bins, the last of 4,402 (published numbers)."""
    chunks = chunk_borders(2207, 508_178)
    assert len(chunks) == 113 and chunks[0] == (0, 4498) and chunks[-1] == (503_776, 508_178)
    assert all(one[1] == other[0] for one, other in itertools.pairwise(chunks))
    assert chunk_borders(10, 1_000_000) == [(0, 1_000_000)]  # exactly at the limit
    assert chunk_borders(10, 1_000_001) == [(0, 500_001), (500_001, 1_000_001)]
    assert chunk_borders(5, 0) == [] and chunk_borders(0, 5) == [(0, 5)]
    assert chunk_borders(1, 10, limit=3) == [(0, 3), (3, 6), (6, 9), (9, 10)]
    assert chunk_borders(1, 9, limit=2) == [(0, 2), (2, 4), (4, 6), (6, 8), (8, 9)]
    assert chunk_borders(1, 6, limit=5) == [(0, 3), (3, 6)]


def test_a_session_in_memory_answers_for_its_own_bin_width():
    array = matrix(2)
    session = CountsSession("a", Counts.of_dense(array, 0.02))
    assert (session.num_neurons, session.num_bins(0.02)) == array.shape
    assert session.chunks == [(0, 40)]
    np.testing.assert_array_equal(session.counts(0.02, 4, 9).dense(), array[:, 4:9])
    with pytest.raises(UserError, match=r"found counts of a in bins of 0\.02 s, expected .*0\.05"):
        session.counts(0.05)


@pytest.mark.parametrize("clock", [Clock(30_000.0), Clock(1e6), Clock(30_000.3, 0.123)])
@pytest.mark.parametrize("bin_s", [0.02, 0.1, 0.0166])
def test_counting_ticks_gives_the_bins_of_their_times(clock, bin_s):
    total, window = 700, (300, 700)  # up to the end, which is closed
    near_edges = clock.ticks(np.arange(total + 2) * bin_s)[:, None] + np.arange(-3, 4)
    ticks = np.unique(near_edges)
    found = binning.tick_bins(clock, bin_s, *window, total, "edges")
    assert (found is None) == bool(bin_s * clock.rate_hz % 1)  # when bins hold equally many
    if found is None:
        return
    expected = binning.bins_of(clock.seconds(ticks), bin_s, total)
    inside = (expected >= window[0]) & (expected < window[1])
    bins = found.bins_of(ticks)
    np.testing.assert_array_equal(bins[inside], expected[inside] - window[0])
    assert ((bins[~inside] < 0) | (bins[~inside] >= window[1] - window[0])).all()
    if clock.rate_hz == 30_000 and bin_s == 0.02:
        assert found.late.any()  # such as 0.58 s, which is before the edge of bin 29 as rounded
