"""Ensembles: the mean prediction of several models of the same mice.

In: members, each a structure and its weights; out: the weights of those of equal structure stacked,
and a function that predicts with all of them. The public ensembles of the field are such means: of
14 seeds of the factorised baseline (baselines 8.1), of seven folds of two sizes of DwiseNeuro (sota
1.10).
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp


def stacked(members: Sequence):
    """Trees of arrays of equal structure as one tree, with a leading axis [member]."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)


def grouped(members: Iterable[tuple[Hashable, Any]]) -> dict[Hashable, Any]:
    """(structure, weights) of every member -> {structure: weights of those that have it}, stacked.

    Structures come in the order of their first members.
    """
    groups = {}
    for structure, weights in members:
        groups.setdefault(structure, []).append(weights)
    return {structure: stacked(of_group) for structure, of_group in groups.items()}


def mean_prediction(predicts: Sequence[Callable]) -> Callable:
    """Of functions (weights, raw, statistics) -> (predicted, observed), one of each structure, one
    such function of all members, whose weights are the stacked ones of every structure.

    predicted: {mouse: [batch time' neuron]}, of the last frames that all members predict. Members
    are computed one after another in one compiled program, so memory holds one of them.
    """

    def predict_mean(weights, raw, statistics):
        sums, observed, count = [], [], 0
        for predict, of_group in zip(predicts, weights, strict=True):
            total, seen = _sum(predict, of_group, raw, statistics)
            sums.append(total)
            observed.append(seen)
            count += len(jax.tree.leaves(of_group)[0])
        frames = {mouse: min(each[mouse].shape[1] for each in sums) for mouse in sums[0]}
        mean = {m: sum(each[m][:, -last:] for each in sums) / count for m, last in frames.items()}
        return mean, observed[0]

    return predict_mean


def _sum(predict, weights, raw, statistics):
    """Of the predictions of all members of one structure."""
    first = jax.tree.map(lambda x: x[0], weights)
    predicted, observed = predict(first, raw, statistics)

    def add(total, member):
        of_member, _ = predict(member, raw, statistics)
        return jax.tree.map(jnp.add, total, of_member), None

    others = jax.tree.map(lambda x: x[1:], weights)
    return jax.lax.scan(add, predicted, others)[0], observed
