"""The contract of every recurrence, which is every file in the folder of recurrences.

A file has `Recurrence` and `TINY`, its smallest useful settings. A recurrence is built from the
number of feature channels, its settings and `rngs`; it has `channels` (of its states), `causal`,
`lost_frames`, `map_size`, `map_to_image` and `regularizers`, and is called with (features,
train=...).
"""

import importlib
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sensojax.models import recurrent
from sensojax.models.encoder import separate
from tests.goldens import assert_close
from tests.models.made_up import QUICKLY, Running, leaves, normal

NAMES = [module.name for module in pkgutil.iter_modules(recurrent.__path__)]
BATCH, TIME, HEIGHT, WIDTH, CHANNELS = 2, 4, 7, 8, 2


class Case:
    """One recurrence, its features, and the two programs that the tests share."""

    def __init__(self, name):
        self.module = importlib.import_module(f"{recurrent.__name__}.{name}")
        self.recurrence = self.build(seed=0)
        self.features = normal(0, BATCH, TIME, HEIGHT, WIDTH, CHANNELS)
        self.run = Running(self.recurrence, lambda model, x: model(x, train=False))
        self.states = self.run(self.features)

        def weighted(params, features, weighting):
            weights = self.run.weights.replace(params=params)
            return jnp.sum(self.run.pure(weights, features) * weighting)

        self.pull = jax.jit(jax.grad(weighted, (0, 1)), compiler_options=QUICKLY)

    def build(self, seed: int) -> nnx.Module:
        return self.module.Recurrence(CHANNELS, **self.module.TINY, rngs=nnx.Rngs(seed))

    def gradient(self, chosen, weights=None):
        """Of a random weighting of the states at index `chosen`: (of parameters, of features)."""
        weighting = (
            jnp.zeros_like(self.states).at[chosen].set(normal(1, *self.states.shape)[chosen])
        )
        return self.pull((weights or self.run.weights).params, self.features, weighting)


@pytest.fixture(scope="module", params=NAMES)
def case(request):
    return Case(request.param)


def test_there_are_recurrences():
    assert NAMES


def test_every_frame_has_a_finite_state_of_the_promised_size(case):
    batch, time, height, width, channel = case.states.shape
    assert (batch, time, channel) == (BATCH, TIME, case.recurrence.channels)
    assert (height, width) == case.recurrence.map_size(HEIGHT, WIDTH)
    assert case.recurrence.lost_frames == 0
    assert case.states.dtype == jnp.float32 and np.isfinite(case.states).all()


def test_a_state_sees_this_frame_and_all_before_it_and_never_later_ones(case):
    assert case.recurrence.causal
    for frame in range(TIME):
        _, by_features = case.gradient(np.s_[:, frame])
        seen = np.abs(by_features).max(axis=(0, 2, 3, 4))
        assert (seen[: frame + 1] > 0).all() and not seen[frame + 1 :].any()


def test_states_begin_at_nothing_and_then_remember(case):
    """The first state is that of a clip of one frame, the second one is not."""
    first, second = (case.run(case.features[:, i : i + 1]) for i in (0, 1))
    assert_close(first, case.states[:, :1], 2e-6)
    assert np.abs(second - case.states[:, 1:2]).max() > 1e-2


def test_splitting_a_batch_changes_nothing(case):
    changed = case.run(case.features.at[1].set(100 * normal(5, *case.features.shape[1:])))
    assert np.array_equal(changed[0], case.states[0])
    assert not np.array_equal(changed[1], case.states[1])
    _, by_features = case.gradient(np.s_[0])
    assert not np.asarray(by_features[1]).any()
    for index in range(BATCH):
        alone = case.run(case.features[index : index + 1])
        assert_close(alone[0], case.states[index], 2e-6)


def test_gradients_of_all_weights_are_finite_and_reach_every_one(case):
    for name, gradient in leaves(case.gradient(np.s_[:])[0]).items():
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0, name


def test_the_same_seed_gives_the_same_weights_and_another_others(case):
    first, again, other = (leaves(separate(case.build(seed))[1]) for seed in (0, 0, 1))
    assert first.keys() == other.keys()
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert any(not np.array_equal(first[name], other[name]) for name in first)


def test_a_second_call_with_equal_shapes_does_not_trace_again(case):
    case.run(case.features)
    traces = case.run.traces
    case.run(case.features + 1)
    assert case.run.traces == traces


def test_map_to_image_finds_the_centre_of_the_receptive_field(case):
    """The centre of the squared gradient of the first state, averaged over random weights."""
    height, width = case.states.shape[2:4]
    seeds = [separate(case.build(seed))[1] for seed in range(12)]
    row, column = height // 2 - 1, width // 2
    energy = 0.0
    for weights in seeds:
        by_features = np.asarray(case.gradient(np.s_[:, 0, row, column], weights)[1])
        energy = energy + np.square(by_features).sum(axis=(0, 1, 4))
    found = [np.sum(energy * grid) / energy.sum() for grid in np.mgrid[:HEIGHT, :WIDTH]]
    point = jnp.array([[2 * column / (width - 1) - 1, 2 * row / (height - 1) - 1]])
    x, y = (np.asarray(case.recurrence.map_to_image(point, HEIGHT, WIDTH))[0] + 1) / 2
    assert np.abs(np.subtract(found, [y * (HEIGHT - 1), x * (WIDTH - 1)])).max() < 0.2


def test_regularizers_are_named_finite_scalars(case):
    for name, value in case.recurrence.regularizers().items():
        assert isinstance(name, str) and jnp.shape(value) == () and np.isfinite(value), name
        assert value >= 0
