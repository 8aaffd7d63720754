"""What ViV1T sees of a recording, against the published transforms and our normalisations."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from sensojax import evaluate
from sensojax.pipeline import transforms
from sensojax.pipeline.transforms import Statistics
from sensojax.types import Batch
from tests import runs
from tests.goldens import Golden, assert_close, golden_files
from tests.models.made_up import QUICKLY

TOLERANCE = 2e-6  # they add 1e-7 to a deviation, which we do not


KEYS = ("videos", "responses", "behavior", "pupil_center")


NORMALIZE = jax.jit(transforms.normalize, compiler_options=QUICKLY)


def statistics(normalization, video, responses, behavior, pupil):
    """From {statistic: values} of each."""
    found = dict(zip(KEYS, (video, responses, behavior, pupil), strict=True))
    kinds = SimpleNamespace(official=found, per_neuron=found)
    return Statistics.of(SimpleNamespace(mouse="mouse", statistics=kinds), normalization)


def normalized(video, responses, behavior, pupil, known):
    """Of one whole trial, every array [time ...]."""
    frames = len(video)
    batch = Batch(
        video=video[None],
        responses=responses[None],
        behavior=behavior[None],
        pupil_center=pupil[None],
        valid=np.ones((1, frames), bool),
        start=np.zeros(1, np.int32),
    )
    return NORMALIZE(batch, known)


@pytest.mark.parametrize("path", golden_files("viv1t_data"))
def test_per_neuron_is_the_published_standardisation_of_2025(path):
    golden = Golden(path)
    for mouse in golden.config["mice"]:

        def given(name, mouse=mouse):
            return golden[f"input/{mouse}_{name}"]

        parts = ("video", "response", "behaviour", "pupil")
        stats = [{n: given(f"stat_{part}_{n}") for n in ("mean", "std")} for part in parts]
        found = normalized(
            given("video")[0],
            given("response").T,
            given("behaviour").T,
            given("pupil_centre").T,
            statistics("per_neuron", *stats),
        )
        output = f"output/{mouse}_transform1_"
        assert_close(found.video[0, ..., 0], golden[f"{output}video"][0], TOLERANCE, mouse)
        assert_close(found.behavior[0].T, golden[f"{output}behaviour"], TOLERANCE, mouse)
        assert_close(found.pupil_center[0].T, golden[f"{output}pupil"], TOLERANCE, mouse)
        # The file has few of the neurons whose deviations set the threshold.
        loud = given("stat_response_std") > golden[f"output/{mouse}_precision_threshold"]
        theirs = golden[f"{output}response"]
        assert loud.any()
        assert_close(found.responses[0].T[loud], theirs[loud], TOLERANCE, mouse)


@pytest.mark.parametrize("path", golden_files("viv1t_data"))
def test_min_max_and_none_are_the_published_other_transforms_of_2025(path):
    golden = Golden(path)
    for mouse in golden.config["mice"]:

        def given(name, mouse=mouse):
            return golden[f"input/{mouse}_{name}"]

        names = ("min", "max", "mean", "std")
        parts = [{n: given(f"stat_{p}_{n}") for n in names} for p in ("response", "behaviour")]
        parts += [{n: given(f"stat_pupil_{n}") for n in names}]
        video = {n: given(f"stat_video_{n}") for n in names}
        raw = [given("video")[0], *(given(n).T for n in ("response", "behaviour", "pupil_centre"))]
        for mode, name in (("0", "none"), ("2", "min_max")):
            found = normalized(*raw, statistics(name, video, *parts))
            output = f"output/{mouse}_transform{mode}_"
            assert_close(found.video[0, ..., 0], golden[f"{output}video"][0], TOLERANCE, mouse)
            assert_close(found.behavior[0].T, golden[f"{output}behaviour"], TOLERANCE, mouse)
            assert_close(found.pupil_center[0].T, golden[f"{output}pupil"], TOLERANCE, mouse)
            seen = transforms.without_negatives(found) if name == "none" else found
            theirs, spread = golden[f"{output}response"], parts[0]["max"] - parts[0]["min"]
            loud = spread > transforms.response_threshold(spread)
            assert loud.any()
            assert_close(seen.responses[0].T[loud], theirs[loud], TOLERANCE, mouse)


# Mode 2 divides by the small difference of a frame's deviation and its mean.
FRAMEWISE = {"transform0": ("none", 1e-7), "transform1": ("official", 1e-5)}
FRAMEWISE |= {"transform2": ("viv1t2023", 2e-4)}


@pytest.mark.parametrize("path", golden_files("viv1t2023_data"))
@pytest.mark.parametrize("mode", FRAMEWISE)
def test_the_published_transforms_of_single_frames_of_2023(path, mode):
    golden = Golden(path)
    name, tolerance = FRAMEWISE[mode]

    def by_frame(part, axes):
        names = ("min", "max", "mean", "std")
        return {n: golden[f"output/statistics_trial_{part}_{n}"].transpose(axes) for n in names}

    rest = (by_frame(part, (1, 0)) for part in ("response", "behavior", "pupil_center"))
    known = statistics(name, by_frame("video", (2, 0, 1)), *rest)
    frames = golden["input/responses"].shape[-1]
    if name != "none":
        assert_close(
            known.response_multiplier[:frames].T, golden["output/response_precision"], 1e-6
        )
    assert_trials_are_published(golden, mode, known, tolerance)


# Modes 3 and 4 take statistics of pixels over trials and frames: those of one frame, which are then
# of every frame. The third standardises; the fourth does rightly what the second does by mistake.
OVER_FRAMES = {"transform3": ("official", "mean", "std"), "transform4": ("viv1t2023", "min", "max")}


@pytest.mark.parametrize("path", golden_files("viv1t2023_data"))
@pytest.mark.parametrize("mode", OVER_FRAMES)
def test_the_published_transforms_by_statistics_over_frames_of_2023(path, mode):
    golden = Golden(path)
    name, *pair = OVER_FRAMES[mode]

    def over_frames(part, names):
        found = (golden[f"output/statistics_time_{part}_{n}"][None] for n in names)
        return dict(zip(names, found, strict=True))

    names = ("min", "max", "mean", "std")
    video = dict(zip(("mean", "std"), over_frames("video", pair).values(), strict=True))
    responses = {"std": golden["output/statistics_trial_response_std"].T}
    rest = (over_frames(part, names) for part in ("behavior", "pupil_center"))
    known = statistics(name, video, responses, *rest)
    assert_trials_are_published(golden, mode, known, 1e-5)


def assert_trials_are_published(golden, mode, known, tolerance):
    for trial in golden.config["probe_trials"]:
        length = golden.config["trial_lengths"][trial]
        names = ("videos", "responses", "behaviour", "pupil_centre")
        recorded = [np.moveaxis(golden[f"input/{name}"][trial], -1, 0)[:length] for name in names]
        found = normalized(*recorded, known)
        output = f"output/{mode}_trial{trial}_"
        ours = dict(response=found.responses, behavior=found.behavior)
        ours |= dict(pupil_center=found.pupil_center, video=found.video[..., 0])
        for part, values in ours.items():
            if output + part in golden:
                theirs = golden[output + part]
                values = values[0] if part == "video" else np.asarray(values)[0].T
                assert_close(values, theirs[0] if part == "video" else theirs, tolerance, part)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("normalization", "scored_as"), [("viv1t2023", "official"), ("min_max", "min_max")]
)
def test_a_model_is_trained_on_them_and_scored_in_the_units_of_its_responses(
    tmp_path, normalization, scored_as
):
    changes = {"data.normalization": normalization, "schedule.steps": 2}
    changes |= {"schedule.warmup_steps": 1, "train.evaluate_every": 2}
    with runs.cached(tmp_path / "cache"):
        runs.run(tmp_path / "run", tmp_path / "mice", changes)
        found = evaluate.evaluate(tmp_path / "run", ["oracle"]).scores["oracle"]
    assert (found.normalization, found.trained_under) == (scored_as, normalization)
    assert all(np.isfinite(each.correlation).all() for each in found.mice.values())
