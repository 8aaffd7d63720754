"""Resampled means, intervals and p-values have the distributions that they are named for."""

import numpy as np
import pytest
from scipy import stats

from sensojax.errors import UserError
from sensojax.evaluation import resampling

DRAWS = dict(unit="neurons", samples=4000, seed=0)
ONE_MOUSE = np.zeros(60, int)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_two_neurons_are_drawn_as_two_coins():
    means = resampling.means(np.array([[0.0, 1.0]]), np.zeros(2, int), **DRAWS)[:, 0]
    found, counts = np.unique(means, return_counts=True)
    np.testing.assert_array_equal(found, [0, 0.5, 1])
    assert stats.chisquare(counts, [1000, 2000, 1000]).pvalue > 0.01


def test_every_neuron_is_drawn_as_often_as_the_multinomial_says():
    """One run for each neuron, which is 1 in this one alone: the means are the counts."""
    counts = resampling.means(np.eye(5), np.zeros(5, int), **DRAWS) * 5
    np.testing.assert_allclose(counts.sum(axis=1), 5)
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=5 * np.sqrt(0.8 / 4000))
    expected = np.eye(5) - 1 / 5  # covariance of a multinomial of 5 draws
    np.testing.assert_allclose(np.cov(counts.T, bias=True), expected, atol=0.1)


def test_spread_of_resampled_means_is_the_standard_error():
    values = normal(3, 60) * np.array([[1], [2], [5]])
    means = resampling.means(values, ONE_MOUSE, **DRAWS)
    np.testing.assert_allclose(means.std(axis=0), values.std(axis=1) / np.sqrt(60), rtol=0.05)
    np.testing.assert_allclose(means.mean(axis=0), values.mean(axis=1), atol=0.05)


def test_neurons_stay_within_their_mouse():
    """Mice that differ, of neurons that do not: nothing varies. Resampled mice do vary."""
    mouse = np.repeat([3, 7, 9], [4, 8, 12])
    values = np.array([1.0, 2.0, 4.0])[np.unique(mouse, return_inverse=True)[1]][None]
    mean = (4 * 1 + 8 * 2 + 12 * 4) / 24
    np.testing.assert_allclose(resampling.means(values, mouse, **DRAWS), mean)
    means = resampling.means(values, mouse, unit="mice", samples=4000, seed=0)[:, 0]
    thrice = {i: np.isclose(means, i).mean() for i in (1, 2, 4)}  # one mouse, drawn three times
    for share in thrice.values():
        assert share == pytest.approx(1 / 27, abs=5 * np.sqrt(1 / 27 / 4000))
    assert np.isclose(means, mean).mean() == pytest.approx(6 / 27, abs=0.04)


def test_all_runs_get_the_same_neurons_whichever_the_other_runs_are():
    values = normal(2, 60)
    both = resampling.means(np.stack([values[0], 3 - 2 * values[0], values[1]]), ONE_MOUSE, **DRAWS)
    np.testing.assert_allclose(both[:, 1], 3 - 2 * both[:, 0], rtol=1e-12)
    alone = resampling.means(values[1:], ONE_MOUSE, **DRAWS)
    np.testing.assert_allclose(alone[:, 0], both[:, 2], rtol=1e-12)
    other = resampling.means(values[1:], ONE_MOUSE, **{**DRAWS, "seed": 1})
    assert not np.allclose(other, alone)


def test_intervals_hold_the_true_mean_19_times_in_20():
    """1000 runs of 60 neurons each, whose true mean is 0."""
    low, high = resampling.interval(resampling.means(normal(1000, 60), ONE_MOUSE, **DRAWS))
    held = ((low < 0) & (high > 0)).mean()
    assert 0.92 < held < 0.96  # a percentile interval of 60 is 2 % short, 0.7 % is sampling


def test_p_is_uniform_where_there_is_no_difference():
    p = resampling.p_values(normal(1000, 60), ONE_MOUSE, **DRAWS)
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_p_agrees_with_the_t_test_and_is_never_0():
    differences = normal(7, 60) + np.array([[0, 0.1, 0.2, 0.3, 0.5, 1, 5]]).T
    p = resampling.p_values(differences, ONE_MOUSE, **DRAWS)
    expected = stats.ttest_1samp(differences, 0, axis=1).pvalue
    np.testing.assert_allclose(p, expected, atol=0.03)
    assert p[-1] == 1 / 4001


def test_p_of_few_neurons_is_that_of_all_patterns_of_signs():
    p = resampling.p_values(np.ones((1, 6)), np.zeros(6, int), **DRAWS)
    assert p[0] == pytest.approx(2 / 64, abs=5 * np.sqrt(2 / 64 / 4000))
    assert resampling.p_values(np.zeros((1, 6)), np.zeros(6, int), **DRAWS)[0] == 1


def test_p_of_mice_tries_every_pattern():
    mouse = np.repeat([0, 1, 2], 4)
    differences = np.stack([mouse + 1.0, np.where(mouse == 1, -0.1, 1.0)])
    p = resampling.p_values(differences, mouse, unit="mice", samples=10, seed=0)
    np.testing.assert_array_equal(p, [2 / 8, 4 / 8])


def test_the_order_of_a_difference_does_not_change_p():
    differences = normal(3, 60) + 0.2
    for unit in resampling.UNITS:
        how = DRAWS | {"unit": unit}
        mouse = np.arange(60) % 14  # more mice than are enumerated
        found = resampling.p_values(differences, mouse, **how)
        np.testing.assert_array_equal(resampling.p_values(-differences, mouse, **how), found)


def test_holm_steps_down():
    np.testing.assert_allclose(resampling.holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    np.testing.assert_allclose(resampling.holm([0.9, 0.5]), [1, 1])
    assert len(resampling.holm([])) == 0


def test_one_mouse_cannot_be_resampled():
    for function in (resampling.means, resampling.p_values):
        with pytest.raises(UserError, match="expected two or more"):
            function(normal(2, 60), ONE_MOUSE, unit="mice", samples=10, seed=0)
    with pytest.raises(UserError, match="did you mean 'neurons'"):
        resampling.means(normal(2, 60), ONE_MOUSE, unit="neuron", samples=10, seed=0)
