"""A step's gradient, group of mice by group of mice, for devices that cannot hold all of them.

In go the groups and what a step computes of one; out come the sums over all groups. An objective is
a sum over mice, so its gradient is too: features are there of one group at a time, and nothing else
changes, except where mice are normalised together: joint batch norm then sees the mice of a group,
and its running statistics take in group after group (`encoder.batch_norm`, as of single mice).

The published factorised step of four mice, 2 clips of 80 frames and 2,000 neurons each, sets aside
(on a CPU) 1.96 GB for all of them, 1.03 GB for two at once, 0.50 GB for one, and 0.36 GB with
layers computed again (`recomputing`). It compiles longer: a program holds the core for each group.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax import lax

from sensojax.models import recomputing


def of(mice: Sequence[str], at_once: int) -> list[tuple[str, ...]]:
    """The mice in their order, so many in a group (0: all of them), the last one perhaps smaller.

    >>> of(("a", "b", "c"), 2)
    [('a', 'b'), ('c',)]
    """
    size = at_once or len(mice)
    return [tuple(mice[first : first + size]) for first in range(0, len(mice), size)]


def summed(
    one_group: Callable, groups: Sequence[tuple[str, ...]], given: Any, statistics: Any
) -> tuple[Any, Any]:
    """Inside jit: the sums over all groups, and the statistics that the last one left.

    one_group: (mice, given, statistics) -> (nested dictionaries of numbers, statistics); what some
    groups do not have counts as 0. given: any tree of arrays, the same for all groups.
    """
    sums, statistics = one_group(groups[0], given, statistics)
    for mice in groups[1:]:

        def add(given, statistics, sums, mice=mice):
            found, statistics = one_group(mice, given, statistics)
            return _added(sums, found), statistics

        # A group waits for the sums of those before, or all features would be there together.
        if jax.default_backend() == "cpu":
            some = jax.tree.leaves(sums)[0]
            sums, statistics = recomputing.after(
                some[(0,) * some.ndim], add, given, statistics, sums
            )
        else:
            sums, statistics = add(*lax.optimization_barrier((given, statistics, sums)))
    return sums, statistics


def _added(one, other):
    if not isinstance(one, Mapping):
        return one + other
    both = {name: _added(one[name], other[name]) for name in one if name in other}
    return {**one, **other, **both}
