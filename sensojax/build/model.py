"""From the sections `core`, `recurrent`, `readout`, `shifter` and `encoder` to a model."""

import functools
from collections.abc import Callable, Mapping

import jax
import numpy as np
from flax import nnx

from sensojax.build.data import prepare
from sensojax.build.naming import arguments, call, components
from sensojax.errors import UserError, check_name
from sensojax.models import behavior, composed, cores, encoder, readouts, recurrent
from sensojax.types import Neurons


def new_encoder(
    config: Mapping,
    neurons: Mapping[str, Neurons],
    behavior_columns: int,
    mean_responses: Mapping[str, np.ndarray] | None = None,
    frame_size: tuple[int, int] | None = None,
) -> encoder.Encoder:
    """An untrained encoder of these mice; mean_responses start the readouts' biases.

    frame_size: (height, width) that `prepare` gives videos; readouts with masks need it.
    """
    rngs = nnx.Rngs(config["seed"])
    core = new_core(config, behavior_columns, rngs)
    known, name = components(readouts, "Readout"), config["readout"]["name"]
    check_name(name, sorted(known), "readout.name")
    make_readout = functools.partial(call, known, "readout", config["readout"])
    if "map_size" in arguments(known[name]):
        make_readout = functools.partial(make_readout, map_size=core.map_size(*frame_size))
    of_mouse, shifters = {}, {}
    for mouse, each in neurons.items():
        of_mouse[mouse] = make_readout(
            channels=core.num_features,
            position_um=each.position_um,
            mean_responses=None if mean_responses is None else mean_responses[mouse],
            rngs=rngs,
        )
        if config["shifter"]["name"]:
            shifters[mouse] = call(behavior.SHIFTERS, "shifter", config["shifter"], rngs=rngs)
    frozen = frozen_core(config)
    return encoder.Encoder(core, of_mouse, shifters, frozen_core=frozen, **config["encoder"])


def new_core(config: Mapping, behavior_columns: int, rngs: nnx.Rngs) -> nnx.Module:
    """An untrained core, with the recurrence behind it that the config asks for, if any."""
    inputs = config["inputs"]
    columns = inputs["behavior_columns"] or range(behavior_columns)
    if not set(columns) <= set(range(behavior_columns)):
        raise UserError(
            f"found inputs.behavior_columns {', '.join(map(str, columns))}, expected numbers from "
            f"0 to {behavior_columns - 1}, or none for all; correct them."
        )
    channels = 1 + (len(columns) + 2 * inputs["pupil"]) * bool(inputs["behavior"])
    core = call(
        components(cores, "Core"), "core", config["core"], input_channels=channels, rngs=rngs
    )
    if not config["recurrent"]["name"]:
        return core
    recurrence = call(
        components(recurrent, "Recurrence"),
        "recurrent",
        config["recurrent"],
        channels_in=core.num_features,
        rngs=rngs,
    )
    return composed.Core(core, recurrence)


def frozen_core(config: Mapping) -> bool:
    """Whether the core is another run's and stays as it is."""
    return bool(config["transfer"]["run"]) and config["transfer"]["core"] == "frozen"


def mean_responses(first: Mapping, config: Mapping, of_mice: Mapping) -> dict[str, np.ndarray]:
    """Mean normalised response of every neuron in one batch, as the 2023 kit starts its biases."""
    normalized = jax.jit(prepare(config["inputs"]))(first, of_mice)
    return {mouse: np.asarray(batch.responses.mean((0, 1))) for mouse, batch in normalized.items()}


def predictor(graph: nnx.GraphDef, inputs: Mapping) -> Callable:
    """(weights, raw batches, statistics) -> ({mouse: predicted}, normalised batches)."""
    ready = prepare(inputs)

    def predict(weights, raw, known):
        normalized = ready(raw, known)
        return encoder.assemble(graph, weights)(normalized), normalized

    return predict
