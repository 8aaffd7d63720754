"""What names and shapes alone say of a model, and what has to be asked for."""

import jax
import numpy as np
import pytest

from sensojax import build
from sensojax.errors import UserError
from sensojax.interop import architecture, sensorium
from sensojax.interop.told import Architecture, File
from sensojax.models.encoder import separate
from sensojax.types import Neurons
from tests.goldens import Golden, golden_files
from tests.interop.published_files import PAGES, SEVEN, image_modules, images, modules_of

# Baselines 8.2 and 10: layers, linear, channels, neurons, shifter, arrays, parameters.
RELEASED = {
    "sota": (4, False, 1, {"26872-17-20": 7776}, False, 39, 576_376),
    "ln": (3, True, 1, {"26872-17-20": 7776}, False, 31, 564_920),
    "p_sota": (4, False, 4, {"27204-5-13": 7538}, True, 45, 575_563),
    "p_ln": (3, True, 4, {"27204-5-13": 7538}, True, 37, 564_107),
}
EVERY = {**RELEASED, "generalization": (4, False, 1, dict.fromkeys(SEVEN, 7000), False, 87, None)}


def settings(found: Architecture) -> dict:
    """A whole config with the sections that were found."""
    page = PAGES[found.page]
    return page | {name: each for name, each in found.sections.items() if name != "core"} | {
        "core": {"weight_of_new": 0.9, **found.sections["core"]}
    }  # fmt: skip


@pytest.mark.parametrize("name", EVERY)
def test_released_files_are_recognised_and_our_model_has_their_names_and_parameters(name):
    layers, linear, inputs, mice, shifter, arrays, parameters = EVERY[name]
    shapes = images(layers, inputs, mice, shifter=shifter)
    assert len(shapes) == arrays
    found = architecture.of(File(shapes, image_modules(layers, linear=linear)))
    core = found.sections["core"]
    assert (core["linear"], core["final_nonlinearity"]) == (linear, not linear)
    assert (core["channels"], core["kernels"]) == ((64,) * layers, (9, 7, 7, 7)[:layers])
    assert found.sections["shifter"]["name"] == ("mlp" if shifter else "")
    assert found.sections["inputs"]["behavior"] == (inputs == 4)
    assert (found.page, dict(found.mice), dict(found.asked)) == ("images", mice, {})
    neurons = {m: Neurons(np.arange(n), np.eye(n, 3)) for m, n in mice.items()}
    model = jax.eval_shape(lambda: build.new_encoder(settings(found), neurons, 3))
    listed = {entry.name: entry.shape for entry in sensorium.encoder(model)}
    counters = {name: a.shape for name, a in sensorium.counters(model, listed).items()}
    assert listed | counters == shapes
    if parameters is not None:
        trained = jax.tree.leaves(separate(model)[1].params)
        assert sum(leaf.size for leaf in trained) == parameters


@pytest.mark.parametrize("path", [*golden_files("09_"), *golden_files("10_")])
def test_layers_of_every_golden_model_are_found_as_they_were_built(path):
    golden = Golden(path)
    shapes = {name: array.shape for name, array in golden.part("param").items()}
    found = architecture.of(File(shapes, frozenset(modules_of(golden.config))))
    core, layers = found.sections["core"], golden.config["core_resolved"]["layers"]
    assert len(core["channels"]) == len(layers) and not found.asked
    nonlinear = [any(part["name"] == "nonlin" for part in layer["parts"]) for layer in layers]
    if "linear" in core:
        assert core["linear"] == (not any(nonlinear))
        assert core["final_nonlinearity"] == nonlinear[-1]
    assert found.page == ("images" if golden.config["case"].startswith("10") else "videos")
    assert set(found.mice) == set(golden.config["mice_order"])
    assert bool(found.sections["recurrent"]["name"]) == any("gru" in name for name in shapes)


PLAIN = images(3, 1, {"ada": 5}, shifter=True)


def test_what_weights_do_not_say_is_asked_for():
    found = architecture.of(File(PLAIN))
    assert set(found.asked) == {"core.linear"} and "LN models" in found.asked["core.linear"]
    assert found.assumed["readout.final_tanh"] is True
    two = PLAIN | {"core.features.layer0.conv.weight": (64, 2, 9, 9)}
    asked = architecture.of(File(two, image_modules(3, linear=True))).asked
    assert set(asked) == {"inputs.behavior_columns", "inputs.pupil"}
    few = PLAIN | {"readout.ada._features": (1, 60, 1, 5)}
    assert "60 channels are read" in architecture.of(File(few)).asked["core.stack"]
    every = PLAIN | {"readout.ada._features": (1, 192, 1, 5)}
    assert architecture.of(File(every)).sections["core"]["stack"] == ()


LAYER = "core.features.layer1."
REFUSED = {
    "no core": ({"vit.w": (1,)}, "found no core of the Sensorium kits"),
    "attention": ({f"{LAYER}ds_conv.spatial_conv.weight": None, f"{LAYER}att.w": (1,)}, "expected"),
    "layers that do not fit": ({f"{LAYER}ds_conv.in_depth_conv.weight": (64, 63, 1, 1)}, "not fit"),
    "no readout": ({n: None for n in PLAIN if n.startswith("readout")}, "found no readouts"),
    "other readout": ({"readout.ada.sigma": None}, r"readout of ada with _features"),
    "other sigma": ({"readout.ada.sigma": (1, 5, 3, 3)}, "sigma with the shape"),
    "three coordinates": ({"readout.ada.source_grid": (5, 3)}, "3 coordinates of cortex"),
    "no positions": ({"readout.ada.source_grid": None}, "without positions"),
    "two kinds": (
        {"readout.bob._features": (9, 64), "readout.bob.spatial": (9, 4, 4),
         "shifter.bob.weight": (2, 2)},
        "readouts of two kinds, of ada and of bob",
    ),
    "shifter of nobody": ({"shifter.bob.weight": (2, 2)}, "shifters of ada, bob and readouts of"),
    "shifter of three": ({"shifter.ada.mlp.0.weight": (5, 3)}, "pupil shifter of ada"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_models_that_we_do_not_have_are_refused_in_words(case):
    changes, said = REFUSED[case]
    shapes = {n: s for n, s in {**PLAIN, **changes}.items() if s is not None}
    if case == "no core":
        shapes = changes
    with pytest.raises(UserError, match=said):
        architecture.of(File(shapes))


def test_a_nonlinearity_after_some_layers_is_refused():
    with pytest.raises(UserError, match="after some layers of the core only"):
        architecture.of(File(PLAIN, frozenset(["core.features.layer1.nonlin"])))
