"""The contract of every loss: the functions of `losses` are listed, each is asked the same."""

import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sensojax import losses

# The noise each loss assumes: what it must prefer is the true mean of such responses. Another loss
# in losses.py needs a line here.
NOISE = {
    "poisson": lambda rng, mean, size: rng.poisson(mean, size),
    "gaussian": lambda rng, mean, size: rng.normal(mean, 1.0, size),
    "gamma": lambda rng, mean, size: rng.gamma(mean, 1.0, size),
    "exponential": lambda rng, mean, size: rng.exponential(mean, size),
    "squared": lambda rng, mean, size: rng.normal(mean, 1.0, size),
    "anscombe": lambda rng, mean, size: rng.poisson(mean, size),
    "correlation": lambda rng, mean, size: mean + rng.normal(0.0, 1.0, size),
    "poisson_correlation": lambda rng, mean, size: rng.poisson(mean, size),
}
NOT_A_SUM_OVER_FRAMES = {"correlation", "poisson_correlation"}
LOSSES = {
    name: function
    for name, function in inspect.getmembers(losses, inspect.isfunction)
    if list(inspect.signature(function).parameters)[:3] == ["predicted", "observed", "valid"]
    and not name.startswith("_")
}
every_loss = pytest.mark.parametrize("name", LOSSES)


def responses(seed=0, batch=3, time=7, neurons=5):
    rng = np.random.default_rng(seed)
    predicted = rng.gamma(2.0, 1.0, (batch, time, neurons)).astype(np.float32)
    observed = rng.gamma(2.0, 1.0, (batch, time, neurons)).astype(np.float32)
    valid = rng.random((batch, time)) < 0.7
    return predicted, observed, valid


def test_losses_of_the_module_are_found():
    assert set(LOSSES) == set(NOISE)


@every_loss
def test_loss_is_least_at_the_true_mean(name):
    rng = np.random.default_rng(1)
    mean = np.linspace(4.0, 12.0, 200)[None, :, None]  # [batch time neuron]
    observed = NOISE[name](rng, mean, (200, 200, 1))
    valid = np.ones((200, 200), bool)

    def value(change):
        predicted = np.broadcast_to(mean * (1 + change), observed.shape)
        return float(LOSSES[name](predicted, observed, valid, reduction="mean"))

    ripple = 0.3 * np.sin(np.linspace(0, 40, 200))[None, :, None]
    assert value(0.0) < value(ripple)
    if name != "correlation":  # which does not see a change of scale
        assert value(0.0) < min(value(-0.15), value(0.15))


@every_loss
def test_gradient_is_finite_also_at_a_rate_of_zero(name):
    predicted, observed, valid = responses()
    predicted[0, 0], observed[0, 0] = 0.0, 0.0
    predicted[1, 1], observed[1, 1] = 0.0, 3.0
    predicted[:, :, 4] = 0.0  # a model may be silent for a neuron,
    observed[:, :, 3] = 0.0  # and a neuron itself
    valid[0, 0] = valid[1, 1] = True
    value, gradient = jax.value_and_grad(LOSSES[name])(predicted, observed, valid)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0


@every_loss
@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e30])
def test_frames_that_do_not_count_change_neither_value_nor_gradient(name, garbage):
    predicted, observed, valid = responses()
    clean = jax.value_and_grad(LOSSES[name], argnums=(0, 1))(predicted, observed, valid)
    spoilt = np.where(valid[:, :, None], predicted, garbage).astype(np.float32)
    spoilt_too = np.where(valid[:, :, None], observed, garbage).astype(np.float32)
    value, gradients = jax.value_and_grad(LOSSES[name], argnums=(0, 1))(spoilt, spoilt_too, valid)
    assert value == clean[0]
    for gradient, expected in zip(gradients, clean[1], strict=True):
        np.testing.assert_array_equal(gradient, expected)
        assert (np.asarray(gradient)[~valid] == 0).all()


@every_loss
def test_batch_without_a_frame_that_counts_is_zero(name):
    predicted, observed, valid = responses()
    nothing = np.zeros_like(valid)
    for reduction in losses.REDUCTIONS:
        value, gradient = jax.value_and_grad(LOSSES[name])(
            predicted * np.nan, observed, nothing, reduction=reduction
        )
        assert value == 0
        assert not np.asarray(gradient).any()


