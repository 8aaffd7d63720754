"""From the section `evaluation` to evaluators, and from a model to where its neurons look."""

from collections.abc import Callable, Mapping

import numpy as np
from flax import nnx

from sensojax.build.data import frame_size, protocol, statistics
from sensojax.build.model import predictor
from sensojax.evaluation import measures
from sensojax.evaluation.evaluators import Evaluator
from sensojax.evaluation.predictions import Predictions, compiled
from sensojax.evaluation.results import Fields
from sensojax.models import encoder
from sensojax.pipeline.windows import RESPONSES_AS, ScoredFrames
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
    normalization: of the score, "" for that of the training's responses. length: frames of a batch,
    at least.
    """
    how, trained = config["evaluation"], config["data"]["normalization"]
    normalization = normalization or RESPONSES_AS.get(trained, trained)
    placement.check(how["batch_size"], "evaluation.batch_size")
    scored_with = None
    if normalization != trained:
        units = {**config["data"], "normalization": normalization}
        scored_with = placement.everywhere(statistics(units, opened))
    predictions = Predictions(
        program or compiled(predictor(graph, config["inputs"], how), placement.copied),
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
        refused=refused_measures(config, opened),
        null_means=null_means(normalization, opened),
        sums=sums,
        sharding=placement.copied,
    )


def null_means(normalization: str, opened: Mapping) -> dict[str, np.ndarray]:
    """What the null model of spikes says of each mouse: every neuron's mean over the train tier.

    {mouse: [neuron]}, of the mice that have such a tier; of none where responses are rescaled.
    """
    if normalization not in measures.AS_RECORDED:
        return {}
    known = {mouse: store.statistics.per_neuron.get("responses") for mouse, store in opened.items()}
    return {mouse: of["mean"] for mouse, of in known.items() if of}


def refused_measures(config: Mapping, opened: Mapping) -> dict[str, str]:
    """Measures that a model of these mice cannot have, and why in words.

    Sensorium 2022 takes FEVE of models that see images alone: what an image's repeats do not share
    is noise to them. A model that is given the animal's behaviour (track SENSORIUM+) explains part
    of just that, so what it can explain is not the explainable variance (baselines 2.2, 6.4).
    """
    images = all(store.max_frames == 1 for store in opened.values())
    sees = config["inputs"]["behavior"] or config["shifter"]["name"] or config["gain"]["name"]
    if not (images and sees):
        return {}
    why = (
        "the model sees the animal's behaviour (track SENSORIUM+), which differs between repeats "
        "of an image: the variance that it can explain is not that which repeats share"
    )
    return {"feve": why}


def fields(mouse: str, model: encoder.Encoder, opened, inputs: Mapping) -> Fields:
    """Where a mouse's neurons lie in cortex, where their readouts look, and where they should."""
    size = np.array([opened.width, opened.height])
    learned = model.readouts[mouse].positions()
    if learned is not None:
        height, width = frame_size(opened, inputs)
        points = np.asarray(model.core.map_to_image(learned, height, width))
        # From pixels that the model sees to those of the image, of which each is several.
        seen, pool = np.array([width, height]), inputs["pool"]
        first, last = inputs["rows"] or (0, opened.height)
        picture = np.array([opened.width, last - first])
        pixels = (points + 1.0) / 2 * (seen - 1) - (seen - picture // pool) // 2
        pixels = pixels * pool + (pool - 1) / 2 + np.array([0, first])
        learned = 2.0 * pixels / (size - 1) - 1.0
    true = opened.truth.get("center")
    if true is not None:
        true = 2.0 * true / (size - 1) - 1.0
    cortex_um = opened.neurons.position_um[:, :2]
    return Fields(mouse=mouse, cortex_um=cortex_um, learned=learned, true=true)
