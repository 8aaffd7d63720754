"""What ViV1T sees of a recording, against the published transforms and our two normalisations."""

from types import SimpleNamespace

import numpy as np
import pytest

from sensojax.pipeline import transforms
from sensojax.pipeline.transforms import Statistics
from sensojax.types import Batch
from tests.goldens import Golden, assert_close, golden_files

TOLERANCE = 2e-6  # they add 1e-7 to a deviation, which we do not


def statistics(normalization, video, responses, behavior, pupil):
    """From (mean, std) of each; only the deviation of responses and behaviour matters."""
    parts = zip(("mean", "std"), zip(video, responses, behavior, pupil, strict=True), strict=True)
    by_name = dict(parts)
    keys = ("videos", "responses", "behavior", "pupil_center")
    found = {key: {n: v[i] for n, v in by_name.items()} for i, key in enumerate(keys)}
    store = SimpleNamespace(mouse="mouse", statistics=SimpleNamespace(**{normalization: found}))
    return Statistics.of(store, normalization)


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
    return transforms.normalize(batch, known)


@pytest.mark.parametrize("path", golden_files("viv1t_data"))
def test_per_neuron_is_the_published_standardisation_of_2025(path):
    golden = Golden(path)
    for mouse in golden.config["mice"]:

        def given(name, mouse=mouse):
            return golden[f"input/{mouse}_{name}"]

        parts = ("video", "response", "behaviour", "pupil")
        stats = [tuple(given(f"stat_{part}_{name}") for name in ("mean", "std")) for part in parts]
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


@pytest.mark.parametrize("path", golden_files("viv1t2023_data"))
def test_official_is_the_published_standardisation_of_each_frame_of_2023(path):
    golden = Golden(path)

    def by_frame(part, name, axes):
        return golden[f"output/statistics_trial_{part}_{name}"].transpose(axes)

    parts = (
        ("video", (2, 0, 1)),
        ("response", (1, 0)),
        ("behavior", (1, 0)),
        ("pupil_center", (1, 0)),
    )
    stats = [tuple(by_frame(part, name, axes) for name in ("mean", "std")) for part, axes in parts]
    known = statistics("official", *stats)
    frames = golden["input/responses"].shape[-1]
    assert_close(known.response_multiplier[:frames].T, golden["output/response_precision"], 1e-6)
    for trial in golden.config["probe_trials"]:
        length = golden.config["trial_lengths"][trial]
        names = ("videos", "responses", "behaviour", "pupil_centre")
        recorded = [np.moveaxis(golden[f"input/{name}"][trial], -1, 0)[:length] for name in names]
        found = normalized(*recorded, known)
        output = f"output/transform1_trial{trial}_"
        for ours, name in (
            (found.responses[0].T, "response"),
            (found.behavior[0].T, "behavior"),
            (found.pupil_center[0].T, "pupil_center"),
            (found.video[0, ..., 0], "video"),
        ):
            if output + name in golden:
                theirs = golden[output + name]
                assert_close(ours, theirs[0] if name == "video" else theirs, 1e-5, name)
