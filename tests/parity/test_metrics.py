"""Metrics against the published ones."""

import jax
import numpy as np
import pytest

from sensojax import image_scores, losses, metrics, reliability, repeats
from tests.goldens import Golden, assert_close, golden_files

# The published float32 differs from its own float64 by up to 3e-7; ours sums batches in float32.
TOLERANCE = 1e-6
# Where both sides are float64 on the host.
EXACT = 1e-9

MEASURES = pytest.mark.parametrize("path", golden_files("11b_metrics"))
CLOSED_LOOP = pytest.mark.parametrize("path", golden_files("viv1t_metrics"))
RELIABILITY = pytest.mark.parametrize("path", golden_files("analysis_reliability"))
OF_2023 = pytest.mark.parametrize("path", golden_files("viv1t2023_training"))
SINGLE_TRIAL = pytest.mark.parametrize("path", golden_files("11c_single_trial_correlation"))


def trial(golden, mouse, number):
    """One trial as our pipeline gives it: as long as the clip, the first frames not counted.

    A model that shortens its output has nothing to say about the first frames: not-a-number.
    """
    observed = golden[f"input/{mouse}/responses_{number}"].T
    short = golden[f"input/{mouse}/prediction_{number}"]
    predicted = np.full_like(observed, np.nan)
    predicted[len(observed) - len(short) :] = short
    valid = np.arange(len(observed)) >= golden.config["frames_skipped"]
    return predicted[None], observed[None], valid[None]


def correlation(golden, mouse, keep=slice(None)):
    trials = sum(len(batch) for batch in golden.config["batches"][mouse])
    total = metrics.Correlation.zero(golden.config["neurons"][mouse])
    for number in list(range(trials))[keep]:
        total = total + metrics.Correlation.of(*trial(golden, mouse, number))
    return total


@SINGLE_TRIAL
def test_single_trial_correlation_is_the_published_one(path):
    golden = Golden(path)
    values = {}
    for mouse in golden.config["mice_order"]:
        values[mouse] = correlation(golden, mouse).value()
        assert_close(values[mouse], golden[f"output64/per_mouse/{mouse}"], TOLERANCE, mouse)
    together = np.concatenate([values[mouse] for mouse in golden.config["mice_order"]])
    assert_close(together, golden["output64/all_neurons"], TOLERANCE)
    assert_close(metrics.mean_over_neurons(values.values()), golden["output64/mean"], TOLERANCE)


@SINGLE_TRIAL
def test_neurons_without_a_correlation_are_named(path):
    """Zero for three reasons: a constant response, a constant prediction, a missing value."""
    golden = Golden(path)
    for mouse in golden.config["mice_order"]:
        sums = correlation(golden, mouse)
        responses = np.concatenate([trial(golden, mouse, 0)[1][0]])
        assert np.ptp(responses[:, 0]) == 0
        assert (sums.value() == 0).tolist() == (sums.undefined() | sums.constant()).tolist()
        zeros = golden[f"output64/per_mouse/{mouse}"] == 0
        np.testing.assert_array_equal(sums.value() == 0, zeros)


def repeated(golden, names=("target", "prediction")):
    """(predicted, observed) by trial as [trial time neuron], and the video of each trial."""
    observed, predicted = (golden[f"input/{name}"].swapaxes(1, 2) for name in names)
    return predicted, observed, golden.part("input").get("video_ids")


def of_videos(predicted, observed, videos):
    total = repeats.Repeats()
    for video, *trial in zip(videos.tolist(), predicted, observed, strict=True):
        counted = np.ones((1, len(trial[0])), bool)
        total += repeats.Repeats.of(video, *(each[None] for each in trial), counted)
    return total.measures(at_least=2)


def by_trial(predicted, observed, lengths):
    """Sums of each trial apart, fields [trial neuron], its first frames counted."""
    counted = np.arange(observed.shape[1]) < np.asarray(lengths)[:, None]
    return jax.vmap(lambda *trial: metrics.Correlation.of(*(each[None] for each in trial)))(
        predicted, observed, counted
    )


@CLOSED_LOOP
def test_closed_loop_correlations_are_the_published_ones(path):
    golden = Golden(path)
    predicted, observed, _ = repeated(golden)
    sums = by_trial(predicted, observed, [observed.shape[1]] * len(observed)).on_host()
    found = {
        "single_trial_correlation": sums.value().mean(0),  # within each trial, here
        "challenge_correlation": metrics.Correlation.merged(sums).value(),
    }
    for name, values in found.items():
        assert_close(values, golden[f"output64/{name}_per_neuron"], TOLERANCE, name)


