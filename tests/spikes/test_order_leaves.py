"""The order of the leaves is the best that the tree allows."""

import itertools

import numpy as np
import pytest
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from sensojax.spikes.order import leaves


def random_tree(seed: int, number: int, linkage: str):
    """Distances [leaf leaf], a tree of them, and both as SciPy has them."""
    rng = np.random.default_rng(seed)
    condensed = rng.random(number * (number - 1) // 2)
    return squareform(condensed), hierarchy.linkage(condensed, linkage), condensed


def every_order(tree: np.ndarray) -> list[list[int]]:
    """All orders in which every branch is kept together."""
    number = len(tree) + 1
    orders = {leaf: [[leaf]] for leaf in range(number)}
    for node, (one, two) in enumerate(tree[:, :2].astype(int), start=number):
        pairs = list(itertools.product(orders[one], orders[two]))
        orders[node] = [a + b for a, b in pairs] + [b + a for a, b in pairs]
    return orders[2 * number - 2]


@pytest.mark.parametrize("linkage", ["average", "single", "ward"])
@pytest.mark.parametrize("number", [2, 3, 5, 8])
def test_no_order_of_the_tree_costs_less(linkage, number):
    for seed in range(4):
        distances, tree, _ = random_tree(seed, number, linkage)
        orders = every_order(tree)
        found = leaves.best_order(tree, distances)
        assert found.tolist() in orders
        costs = [leaves.cost(np.array(order), distances) for order in orders]
        assert leaves.cost(found, distances) == pytest.approx(min(costs), rel=1e-12)
        assert leaves.tree_order(tree).tolist() in orders


@pytest.mark.parametrize("linkage", ["average", "single", "complete"])  # single: long chains
def test_scipys_order_never_costs_less_and_sometimes_more(linkage, monkeypatch):
    monkeypatch.setattr(leaves, "BLOCK", 50)
    better = 0
    for seed in range(5):
        distances, tree, condensed = random_tree(seed, 40, linkage)
        found = leaves.best_order(tree, distances)
        assert sorted(found) == list(range(40))
        theirs = hierarchy.leaves_list(hierarchy.optimal_leaf_ordering(tree, condensed))
        costs = [leaves.cost(order, distances) for order in (found, theirs)]
        assert costs[0] <= costs[1] + 1e-12
        better += costs[0] < costs[1] - 1e-9
    assert better


def test_one_leaf_is_an_order():
    tree = np.empty((0, 4))
    assert leaves.best_order(tree, np.zeros((1, 1))).tolist() == [0]
    assert leaves.cost(np.array([0]), np.zeros((1, 1))) == 0