@pytest.mark.parametrize("name", sorted(set(LOSSES) - NOT_A_SUM_OVER_FRAMES))
def test_sum_over_batches_is_the_sum_of_the_whole(name):
    predicted, observed, valid = responses(batch=6)
    whole = LOSSES[name](predicted, observed, valid, reduction="sum")
    parts = [
        LOSSES[name](predicted[part], observed[part], valid[part], reduction="sum")
        for part in (slice(0, 1), slice(1, 4), slice(4, 6))
    ]
    np.testing.assert_allclose(sum(parts), whole, rtol=1e-6)  # float32 sums of 210 terms


@every_loss
def test_numbers_per_neuron_are_those_of_each_neuron_alone(name):
    predicted, observed, valid = responses()
    for reduction in losses.REDUCTIONS:
        together = LOSSES[name](predicted, observed, valid, reduction=reduction, per_neuron=True)
        alone = [
            LOSSES[name](predicted[:, :, [n]], observed[:, :, [n]], valid, reduction=reduction)
            for n in range(predicted.shape[2])
        ]
        np.testing.assert_allclose(together, alone, rtol=1e-5)  # float32, other order of sums
        total = LOSSES[name](predicted, observed, valid, reduction=reduction)
        collect = np.sum if reduction == "sum" else np.mean
        np.testing.assert_allclose(collect(together), total, rtol=1e-5)


@every_loss
def test_loss_is_the_same_under_jit(name):
    arrays = responses()
    np.testing.assert_allclose(jax.jit(LOSSES[name])(*arrays), LOSSES[name](*arrays), rtol=1e-6)


@every_loss
def test_unequal_shapes_are_refused_and_not_broadcast(name):
    predicted, observed, valid = responses()
    with pytest.raises(ValueError, match=r"\(3, 7, 5\) and observed of shape \(3, 7, 1\)"):
        LOSSES[name](predicted, observed[:, :, :1], valid)
    with pytest.raises(ValueError, match=r"\(3, 1\)"):
        LOSSES[name](predicted, observed, valid[:, :1])
    with pytest.raises(ValueError, match="float32"):
        LOSSES[name](predicted, observed, valid.astype(np.float32))
    with pytest.raises(ValueError, match="reduction 'average'"):
        LOSSES[name](predicted, observed, valid, reduction="average")


@every_loss
def test_predictions_in_bfloat16_are_summed_in_float32(name):
    predicted, observed, valid = responses()
    rounded = jnp.asarray(predicted, jnp.bfloat16)
    value = LOSSES[name](rounded, observed, valid)
    assert value.dtype == jnp.float32
    assert value == LOSSES[name](rounded.astype(jnp.float32), observed, valid)


def test_parameters_of_a_frame_that_does_not_count_may_be_anything():
    predicted, observed, valid = responses()
    spoilt = np.where(valid[:, :, None], 2.0, np.nan) * np.ones_like(predicted)
    for loss, name in ((losses.gaussian, "variance"), (losses.gamma, "rate")):
        value = loss(predicted, observed, valid, **{name: spoilt})
        np.testing.assert_allclose(
            value, loss(predicted, observed, valid, **{name: 2.0}), rtol=1e-6
        )
        with pytest.raises(ValueError, match=f"found {name} of shape"):
            loss(predicted, observed, valid, **{name: spoilt[:1]})


def test_squared_error_of_logarithms_tells_how_many_times_too_large_a_prediction_is():
    observed, valid = np.array([0.5, 2.0, 40.0]).reshape(1, 3, 1), np.ones((1, 3), bool)
    for times in (0.5, 3.0):
        found = losses.squared(times * observed, observed, valid, logarithms=True, reduction="mean")
        assert float(found) == pytest.approx(math.log(times) ** 2, rel=1e-5)


def test_stirling_term_makes_the_poisson_loss_a_likelihood():
    counts = np.full((1, 1, 1), 50.0)
    full = losses.poisson(np.full_like(counts, 45.0), counts, np.ones((1, 1), bool), full=True)
    exact = 45.0 - 50 * math.log(45.0) + math.lgamma(51)
    assert abs(float(full) - exact) < 2e-3  # Stirling's formula at 50 misses 1 / 600


def test_scale_of_a_data_set_counts_all_files_and_the_actual_batch():
    assert losses.dataset_scale(72, 8) == 3.0
    assert losses.dataset_scale(711, 8) == pytest.approx(9.43, abs=5e-3)  # a mouse of 2023
    assert losses.dataset_scale(72, 2) == 6.0  # a smaller last batch weighs more per sample
    with pytest.raises(ValueError, match="batch of 0"):
        losses.dataset_scale(72, 0)
