"""What a file of published weights says of its model: the sections of a config, from names alone.

In: the shapes of the arrays of a state dict of the Sensorium kits, and the names of the modules
that they came from, where the file has them; out: an `Architecture`: the settings that the file
tells, those that no file tells with the values that all published models have there, and those that
nobody can know but the user. Nothing here reads a number of the file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sensojax.interop import core_architecture, mouse_architecture
from sensojax.interop.core_architecture import Found, Shapes

# How many channels a model sees -> whether it sees all columns of the behaviour, and the pupil.
CHANNELS = {
    "images": {1: (False, False), 4: (True, False), 6: (True, True)},  # 3 columns of behaviour
    "videos": {1: (False, False), 3: (True, False), 5: (True, True)},  # 2 columns
}


@dataclass(frozen=True)
class Architecture:
    """A model as far as its weights tell.

    stimuli: "images" (2022) or "videos" (2023). sections: {section: {setting: value}} of a config,
    told and assumed. assumed: {"section.setting": value} of those that the weights do not tell.
    asked: {"section.setting": why} of those that only the user knows. mice: {mouse: number of
    neurons}. map_size: (height, width) that the features must have; None: any.
    """

    stimuli: str
    sections: Mapping[str, Mapping[str, Any]]
    assumed: Mapping[str, Any]
    asked: Mapping[str, str]
    mice: Mapping[str, int]
    map_size: tuple[int, int] | None


def of(shapes: Shapes, modules: frozenset[str] | None) -> Architecture:
    """The architecture of the Sensorium model with these arrays.

    Raises UserError for weights that are not of the kits, and for parts that we do not have.
    """
    core = core_architecture.core(shapes, modules)
    readout, mice, channels = mouse_architecture.readouts(shapes, modules)
    recurrent, channels_in = core_architecture.recurrence(shapes)
    found = dict(core=core.found, recurrent=recurrent, readout=readout)
    found["shifter"] = mouse_architecture.shifter(shapes, mice)
    if "2d" in core.found.told["name"]:
        stack = core_architecture.stack(core.widths, channels_in or channels)
        core.found.told.update(stack.told)
        core.found.asked.update(stack.asked)
    frames_apart = core.found.told["name"] == "stacked2d" and not recurrent.told["name"]
    stimuli = "images" if frames_apart else "videos"
    if "final_nonlinearity" in core.found.assumed:
        core.found.assumed["final_nonlinearity"] = stimuli == "images"
    found["inputs"] = _inputs(CHANNELS[stimuli], core.inputs)
    return Architecture(
        stimuli=stimuli,
        sections={name: {**each.assumed, **each.told} for name, each in found.items()},
        assumed=_dotted({name: each.assumed for name, each in found.items()}),
        asked=_dotted({name: each.asked for name, each in found.items()}),
        mice=mice,
        map_size=mouse_architecture.map_size(shapes),
    )


def _inputs(known: Mapping[int, tuple[bool, bool]], channels: int) -> Found:
    """What is in the channels of the video beside the picture."""
    if channels in known:
        behavior, pupil = known[channels]
        return Found(told=dict(behavior=behavior, behavior_columns=(), pupil=pupil))
    why = f"the core sees {channels} channels, published ones see {', '.join(map(str, known))}"
    return Found(
        told=dict(behavior=True),
        asked=dict(
            behavior_columns=f"{why}: which columns of the behaviour are among them",
            pupil=f"{why}: whether the pupil's two coordinates are among them",
        ),
    )


def _dotted(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {
        f"{section}.{name}": value
        for section, settings in sections.items()
        for name, value in settings.items()
    }
