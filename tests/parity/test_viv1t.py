"""ViV1T against the published PyTorch code: outputs, gradients, tables, names and counts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import dynamic, dynamic_viv1t
from sensojax import build
from sensojax.errors import UserError
from sensojax.interop import viv1t as names
from sensojax.models import rotary
from sensojax.models.encoder import separate
from sensojax.models.layers import Fixed
from sensojax.types import Neurons
from tests.goldens import Golden, assert_close, golden_files
from tests.parity.comparing import GRADIENT, OUTPUT
from tests.parity.viv1t import Case, case

SMALL = 800_000  # bytes of a file whose model compiles and runs quickly
CASES = ("parallel", "sequential", "behaviour_mlp")
FILES = [each for name in CASES for each in golden_files(f"viv1t2023_{name}")]
FILES += [
    each for name in ("causal", "attention_readout") for each in golden_files(f"viv1t_{name}")
]
ALL = pytest.mark.parametrize("path", FILES)
SLOW_IF_LARGE = pytest.mark.parametrize(
    "path",
    [
        pytest.param(*each.values, id=each.id, marks=pytest.mark.slow)
        if each.values[0].stat().st_size > SMALL
        else each
        for each in FILES
    ],
)
# Those whose readouts draw points in training, where attention looks everywhere.
DRAWN = pytest.mark.parametrize(
    "path",
    [
        each
        for each in FILES
        if any(name.startswith("input/noise_") for name in np.load(each.values[0]).files)
    ],
)
CAUSAL = pytest.mark.parametrize("path", golden_files("viv1t_causal"))


def as_published(found):
    """[batch time neuron] -> [batch neuron time]; maps likewise."""
    return np.moveaxis(np.asarray(found), -1, 1)


def expected(golden, name):
    """In double precision, where the file has that."""
    return golden[f"output64/{name}" if f"output64/{name}" in golden else f"output/{name}"]


@ALL
def test_all_weights_of_the_published_state_dict_are_used_and_come_back(path):
    made = case(path)
    assert not names.without_constants(made.left)
    theirs, ours = made.golden.part("param"), made.exported(made.weights)
    assert ours.keys() == set(names.without_constants(theirs))
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


@SLOW_IF_LARGE
def test_outputs_equal_the_published_ones(path):
    made = case(path)
    tokens, features, responses = made.evaluate(made.weights, *made.inputs())
    batch, time, rows, columns, width = tokens.shape
    found = tokens.reshape(batch, time, rows * columns, width)
    assert_close(found, expected(made.golden, "tokens"), OUTPUT, "tokens")
    assert_close(as_published(features), expected(made.golden, "core"), OUTPUT, "core")
    for mouse in made.mice:
        response = expected(made.golden, f"response_{mouse}")
        assert_close(as_published(responses[mouse]), response, OUTPUT, mouse)
        readout = made.model.readouts[mouse]
        if readout.positions() is not None:
            theirs = expected(made.golden, f"position_{mouse}").reshape(-1, 2)
            assert_close(readout.positions(), theirs, OUTPUT, f"positions of {mouse}")


@pytest.mark.slow
@ALL
def test_gradients_equal_the_published_ones(path):
    made = case(path)
    _, (of_weights, *of_inputs) = made.backward(made.weights, *made.inputs())
    gradients = made.golden.part("grad64") or made.golden.part("grad")
    biggest = max(np.abs(each).max() for each in gradients.values())
    found = made.exported(made.weights.replace(params=of_weights))
    inputs = ("video", "behaviour", "pupil_centre")
    found |= {f"input_{n}": as_published(x) for n, x in zip(inputs, of_inputs, strict=True)}
    fixed = "core.vivit.reg_t_tokens" if getattr(made.model.core, "causal", False) else ""
    for name, theirs in gradients.items():
        # The offset of normalised keys has no effect, nor has a point that is not drawn.
        if np.abs(theirs).max() < 1e-10 * biggest:
            assert name == fixed or np.abs(found[name]).max() < 1e-6 * biggest, name
        else:
            assert_close(found[name], theirs, GRADIENT, name)


@pytest.mark.slow
@DRAWN
def test_points_drawn_in_training_read_and_learn_as_published(path):
    made = case(path)
    noise = made.golden.part("input")
    size = made.inputs()[0].shape[0]
    noise = {m: noise[f"noise_{m}"].reshape(size, -1, made.config["mice"][m], 2) for m in made.mice}
    _, features, _ = made.evaluate(made.weights, *made.inputs())
    responses, of_weights = made.readouts_backward(features, noise)
    for mouse in made.mice:
        theirs = made.golden[f"output/sampled_response_{mouse}"]
        assert_close(as_published(responses[mouse]), theirs, 2 * OUTPUT, mouse)
    found = made.exported(made.weights.replace(params=of_weights))
    for name, theirs in made.golden.part("grad_sampled").items():
        assert_close(found[name], theirs, 2 * GRADIENT, name)


@pytest.mark.slow
@pytest.mark.parametrize("path", golden_files("viv1t2023_sequential"))
def test_scores_scaled_by_the_width_of_tokens_are_the_published_ones_without_flash(path):
    made = Case(Golden(path), score_scale="token")
    *_, responses = made.evaluate(made.weights, *made.inputs())
    for mouse in made.mice:
        theirs = made.golden[f"output/response_without_flash_{mouse}"]
        assert_close(as_published(responses[mouse]), theirs, OUTPUT, mouse)


@CAUSAL
def test_rotary_tables_equal_the_published_ones(path):
    golden = Golden(path)
    frames, width = golden.config["maximum_frames"], golden.config["head_width"]
    table = rotary.turns(frames, width, middle=frames // 2, gain="published")
    for name, found in (("sin", table.sin), ("cos", table.cos), ("gain", table.of_keys)):
        assert_close(found[:, 0], golden[f"output/rotary_{name}_time"], 1e-6, name)
    assert np.array_equal(table.of_keys, table.of_queries)
    rows, columns = case(path).model.core.map_size(*golden.config["video_height_width"])
    places = rows * columns
    table = rotary.turns(places, width, middle=places // 2, gain="published")
    found = table.of_keys[[0, places // 2, -1], 0]
    assert_close(found, golden["output/rotary_gain_space_first_mid_last"], 1e-6)


@pytest.mark.slow
@CAUSAL
def test_what_was_seen_before_changes_nothing_and_more_frames_are_a_setting(path):
    """Published predictions change after a longer clip, to those of a model made for its length."""
    golden = Golden(path)
    mouse = next(iter(golden.config["mice"]))
    long = golden["input/video_long"].shape[2]
    made, longer = case(path), Case(golden, max_frames=long)
    for model, clip, name in (
        (made, "_full", "full"),
        (longer, "_long", "long"),
        (longer, "", "after_long"),
    ):
        *_, responses = model.evaluate(model.weights, *model.inputs(clip))
        theirs = golden[f"output/response_{name}_{mouse}"]
        assert_close(as_published(responses[mouse]), theirs, OUTPUT, name)


@pytest.mark.slow
@CAUSAL
def test_prediction_with_the_mean_behaviour_equals_the_published_one(path):
    made = case(path)
    mouse = made.mice[0]
    video = made.golden["output/fixed_behaviour_video"][None]
    frames = video.shape[2]
    inputs = [np.moveaxis(video, 1, -1)]
    for name in ("behaviour", "pupil"):
        values = made.golden[f"output/fixed_behaviour_{name}"].T[None]
        inputs.append(np.repeat(values, frames, axis=1))
    *_, responses = made.evaluate(made.weights, *map(jnp.asarray, inputs))
    theirs = made.golden[f"output/fixed_behaviour_response_{mouse}"]
    assert_close(as_published(responses[mouse]), theirs, OUTPUT)


def abstract(config, mice, size):
    return build.new_encoder(config, mice, 2, frame_size=size)


@pytest.mark.parametrize(
    ("case_name", "preset"),
    [
        ("viv1t2023_published_shapes", "sensorium2023"),
        ("viv1t_published_shapes", "sensorium2025"),
    ],
)
def test_presets_have_the_published_names_shapes_and_counts(case_name, preset):
    for each in golden_files(case_name):
        golden = Golden(each.values[0])
        config = dynamic_viv1t.get_config(preset).to_dict()
        mice = {
            mouse: Neurons(np.arange(count), np.random.default_rng(0).normal(size=(count, 3)))
            for mouse, count in golden.config["mice"].items()
        }
        size = tuple(golden.config["video_height_width"])
        made = jax.eval_shape(functools.partial(abstract, config, mice, size))
        listed = list(names.encoder(made))
        theirs = zip(
            *(golden[f"output/{what}"] for what in ("names", "shapes_zero_padded", "ndim")),
            golden["output/is_parameter"],
            strict=True,
        )
        known = {str(n): (tuple(s[:axes]), bool(p)) for n, s, axes, p in theirs}
        assert {e.name for e in listed} == set(names.without_constants(known))
        assert all(e.shape == known[e.name][0] for e in listed)
        counted = [e for e in listed if known[e.name][1]]
        assert sum(e.variable.size for e in counted) == golden.config["total_parameters"]
        # All of them are trained but registers that cannot matter.
        idle = [e.name for e in counted if isinstance(e.variable, Fixed)]
        assert idle == ["core.vivit.reg_t_tokens"] * made.core.causal
        trained = sum(x.size for x in jax.tree.leaves(separate(made)[1].params))
        without = sum(e.variable.size for e in counted if e.name in idle)
        assert trained == golden.config["total_parameters"] - without


def test_a_model_of_another_kind_is_refused():
    config = dynamic.get_config("tiny").to_dict()
    mice = {"a": Neurons(np.arange(3), np.zeros((3, 3)))}
    made = jax.eval_shape(lambda: build.new_encoder(config, mice, 2, frame_size=(16, 20)))
    with pytest.raises(UserError, match="found the core 'factorized3d' in the model"):
        list(names.encoder(made))
