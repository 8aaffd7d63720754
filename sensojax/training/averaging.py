"""Averages of weights: scored, kept as the best and loaded later in place of the last weights.

Two kinds. The moving average of parameters and batch norm statistics (EMA) of DwiseNeuro, which
`TrainState.average` holds and every step moves a little (sota 1.6). And the average that
schedule-free AdamW keeps of its own path, in the optimiser's state (sota 3.5). In go weights and
what is known of their past; out come the weights to score.
"""

import jax
import jax.numpy as jnp
import optax
from optax.contrib import ScheduleFreeState, schedule_free_eval_params

from sensojax.models.encoder import Weights


def begun(weights: Weights) -> dict:
    """The average of weights that nothing has changed yet: no correction, as published."""
    return {"params": weights.params, "statistics": weights.statistics}


def moved(average: dict | None, weights: Weights, decay: float) -> dict | None:
    """decay * average + (1 - decay) * weights, for parameters and statistics; None stays None."""
    if average is None:
        return None
    return optax.incremental_update(begun(weights), average, 1.0 - decay)


def scored(weights: Weights, average: dict | None, memory: optax.OptState) -> Weights:
    """The weights to score: an average if there is one, else these.

    memory: the optimiser's state.
    """
    if average is not None:
        return weights.replace(**average)
    if isinstance(memory, ScheduleFreeState):
        return weights.replace(params=_averaged(memory, weights.params))
    return weights


def restarted(
    weights: Weights, average: dict | None, memory: optax.OptState
) -> tuple[dict | None, optax.OptState]:
    """Average and optimiser's state for going on from other weights: these are all their past.

    Adam's moments stay, as in the published code.
    """
    if average is not None:
        average = jax.tree.map(jnp.copy, begun(weights))
    if isinstance(memory, ScheduleFreeState):
        memory = memory._replace(z=jax.tree.map(jnp.copy, weights.params))
    return average, memory


_averaged = jax.jit(schedule_free_eval_params)
