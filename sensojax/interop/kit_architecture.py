"""The settings of a model of the Sensorium kits from the names and shapes of its weights.

In: the shapes of the arrays of a state dict, and the names of the modules that they came from,
where the file has them; out: an `Architecture`. Nothing here reads a number of the file.
"""

from collections.abc import Mapping

from sensojax.interop import core_architecture, mouse_architecture
from sensojax.interop.core_architecture import Found
from sensojax.interop.told import Architecture, File, together

# How many channels a model sees -> whether it sees all columns of the behaviour, and the pupil.
CHANNELS = {
    "images": {1: (False, False), 4: (True, False), 6: (True, True)},  # 3 columns of behaviour
    "videos": {1: (False, False), 3: (True, False), 5: (True, True)},  # 2 columns
}


def of(file: File) -> Architecture:
    """UserError for weights that are not of the kits, and for parts that we do not have."""
    shapes, modules = file.shapes, file.modules
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
    return together(stimuli, found, mice, map_size=mouse_architecture.map_size(shapes))


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
