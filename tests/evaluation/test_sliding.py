"""Long trials in windows: all of them together give what one by one would."""

import functools

import jax
import numpy as np
import pytest

from sensojax.errors import UserError
from sensojax.evaluation import sliding
from sensojax.evaluation.sliding import Windows
from sensojax.types import Batch
from tests.models.made_up import QUICKLY, assert_equal_on_eight_devices

LENGTHS = (19, 11, 6, 0)  # frames of the trials, which are padded to the first
NEURONS = {"ada": 3, "bob": 2}
LOST = 1


run = functools.partial(jax.jit, compiler_options=QUICKLY)


def trials(time=LENGTHS[0]):
    """Trials of two mice, whose first two frames are not valid, as they are not scored."""
    rng, frame = np.random.default_rng(0), np.arange(time)[None]
    valid = (frame >= 2) & (frame < np.array(LENGTHS)[:, None])
    size = len(LENGTHS)
    return {
        mouse: Batch(
            video=rng.normal(size=(size, time, 2, 2, 1)).astype(np.float32),
            responses=np.zeros((size, time, count), np.float32),
            behavior=np.zeros((size, time, 2), np.float32),
            pupil_center=rng.normal(size=(size, time, 2)).astype(np.float32),
            valid=valid,
            start=np.zeros(size, np.int32),
        )
        for mouse, count in NEURONS.items()
    }


def model(batches):
    """Everything depends on the window: its mean, a frame's place in it, and the pupil.

    Of numpy arrays it is numpy.
    """
    predicted = {}
    for mouse, batch in batches.items():
        light = batch.video.mean((2, 3, 4))
        place = np.arange(light.shape[1], dtype=np.float32)[None] / 10
        seen = light + light.mean(1, keepdims=True) * place + batch.pupil_center[..., 0]
        neurons = np.arange(1, 1 + NEURONS[mouse], dtype=np.float32)[None, None]
        predicted[mouse] = (seen[..., None] * neurons)[:, LOST:]
    return predicted


def one_by_one(windows, of_trial, neurons, mouse, length):
    """The definition, with loops: {blending: [time neuron]}, and which frames it predicts."""
    seen = np.arange(0, windows.frames, windows.frame_step)
    span, lead = int(seen[-1]) + 1, min(windows.step, windows.frame_step)
    starts = [s for s in range(length - span + 1) if s % windows.step < lead]
    starts += [length - span - r for r in range(windows.frame_step)]
    counts = np.zeros((3, length))
    total, latest = np.zeros((3, length, neurons)), np.zeros(length)
    for start in dict.fromkeys(s for s in starts if s >= 0):
        frames = start + seen
        cut = {name: getattr(of_trial, name)[None, frames]
               for name in ("video", "pupil_center")}  # fmt: skip
        found = np.asarray(model({mouse: of_trial.replace(**cut)})[mouse])[0]
        for place in range(LOST, len(seen)):
            at = frames[place]
            for kind, weight in enumerate((1, place + 1)):
                counts[kind, at] += weight
                total[kind, at] += weight * found[place - LOST]
            if place > latest[at]:
                latest[at], total[2, at], counts[2, at] = place, found[place - LOST], 1
    means = total / np.maximum(counts, 1)[..., None]
    return dict(zip(("uniform", "linear", "none"), means, strict=True)), counts[0] > 0


@pytest.mark.parametrize(
    ("frames", "frame_step", "step"),
    [(7, 2, 1), (5, 2, 3), pytest.param(6, 1, 4, marks=pytest.mark.slow)],
)
def test_windows_together_are_blended_as_one_by_one(frames, frame_step, step):
    batches = trials()
    how = dict(frames=frames, frame_step=frame_step, step=step, lost_frames=LOST, at_once=3)
    kinds = {kind: Windows(**how, blending=kind) for kind in sliding.BLENDINGS}
    found = run(lambda batches: {k: sliding.predict(model, batches, w) for k, w in kinds.items()})(
        batches
    )
    lost = LOST * frame_step
    for mouse, batch in batches.items():
        for trial, length in enumerate(LENGTHS):
            windows = Windows(**how)
            if length < windows.least:
                continue
            of_trial = jax.tree.map(lambda x, i=trial: x[i], batch)
            expected, shown = one_by_one(windows, of_trial, NEURONS[mouse], mouse, length)
            assert shown[lost:].all()
            for blending, values in expected.items():
                ours = np.asarray(found[blending][mouse][trial])
                assert ours.shape == (LENGTHS[0] - lost, NEURONS[mouse])
                np.testing.assert_allclose(ours[: length - lost], values[lost:], atol=2e-6)
                assert not ours[length - lost :].any()


def test_a_window_as_long_as_the_trial_is_the_trial():
    (long, *_), batches = LENGTHS, trials()
    windows = Windows(long, lost_frames=LOST)
    found = run(lambda batches: sliding.predict(model, batches, windows))(batches)
    for mouse, whole in model(batches).items():
        np.testing.assert_allclose(found[mouse][0], whole[0], atol=1e-6)


ON_EIGHT_DEVICES = """
import jax, numpy as np
from sensojax.evaluation import sliding
from sensojax.training.mesh import Placement
from tests.evaluation.test_sliding import LOST, model, run, trials

assert len(jax.devices()) == 8
windows = sliding.Windows(7, frame_step=2, lost_frames=LOST, blending="linear", at_once=3)
predict = run(lambda batches: sliding.predict(model, batches, windows))
batches = {m: jax.tree.map(lambda x: np.concatenate([x, x]), b) for m, b in trials().items()}
alone = predict(batches)
placement = Placement()
with jax.set_mesh(placement.mesh):
    spread = predict(placement.batch(batches))
for mouse, expected in alone.items():
    np.testing.assert_allclose(spread[mouse], expected, atol=2e-6)
    assert len(spread[mouse].sharding.device_set) == 8
print("equal on eight devices")
"""


@pytest.mark.slow
def test_eight_devices_blend_their_own_trials_as_one_does():
    assert_equal_on_eight_devices(ON_EIGHT_DEVICES)


def test_trials_shorter_than_a_window_are_followed_by_zeros():
    batches = jax.tree.map(lambda x: x[2:3, :6] if x.ndim > 1 else x[2:3], trials())
    windows = Windows(9, frame_step=2)
    found = run(lambda batches: sliding.predict(model_of_light, batches, windows))(batches)
    for mouse, batch in batches.items():
        light = np.asarray(batch.video.mean((2, 3, 4)))[..., None]
        assert found[mouse].shape == (1, 6, NEURONS[mouse])
        np.testing.assert_allclose(found[mouse], light.repeat(NEURONS[mouse], -1), atol=1e-6)


def model_of_light(batches):
    return {
        mouse: batch.video.mean((2, 3, 4))[..., None].repeat(NEURONS[mouse], -1)
        for mouse, batch in batches.items()
    }


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (dict(frames=9, blending="unifrom"), "did you mean 'uniform'"),
        (dict(frames=4, frame_step=2, lost_frames=2), "found evaluation.window_frames 4"),
    ],
)
def test_windows_that_nobody_can_have_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        Windows(**settings)
