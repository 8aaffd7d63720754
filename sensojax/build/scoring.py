"""From the section `evaluation` to evaluators, and from a model to where its neurons look."""

from collections.abc import Callable, Mapping

import numpy as np
from flax import nnx

from sensojax.build.data import frame_size, protocol, statistics
from sensojax.build.model import predictor
from sensojax.evaluation.evaluators import Evaluator
from sensojax.evaluation.predictions import Predictions, compiled
from sensojax.evaluation.results import Fields
from sensojax.models import encoder
from sensojax.pipeline.windows import ScoredFrames
from sensojax.training.mesh import Placement


def evaluator(
    tier: str,
    config: Mapping,
    opened: Mapping,
    known: Mapping,
    graph: nnx.GraphDef,
    lost_frames: int,
    placement: Placement,
    *,
    program: Callable | None = None,
    sums: Callable | None = None,
    normalization: str = "",
    length: int = 0,
) -> Evaluator:
    """An evaluator of one tier, counting as `config.evaluation` says.

    program, sums: from `predictions.compiled` and `evaluators.summing`, to be shared by several.
    normalization: of the score, "" for that of the training. length: frames of a batch, at least.
    """
    how, trained = config["evaluation"], config["data"]["normalization"]
    normalization = normalization or trained
    placement.check(how["batch_size"], "evaluation.batch_size")
    scored_with = None
    if normalization != trained:
        units = {**config["data"], "normalization": normalization}
        scored_with = placement.everywhere(statistics(units, opened))
    predictions = Predictions(
        program or compiled(predictor(graph, config["inputs"]), placement.copied),
        opened,
        known,
        tier=tier,
        frames=ScoredFrames(how["skip_frames"], how["most_frames"], how["drop_last"]),
        lost_frames=lost_frames,
        batch_size=how["batch_size"],
        read_threads=config["data"]["read_threads"],
        put=placement.batch,
        scored_with=scored_with,
        length=length,
        sharding=placement.copied,
    )
    return Evaluator(
        predictions,
        normalization=normalization,
        trained_under=trained,
        protocol=protocol(config["data"]),
        nan_rule=how["nan_rule"],
        sums=sums,
        sharding=placement.copied,
    )


def fields(mouse: str, model: encoder.Encoder, opened, pool: int) -> Fields:
    """Where a mouse's neurons lie in cortex, where their readouts look, and where they should."""
    size = np.array([opened.width, opened.height])
    learned = model.readouts[mouse].positions()
    if learned is not None:
        points = model.core.map_to_image(learned, *frame_size(opened, pool))
        # The centres of pooled border pixels lie within the image: how far, in units of -1..1.
        learned = np.asarray(points) * (size - pool) / (size - 1)
    true = opened.truth.get("center")
    if true is not None:
        true = 2.0 * true / (size - 1) - 1.0
    cortex_um = opened.neurons.position_um[:, :2]
    return Fields(mouse=mouse, cortex_um=cortex_um, learned=learned, true=true)