@CLOSED_LOOP
def test_closed_loop_correlations_of_trials_of_unequal_length_are_the_published_ones(path):
    """The first four trials, trial k cut by k mod 3 frames, as the file's config says."""
    golden = Golden(path)
    predicted, observed, _ = repeated(golden)
    lengths = [observed.shape[1] - k % 3 for k in range(4)]
    sums = by_trial(predicted[:4], observed[:4], lengths).on_host()
    challenge = metrics.Correlation.merged(sums).value().mean()
    assert_close(challenge, golden["output/list_challenge_correlation"], TOLERANCE)
    assert_close(sums.value().mean(), golden["output/list_single_trial_correlation"], TOLERANCE)


@CLOSED_LOOP
def test_closed_loop_measures_of_repeats_are_the_published_ones(path):
    golden = Golden(path)
    measures = of_videos(*repeated(golden))
    expected = golden["output64/correlation_to_average_per_video_neuron"].mean(0)
    assert_close(measures.correlation_to_average_per_video(), expected, EXACT)
    published = golden["output64/normalized_correlation_per_video_neuron"]
    defined = np.isfinite(published).any(0)
    found = measures.normalized_correlation()
    np.testing.assert_array_equal(np.isfinite(found), defined)
    assert_close(found[defined], np.nanmean(published[:, defined], axis=0), EXACT)
    assert_close(np.nanmean(found), golden["output64/normalized_correlation"], EXACT)


@OF_2023
def test_correlation_without_the_first_frames_is_that_of_viv1t_of_2023(path):
    golden = Golden(path)
    predicted, observed, _ = repeated(golden, ("metric_target", "metric_prediction"))
    known = [name for name in golden.part("output") if name.startswith("single_trial_correlation")]
    assert len(known) > 1
    for name in known:
        counted = np.arange(observed.shape[1]) >= int(name.partition("_skip")[2])
        valid = np.broadcast_to(counted, observed.shape[:2])
        found = metrics.Correlation.of(predicted, observed, valid).value().mean()
        assert_close(found, golden[f"output/{name}"], TOLERANCE, name)


LOSSES = [
    pytest.param(*file.values, names, end, id=file.id)
    for case, names, end in (
        ("viv1t2023_training", ("metric_target", "metric_prediction"), "_mean_over_trials"),
        ("viv1t_metrics", ("target", "prediction"), ""),
    )
    for file in golden_files(case)
]


@pytest.mark.parametrize(("path", "names", "end"), LOSSES)
def test_losses_of_a_trial_are_those_that_viv1t_reports(path, names, end):
    """Sums over its frames and neurons, then their mean over trials."""
    golden = Golden(path)
    predicted, observed, _ = repeated(golden, names)
    valid = np.ones(observed.shape[:2], bool)
    for name, loss in (("sum_squared_error", losses.squared), ("poisson", losses.poisson)):
        found = float(loss(predicted, observed, valid)) / len(observed)
        assert_close(found, golden[f"output/{name}{end}"], TOLERANCE, name)


@RELIABILITY
def test_reliability_of_repeats_is_the_published_one(path):
    golden = Golden(path)
    predicted, observed, videos = repeated(golden, ("responses", "predictions"))
    measures = of_videos(predicted, observed, videos)
    assert_close(measures.repeat_reliability(), golden["output/reliability"], TOLERANCE)
    found = measures.correlation_to_average_per_video()
    assert_close(found, golden["output/correlation"], TOLERANCE)


def assert_published(found, golden, key, tolerance=EXACT):
    """Against float64 where the file has it; neurons without a number (0 / 0) are left out."""
    expected = golden[f"output64/{key}"] if f"output64/{key}" in golden else golden[f"output/{key}"]
    defined = np.isfinite(expected)
    assert_close(np.where(defined, found, 0), np.where(defined, expected, 0), tolerance, key)


def varying(responses):
    """[neuron] bool: measures of variance of a constant neuron are 0 / 0 or rounding noise."""
    return np.ptp(responses.reshape(-1, responses.shape[-1]), axis=0) > 0


@MEASURES
def test_correlation_over_trials_is_the_published_one(path):
    golden = Golden(path)
    predicted, observed = golden["input/predictions"], golden["input/responses"]
    valid = np.ones(observed.shape[:2], bool)  # images and repeats as batch and time: all trials
    found = metrics.Correlation.of(predicted, observed, valid).value()
    assert_published(found, golden, "corr_over_trials", TOLERANCE)
    assert_published(found, golden, "corr_two_axes", TOLERANCE)
    measures = image_scores.of_repeats(predicted, observed)
    assert_published(measures.single_trial_correlation(), golden, "corr_over_trials")
    everything = metrics.Correlation.of(*(x.reshape(1, -1, 1) for x in (predicted, observed)),
                                        np.ones((1, observed.size), bool))  # fmt: skip
    assert_published(everything.value()[0], golden, "corr_all", TOLERANCE)


