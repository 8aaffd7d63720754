"""Layers: the published conventions, each against numpy in float64 or against its definition."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sensojax.models import behavior, layers
from tests.goldens import assert_close
from tests.models.made_up import QUICKLY


def features(seed=0, mean=3.0):
    """[batch time height width channel] with another mean and spread in every channel."""
    values = np.random.default_rng(seed).normal(size=(3, 4, 2, 5, 3))
    return (values * [0.5, 1.0, 4.0] + [mean, -mean, 0.0]).astype(np.float32)


def normalized(x, mean, variance, scale=1.0, bias=0.0, epsilon=1e-5):
    return (x.astype(np.float64) - mean) / np.sqrt(variance + epsilon) * scale + bias


def test_batch_norm_normalises_with_the_biased_and_remembers_the_unbiased_variance():
    norm = layers.BatchNorm(3, weight_of_new=0.7)
    scale, bias = np.array([2.0, -1.0, 0.5]), np.array([0.1, 0.2, 0.3])
    norm.scale[...], norm.bias[...] = jnp.float32(scale), jnp.float32(bias)
    mean, variance = np.zeros(3), np.ones(3)
    for seed in (0, 1):
        x = features(seed)
        flat = x.reshape(-1, 3).astype(np.float64)
        expected = normalized(x, flat.mean(0), flat.var(0), scale, bias)
        assert_close(norm(x, train=True), expected, 1e-6, "training")
        mean = 0.3 * mean + 0.7 * flat.mean(0)
        variance = 0.3 * variance + 0.7 * flat.var(0, ddof=1)
    assert_close(norm.mean[...], mean, 1e-6, "running mean")
    assert_close(norm.variance[...], variance, 1e-6, "running variance")
    expected = normalized(x, mean, variance, scale, bias)
    assert_close(norm(x, train=False), expected, 1e-6, "evaluation")


def test_batch_norm_in_evaluation_changes_nothing_and_sees_single_examples():
    norm = layers.BatchNorm(3, weight_of_new=0.7)
    norm(features(), train=True)
    before = np.array(norm.mean[...]), np.array(norm.variance[...])
    x = features(1)
    together = norm(x, train=False)
    alone = norm(x[:1], train=False)
    assert np.array_equal(norm.mean[...], before[0])
    assert np.array_equal(norm.variance[...], before[1])
    assert np.array_equal(alone, together[:1])


def test_batch_norm_counts_repeated_channels_as_one():
    x, again = features(0), features(1)
    repeated = layers.BatchNorm(3, weight_of_new=0.7, repeats=2)
    norm = layers.BatchNorm(3, weight_of_new=0.7)
    for each in (repeated, norm):
        each.scale[...] = jnp.array([2.0, -1.0, 0.5])
    found = repeated(np.concatenate([x, again], -1), train=True)
    expected = norm(np.concatenate([x, again]), train=True)
    assert_close(found, np.concatenate(np.split(np.asarray(expected), 2), -1), 1e-6)
    assert_close(repeated.mean[...], norm.mean[...], 1e-6, "running mean")
    assert_close(repeated.variance[...], norm.variance[...], 1e-6, "unbiased variance")


@pytest.mark.parametrize("repeats", [1, 3])
def test_batch_norm_has_the_gradients_of_its_formula(repeats):
    x, weights = features(0), features(1)
    scale, bias = jnp.linspace(0.5, 2.0, 3 // repeats), jnp.linspace(-1.0, 1.0, 3 // repeats)

    def plain(x, scale, bias):
        parts = x.reshape(-1, repeats, 3 // repeats)
        standard = (parts - parts.mean((0, 1), keepdims=True)) / jnp.sqrt(
            parts.var((0, 1), keepdims=True) + 1e-5
        )
        scale, bias = (jnp.broadcast_to(each, parts.shape) for each in (scale, bias))
        return jnp.sum((standard * scale + bias).reshape(x.shape) * weights)

    def ours(x, scale, bias):
        norm = layers.BatchNorm(3 // repeats, weight_of_new=0.7, repeats=repeats)
        norm.scale[...], norm.bias[...] = scale, bias
        return jnp.sum(norm(x, train=True) * weights)

    found, expected = (
        jax.jit(jax.grad(each, (0, 1, 2)), compiler_options=QUICKLY)(x, scale, bias)
        for each in (ours, plain)
    )
    for name, one, other in zip(("x", "scale", "bias"), found, expected, strict=True):
        assert_close(one, other, 5e-5, name)


def test_batch_norm_keeps_its_digits_when_the_mean_is_large():
    # A sum of squares in float32 would lose the variance here altogether: 1e4^2 * 6e-8 = 6.
    x = features(mean=1e4)
    flat = x.reshape(-1, 3).astype(np.float64)
    norm = layers.BatchNorm(3, weight_of_new=1.0)
    norm(x, train=True)
    assert_close(norm.variance[...], flat.var(0, ddof=1), 1e-4)


def test_batch_norm_does_not_learn_through_its_running_statistics():
    norm = layers.BatchNorm(2, weight_of_new=0.7)

    def remembered(x):
        copy = nnx.clone(norm)
        copy(x, train=True)
        return jnp.sum(copy.mean[...]) + jnp.sum(copy.variance[...])

    assert not np.any(jax.grad(remembered)(jnp.arange(12.0).reshape(6, 2)))


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_batch_norm_has_the_parameters_it_is_asked_for(scale, bias):
    norm = layers.BatchNorm(3, weight_of_new=0.7, scale=scale, bias=bias)
    assert (norm.scale is not None, norm.bias is not None) == (scale, bias)
    x = features()
    flat = x.reshape(-1, 3).astype(np.float64)
    assert_close(norm(x, train=True), normalized(x, flat.mean(0), flat.var(0)), 1e-6)


def test_clip_to_unit_passes_the_whole_gradient_at_the_ends():
    x = jnp.array([-2.0, -1.0, -0.3, 0.0, 1.0, 1.0001])
    assert layers.clip_to_unit(x).tolist() == pytest.approx([-1.0, -1.0, -0.3, 0.0, 1.0, 1.0])
    gradient = jax.grad(lambda x: jnp.sum(layers.clip_to_unit(x)))(x)
    assert gradient.tolist() == [0.0, 1.0, 1.0, 1.0, 1.0, 0.0]


def test_elu_plus_one_is_exactly_zero_far_below_and_never_negative():
    assert layers.elu_plus_one(jnp.float32(-18.0)) == 0.0
    assert math.exp(-18.0) > 0  # what the shortcut exp(x) would give
    x = jnp.linspace(-40.0, 5.0, 1001)
    out = np.asarray(layers.elu_plus_one(x), np.float64)
    expected = np.where(x > 0, x + 1.0, np.exp(np.minimum(x, 0.0).astype(np.float64)))
    assert out.min() >= 0.0
    assert_close(out, expected, 1e-6)
    assert jax.grad(layers.elu_plus_one)(0.5) == 1.0


def test_elu_and_its_derivative_are_those_of_jax_on_both_sides_and_at_zero():
    x = jnp.array([-100.0, -3.0, -1e-4, 0.0, 1e-4, 2.0])
    both = jax.value_and_grad(lambda x: jnp.sum(layers.elu(x) * jnp.arange(6.0)))
    expected = jax.value_and_grad(lambda x: jnp.sum(jax.nn.elu(x) * jnp.arange(6.0)))
    for one, other in zip(both(x), expected(x), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_xavier_normal_has_the_published_spread_and_is_not_truncated():
    draw = np.asarray(layers.xavier_normal(jax.random.key(0), (5, 5, 40, 60)), np.float64)
    expected = math.sqrt(2 / (25 * (40 + 60)))
    error = 1 / math.sqrt(2 * draw.size)  # relative standard error of a standard deviation
    assert draw.std() == pytest.approx(expected, rel=5 * error)
    assert abs(draw.mean()) < 5 * expected / math.sqrt(draw.size)
    # Beyond two deviations lie 4.55 % of a normal and nothing of JAX's truncated one.
    beyond = np.mean(np.abs(draw) > 2 * expected)
    assert beyond == pytest.approx(0.0455, abs=0.004)


def test_linear_starts_within_one_over_the_root_of_its_inputs():
    linear = layers.Linear(100, 200, rngs=nnx.Rngs(0))
    for values in (linear.weight[...], linear.bias[...]):
        assert 0.09 < np.abs(values).max() <= 0.1
        assert abs(np.mean(values)) < 0.02
    x = np.random.default_rng(0).normal(size=(2, 3, 100))
    expected = x @ np.float64(linear.weight[...]) + np.float64(linear.bias[...])
    assert_close(linear(jnp.float32(x)), expected, 1e-6)


def test_without_a_mesh_a_function_runs_as_it_is():
    assert layers.on_each_device(math.sqrt, ()) is math.sqrt


@pytest.mark.parametrize("kind", behavior.SHIFTERS)
def test_shifters_move_by_less_than_one_and_each_frame_by_its_own_pupil(kind):
    shifter = behavior.SHIFTERS[kind](rngs=nnx.Rngs(0))
    pupil = jnp.float32(np.random.default_rng(0).normal(size=(2, 3, 2)) * 4)
    shift = shifter(pupil)
    assert shift.shape == (2, 3, 2) and np.abs(shift).max() <= 1.0
    moved = shifter(pupil.at[1, 2].add(1.0)) != shift
    assert np.argwhere(np.any(moved, axis=-1)).tolist() == [[1, 2]]
    assert np.isfinite(shifter.regularizer())
