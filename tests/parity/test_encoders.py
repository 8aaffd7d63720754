"""Whole encoders against the published PyTorch code, up to four steps of training.

Those of videos (2023) and those of images (2022), which here are videos of one frame.
"""

import numpy as np
import pytest

from sensojax.interop import sensorium
from sensojax.models.encoder import assemble
from tests.goldens import assert_close, golden_files
from tests.parity.comparing import NOT_OURS, assert_gradients, gradient_of
from tests.parity.encoders import case

FAST = ("factorized", "image_encoder-plus")  # every encoder compiles for long: not all of them
LOSSES = 1e-5  # of a trajectory; see Case.after_training
every_encoder = pytest.mark.parametrize(
    "path",
    [
        pytest.param(
            *each.values,
            id=each.id,
            marks=() if any(name in each.id for name in FAST) else pytest.mark.slow,
        )
        for each in [*golden_files("09_video_encoder"), *golden_files("10_image_encoder")]
    ],
)


@every_encoder
def test_encoder_outputs_equal_the_published_ones(path):
    made = case(path)
    model, batches = made.model, made.batches(0)
    for name, noise in {"eval": made.no_noise(), "eval_sampled": made.noise()}.items():
        made.assert_equal_per_mouse(name, made.predict(made.weights, batches, noise))
    frames = batches[model.mice[0]].video.shape[1] - model.core.lost_frames
    if model.shifters:
        shifts = {m: model.shift(m, b.pupil_center, frames) for m, b in batches.items()}
        made.assert_equal_per_mouse("shift", shifts)
    positions = {m: r.positions()[None, :, None] for m, r in model.readouts.items()}
    made.assert_equal_per_mouse("mu", positions)


@every_encoder
@pytest.mark.parametrize(("train", "gradient_name"), [(False, "grad_eval"), (True, "grad")])
def test_encoder_losses_and_gradients_equal_the_published_ones(path, train, gradient_name):
    made = case(path)
    batches = made.batches(0)
    if train:  # with the program that trains below
        state, trained = made.optimizer().init(made.weights.params), made.trained([])
        predicted, parts, gradient = made.update(made.weights, state, batches, trained)[2]
        gradient = assemble(made.graph, made.weights.replace(params=gradient))
    else:
        _, (predicted, parts, _), gradient = gradient_of(
            lambda model: made.objective(model, batches, train), made.model
        )
    made.assert_equal_per_mouse("train_mode" if train else "eval", predicted)
    made.assert_equal_per_mouse("loss_train" if train else "loss_eval", parts)
    zeros = made.config["gradients_zero_up_to_rounding"]
    assert_gradients(made.golden, gradient_name, sensorium.encoder(gradient), zeros)
    for name in made.config["gradients_exactly_zero"]:
        if name.startswith(gradient_name + "/"):
            assert not np.any(sensorium.export(sensorium.encoder(gradient))[name.split("/", 1)[1]])


def train(made, frozen):
    """Takes the published steps; returns the weights and the losses [step mouse]."""
    weights, found = made.weights, []
    state, trained = made.optimizer().init(weights.params), made.trained(frozen)
    for step in range(made.config["optimizer_steps"]):
        weights, state, (_, parts, _) = made.update(weights, state, made.batches(step), trained)
        found.append([float(parts[mouse]) for mouse in made.config["mice_order"]])
    return weights, np.array(found)


@every_encoder
def test_training_without_idle_biases_equals_the_published_one(path):
    """AdamW with one-mouse-at-a-time batch norm: without idle biases all agrees to rounding."""
    made = case(path)
    frozen = made.config["frozen_biases"]
    prefix = "frozen_" if frozen else ""
    weights, found = train(made, frozen)
    expected = made.golden[f"output64/{prefix}trajectory_loss"]
    assert_close(found, expected, LOSSES, "losses")
    after = made.predict(weights, made.batches(0), made.no_noise())
    made.assert_equal_per_mouse(f"{prefix}eval_after", after, made.after_training())
    final = sensorium.export(sensorium.encoder(assemble(made.graph, weights)))
    for name, value in made.golden.part(f"output/{prefix}param_final").items():
        if not name.endswith(NOT_OURS):
            assert_close(final[name], value, made.after_training(), name)


@every_encoder
def test_training_with_idle_biases_equals_the_published_one_as_far_as_that_is_defined(path):
    """Not in the biases in front of batch norm nor in what follows them: Adam turns their rounding
    noise into full steps, in the published code too (goldens' README, trap 1)."""
    made = case(path)
    weights, found = train(made, frozen=[])
    assert_close(found, made.golden["output64/trajectory_loss"], LOSSES, "losses")
    final = sensorium.export(sensorium.encoder(assemble(made.graph, weights)))
    loose = [name.removesuffix("bias") for name in made.config["frozen_biases"]]
    for name, value in made.golden.part("output64/param_final").items():
        follows_noise = name.endswith("running_mean") or name.removesuffix("bias") in loose
        if not follows_noise and not name.endswith(NOT_OURS):
            assert_close(final[name], value, made.after_training(), name)
