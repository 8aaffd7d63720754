"""Optimisers: gradients in, changes of the parameters out.

Each function here is a recipe that a config names. The learning rate comes from the schedule on the
host at every step, so that a plateau can cut it without recompiling; `update` takes it as
`learning_rate=`, because the average of schedule-free AdamW depends on it. All that a recipe
remembers, the history of gradient norms included, is its state, so a checkpoint holds it.
"""

import jax
import optax

from sensojax.errors import UserError
from sensojax.training.clipping import autoclip

Recipe = optax.GradientTransformationExtraArgs
AS_THE_REST = -1.0  # a core's own weight decay, when it has none


def adamw(
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.01,
    core_rate: float = 1.0,
    core_weight_decay: float = AS_THE_REST,
    clip_norm: float = 0.0,
    clip_percentile: float = 0.0,
    clip_history: int = 10_000,
) -> Recipe:
    """AdamW; the defaults are those of the 2023 kit, which decays every parameter (baselines 7).

    core_rate: of the core, its learning rate over that of the rest. core_weight_decay: of the core,
    -1 for that of the rest. clip_norm: largest global norm of the gradient, 0 for none (the kit has
    none). clip_percentile, clip_history: see `clipping`, 0 for none.
    """
    return optax.chain(
        *_clipping(clip_norm, clip_percentile, clip_history),
        optax.scale_by_adam(beta1, beta2, epsilon),
        *_decay_and_direction(weight_decay, core_rate, core_weight_decay),
    )


def adam(
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    core_rate: float = 1.0,
    clip_norm: float = 0.0,
    clip_percentile: float = 0.0,
    clip_history: int = 10_000,
) -> Recipe:
    """Adam without weight decay, as in the 2022 kit."""
    return adamw(
        beta1=beta1,
        beta2=beta2,
        epsilon=epsilon,
        weight_decay=0.0,
        core_rate=core_rate,
        clip_norm=clip_norm,
        clip_percentile=clip_percentile,
        clip_history=clip_history,
    )


def schedule_free(
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.01,
    core_rate: float = 1.0,
    core_weight_decay: float = AS_THE_REST,
    clip_norm: float = 0.0,
    clip_percentile: float = 0.0,
    clip_history: int = 10_000,
) -> Recipe:
    """Schedule-free AdamW (Defazio et al. 2024), as ViV1T of 2025 is trained (sota 3.5).

    Gradients are taken at a point between a fast one and the average of its path; that average,
    weighted by the square of the largest rate so far, is what is scored and kept
    (`averaging.scored`). Take a schedule that only warms up ("constant"). beta1: how far the
    training point lies towards the average, above 0. Batch norm's running statistics are those of
    the training point. The others: see `adamw`.
    """
    if not 0.0 < beta1 < 1.0:
        raise UserError(f"found optimizer.beta1 {beta1}, expected between 0 and 1; correct it.")
    inner = optax.chain(
        *_clipping(clip_norm, clip_percentile, clip_history),
        optax.scale_by_rms(beta2, epsilon, eps_in_sqrt=False, bias_correction=True),
        *_decay_and_direction(weight_decay, core_rate, core_weight_decay),
    )

    def at(rate):
        return optax.contrib.schedule_free(inner, rate, b1=beta1)

    def update(gradient, state, params, *, learning_rate):
        return at(learning_rate).update(gradient, state, params, learning_rate=learning_rate)

    return Recipe(at(0.0).init, update)


def _clipping(clip_norm, percentile, history) -> list[optax.GradientTransformation]:
    if clip_norm and percentile:
        raise UserError(
            f"found optimizer.clip_norm {clip_norm} and optimizer.clip_percentile {percentile}, "
            "expected one way of clipping gradients; set the other to 0."
        )
    if percentile:
        return [autoclip(percentile, history)]
    return [optax.clip_by_global_norm(clip_norm)] if clip_norm else []


def _decay_and_direction(weight_decay, core_rate, core_weight_decay) -> list:
    """From what Adam makes of a gradient to the change of the parameters."""
    if core_weight_decay == AS_THE_REST:
        decays = [optax.add_decayed_weights(weight_decay)]
    else:
        decays = [
            optax.add_decayed_weights(weight_decay, mask=_of_the_rest),
            optax.add_decayed_weights(core_weight_decay, mask=_of_the_core),
        ]
    slower = [] if core_rate == 1.0 else [optax.masked(optax.scale(core_rate), _of_the_core)]
    return [*decays, optax.scale(-1.0), *slower, _times_rate()]


def _times_rate() -> Recipe:
    """Multiplies by the learning rate that `update` is called with."""

    def update(changes, state, params=None, *, learning_rate):
        del params
        return jax.tree.map(lambda change: learning_rate * change, changes), state

    return Recipe(lambda params: optax.EmptyState(), update)


def _of_the_core(params):
    return {
        name: jax.tree.map(lambda _, at=name: at == "core", below) for name, below in params.items()
    }


def _of_the_rest(params):
    return jax.tree.map(lambda inside: not inside, _of_the_core(params))
