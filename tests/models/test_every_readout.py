"""The contract of every readout, which is every file in the folder of readouts.

A file has `Readout` and `TINY`, its smallest useful settings. A readout is built from the number of
feature channels, its neurons' positions, its settings, `mean_responses` and `rngs`, and from
`map_size` if it asks for that; it is called with (features, shift or None, noise or None). One that
reads whole maps has no `positions` (None), takes no shift, and draws no noise (None).
"""

import importlib
import inspect
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads

from sensojax.errors import UserError
from sensojax.models import readouts
from sensojax.models.encoder import assemble, separate
from tests.models.made_up import Running, leaves, normal

NAMES = [module.name for module in pkgutil.iter_modules(readouts.__path__)]
BATCH, TIME, HEIGHT, WIDTH, CHANNELS, NEURONS = 2, 3, 5, 6, 4, 7


def build(name: str, seed: int = 0, neurons: int = NEURONS, channels: int = CHANNELS) -> nnx.Module:
    module = importlib.import_module(f"{readouts.__name__}.{name}")
    position_um = np.random.default_rng(3).normal(size=(neurons, 3)) * 100
    asks = inspect.signature(module.Readout.__init__).parameters
    return module.Readout(
        channels,
        position_um,
        **module.TINY,
        **({"map_size": (HEIGHT, WIDTH)} if "map_size" in asks else {}),
        mean_responses=np.linspace(0.5, 1.5, neurons),
        rngs=nnx.Rngs(seed),
    )


class Case:
    """One readout with its inputs and the two programs that the tests share."""

    def __init__(self, name):
        self.name, self.readout = name, build(name)
        self.features = normal(0, BATCH, TIME, HEIGHT, WIDTH, CHANNELS)
        at_a_point = self.readout.positions() is not None
        self.shift = 0.1 * normal(1, BATCH, TIME, 2) if at_a_point else None
        self.noise = self.readout.draw_noise(jax.random.key(0), BATCH, TIME)
        self.run = Running(self.readout, lambda model, *inputs: model(*inputs))
        self.out = self.run(self.features, self.shift, self.noise)
        self.pull = jax.jit(self._pull)

    def _pull(self, weights, weighting):
        """How a weighting of the output depends on the weights and on the features."""

        def weighted(params, features):
            out = self.run.pure(weights.replace(params=params), features, self.shift, self.noise)
            return jnp.sum(out * weighting)

        return jax.grad(weighted, (0, 1))(weights.params, self.features)


@pytest.fixture(scope="module", params=NAMES)
def case(request):
    return Case(request.param)


def test_there_are_readouts():
    assert NAMES


def test_a_number_for_every_frame_and_neuron_comes_out(case):
    assert case.readout.num_neurons == NEURONS
    assert case.out.shape == (BATCH, TIME, NEURONS)
    assert case.out.dtype == jnp.float32 and np.isfinite(case.out).all()


def test_examples_and_frames_do_not_influence_each_other(case):
    features = case.features.at[1, 2].set(normal(7, HEIGHT, WIDTH, CHANNELS))
    changed = np.any(case.run(features, case.shift, case.noise) != case.out, axis=-1)
    assert np.argwhere(changed).tolist() == [[1, 2]]


def test_a_shift_moves_its_own_frame_only_or_is_refused(case):
    if case.shift is None:
        with pytest.raises(UserError, match="found a pupil shift"):
            case.readout(case.features, jnp.zeros((BATCH, TIME, 2)))
        return
    shift = case.shift.at[0, 1].add(0.3)
    changed = np.any(case.run(case.features, shift, case.noise) != case.out, axis=-1)
    assert np.argwhere(changed).tolist() == [[0, 1]]
    plain = case.run(case.features, None, case.noise)
    assert np.array_equal(plain, case.run(case.features, 0 * case.shift, case.noise))


def test_neurons_do_not_influence_each_other(case):
    """No weight of a neuron (a row of an array with a row for each) reaches another neuron."""
    chosen = 2
    weighting = jnp.zeros_like(case.out).at[:, :, chosen].set(1.0)
    of_weights = leaves(case.pull(case.run.weights, weighting)[0])
    # Neurons that come in pairs have a row more.
    own = {name: g for name, g in of_weights.items() if NEURONS <= g.shape[0] <= NEURONS + 1}
    assert own, "a readout has weights of each neuron"
    for name, gradient in own.items():
        assert not np.delete(gradient, chosen, axis=0).any(), name
    assert any(gradient[chosen].any() for gradient in own.values())


