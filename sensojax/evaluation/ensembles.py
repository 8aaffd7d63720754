"""Ensembles: the mean prediction of several models of one architecture.

In: the weights of the members, stacked, and a function that predicts with one of them; out: a
function that predicts with all. The public ensembles of the field are such means, of 14 seeds of
the factorised baseline for instance (baselines 8.1).
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp


def stacked(members: Sequence):
    """Trees of arrays of equal structure as one tree, with a leading axis [member]."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)


def mean_prediction(predict: Callable) -> Callable:
    """predict, (weights, raw, statistics) -> (predicted, observed), as one for stacked weights.

    Members are computed one after another in one compiled program, so memory holds one of them.
    """

    def predict_mean(weights, raw, statistics):
        first = jax.tree.map(lambda x: x[0], weights)
        predicted, observed = predict(first, raw, statistics)
        count = len(jax.tree.leaves(weights)[0])

        def add(total, member):
            of_member, _ = predict(member, raw, statistics)
            return jax.tree.map(jnp.add, total, of_member), None

        others = jax.tree.map(lambda x: x[1:], weights)
        total, _ = jax.lax.scan(add, predicted, others)
        return jax.tree.map(lambda x: x / count, total), observed

    return predict_mean
