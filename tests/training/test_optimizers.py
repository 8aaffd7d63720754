"""Optimisers are given the learning rate at every step; with it they are those of optax."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sensojax.errors import UserError
from sensojax.training import clipping, optimizers

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
        changes, state = optimizer.update(parameters(step + 1), state, params, learning_rate=rate)
        params = jax.tree.map(jnp.add, params, changes)
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
    changes, _ = optimizer.update(none, optimizer.init(params), params, learning_rate=1.0)
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
        changes, states[0] = clipped.update(gradient, states[0], params, learning_rate=1.0)
        expected, states[1] = plain.update(short, states[1], params, learning_rate=1.0)
        assert_equal(changes, expected)


def test_clipping_leaves_a_small_gradient_alone():
    changes = [trajectory(optimizers.adamw(clip_norm=norm), RATE) for norm in (0.0, 1e3)]
    assert_equal(*changes)


def of_model(seed: int = 0) -> dict:
    """Parameters in the parts of a model."""
    return {"core": parameters(seed), "readouts": parameters(seed + 50)}


@pytest.mark.parametrize("name", ["adamw", "schedule_free"])
def test_the_core_has_a_rate_and_a_decay_of_its_own(name):
    """Each part moves as if it alone were trained, with its own settings."""
    recipe = functools.partial(getattr(optimizers, name), beta1=0.9)
    both = recipe(weight_decay=0.1, core_rate=0.5, core_weight_decay=0.3)
    alone = {"core": recipe(weight_decay=0.3), "readouts": recipe(weight_decay=0.1)}
    rates = {"core": 0.5 * RATE, "readouts": RATE}
    params, expected = of_model(), of_model()
    state = both.init(params)
    states = {part: alone[part].init(expected[part]) for part in expected}
    for step in range(4):
        gradient = of_model(step + 1)
        changes, state = both.update(gradient, state, params, learning_rate=RATE)
        params = jax.tree.map(jnp.add, params, changes)
        for part, rate in rates.items():
            changes, states[part] = alone[part].update(
                gradient[part], states[part], expected[part], learning_rate=rate
            )
            expected[part] = jax.tree.map(jnp.add, expected[part], changes)
            assert_equal(params[part], expected[part])


def test_gradients_are_clipped_at_a_percentile_of_the_newest_norms_alone():
    clip = clipping.autoclip(percentile=25.0, history=3)
    norms, state = [4.0, 1.0, 2.0, 8.0, 0.5, 16.0, 3.0], clip.init({})
    for number, norm in enumerate(norms):
        given = {"a": jnp.array([0.6 * norm]), "b": jnp.array([0.8 * norm])}
        found, state = clip.update(given, state)
        known = norms[max(number - 3, 0) : number]
        threshold = np.percentile(known, 25.0) if known else np.inf
        expected = min(norm, threshold)
        assert float(optax.tree.norm(found)) == pytest.approx(expected, rel=1e-5)


def test_a_percentile_is_found_without_sorting_to_the_bit():
    rng = np.random.default_rng(0)
    norms = np.round(rng.gamma(1.0, 1.0, 200), 1).astype(np.float32)  # with equal ones
    norms[:2] = 0.0, 1e-40
    norms[150:] = np.inf  # not yet known
    ordered = np.append(np.sort(norms), np.inf)
    found = jax.jit(jax.vmap(clipping.neighbours, (None, 0)))(norms, np.arange(200))
    np.testing.assert_array_equal(found[0], ordered[:200])
    np.testing.assert_array_equal(found[1][:199], ordered[1:200])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (dict(clip_norm=1.0, clip_percentile=10.0), "one way of clipping"),
        (dict(clip_percentile=110.0), "a percentile up to 100"),
        (dict(clip_percentile=10.0, clip_history=0), "of one norm or more"),
        (dict(beta1=0.0), r"optimizer\.beta1 0.0, expected between 0 and 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, said):
    with pytest.raises(UserError, match=said):
        optimizers.schedule_free(**settings)


@pytest.mark.parametrize("name", ["adamw", "adam", "schedule_free"])
def test_settings_are_given_by_name(name):
    parameters = inspect.signature(getattr(optimizers, name)).parameters.values()
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters)
