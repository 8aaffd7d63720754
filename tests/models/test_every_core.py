"""The contract of every core, which is every file in the folder of cores.

A file has `Core` and `TINY`, its smallest useful settings. A core is built from the number of input
channels, its settings and `rngs`, and from `frame_size` if it asks for that; it has
`num_features`, `causal`, `lost_frames`, `map_size`, `map_to_image` and `regularizers`, and is
called with (video, train=...). A core with a recurrence behind it keeps the contract too.
"""

import importlib
import inspect
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from scripts.benchmarks import counting
from sensojax.models import composed, cores, recomputing, recurrent
from sensojax.models.encoder import assemble, separate
from tests.models.made_up import QUICKLY, Running, leaves, normal

NAMES = [module.name for module in pkgutil.iter_modules(cores.__path__)]
RECURRENCES = [module.name for module in pkgutil.iter_modules(recurrent.__path__)]
# A recurrence compiles for long; the fast tests have it in test_composed and in its own.
BOTH = [pytest.param(f"factorized3d+{name}", marks=pytest.mark.slow) for name in RECURRENCES]
FRAMES, HEIGHT, WIDTH, CHANNELS = 4, 15, 17, 3  # FRAMES: of the result


class Case:
    """One core, its video, and the few programs that the tests share."""

    def __init__(self, name):
        self.name, *self.behind = name.split("+")
        core = self.build(seed=0)
        self.core, self.lost = core, core.lost_frames
        self.video = normal(0, 2, self.lost + FRAMES, HEIGHT, WIDTH, CHANNELS)
        self.evaluate = Running(core, lambda model, video: model(video, train=False))
        self.features = self.evaluate(self.video)
        # How a random weighting of the result depends on each pixel.
        self.pull = jax.jit(
            lambda weights, video, weighting: jax.grad(
                lambda v: jnp.sum(self.evaluate.pure(weights, v) * weighting)
            )(video),
            compiler_options=QUICKLY,
        )

    def build(self, seed: int) -> nnx.Module:
        rngs = nnx.Rngs(seed)
        module = importlib.import_module(f"{cores.__name__}.{self.name}")
        asks = inspect.signature(module.Core.__init__).parameters
        size = {"frame_size": (HEIGHT, WIDTH)} if "frame_size" in asks else {}
        core = module.Core(CHANNELS, **module.TINY, **size, rngs=rngs)
        for name in self.behind:
            module = importlib.import_module(f"{recurrent.__name__}.{name}")
            core = composed.Core(
                core, module.Recurrence(core.num_features, **module.TINY, rngs=rngs)
            )
        return core

    def gradient(self, chosen, weights=None) -> np.ndarray:
        """Of a random weighting of the features at index `chosen`, with respect to the video."""
        weighting = (
            jnp.zeros_like(self.features).at[chosen].set(normal(1, *self.features.shape)[chosen])
        )
        weights = self.evaluate.weights if weights is None else weights
        return np.asarray(self.pull(weights, self.video, weighting))


@pytest.fixture(scope="module", params=[*NAMES, *BOTH])
def case(request):
    return Case(request.param)


def test_there_are_cores():
    assert NAMES


def test_features_of_the_last_frames_come_out(case):
    batch, time, height, width, feature = case.features.shape
    assert (batch, feature) == (2, case.core.num_features)
    assert time == case.video.shape[1] - case.lost == FRAMES
    assert 1 <= height <= HEIGHT and 1 <= width <= WIDTH
    assert case.core.map_size(HEIGHT, WIDTH) == (height, width)
    assert case.features.dtype == jnp.float32 and np.isfinite(case.features).all()


def test_a_causal_core_never_sees_later_frames(case):
    for frame in range(FRAMES):
        by_frame = np.abs(case.gradient(np.s_[:, frame])).max(axis=(0, 2, 3, 4))
        now = frame + case.lost
        assert by_frame[now] > 0, "a frame must see itself"
        if case.core.causal:
            assert not by_frame[now + 1 :].any()


def test_lost_frames_are_all_that_the_first_result_needs(case):
    by_frame = np.abs(case.gradient(np.s_[:, 0])).max(axis=(0, 2, 3, 4))
    assert (by_frame[: case.lost + 1] > 0).all()


def test_examples_do_not_influence_each_other_in_evaluation(case):
    changed = case.evaluate(case.video.at[1].set(100 * normal(5, *case.video.shape[1:])))
    assert np.array_equal(changed[0], case.features[0])
    assert not np.array_equal(changed[1], case.features[1])
    assert not case.gradient(np.s_[0])[1].any()


