"""From the sections core, recurrent, readout, shifter, gain, output and encoder to a model."""

import functools
from collections.abc import Callable, Mapping

import jax
import numpy as np
from flax import nnx

from sensojax.build.data import prepare
from sensojax.build.naming import arguments, call, components
from sensojax.errors import UserError, check_name
from sensojax.evaluation import sliding
from sensojax.models import behavior, composed, cores, encoder, outputs, readouts, recurrent
from sensojax.types import Neurons


def new_encoder(
    config: Mapping,
    neurons: Mapping[str, Neurons],
    behavior_columns: int,
    mean_responses: Mapping[str, np.ndarray] | None = None,
    frame_size: tuple[int, int] | None = None,
) -> encoder.Encoder:
    """An untrained encoder of these mice; mean_responses start the readouts' biases.

    frame_size: (height, width) that `prepare` gives videos; readouts with masks need it, and cores
    that see all pixels at once.
    """
    rngs = nnx.Rngs(config["seed"])
    core = new_core(config, behavior_columns, rngs, frame_size, len(neurons))
    known, name = components(readouts, "Readout"), config["readout"]["name"]
    check_name(name, sorted(known), "readout.name")
    shared, section = _shared(known[name], config["readout"], core.num_features, rngs)
    make_readout = functools.partial(call, known, "readout", section)
    if "map_size" in arguments(known[name]):
        make_readout = functools.partial(make_readout, map_size=core.map_size(*frame_size))
    if "state_columns" in arguments(known[name]):
        make_readout = functools.partial(make_readout, state_columns=behavior_columns + 2)
    of_mouse, shifters, gains, output = {}, {}, {}, {}
    for mouse, each in neurons.items():
        output[mouse] = call(outputs.OUTPUTS, "output", config["output"])
        mean = None if mean_responses is None else mean_responses[mouse]
        of_mouse[mouse] = make_readout(
            channels=(shared or core).num_features,
            position_um=each.position_um,
            mean_responses=_bias_matching(config["readout"], output[mouse], mean),
            rngs=rngs,
        )
        if config["shifter"]["name"]:
            shifters[mouse] = _shifter(config["shifter"], behavior_columns, rngs)
        if config["gain"]["name"]:
            section = functools.partial(call, behavior.GAINS, "gain", config["gain"], rngs=rngs)
            gains[mouse] = section(
                neurons=len(each),
                channels=(shared or core).num_features,
                state_columns=behavior_columns + 2,
            )
    return encoder.Encoder(
        core,
        of_mouse,
        shifters,
        output=output,
        shared=shared,
        gains=gains,
        frozen_core=frozen_core(config),
        **config["encoder"],
    )


def _shared(readout: type, section: Mapping, channels: int, rngs: nnx.Rngs):
    """What all readouts of this kind share, or None, and the section without its settings."""
    if not hasattr(readout, "Shared"):
        return None, section
    own = set(arguments(readout.Shared)) & set(section)
    shared = readout.Shared(channels, **{key: section[key] for key in own}, rngs=rngs)
    return shared, {key: value for key, value in section.items() if key not in own}


def _shifter(section: Mapping, behavior_columns: int, rngs: nnx.Rngs) -> nnx.Module:
    make = functools.partial(call, behavior.SHIFTERS, "shifter", section, rngs=rngs)
    if "state_columns" in arguments(behavior.SHIFTERS.get(section["name"], make)):
        make = functools.partial(make, state_columns=behavior_columns + 2)
    return make()


def new_core(
    config: Mapping,
    behavior_columns: int,
    rngs: nnx.Rngs,
    frame_size: tuple[int, int] | None = None,
    mice: int = 1,
) -> nnx.Module:
    """An untrained core, with the recurrence behind it that the config asks for, if any."""
    inputs = config["inputs"]
    columns = inputs["behavior_columns"] or range(behavior_columns)
    if not set(columns) <= set(range(behavior_columns)):
        raise UserError(
            f"found inputs.behavior_columns {', '.join(map(str, columns))}, expected numbers from "
            f"0 to {behavior_columns - 1}, or none for all; correct them."
        )
    channels = 1 + (len(columns) + 2 * inputs["pupil"]) * bool(inputs["behavior"])
    known, name = components(cores, "Core"), config["core"]["name"]
    check_name(name, sorted(known), "core.name")
    make_core = functools.partial(call, known, "core", config["core"], rngs=rngs)
    if "frame_size" in arguments(known[name]):
        make_core = functools.partial(make_core, frame_size=frame_size)
    if "mice" in arguments(known[name]):
        make_core = functools.partial(make_core, mice=mice)
    core = make_core(input_channels=channels)
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


def _bias_matching(readout: Mapping, output: nnx.Module, mean: np.ndarray | None):
    """The mean responses, or what the last nonlinearity turns into them: `layers.BIAS_STARTS`."""
    matched = ("bias_start", "matched") in readout.items()
    return output.inverse(mean) if matched and mean is not None else mean


def frozen_core(config: Mapping) -> bool:
    """Whether the core is another run's and stays as it is."""
    return bool(config["transfer"]["run"]) and config["transfer"]["core"] == "frozen"


def mean_responses(first: Mapping, config: Mapping, of_mice: Mapping) -> dict[str, np.ndarray]:
    """Mean normalised response of every neuron in one batch, as the 2023 kit starts its biases."""
    normalized = jax.jit(prepare(config["inputs"]))(first, of_mice)
    return {mouse: np.asarray(batch.responses.mean((0, 1))) for mouse, batch in normalized.items()}


def predictor(graph: nnx.GraphDef, inputs: Mapping, evaluation: Mapping) -> Callable:
    """(weights, raw batches, statistics) -> ({mouse: predicted}, normalised batches).

    Batches of whole trials, in one piece or, if the section `evaluation` says so, in windows.
    """
    ready = prepare(inputs, whole=True)

    def predict(weights, raw, known):
        normalized = ready(raw, known)
        model = encoder.assemble(graph, weights)
        if not evaluation["window_frames"]:
            return model(normalized), normalized
        windows = sliding.Windows(
            frames=evaluation["window_frames"],
            step=evaluation["window_step"],
            frame_step=inputs["frame_step"],
            lost_frames=model.core.lost_frames,
            blending=evaluation["blending"],
            at_once=evaluation["windows_at_once"],
        )
        return sliding.predict(model, normalized, windows), normalized

    return predict


def lost_frames(core: nnx.Module, inputs: Mapping) -> int:
    """Frames at the beginning of a trial that cannot be predicted."""
    return core.lost_frames * inputs["frame_step"]
