"""Batches are windows of the sessions, a function of seed and step alone."""

import numpy as np
import pytest

from sensojax.errors import UserError
from sensojax.spikes.batches import CountBatches
from sensojax.spikes.counts import Counts
from sensojax.spikes.session import CountsSession
from tests.spikes import recorded

HOW = dict(bin_s=0.02, window_bins=25, num_neurons=6, batch_size=8, seed=0)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    sizes = ((4, 10.0), (9, 30.0), (5, 0.3))  # the last one is shorter than a window
    return [recorded.store(folder, i, n, seconds=s, rate_hz=20) for i, (n, s) in enumerate(sizes)]


def test_every_example_is_a_window_of_its_session(stores):
    batches = CountBatches(stores, **HOW)
    whole = [store.counts(0.02).dense() for store in stores]
    for step in (0, 7, 100_000):
        batch = batches[step]
        assert batch.counts.shape == (8, 25, 6) and batch.counts.dtype == np.uint8
        for i, (session, start) in enumerate(zip(batch.session, batch.start, strict=True)):
            valid = batch.valid[i]
            neurons = batch.neuron[i, valid]
            assert len(neurons) == min(len(whole[session]), 6) and (np.diff(neurons) > 0).all()
            expected = whole[session][neurons, start : start + 25]
            np.testing.assert_array_equal(batch.counts[i, :, valid], expected)
            assert not batch.counts[i, :, ~valid].any() and (batch.neuron[i, ~valid] == -1).all()


def test_a_step_is_the_same_whatever_came_before(stores):
    first, second = CountBatches(stores, **HOW), CountBatches(stores, **HOW)
    direct = second[41]
    for step, batch in first.iterate(39, 43):
        if step == 41:
            for name in ("counts", "valid", "session", "start", "neuron"):
                np.testing.assert_array_equal(getattr(batch, name), getattr(direct, name))
    other = CountBatches(stores, **{**HOW, "seed": 1})[41]
    assert not np.array_equal(other.start, direct.start)
    assert not np.array_equal(first[42].start, direct.start)


def test_sessions_come_as_often_as_they_have_tokens_and_windows_from_everywhere(stores):
    batches = CountBatches(stores, **{**HOW, "batch_size": 64})
    drawn = [batches[step] for step in range(10)]
    sessions = np.concatenate([batch.session for batch in drawn])
    tokens = np.array([s.num_neurons * max(s.num_bins(0.02) - 24, 0) for s in stores])
    share = tokens / tokens.sum()
    found = np.bincount(sessions, minlength=3) / len(sessions)
    np.testing.assert_allclose(found, share, atol=4 * np.sqrt(0.25 / len(sessions)))
    starts = np.concatenate([batch.start for batch in drawn])[sessions == 1]
    last = stores[1].num_bins(0.02) - 25
    assert 0 <= starts.min() < 0.05 * last and 0.95 * last < starts.max() <= last
    neurons = np.concatenate([batch.neuron for batch in drawn])[sessions == 1]
    assert set(neurons.ravel().tolist()) == set(range(9))


def test_what_cannot_be_batched_is_refused(stores):
    with pytest.raises(UserError, match="found no session of 1 with 25 bins"):
        CountBatches(stores[2:], **HOW)
    wide = CountsSession("wide", Counts.of_dense(np.full((6, 30), 300), 0.02))
    with pytest.raises(UserError, match="found 300 spikes in one bin of wide, expected at most"):
        CountBatches([wide], **HOW)[0]
    assert CountBatches([wide], **HOW, dtype="uint16")[0].counts.max() == 300