def test_gradients_of_all_weights_are_finite_and_reach_every_filter(case):
    def loss(weights):
        return jnp.sum(training.pure(weights, case.video) * normal(2, *case.features.shape))

    training = Running(case.core, lambda model, video: model(video, train=True))
    for name, gradient in leaves(
        jax.jit(jax.grad(loss), compiler_options=QUICKLY)(case.evaluate.weights).params
    ).items():
        assert np.isfinite(gradient).all(), name
        # A bias in front of batch norm has no effect; every filter has one.
        assert gradient.ndim < 2 or np.abs(gradient).max() > 0, name


@pytest.mark.slow
def test_computed_again_layers_have_the_same_gradients_and_statistics(case):
    """And more work is done, so something is computed again."""
    if case.behind:
        pytest.skip("recurrences compute again by themselves")

    def loss(weights, again):
        model = assemble(case.evaluate.graph, weights)
        if again:
            recomputing.turn_on(model)
        out = model(case.video, train=True) * normal(2, *case.features.shape)
        return jnp.sum(out), separate(model)[1].statistics

    gradient = jax.jit(jax.grad(loss, has_aux=True), static_argnums=1, compiler_options=QUICKLY)
    weights = case.evaluate.weights
    (kept, statistics), (again, others) = gradient(weights, False), gradient(weights, True)
    expected, found = leaves((kept.params, statistics)), leaves((again.params, others))
    # Some offsets have no effect: their gradients are rounding errors of those of the others.
    largest = max((np.abs(each).max() for each in expected.values()), default=0.0)
    for name, each in expected.items():
        np.testing.assert_allclose(found[name], each, rtol=1e-5, atol=1e-5 * largest, err_msg=name)
    done = [counting.work(gradient, weights, each).operations for each in (False, True)]
    assert done[1] > done[0] or case.name in ("pixels", "linear")  # which have no layers


def test_the_same_seed_gives_the_same_weights_and_another_others(case):
    first, again, other = (leaves(separate(case.build(seed))[1]) for seed in (0, 0, 1))
    assert first.keys() == other.keys()
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not first or any(not np.array_equal(first[name], other[name]) for name in first)


def test_a_second_call_with_equal_shapes_does_not_trace_again(case):
    traces = case.evaluate.traces
    assert traces >= 1
    case.evaluate(case.video + 1)
    assert case.evaluate.traces == traces


def test_evaluation_changes_nothing_in_the_core(case):
    def run(weights, video):
        model = assemble(case.evaluate.graph, weights)
        before = jax.tree.leaves(separate(model)[1])
        model(video, train=False)
        after = jax.tree.leaves(separate(model)[1])
        assert all(one is other for one, other in zip(before, after, strict=True))

    jax.eval_shape(run, case.evaluate.weights, case.video)


def test_map_to_image_finds_the_centre_of_the_receptive_field(case):
    """The centre of the squared gradient, averaged over random weights, by pixel of the video."""
    height, width = case.features.shape[2:4]
    if (height, width) == (1, 1):  # its only point sees everything
        points = jnp.array([[0.0, 0.0], [0.3, -1.0]])
        assert not np.any(case.core.map_to_image(points, HEIGHT, WIDTH))
        return
    seeds = [separate(case.build(seed))[1] for seed in range(12)]
    for row, column in ((height // 2, width // 2), (height // 2 - 1, width // 2 + 1)):
        energy = sum(
            np.square(case.gradient(np.s_[:, :, row, column], weights)).sum(axis=(0, 1, 4))
            for weights in seeds
        )
        found = [np.sum(energy * grid) / energy.sum() for grid in np.mgrid[:HEIGHT, :WIDTH]]
        point = jnp.array([[2 * column / (width - 1) - 1, 2 * row / (height - 1) - 1]])
        x, y = (np.asarray(case.core.map_to_image(point, HEIGHT, WIDTH))[0] + 1) / 2
        expected = [y * (HEIGHT - 1), x * (WIDTH - 1)]
        assert np.abs(np.subtract(found, expected)).max() < 0.2, (found, expected)


def test_regularizers_are_named_finite_scalars(case):
    parts = Running(case.core, lambda model: model.regularizers())()
    for name, value in parts.items():
        assert isinstance(name, str) and jnp.shape(value) == () and np.isfinite(value), name
        assert value >= 0
