"""One order for a whole session, of all its bins: neurons that fire together are neighbours."""

import dataclasses

import numpy as np
import pytest

from sensojax.errors import UserError
from sensojax.spikes.counts import Counts
from sensojax.spikes.motifs import pieces
from sensojax.spikes.order import ordering, similarity, stored
from sensojax.spikes.order.stored import OrderedSession
from tests.spikes import bursts


class Chunked(bursts.CountsSession):
    """A session in chunks of 90 bins."""

    def __init__(self, counts, name="mouse/day"):
        super().__init__(name, Counts.of_dense(counts, 0.02))
        self.fingerprint = str(counts.sum())

    @property
    def chunks(self):
        bins = self.num_bins(0.02)
        return [(start, min(start + 90, bins)) for start in range(0, bins, 90)]


def groups(seed: int = 0, bins: int = 400) -> np.ndarray:
    """Twelve neurons: three groups that fire together, in turns, and three silent ones."""
    rng = np.random.default_rng(seed)
    rates = rng.gamma(0.3, 1.0, (3, bins))
    counts = rng.poisson(rates[np.arange(12) % 3])
    counts[[2, 7, 9]] = 0
    return counts


@pytest.mark.parametrize("linkage", ["average", "ward"])
def test_neurons_that_fire_together_are_neighbours_and_silent_ones_last(linkage):
    found = ordering.of_session(Chunked(groups()), 0.02, linkage)
    assert found.starts.tolist() == [0] and found.silent.tolist() == [3]
    (order,) = found.order
    assert sorted(order) == list(range(12)) and order[9:].tolist() == [2, 7, 9]
    changes = np.count_nonzero(np.diff(order[:9] % 3))
    assert changes == 2  # every group in one piece
    assert (order[found.inverse[0]] == np.arange(12)).all()
    recorded, tree, best = found.costs[0]
    assert best <= tree <= recorded and best < recorded - 1


def test_equal_neurons_are_neighbours_at_no_distance():
    counts = groups()
    counts[4] = 3 * counts[0]
    found = ordering.of_session(Chunked(counts), 0.02)
    places = found.inverse[0]
    assert abs(places[0] - places[4]) == 1
    product = similarity.products([Counts.of_dense(counts, 0.02)], 12)
    assert similarity.cosine_distances(product)[0, 4] < 1e-12


@pytest.mark.parametrize("largest", [0, 5_000])  # float32 does not hold the larger products
def test_it_does_not_matter_how_a_session_is_cut(largest, monkeypatch):
    counts = bursts.matrix(1, 9, 333, largest)
    found = ordering.of_session(Chunked(counts), 0.02)
    monkeypatch.setattr(pieces.pieces_of, "__defaults__", (200,))
    cut = list(ordering.stretches(Chunked(counts), 0.02))
    assert len(cut) > 10
    products = similarity.products(cut, 9)
    np.testing.assert_array_equal(products, counts.astype(np.int64) @ counts.T)
    again = ordering.of_session(Chunked(counts), 0.02)
    np.testing.assert_array_equal(found.order, again.order)
    np.testing.assert_array_equal(found.costs, again.costs)


def test_all_chunks_share_the_order_unless_it_is_the_published_one():
    counts = groups()
    once = OrderedSession(Chunked(counts), ordering.of_session(Chunked(counts), 0.02))
    each = OrderedSession(Chunked(counts), ordering.of_session(Chunked(counts), 0.02, "published"))
    assert once.order.order.shape == (1, 12) and each.order.order.shape == (5, 12)
    assert once.chunks == each.chunks == Chunked(counts).chunks
    np.testing.assert_array_equal(once.counts(0.02).dense(), counts[once.order.order[0]])
    for row, (start, stop) in enumerate(once.chunks):
        chunk = counts[:, start:stop]
        for session, order in ((once, once.order.order[0]), (each, each.order.order[row])):
            found = session.counts(0.02, start, stop)
            np.testing.assert_array_equal(found.dense(), chunk[order])
            place = found.neuron.astype(int) * found.num_bins + found.bin
            assert (np.diff(place) > 0).all()
    assert len({tuple(order) for order in each.order.order.tolist()}) > 1
    across = each.counts(0.02, 80, 100).dense()  # over a seam
    halves = [counts[each.order.order[0], 80:90], counts[each.order.order[1], 90:100]]
    np.testing.assert_array_equal(across, np.concatenate(halves, axis=1))
    assert once.fingerprint != each.fingerprint != Chunked(counts).fingerprint


def test_a_tables_columns_move_with_their_neurons():
    session = Chunked(groups())
    session.columns = {"area": np.arange(12) * 10}
    ordered = OrderedSession(session, ordering.of_session(session, 0.02))
    assert ordered.columns["area"].tolist() == (ordered.order.order[0] * 10).tolist()


@pytest.mark.parametrize("shape", [(1, 50), (5, 0), (2, 30), (0, 0)])
@pytest.mark.parametrize("linkage", ordering.LINKAGES)
def test_small_and_silent_sessions_have_an_order(shape, linkage):
    for counts in (np.zeros(shape, int), np.ones(shape, int)):
        session = Chunked(counts)
        found = ordering.of_session(session, 0.02, linkage)
        assert (np.sort(found.order, axis=1) == np.arange(shape[0])).all()
        ordered = OrderedSession(session, found).counts(0.02)
        assert ordered.dense().shape == shape and ordered.count.sum() == counts.sum()


def test_a_stored_order_is_read_for_its_own_counts_only(tmp_path):
    session = Chunked(groups())
    task = stored.Task(session, 0.02, "average", tmp_path / "orders")
    found = stored.order_session(task)
    (path,) = (tmp_path / "orders").iterdir()
    assert path.name == "mouse%2Fday.order.npz"
    before = path.stat().st_mtime_ns
    for order in (stored.order_session(task), stored.reordered(session, path.parent).order):
        for name in ("starts", "order", "silent", "costs"):
            np.testing.assert_array_equal(getattr(order, name), getattr(found, name))
        assert (order.linkage, order.bin_s) == ("average", 0.02)
    assert path.stat().st_mtime_ns == before
    with pytest.raises(UserError, match="made with linkage average, expected ward"):
        stored.order_session(dataclasses.replace(task, linkage="ward"))
    with pytest.raises(UserError, match="for other counts"):
        stored.reordered(Chunked(groups(seed=1)), path.parent)
    with pytest.raises(UserError, match="found no order of other"):
        stored.reordered(Chunked(groups(), "other"), path.parent)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UserError, match="is damaged"):
        stored.reordered(session, path.parent)


def test_what_cannot_be_ordered_is_refused():
    with pytest.raises(UserError, match=r"linkage 'wards'.*did you mean 'ward'"):
        ordering.of_session(Chunked(groups()), 0.02, "wards")
    session = Chunked(groups())
    ordered = OrderedSession(session, ordering.of_session(session, 0.02, "published"))
    finer = dataclasses.replace(ordered.order, bin_s=0.01)
    with pytest.raises(UserError, match=r"orders of chunks of 0\.01 s bins"):
        OrderedSession(session, finer).counts(0.02)
