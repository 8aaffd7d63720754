"""DwiseNeuro against the published PyTorch code: outputs, gradients, statistics, long trials, loss.

Its folds are in test_stimuli.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import dynamic, dynamic_dwiseneuro
from sensojax import build, losses, metrics
from sensojax.interop import dwiseneuro as names
from sensojax.interop import entries
from sensojax.models import position_code
from sensojax.models.encoder import separate
from sensojax.pipeline import transforms, windows
from sensojax.pipeline.transforms import Statistics
from sensojax.types import Batch
from tests.goldens import Golden, assert_close, golden_files
from tests.models.made_up import QUICKLY
from tests.parity.comparing import GRADIENT, OUTPUT
from tests.parity.dwiseneuro import abstract_encoder, case

MODEL = pytest.mark.parametrize("path", golden_files("dwiseneuro_model"))
DATA = pytest.mark.parametrize("path", golden_files("dwiseneuro_data"))
RAW = Statistics.of(None, "none")


def as_published(found):
    """[batch time neuron], or features [batch time 1 1 channel] -> [batch channel time]."""
    found = np.asarray(found)
    return np.moveaxis(found.reshape(*found.shape[:2], -1), 1, 2)


@MODEL
def test_all_weights_of_the_published_state_dict_are_used_and_come_back(path):
    made = case(path)
    assert not names.without_constants(made.left)
    theirs, ours = made.golden.part("param"), made.exported(made.weights)
    assert ours.keys() == set(names.without_constants(theirs))
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    assert ours.keys() | names.constants(made.model.core, ours) == theirs.keys()


@MODEL
def test_outputs_in_evaluation_equal_the_published_ones(path):
    made = case(path)
    pooled, features, responses = made.evaluate(made.weights, made.clip("clip"))
    assert_close(as_published(pooled), made.golden["output64/eval_pooled"], OUTPUT)
    assert_close(as_published(features), made.golden["output64/eval_cortex"], OUTPUT)
    for mouse in made.mice:
        expected = made.golden[f"output64/eval_{mouse}"]
        assert_close(as_published(responses[mouse]), expected, OUTPUT, mouse)


@pytest.mark.slow
@MODEL
def test_frames_of_odd_size_are_shortened_as_published(path):
    made = case(path)
    _, _, responses = made.evaluate(made.weights, made.clip("clip_odd_size"))
    for mouse in made.mice:
        expected = made.golden[f"output64/eval_odd_size_{mouse}"]
        assert_close(as_published(responses[mouse]), expected, OUTPUT, mouse)


@pytest.mark.slow
@MODEL
def test_outputs_statistics_and_gradients_in_training_equal_the_published_ones(path):
    made = case(path)
    responses, after, gradient = made.train(made.weights, made.clip("clip"))
    for mouse in made.mice:
        expected = made.golden[f"output/train_{mouse}"]
        assert_close(as_published(responses[mouse]), expected, OUTPUT, mouse)
    statistics = made.exported(after)
    for name, expected in made.golden.part("output/after_train_forward").items():
        if not name.endswith(names.COUNTER):
            assert_close(statistics[name], expected, OUTPUT, name)
    found, expected = made.exported(after.replace(params=gradient)), made.golden.part("grad64")
    del expected["input_clip_eval"]
    assert expected.keys() == made.exported_parameters()
    biggest = max(np.abs(each).max() for each in expected.values())
    for name, theirs in expected.items():
        # A shift in front of batch norm has no effect: its gradient is rounding noise.
        if np.abs(theirs).max() < 1e-10 * biggest:
            assert np.abs(found[name]).max() < 1e-6 * biggest, name
        else:
            assert_close(found[name], theirs, GRADIENT, name)


@pytest.mark.slow
@MODEL
def test_gradient_of_the_clip_equals_the_published_one(path):
    made = case(path)

    @jax.jit
    def gradient(video):
        return jax.grad(lambda video: made.weighted(made.predict(made.weights, video)[2]))(video)

    found = np.moveaxis(np.asarray(gradient(made.clip("clip"))), -1, 1)
    assert_close(found, made.golden["grad64/input_clip_eval"], GRADIENT)


@MODEL
def test_position_codes_equal_the_published_ones(path):
    for name, expected in Golden(path).part("output").items():
        if name.startswith("position_code"):
            shape = (1, *expected.shape[1:], len(expected))
            found = np.asarray(position_code.add(jnp.zeros(shape)))[0]
            assert_close(np.moveaxis(found, -1, 0), expected, 1e-6, name)


def long_trial(golden: Golden, mice, frames: slice = slice(None)) -> dict[str, Batch]:
    """The raw batch of the file's long trial, the same for every mouse."""
    video = np.moveaxis(golden["input/long_video"], -1, 0)[None, frames]
    behavior = golden["input/long_behaviour"].T[None, frames]
    pupil_center = golden["input/long_pupil_centre"].T[None, frames]
    counts = dict(zip(mice, golden.config["neurons_per_mouse"], strict=True))
    shape = video.shape[:2]
    return {
        mouse: Batch(
            video=video,
            responses=np.zeros((*shape, count), np.float32),
            behavior=behavior,
            pupil_center=pupil_center,
            valid=np.ones(shape, bool),
            start=np.zeros(1, np.int32),
        )
        for mouse, count in counts.items()
    }


