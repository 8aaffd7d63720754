"""The order of a session's neurons: once for the whole session, or as published for each chunk.

In goes a session; out comes an `Order`: which neuron stands where, what it costs beside other
orders, and where silent neurons begin (they stand last, as recorded). By default distances are
cosine distances over all bins of the session, joined by average linkage (`ward` joins the counts
scaled to length one), and leaves stand in the best order of the tree.

`published` does what the published script set out to do: each chunk gets an order of its own, from
Ward's linkage of cosine distances (silent neurons at distance 2 of all others, also of each other)
and SciPy's leaf ordering, which often misses the optimum. As it was published the sharded script
does nothing, silently: an error in reading every row is caught, and the row is returned as it was.
So the "reordered" tables may well be in the order of the recordings.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from sensojax.errors import check_name
from sensojax.spikes.counts import Counts
from sensojax.spikes.motifs.patches import Patch
from sensojax.spikes.motifs.pieces import pieces_of, rows_of
from sensojax.spikes.order import leaves
from sensojax.spikes.order.similarity import cosine_distances, products
from sensojax.spikes.session import Session

LINKAGES = ("average", "ward", "published")


@dataclass(frozen=True)
class Order:
    """Neurons of a session in a better order.

    starts: first bin for which a row of `order` holds, [row]; one row that holds for all bins,
    unless `published`. order: which neuron stands where, [row neuron]. silent: how many of the last
    ones have no spike, [row]. costs: sums of distances between neighbours, [row 3], as recorded, as
    the tree is written down, and of this order; silent neurons do not count unless `published`.
    linkage: one of LINKAGES. bin_s: width of a bin in seconds.
    """

    starts: np.ndarray
    order: np.ndarray
    silent: np.ndarray
    costs: np.ndarray
    linkage: str
    bin_s: float

    @property
    def inverse(self) -> np.ndarray:
        """Where each neuron stands, [row neuron]."""
        return np.argsort(self.order, axis=1)


def of_session(session: Session, bin_s: float, linkage: str = "average") -> Order:
    """The order of one session; bin_s: width of the bins in which neurons are compared."""
    check_name(linkage, LINKAGES, "linkage")
    if linkage == "published":
        rows = rows_of(session, bin_s, "chunk") or [(0, 0)]
        found = [published(session.counts(bin_s, start, stop)) for start, stop in rows]
    else:
        rows = [(0, 0)]
        product = products(stretches(session, bin_s), session.num_neurons)
        found = [of_products(product, linkage)]
    order, silent, costs = (np.array(each) for each in zip(*found, strict=True))
    return Order(np.array([start for start, _ in rows]), order, silent, costs, linkage, bin_s)


def stretches(session: Session, bin_s: float) -> Iterator[Counts]:
    """All bins of a session, a few at a time."""
    pieces, _ = pieces_of(session, Patch(1, 1), bin_s, "session")
    for piece in pieces:
        yield session.counts(bin_s, piece.start, piece.stop)


def of_products(product: np.ndarray, linkage: str) -> tuple[np.ndarray, int, list[float]]:
    """Order, number of silent neurons and costs, from the products of neurons [neuron neuron]."""
    firing = np.flatnonzero(np.diagonal(product) > 0)
    silent = np.flatnonzero(np.diagonal(product) == 0)
    if len(firing) < 2:
        return np.concatenate([firing, silent]), len(silent), [0.0, 0.0, 0.0]
    distances = cosine_distances(product[np.ix_(firing, firing)])
    # Of counts scaled to length one, the squared Euclidean distance is twice the cosine's.
    joined = np.sqrt(2 * distances) if linkage == "ward" else distances
    tree = hierarchy.linkage(squareform(joined, checks=False), linkage)
    best = leaves.best_order(tree, distances)
    orders = (np.arange(len(firing)), leaves.tree_order(tree), best)
    costs = [leaves.cost(order, distances) for order in orders]
    return np.concatenate([firing[best], silent]), len(silent), costs


def published(counts: Counts) -> tuple[np.ndarray, int, list[float]]:
    """Order, number of silent neurons and costs of one chunk, as the published script means it."""
    product = products([counts], counts.num_neurons)
    silent = int((np.diagonal(product) == 0).sum())
    if counts.num_neurons < 2:
        return np.arange(counts.num_neurons), silent, [0.0, 0.0, 0.0]
    distances = cosine_distances(product)
    condensed = squareform(distances, checks=False)
    plain = hierarchy.linkage(condensed, "ward")
    order = hierarchy.leaves_list(hierarchy.optimal_leaf_ordering(plain, condensed))
    orders = (np.arange(counts.num_neurons), hierarchy.leaves_list(plain), order)
    return order, silent, [leaves.cost(each, distances) for each in orders]
