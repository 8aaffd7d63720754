"""The best order of the leaves of a tree: neighbours as near as the tree allows, exactly.

In go a tree and all distances; out comes, of the orders that keep every branch together, one with
the least sum of distances between neighbours. SciPy's `optimal_leaf_ordering` is meant to do the
same but often misses the optimum (its issue 11227). This is the dynamic programme of Bar-Joseph and
others (2001): the least cost of a branch for every pair of leaves at its two ends, from that of its
two branches. With leaves numbered along the tree a branch is a stretch, and its costs are a block
of one matrix.
"""

from dataclasses import dataclass

import numpy as np

BLOCK = 16_384  # sums at a time: they stay in a core's cache


@dataclass(frozen=True)
class _Branch:
    """Leaves start..stop along the tree; of two branches the second begins at `middle`."""

    start: int
    middle: int
    stop: int

    @property
    def left(self) -> slice:
        return slice(self.start, self.middle)

    @property
    def right(self) -> slice:
        return slice(self.middle, self.stop)

    @property
    def whole(self) -> slice:
        return slice(self.start, self.stop)


def best_order(tree: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """The best order of the leaves, [leaf].

    tree: as SciPy's linkage gives it, [merge 4]. distances: [leaf leaf], symmetric. Time grows with
    the third power of the leaves for a balanced tree (a second for 2,000), less for others.
    """
    along, branches, children = _along(tree)
    near = distances[np.ix_(along, along)]
    least = np.zeros_like(near)  # [leaf leaf] least cost of the branch that ends in these two
    for node in range(len(along), len(branches)):
        first, second = (branches[child] for child in children[node])
        for ends, inner, inside in _ends(first, least):
            reached = _least_sums(inner, near[inside, second.whole])
            for others, inner_other, inside_other in _ends(second, least):
                columns = slice(inside_other.start - second.start, inside_other.stop - second.start)
                least[ends, others] = _least_sums(reached[:, columns], inner_other.T)
    return along[_traced(branches, children, near, least)]


def cost(order: np.ndarray, distances: np.ndarray) -> float:
    """Sum of the distances between neighbours."""
    return float(distances[order[:-1], order[1:]].sum())


def tree_order(tree: np.ndarray) -> np.ndarray:
    """The order of the leaves as the tree happens to be written down, [leaf]."""
    return _along(tree)[0]


def _along(tree: np.ndarray) -> tuple[np.ndarray, list[_Branch], dict[int, tuple[int, int]]]:
    """Leaves along the tree, every node as a stretch of them, and the children of inner nodes."""
    number = len(tree) + 1
    children = {number + i: (int(a), int(b)) for i, (a, b) in enumerate(tree[:, :2])}
    sizes = np.concatenate([np.ones(number, int), tree[:, 3].astype(int)])
    starts = np.zeros(2 * number - 1, int)
    for node in range(2 * number - 2, number - 1, -1):  # parents come after their children
        first, second = children[node]
        starts[first], starts[second] = starts[node], starts[node] + sizes[first]
    middles = [0] * number + [starts[children[node][1]] for node in range(number, 2 * number - 1)]
    branches = [
        _Branch(int(start), int(middle), int(start + size))
        for start, middle, size in zip(starts, middles, sizes, strict=True)
    ]
    return np.argsort(starts[:number]), branches, children


def _ends(branch: _Branch, least: np.ndarray):
    """Where one end of a branch may lie, its costs [end inner end], and where the inner end lies.

    A branch of two begins in one of them and ends in the other.
    """
    if branch.stop - branch.start == 1:
        return [(branch.whole, np.zeros((1, 1)), branch.whole)]
    costs = least[branch.left, branch.right]
    return [(branch.left, costs, branch.right), (branch.right, costs.T, branch.left)]


def _least_sums(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """For each i, k the least one[i, j] + two[j, k] over all j."""
    (rows, inner), columns = one.shape, two.shape[1]
    two = np.ascontiguousarray(two)
    if inner > max(rows, columns):  # few results of many sums each, as in chains
        if rows <= columns:
            return np.stack([(row[:, None] + two).min(axis=0) for row in one])
        return np.stack([(one + column).min(axis=1) for column in two.T], axis=1)
    found = np.empty((rows, columns))
    step = max(BLOCK // columns, 1)
    sums = np.empty((step, columns))
    for start in range(0, rows, step):
        some = np.ascontiguousarray(one[start : start + step].T)[:, :, None]
        best, held = found[start : start + step], sums[: some.shape[1]]
        np.add(some[0], two[0], out=best)
        for j in range(1, inner):
            np.add(some[j], two[j], out=held)
            np.minimum(best, held, out=best)
    return found


def _traced(branches, children, near: np.ndarray, least: np.ndarray) -> list[int]:
    """The leaves of the best order, from the ends of the whole tree down to single leaves."""
    root = len(branches) - 1
    if root == 0:
        return [0]
    top = branches[root]
    block = least[top.left, top.right]
    first, last = np.unravel_index(np.argmin(block), block.shape)
    found: list[int] = []
    waiting = [(root, top.start + int(first), top.middle + int(last))]
    while waiting:
        node, begin, end = waiting.pop()
        if node not in children:
            found.append(begin)
            continue
        one, two = children[node]
        if begin >= branches[node].middle:  # it begins in the second branch
            one, two = two, one
        to = _inner(branches[one], begin)
        back = _inner(branches[two], end)
        sums = _costs(least, begin, to)[:, None] + near[to, back] + _costs(least, end, back)
        i, j = np.unravel_index(np.argmin(sums), sums.shape)
        waiting.append((two, back.start + int(j), end))
        waiting.append((one, begin, to.start + int(i)))
    return found


def _inner(branch: _Branch, end: int) -> slice:
    """Where a branch ends that begins at `end`."""
    if branch.stop - branch.start == 1:
        return branch.whole
    return branch.right if end < branch.middle else branch.left


def _costs(least: np.ndarray, end: int, others: slice) -> np.ndarray:
    """Costs of a branch between `end` and each of the others; least is filled left of right."""
    return least[end, others] if end <= others.start else least[others, end]