def test_gradients_are_finite_and_reach_weights_and_features(case):
    of_weights, of_features = case.pull(case.run.weights, normal(4, *case.out.shape))
    for name, gradient in leaves(of_weights).items():
        assert np.isfinite(gradient).all() and gradient.any(), name
    assert np.isfinite(of_features).all() and np.any(of_features)


def test_gradients_agree_with_finite_differences(case):
    """In float64, so that differences mean something."""
    with jax.enable_x64():

        def double(tree):
            return jax.tree.map(lambda x: jnp.asarray(np.asarray(x), jnp.float64), tree)

        given = [x for x in (case.features, case.shift) if x is not None]

        weights = double(case.run.weights)
        noise, given = double((case.noise, given))

        @jax.jit
        def out(params, features, shift=None):
            model = assemble(case.run.graph, weights.replace(params=params))
            return jnp.sum(jnp.sin(model(features, shift, noise)))

        check_grads(out, (weights.params, *given), 1, modes=["rev"], eps=1e-6)


def test_without_noise_the_answer_is_always_the_same(case):
    once = case.run(case.features, case.shift, None)
    assert np.array_equal(once, case.run(case.features, case.shift, None))
    assert np.array_equal(once, case.out) == (case.noise is None)


def test_noise_depends_on_the_key_only(case):
    draw = jax.jit(case.readout.draw_noise, static_argnums=(1, 2))
    if case.noise is None:
        assert draw(jax.random.key(1), BATCH, TIME) is None
        return
    assert np.array_equal(draw(jax.random.key(0), BATCH, TIME), case.noise)
    assert not np.array_equal(draw(jax.random.key(1), BATCH, TIME), case.noise)


def test_biases_start_at_the_mean_responses(case):
    out = case.run(0 * case.features, case.shift, case.noise)
    expected = np.broadcast_to(np.linspace(0.5, 1.5, NEURONS), out.shape)
    np.testing.assert_allclose(out, expected, rtol=1e-6)


def test_the_same_seed_gives_the_same_weights_and_another_others(case):
    first, again, other = (leaves(separate(build(case.name, seed))[1]) for seed in (0, 0, 1))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert any(not np.array_equal(first[name], other[name]) for name in first)


def test_a_second_call_with_equal_shapes_does_not_trace_again(case):
    traces = case.run.traces
    case.run(case.features + 1, case.shift, case.noise)
    assert case.run.traces == traces >= 1


def test_what_is_already_allowed_is_left_alone(case):
    model = assemble(case.run.graph, case.run.weights)
    model.constrain()
    found, before = leaves(separate(model)[1]), leaves(case.run.weights)
    assert all(np.array_equal(found[name], before[name]) for name in before)


def test_the_regularizer_is_a_finite_scalar(case):
    value = case.readout.regularizer()
    assert jnp.shape(value) == () and np.isfinite(value) and value >= 0


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("name", NAMES)
def test_the_features_of_all_neurons_are_never_held_at_once(name, backward):
    """The compiled program's scratch memory stays far below [batch*time channel neuron]."""
    frames, channels, neurons = 80, 256, 1000
    readout = build(name, neurons=neurons, channels=channels)
    graph, weights = separate(readout)
    noise = readout.draw_noise(jax.random.key(0), 1, frames)

    def out(params, features):
        model = assemble(graph, weights.replace(params=params))
        return jnp.sum(jnp.square(model(features, None, noise)))

    features = jnp.zeros((1, frames, HEIGHT, WIDTH, channels))
    function = jax.grad(out, (0, 1)) if backward else out
    compiled = jax.jit(function).lower(weights.params, features).compile()
    used = compiled.memory_analysis().temp_size_in_bytes
    forbidden = 4 * frames * channels * neurons
    assert used < forbidden / 4, f"{used / 1e6:.1f} MB, all at once are {forbidden / 1e6:.1f} MB"
