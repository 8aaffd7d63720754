"""Measures over repeats: truths about signal and noise, and that they add up in any order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sensojax import image_scores, reliability
from sensojax.reliability import Measures
from sensojax.repeats import Repeats, Stimulus, reduced

PER_NEURON = (
    "single_trial_correlation",
    "correlation_to_average",
    "fev",
    "feve",
    "explainable_variance",
    "oracle_jackknife",
    "oracle_conservative",
    "signal_to_noise",
    "correlation_to_average_per_video",
    "normalized_correlation",
    "repeat_reliability",
)
PER_VIDEO = PER_NEURON[-3:]
# Those within a video add 1e-8 to standard deviations, as published; numpy's do not.
TIGHT = {name: 1e-6 if name in PER_VIDEO else 1e-10 for name in PER_NEURON}
every_measure = pytest.mark.parametrize("name", PER_NEURON)


def videos(clips=4, repeats=5, frames=6, neurons=3, seed=0):
    """{clip: (predicted, observed, valid)}, [repeat time neuron]; the first frames do not count."""
    rng = np.random.default_rng(seed)
    shown = {}
    for clip in range(clips):
        rate = rng.gamma(2.0, 1.0, (1, frames, neurons))
        observed = rng.poisson(rate, (repeats, frames, neurons)).astype(float)
        valid = np.zeros((repeats, frames), bool)
        valid[:, 2:] = True
        predicted = rate + 0.3 * rng.normal(size=observed.shape)
        shown[f"clip {clip}"] = (predicted, observed, valid)
    return shown


def direct(shown, name):
    """The same without adding up: by numpy, or by `of_repeats` with each frame as an image."""
    if name in PER_VIDEO:
        counted = [[x[:, valid[0]] for x in pair] for *pair, valid in shown.values()]
        return np.nanmean([of_video(name, *pair) for pair in counted], axis=0)
    stacked = []
    for part in range(2):
        each = [arrays[part][:, arrays[2][0]].swapaxes(0, 1) for arrays in shown.values()]
        stacked.append(np.concatenate(each))  # [image repeat neuron]
    return getattr(image_scores.of_repeats(*stacked), name)()


def of_video(name, predicted, observed):
    """A measure of one video [repeat time neuron], as the publications write it, [neuron]."""
    repeats, _, neurons = observed.shape
    means = predicted.mean(0), observed.mean(0)
    if name == "correlation_to_average_per_video":
        return [np.corrcoef(means[0][:, n], means[1][:, n])[0, 1] for n in range(neurons)]
    if name == "repeat_reliability":
        pairs = [
            np.corrcoef(observed[:, :, n])[np.triu_indices(repeats, 1)] for n in range(neurons)
        ]
        return np.mean(pairs, axis=1)
    found = []
    for n in range(neurons):
        noisy = observed[:, :, n].sum(0).var(ddof=1) - observed[:, :, n].var(1, ddof=1).sum()
        power = noisy / (repeats * (repeats - 1))
        (spread, shared), _ = np.cov(means[0][:, n], means[1][:, n])
        found.append(shared / np.sqrt(spread * power) if power > 1e-4 else np.nan)
    return found


@every_measure
def test_trials_in_any_order_and_stimuli_apart_give_the_whole(name):
    shown = videos()
    expected = direct(shown, name)
    rng = np.random.default_rng(1)
    trials = [(clip, k) for clip in shown for k in range(5)]
    one_by_one = Repeats()
    for at in rng.permutation(len(trials)):
        clip, k = trials[at]
        one_by_one += Repeats.of(clip, *(array[[k]] for array in shown[clip]))
    np.testing.assert_allclose(getattr(one_by_one.measures(), name)(), expected, rtol=TIGHT[name])

    by_stimulus = Measures.zero(3)
    for clip, arrays in shown.items():
        by_stimulus += Repeats.of(clip, *arrays).measures()
    np.testing.assert_allclose(getattr(by_stimulus, name)(), expected, rtol=TIGHT[name])


@every_measure
def test_frames_that_do_not_count_change_nothing(name):
    shown = videos()
    expected = direct(shown, name)
    for predicted, observed, valid in shown.values():
        predicted[~valid], observed[~valid] = np.nan, np.nan
    total = sum((Repeats.of(c, *arrays) for c, arrays in shown.items()), start=Repeats())
    np.testing.assert_allclose(getattr(total.measures(), name)(), expected, rtol=TIGHT[name])


def test_repeats_of_unequal_length_count_as_far_as_they_go():
    (predicted, observed, valid), *_ = videos(clips=1).values()
    short = Repeats.of("clip", predicted[:2, :4], observed[:2, :4], valid[:2, :4])
    long = Repeats.of("clip", predicted[2:], observed[2:], valid[2:])
    valid[:2, 4:] = False
    expected = Repeats.of("clip", predicted, observed, valid).measures()
    for total in (short + long, long + short):
        np.testing.assert_allclose(total.measures().fev(), expected.fev(), rtol=1e-10)
    assert (expected.fewest, expected.most) == (3, 5)


def test_inside_jit_everything_is_the_same_up_to_float32():
    add = jax.jit(lambda sums, *trials: sums.including(*trials, jnp))
    finish = jax.jit(lambda sums: reduced(sums, 2, jnp))
    shown, total, expected = videos(repeats=4, frames=30), Measures.zero(3), Repeats()
    for clip, (predicted, observed, valid) in shown.items():
        expected += Repeats.of(clip, predicted, observed, valid)
        sums = Stimulus.zero(*predicted.shape[1:], jnp)
        for k in (slice(0, 2), slice(2, 4)):
            sums = add(sums, np.float32(predicted[k]), np.float32(observed[k]), valid[k])
        total += finish(sums).on_host()
    for name in PER_NEURON:
        found, known = getattr(total, name)(), getattr(expected.measures(2), name)()
        np.testing.assert_allclose(found, known, rtol=2e-5, err_msg=name)  # float32 in a video


def test_measures_within_a_video_need_repeats_of_one_length():
    (predicted, observed, valid), *_ = videos(clips=1).values()
    valid[0, 4:] = False
    measures = Repeats.of("clip", predicted, observed, valid).measures()
    for name in PER_VIDEO:
        assert np.isnan(getattr(measures, name)()).all()


def test_normalized_correlation_of_the_true_rate_is_one_and_more_than_its_correlation():
    rng = np.random.default_rng(0)
    rate = np.broadcast_to(rng.gamma(2.0, 2.0, (1, 2000, 3)), (8, 2000, 3))
    measures = Repeats.of("clip", rate, rng.poisson(rate), np.ones((8, 2000), bool)).measures()
    np.testing.assert_allclose(measures.normalized_correlation(), 1.0, atol=0.02)
    assert (measures.correlation_to_average() < 0.99).all()
    # Two repeats share the rate alone: variance 8 of it, and 4 more of Poisson noise in each.
    np.testing.assert_allclose(measures.repeat_reliability(), 8 / 12, atol=0.04)


def test_true_rate_explains_all_that_can_be_explained():
    rng = np.random.default_rng(0)
    rate = np.broadcast_to(rng.gamma(2.0, 2.0, (300, 1, 4)), (300, 20, 4))
    observed = rng.poisson(rate).astype(float)
    measures = image_scores.of_repeats(rate, observed)
    np.testing.assert_allclose(measures.feve(), 1.0, atol=0.03)
    # Poisson noise: variance of the rate is 8, mean variance over repeats is 4.
    np.testing.assert_allclose(measures.fev(), 8 / 12, atol=0.08)
    assert (measures.oracle_jackknife() < measures.single_trial_correlation()).all()
    assert (measures.oracle_conservative() > measures.single_trial_correlation()).all()


def test_mean_prediction_explains_nothing_of_it():
    rng = np.random.default_rng(0)
    observed = rng.poisson(rng.gamma(2.0, 2.0, (300, 1, 4)), (300, 20, 4)).astype(float)
    predicted = np.broadcast_to(observed.mean((0, 1)), observed.shape)
    measures = image_scores.of_repeats(predicted, observed)
    np.testing.assert_allclose(measures.feve(), 0.0, atol=1e-3)
    assert (measures.correlation_to_average() == 0).all()


def test_responses_without_noise_have_no_noise():
    rate = np.random.default_rng(0).gamma(2.0, 2.0, (9, 1, 4))
    observed = np.repeat(rate, 3, axis=1)
    measures = image_scores.of_repeats(observed, observed)
    for name in ("fev", "feve", "oracle_conservative"):
        np.testing.assert_allclose(getattr(measures, name)(), 1.0, rtol=1e-12)
    np.testing.assert_allclose(measures.oracle_jackknife(), 1.0, atol=1e-7)
    assert np.isinf(measures.signal_to_noise()).all()


def test_constant_neuron_has_no_measure_however_it_is_split():
    predicted, observed, valid = videos(clips=1)["clip 0"]
    observed[:, :, 1] = 0.3
    total = Repeats()
    for k in range(len(observed)):
        total += Repeats.of("clip", predicted[[k]], observed[[k]], valid[[k]])
    measures = total.measures()
    for name in ("single_trial_correlation", "correlation_to_average", "oracle_jackknife"):
        assert getattr(measures, name)()[1] == 0
    for name in ("fev", "oracle_conservative", "signal_to_noise"):
        assert np.isnan(getattr(measures, name)()[1])
    assert not np.isnan(measures.mean_feve(threshold=-np.inf))


def test_image_shown_once_is_left_out_when_asked():
    rng = np.random.default_rng(0)
    ids = ["a", "b", "a", "c", "b", "a"]
    predicted, observed = rng.gamma(2.0, 1.0, (2, 6, 3))
    assert np.isnan(image_scores.of_trials(ids, predicted, observed).fev()).all()
    kept = np.asarray(ids) != "c"
    expected = image_scores.of_trials(np.asarray(ids)[kept], predicted[kept], observed[kept])
    found = image_scores.of_trials(ids, predicted, observed, at_least=2)
    np.testing.assert_array_equal(found.feve(), expected.feve())
    with pytest.raises(ValueError, match="no image of at least 4 repeats"):
        image_scores.of_trials(ids, predicted, observed, at_least=4)


def test_unequal_repeats_are_refused_where_undefined():
    rng = np.random.default_rng(0)
    measures = image_scores.of_trials(["a", "b", "a", "b", "a"], *rng.gamma(2.0, 1.0, (2, 5, 3)))
    for name in ("explainable_variance", "signal_to_noise"):
        with pytest.raises(ValueError, match="2 to 3 repeats"):
            getattr(measures, name)()


def test_unequal_shapes_are_refused():
    ones = np.ones((2, 3, 4))
    with pytest.raises(ValueError, match=r"\(2, 3, 4\) and observed of shape \(2, 3, 1\)"):
        Repeats.of("clip", ones, ones[:, :, :1], np.ones((2, 3), bool))
    with pytest.raises(ValueError, match=r"valid of shape \(2, 1\)"):
        Repeats.of("clip", ones, ones, np.ones((2, 1), bool))


def test_gini_index_is_zero_for_equals_and_near_one_for_a_single_owner():
    assert reliability.gini(np.full((3, 4), 0.7)) == pytest.approx(0.0, abs=1e-12)
    assert reliability.gini(np.eye(1, 100)) == pytest.approx(0.99)
    assert reliability.gini([1.0, 3.0]) == 0.25
