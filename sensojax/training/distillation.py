"""Distillation: a trained teacher says what the mice that did not see a clip would have answered.

In go prepared batches of all mice and a teacher; out come its predictions of every mouse for every
clip, and how much each of them counts. Every mouse's readout of the student then learns from all
clips of a step: from its own by recorded responses, from the others by the teacher's, which are
given a fixed part of the weight of the whole (DwiseNeuro's second stage, sota 1.7).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from sensojax.errors import UserError
from sensojax.models.encoder import Weights, assemble
from sensojax.types import Batch


@dataclass(frozen=True)
class Teacher:
    """A trained model of the same mice, and the part of the weight that its answers have."""

    graph: nnx.GraphDef
    weights: Weights
    ratio: float

    def __post_init__(self):
        if not 0.0 < self.ratio < 1.0:
            raise UserError(
                f"found distillation.ratio {self.ratio}, expected between 0 and 1; correct it."
            )

    def answers(self, weights: Weights, batches: Mapping[str, Batch]) -> dict[str, jax.Array]:
        """{mouse: what it would answer to the clips of all mice, [mice*clip time neuron]}.

        weights: the teacher's own, given again as an argument of the compiled step.
        """
        model = assemble(self.graph, weights)
        return jax.lax.stop_gradient(model(batches, everyone=True))


def own_clips(batches: Mapping[str, Batch]) -> dict[str, np.ndarray]:
    """Which of all clips are each mouse's own, {mouse: [mice*clip] bool}."""
    owners = np.concatenate([[mouse] * len(batch.valid) for mouse, batch in batches.items()])
    return {mouse: owners == mouse for mouse in batches}


def unlabelled_weight(weights: np.ndarray, ratio: float) -> float:
    """The weight of each clip without responses, if labelled ones keep theirs.

    weights: of every clip for every mouse, [clip mouse], 0 where a mouse did not see it. Together
    they have ratio / (1 - ratio) times the weight of the others.
    """
    unlabelled = np.sum(np.asarray(weights) == 0)
    return float(ratio / (1.0 - ratio) * np.sum(weights) / max(unlabelled, 1))


def losses(
    loss: Callable, predicted: Mapping, answers: Mapping, batches: Mapping[str, Batch]
) -> dict[str, jax.Array]:
    """{mouse: the summed loss of its readout for the clips of other mice}.

    predicted, answers: student's and teacher's, {mouse: [mice*clip time' neuron]}, both of the last
    frames of the clips, of which those that both predict are compared.
    """
    valid = jnp.concatenate([batch.valid for batch in batches.values()])
    found = {}
    for mouse, own in own_clips(batches).items():
        frames = min(predicted[mouse].shape[1], answers[mouse].shape[1])
        others = np.flatnonzero(~own)
        seen = (each[mouse][others, -frames:] for each in (predicted, answers))
        found[mouse] = loss(*seen, valid[others, -frames:])
    return found


def shared(
    parts: Mapping[str, jax.Array],
    taught: Mapping[str, jax.Array],
    batches: Mapping[str, Batch],
    mouse_weights: Mapping[str, Callable[[int], float]],
    ratio: float,
) -> dict[str, jax.Array]:
    """The parts of the objective when the teacher has its part: those of mice, and "distilled".

    parts: {mouse: weighted loss by recorded responses}; taught: from `losses`. The weight of the
    whole stays: recorded responses keep 1 - ratio of it.
    """
    own = own_clips(batches)
    weights = [own[mouse] * mouse_weights[mouse](int(own[mouse].sum())) for mouse in batches]
    each = unlabelled_weight(np.stack(weights, axis=1), ratio)
    made = {mouse: (1.0 - ratio) * part for mouse, part in parts.items()}
    return made | {"distilled": (1.0 - ratio) * each * sum(taught.values())}
