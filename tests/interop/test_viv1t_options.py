"""Every option of ViV1T that weights tell of is recognised by the weights of a model that has it.

Models of the published sizes, but of one block in each stack, are made on shapes alone, written
down under their published names, and found again by these.
"""

import jax
import numpy as np
import pytest

from configs import dynamic_viv1t
from sensojax import build
from sensojax.interop import viv1t, viv1t_architecture, viv1t_constants
from sensojax.interop.told import File
from sensojax.types import Neurons

MICE = {"A": Neurons(np.arange(5), np.eye(5, 3)), "B": Neurons(np.arange(4), np.eye(4, 3))}
FRAME = (36, 64)
# Of training alone, or of nothing that is an array.
UNTOLD = ("patch_dropout", "attention_dropout", "hidden_dropout", "drop_path", "recompute")
UNTOLD += ("score_scale", "causal", "final", "rotary_gain", "padded")


def codes(space: str, time: str, **more) -> dict:
    return dict(core=dict(space_code=space, time_code=time, **more))


COMMON = {
    "swiglu": dict(core=dict(activation="swiglu")),
    "normalised queries": dict(core=dict(normalize_queries=True)),
    "convolution as tokeniser": dict(core=dict(patch_norm=False)),
    "no position codes": codes("none", "none"),
    "one learned table": codes("joint", "none"),
    "two learned tables": codes("learned", "learned"),
    "learned and sines": codes("learned", "sines"),
    "sines": codes("sines", "sines"),
    "behaviour alone": dict(inputs=dict(pupil=False)),
    "the picture alone": dict(inputs=dict(behavior=False)),
    "no shifter": dict(shifter=dict(name="")),
    "shifter of the state": dict(shifter=dict(reads_state=True)),
    "positions with depth": dict(readout=dict(cortex_dimensions=3)),
    "learned softplus": dict(output=dict(name="softplus", beta=1.0, learned=True)),
}
OPTIONS = {
    "sensorium2023": COMMON
    | {
        "sequential": dict(core=dict(blocks="sequential")),
        "neighbours": codes("convolution", "convolution", blocks="sequential"),
        "network": dict(core=dict(behavior="network")),
        "networks of mice": dict(core=dict(behavior="networks")),
        "network of behaviour alone": dict(core=dict(behavior="network"), inputs=dict(pupil=False)),
    },
    "sensorium2025": COMMON
    | {
        "rms": dict(core=dict(norm="rms")),
        "dynamic tanh": dict(core=dict(norm="dyt", normalize_queries=True)),
        "no registers": dict(core=dict(registers=0)),
        "learned and rotary": codes("learned", "rotary"),
        "grid and rotary": codes("grid", "rotary"),
        "attention readout": dict(
            readout=dict(name="attention", embedding=16, bias_start="mean"), shifter=dict(name="")
        ),
    },
}
CASES = [(preset, option) for preset, options in OPTIONS.items() for option in options]


def config_with(preset: str, changes: dict) -> dict:
    config = dynamic_viv1t.get_config(preset).to_dict()
    changes = {"core": {}, **changes}
    changes["core"] = changes["core"] | dict(spatial_blocks=1, temporal_blocks=1)
    for section, changed in changes.items():
        config[section] = changed if "name" in changed else config[section] | changed
    return config


def written(model) -> File:
    """What a stranger's file of a model tells."""
    mice = {mouse: mouse for mouse in MICE}
    shapes = {entry.name: entry.shape for entry in viv1t.encoder(model, mice)}
    beside = viv1t_constants.of(model, mice, FRAME)
    numbers = {name: float(x) for name, x in beside.items() if np.ndim(x) == 0}
    shapes |= {name: np.shape(x) for name, x in beside.items()}
    return File(shapes, numbers=numbers, frame_size=FRAME)


@pytest.mark.parametrize(("preset", "option"), CASES)
def test_what_a_model_has_is_told_by_its_weights(preset, option):
    config = config_with(preset, OPTIONS[preset][option])
    model = jax.eval_shape(lambda: build.new_encoder(config, MICE, 2, frame_size=FRAME))
    found = viv1t_architecture.of(written(model))
    assert not found.asked
    told, core = found.sections["core"], config["core"]
    expected = {name: value for name, value in core.items() if name not in UNTOLD}
    assert {name: told[name] for name in expected} == expected
    assert found.sections["shifter"]["name"] == config["shifter"]["name"]
    assert found.sections["shifter"].get("reads_state", False) == config["shifter"].get(
        "reads_state", False
    )
    inputs = found.sections["inputs"]
    assert inputs["behavior"] == config["inputs"]["behavior"]
    assert inputs["pupil"] == (config["inputs"]["pupil"] and config["inputs"]["behavior"])
    assert found.sections["output"]["name"] == config["output"]["name"]
    for name in ("name", "reads_state", "cortex_dimensions", "embedding"):
        if name in config["readout"]:
            assert found.sections["readout"][name] == config["readout"][name], name
    assert found.mice == {mouse: len(each) for mouse, each in MICE.items()}