@pytest.mark.parametrize("alone", [False, pytest.param(True, marks=pytest.mark.slow)])
@MODEL
def test_a_long_trial_is_predicted_in_windows_as_published(path, alone):
    """With the inputs of the published preset, straight from bytes."""
    made = case(path)
    assert made.config["frame_stack"]["position"] == "last" and made.config["blend"] == "ones"
    config = dynamic_dwiseneuro.get_config("sensorium").to_dict()
    size, step = (made.config["frame_stack"][name] for name in ("size", "step"))
    config["inputs"]["frame_step"] = step
    span = (size - 1) * step + 1
    config["evaluation"] |= dict(window_frames=span, windows_at_once=4)
    predict = build.predictor(made.graph, config["inputs"], config["evaluation"])
    predict, known = jax.jit(predict, compiler_options=QUICKLY), dict.fromkeys(made.mice, RAW)
    if not alone:
        found, _ = predict(made.weights, long_trial(made.golden, made.mice), known)
        for mouse in made.mice:
            expected = made.golden[f"output/blended_{mouse}"]
            assert_close(found[mouse][0].T, expected, OUTPUT, mouse)
        return
    last = made.mice[-1]
    for name, frames in (("first", slice(0, span)), ("last", slice(-span, None))):
        found, _ = predict(made.weights, long_trial(made.golden, made.mice, frames), known)
        expected = made.golden[f"output/window_{name}_{last}"]
        assert_close(found[last][0, ::step].T, expected, OUTPUT, name)


@pytest.mark.parametrize("path", golden_files("dwiseneuro_published_shapes"))
@pytest.mark.parametrize("preset", ["sensorium", "distilled"])
def test_presets_have_the_published_names_shapes_and_counts(path, preset):
    golden = Golden(path)
    model = {"sensorium": "basic_e7", "distilled": "distilled_e6"}[preset]
    told = golden.config[model]
    config = dynamic_dwiseneuro.get_config(preset).to_dict()
    assert config["core"]["expansion"] == told["settings"]["expansion_ratio"]
    made = abstract_encoder(config, told["settings"]["readout_outputs"])
    found = {entry.name: entry.shape for entry in names.encoder(made)}
    theirs = (golden[f"output/{model}_{what}"] for what in ("names", "shapes_zero_padded", "ndim"))
    expected = {str(name): tuple(shape[:axes]) for name, shape, axes in zip(*theirs, strict=True)}
    assert found == {name: expected[name] for name in names.without_constants(expected)}
    params = separate(made)[1].params
    sizes = {name: sum(x.size for x in jax.tree.leaves(part)) for name, part in params.items()}
    assert sum(sizes.values()) == told["total_parameters"]
    assert sizes["readouts"] == told["parts"]["readouts"]
    assert sizes["core"] == told["parts"]["core"] + told["parts"]["cortex"]


@DATA
def test_planes_of_the_input_and_targets_equal_the_published_ones(path):
    golden = Golden(path)
    assert golden.config["input"]["pad_value"] == 0
    width, height = golden.config["input"]["canvas_width_height"]
    responses = golden["input/responses"].T[None]
    shape = responses.shape[:2]
    raw = Batch(
        video=np.moveaxis(golden["input/video"], -1, 0)[None],
        responses=responses,
        behavior=golden["input/behaviour"].T[None],
        pupil_center=golden["input/pupil_centre"].T[None],
        valid=np.ones(shape, bool),
        start=np.zeros(1, np.int32),
    )
    inputs = dynamic_dwiseneuro.get_config("sensorium").to_dict()["inputs"]
    inputs |= dict(canvas=(height, width), frame_step=1)
    train, whole = build.prepare(inputs), build.prepare(inputs, whole=True)
    both = jax.jit(lambda *given: [prepare(*given)["mouse"] for prepare in (train, whole)])
    seen, scored = both({"mouse": raw}, {"mouse": RAW})
    np.testing.assert_array_equal(
        np.moveaxis(np.asarray(seen.video)[0], -1, 0), golden["output/input_tensor"]
    )
    np.testing.assert_array_equal(np.asarray(seen.responses)[0].T, golden["output/target"])
    np.testing.assert_array_equal(scored.responses, responses)


