"""Optimisers: gradients in, changes of the parameters out, without the learning rate.

The rate comes from the schedule on the host at every step, so that a plateau can cut it without
recompiling. Each function here is a recipe that a config names.
"""

import jax
import optax


def adamw(
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.01,
    clip_norm: float = 0.0,
) -> optax.GradientTransformation:
    """AdamW; the defaults are those of the 2023 kit, which decays every parameter (baselines 7).

    clip_norm: largest global norm of the gradient, 0 for none (the kit has none).
    """
    parts = [optax.clip_by_global_norm(clip_norm)] if clip_norm else []
    parts += [
        optax.scale_by_adam(beta1, beta2, epsilon),
        optax.add_decayed_weights(weight_decay),
        optax.scale(-1.0),
    ]
    return optax.chain(*parts)


def adam(
    *, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8, clip_norm: float = 0.0
) -> optax.GradientTransformation:
    """Adam without weight decay, as in the 2022 kit."""
    return adamw(beta1=beta1, beta2=beta2, epsilon=epsilon, weight_decay=0.0, clip_norm=clip_norm)


def slower_core(recipe: optax.GradientTransformation, rate: float) -> optax.GradientTransformation:
    """A recipe whose changes of the core's parameters are multiplied by `rate` (fine-tuning)."""

    def of_core(params):
        return {
            name: jax.tree.map(lambda _, at=name: at == "core", below)
            for name, below in params.items()
        }

    return optax.chain(recipe, optax.masked(optax.scale(rate), of_core))