@MEASURES
@pytest.mark.parametrize(
    "name", ["explainable_variance", "fev", "feve", "oracle_jackknife", "oracle_conservative"]
)
def test_measure_over_equal_repeats_is_the_published_one(path, name):
    golden = Golden(path)
    measures = image_scores.of_repeats(golden["input/predictions"], golden["input/responses"])
    keep = varying(golden["input/responses"])
    found = np.where(keep, getattr(measures, name)(), golden[f"output64/{name}"])
    assert_published(found, golden, name)


@MEASURES
def test_mean_feve_keeps_the_published_neurons(path):
    golden = Golden(path)
    measures = image_scores.of_repeats(golden["input/predictions"], golden["input/responses"])
    np.testing.assert_array_equal(
        measures.fev() >= reliability.FEV_THRESHOLD, golden["output/fev_kept_by_threshold"]
    )
    assert_published(measures.mean_feve(), golden, "feve_mean_over_kept")


@MEASURES
def test_signal_to_noise_and_gini_are_the_published_ones(path):
    golden = Golden(path)
    responses = golden["input/responses"]
    keep = varying(responses)
    transformed = reliability.anscombe(responses)
    found = image_scores.of_repeats(transformed, transformed).signal_to_noise()
    assert_published(np.where(keep, found, golden["output64/snr"]), golden, "snr")
    assert np.isnan(found[~keep]).all()
    assert_published(np.nanmean(found), golden, "snr_mean_valid_neurons")
    assert_published(reliability.gini(responses[0][:, keep]), golden, "gini_of_first_image")


@MEASURES
@pytest.mark.parametrize("name", ["oracle_jackknife", "oracle_conservative"])
def test_oracle_over_unequal_repeats_is_the_published_one(path, name):
    golden = Golden(path)
    measures = image_scores.of_trials(*unequal(golden))
    assert_published(getattr(measures, name)(), golden, f"unequal_{name}")


@MEASURES
def test_explained_variance_of_images_shown_twice_or_more_is_the_published_one(path):
    golden = Golden(path)
    measures = image_scores.of_trials(*unequal(golden), at_least=2)
    for name in ("fev", "feve"):
        expected = golden[f"output64/unequal_{name}_images_with_two_or_more"]
        found = np.where(varying(unequal(golden)[2]), getattr(measures, name)(), expected)
        assert_published(found, golden, f"unequal_{name}_images_with_two_or_more")
    everything = image_scores.of_trials(*unequal(golden)).fev()
    np.testing.assert_array_equal(
        np.isnan(everything), np.isnan(golden["output/unequal_fev_including_single_repeat"])
    )


def unequal(golden):
    names = ("image_index", "predictions", "responses")
    return tuple(golden[f"input/unequal_{name}"] for name in names)


@MEASURES
@pytest.mark.parametrize(
    ("images", "at_least"), [("all_images", 1), ("images_with_two_or_more", 2)]
)
def test_score_of_a_shuffled_submission_is_the_published_one(path, images, at_least):
    golden = Golden(path)
    ids, predicted, observed = unequal(golden)
    trials, neurons = golden["input/ordered_trial_ids"], golden["input/ordered_neuron_ids"]
    rows = golden["input/ordered_submission_trial_order"]
    columns = golden["input/ordered_submission_neuron_order"]
    measures = image_scores.benchmark(
        image_scores.ImageResponses(trials[rows], neurons[columns], predicted[rows][:, columns]),
        image_scores.ImageResponses(trials, neurons, observed),
        ids,
        at_least,
    )
    for name in ("single_trial_correlation", "correlation_to_average"):
        found = getattr(measures, name)()
        assert_published(found, golden, f"ordered_{images}/{name}")
        assert_published(found.mean(), golden, f"ordered_{images}/{name}_mean")
    kept = measures.feve()[measures.fev() >= reliability.FEV_THRESHOLD]
    assert_published(kept, golden, f"ordered_{images}/feve_kept_neurons")
    expected = golden[f"output/ordered_{images}/feve_mean"]
    np.testing.assert_allclose(measures.mean_feve(), expected, rtol=EXACT, equal_nan=True)