@DATA
def test_frames_of_a_window_are_the_published_stacks(path):
    golden = Golden(path)
    limits = golden["output/frame_stack_behind_ahead_width_clip0_clip59_clip30_clip59zone2"]
    for number, stack in enumerate(golden.config["frame_stacks"]):
        behind, _, width = limits[number][:3]
        frames = np.arange(width)[None] + stack["anchor"] - behind
        nothing = np.zeros((1, width, 1))
        batch = Batch(nothing, nothing, nothing, nothing, frames, np.zeros(1, int))
        found = transforms.every(batch, stack["step"]).valid[0]
        np.testing.assert_array_equal(found, golden[f"output/frame_stack{number}"])


@DATA
def test_response_scaling_kept_frames_and_correlation_equal_the_published_ones(path):
    golden = Golden(path)
    multiplier = transforms.response_multiplier(golden["input/normaliser_std"], "mouse")
    assert_close(multiplier, golden["output/normaliser_precision"], 1e-12)
    responses = golden["input/normaliser_responses"]
    scaled = responses * multiplier[:, : responses.shape[1]]
    assert_close(scaled, golden["output/normaliser_result"], 1e-12)
    for name, expected in golden.part("output").items():
        if name.startswith("kept_frames_of_"):
            frames = int(name.rsplit("_", 1)[1])
            trial = windows.Window(0, 0, frames)
            kept = windows.valid_frames(trial, frames, *windows.SCORED_FRAMES["dwiseneuro"])
            np.testing.assert_array_equal(np.flatnonzero(kept), expected)
    one, other = (golden[f"input/correlation_{name}"].T[None] for name in "ab")
    found = metrics.Correlation.of(
        jnp.asarray(one), jnp.asarray(other), np.ones(one.shape[:2], bool)
    )
    assert_close(found.value(), golden["output64/correlation"], 3e-6)


@pytest.mark.parametrize("path", golden_files("dwiseneuro_training"))
def test_the_weighted_loss_of_mixed_mice_equals_the_published_one(path):
    """A sum over examples and mice, weights divided by their sum; ours is made of sums as well."""
    golden = Golden(path)
    mice = sorted(key for key in golden.part("input") if key.startswith("loss_prediction_"))
    mice = [key.removeprefix("loss_prediction_") for key in mice]

    def arrays(what):
        found = (golden[f"input/loss_{what}_{mouse}"] for mouse in mice)
        return [jnp.asarray(each.swapaxes(1, 2)) for each in found]

    observed, valid = arrays("target"), jnp.ones((1, arrays("target")[0].shape[1]), bool)

    @jax.jit
    @jax.value_and_grad
    def loss(predicted, weights):
        of_example = jax.vmap(
            lambda p, o: losses.poisson(p[None], o[None], valid, epsilon=1e-8, reduction="sum")
        )
        each = [of_example(p, o) for p, o in zip(predicted, observed, strict=True)]
        return jnp.sum(weights / weights.sum() * jnp.stack(each, axis=1))

    patterns = [key for key in golden.part("output") if key.startswith("loss_")]
    assert patterns
    for pattern in patterns:
        weights = golden["input/" + pattern.replace("loss_", "loss_weights_")]
        value, gradients = loss(arrays("prediction"), jnp.asarray(weights))
        assert_close(value, golden[f"output64/{pattern}"], 1e-6, pattern)
        for mouse, gradient in zip(mice, gradients, strict=True):
            expected = golden[f"grad/{pattern}/prediction_{mouse}"]
            assert_close(as_published(gradient), expected, 1e-6, f"{pattern} {mouse}")


@MODEL
def test_a_model_of_another_kind_and_weights_of_another_size_are_refused(path):
    made = case(path)
    given = made.golden.part("param")
    name = "core.stem.0.weight"
    with pytest.raises(entries.UserError, match=f"{name} has shape"):
        entries.load(names.encoder(made.model), given | {name: given[name][:, :-1]})
    with pytest.raises(entries.UserError, match="found the core 'factorized3d' in the model"):
        list(names.encoder(abstract_encoder(dynamic.get_config("tiny").to_dict(), (3,))))
