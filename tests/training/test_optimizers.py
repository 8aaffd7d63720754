"""Optimisers leave out the learning rate; with it they are those of optax."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sensojax.training import optimizers

RATE = 0.03


def parameters(seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    shapes = {"kernel": (3, 4), "bias": (4,), "scale": ()}
    return {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in shapes.items()}


def trajectory(optimizer, rate: float, steps: int = 5) -> dict:
    """Parameters after some steps of changing gradients."""
    params = parameters()
    state = optimizer.init(params)
    for step in range(steps):
        changes, state = optimizer.update(parameters(step + 1), state, params)
        params = jax.tree.map(lambda p, c: p + rate * c, params, changes)
    return params


def assert_equal(ours, theirs):
    for name, value in ours.items():
        # float32: the rate is multiplied in another place.
        np.testing.assert_allclose(value, theirs[name], rtol=2e-6, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("decay", [0.0, 0.01, 0.3])
def test_adamw_is_that_of_optax(decay):
    ours = trajectory(optimizers.adamw(weight_decay=decay), RATE)
    assert_equal(ours, trajectory(optax.adamw(RATE, weight_decay=decay), 1.0))


def test_adamw_moments_are_settings():
    given = dict(beta1=0.8, beta2=0.99, epsilon=1e-3)
    theirs = optax.adamw(RATE, b1=0.8, b2=0.99, eps=1e-3, weight_decay=0.1)
    ours = trajectory(optimizers.adamw(**given, weight_decay=0.1), RATE)
    assert_equal(ours, trajectory(theirs, 1.0))


def test_adam_is_that_of_optax():
    assert_equal(trajectory(optimizers.adam(), RATE), trajectory(optax.adam(RATE), 1.0))


def test_weight_decay_reaches_every_parameter_as_published():
    params, none = parameters(), jax.tree.map(jnp.zeros_like, parameters())
    optimizer = optimizers.adamw(weight_decay=0.1)
    changes, _ = optimizer.update(none, optimizer.init(params), params)
    for name, change in changes.items():
        np.testing.assert_allclose(change, -0.1 * params[name], rtol=1e-6, err_msg=name)


def test_clipping_makes_a_large_gradient_one_of_that_norm():
    """Adam forgets the scale of a gradient that never changes, so the scale has to change."""
    params = parameters()
    clipped, plain = optimizers.adamw(clip_norm=0.5), optimizers.adamw()
    states = [clipped.init(params), plain.init(params)]
    for size in (1.0, 100.0):
        gradient = jax.tree.map(lambda p, size=size: size * p, parameters(1))
        norm = optax.tree.norm(gradient)
        short = jax.tree.map(lambda g, norm=norm: g * 0.5 / norm, gradient)
        changes, states[0] = clipped.update(gradient, states[0], params)
        expected, states[1] = plain.update(short, states[1], params)
        assert_equal(changes, expected)


def test_clipping_leaves_a_small_gradient_alone():
    changes = [trajectory(optimizers.adamw(clip_norm=norm), RATE) for norm in (0.0, 1e3)]
    assert_equal(*changes)


@pytest.mark.parametrize("name", ["adamw", "adam"])
def test_settings_are_given_by_name(name):
    parameters = inspect.signature(getattr(optimizers, name)).parameters.values()
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters)
