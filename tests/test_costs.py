"""What programs cost, by counts and not by times: operations, bytes, memory, and waiting.

A count is the same on every machine, so a change that makes a step dearer fails here, at once and
whatever else runs; how fast a step is, only `scripts/bench.py` says. Elsewhere: nothing is compiled
twice (`training/test_step.py`, `test_experiment.py`), bytes cross to the device explicitly
(`test_experiment.py`), no readout holds all features (`models/test_every_readout.py`).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from scripts.benchmarks import counting, programs, scaling_points
from sensojax.experiments.experiment import Experiment
from sensojax.models import convolution
from sensojax.models.encoder import assemble, separate
from sensojax.training import mesh
from tests import runs
from tests.models import test_every_readout as readouts

# By model, of a training step and of a prediction of two mice of 50 neurons with 2 clips each:
# millions of operations and of bytes by XLA's analysis of the program before it is optimised (the
# same with any optimisation; the body of a loop counts once), and thousands of lines of it, which
# is what compiling takes. To be replaced when a change is meant to cost what it costs.
COUNTED = {
    "dynamic": ((3.45, 63.2, 5.46), (1.21, 28.4, 1.46)),
    "dynamic_gru": ((221.0, 341.0, 5.95), (44.7, 101.0, 1.6)),
    "dynamic_frames": ((5.77, 93.8, 3.94), (1.26, 31.0, 1.1)),
    "dynamic_dwiseneuro": ((39.8, 435.0, 5.5), (44.1, 470.0, 1.46)),
    "dynamic_viv1t": ((315.0, 1890.0, 7.85), (110.0, 766.0, 1.84)),
    "static": ((2.33, 20.7, 4.43), (0.93, 8.4, 1.28)),
}
# Megabytes that a compiled program needs, arguments and results included, on a CPU, with all
# optimisations.
HELD = {
    ("step", "dynamic"): 2.56,
    ("step", "dynamic_gru"): 15.7,
    ("step", "dynamic_frames"): 4.18,
    ("step", "dynamic_dwiseneuro"): 10.4,
    ("step", "dynamic_viv1t"): 69.8,
    ("step", "static"): 0.43,
    ("prediction", "dynamic"): 2.62,
    ("prediction", "dynamic_dwiseneuro"): 10.9,
}
# Versions of JAX write the same program with a few percent more or fewer operations, and their
# compilers lay out memory differently by up to a fifth; doubled work is twice.
MARGIN = 1.3
LAST = 6  # step
FAST = ("dynamic",)
PAGES = [pytest.param(page, marks=[] if page in FAST else pytest.mark.slow) for page in COUNTED]


@pytest.fixture(scope="module")
def lowered():
    """(training step, prediction) of the tiny preset of a page, lowered; nothing is allocated."""

    @functools.cache
    def of(page: str) -> dict[str, jax.stages.Lowered]:
        still = page == "static"
        config = runs.preset("tiny", page)
        length = dict(frames=config["data"]["window_frames"], trial_frames=1 if still else 60)
        size = dict(clips=2, height=24, width=32, columns=3 if still else 2)
        made = programs.Programs(config, programs.Sizes.of_mice(2, 50, **length, **size))
        return {
            "step": made.step.lower(*made.step_arguments),
            "prediction": made.predict.lower(*made.predict_arguments),
        }

    return of


@pytest.mark.parametrize("page", PAGES)
def test_programs_do_no_more_work_than_they_did(lowered, page):
    for (name, program), known in zip(lowered(page).items(), COUNTED[page], strict=True):
        found = counting.analysed(program)
        if found is None:
            pytest.skip("this backend gives no cost analysis")
        lines = len(program.as_text().splitlines())
        now = (found["flops"] / 1e6, found["bytes accessed"] / 1e6, lines / 1e3)
        for one, before in zip(now, known, strict=True):
            told = f"{name} of {page}: {now}, the table says {known}"
            assert one <= MARGIN * before, told
            assert one >= before / 2, f"{told}, which guards nothing any more: write the new ones"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "page"), HELD)
def test_compiled_programs_hold_no_more_memory_than_they_did(lowered, name, page):
    found = counting.memory(lowered(page)[name].compile())
    if found is None:
        pytest.skip("this backend gives no memory analysis")
    assert found.peak / 1e6 <= MARGIN * HELD[name, page], found


@pytest.mark.slow
def test_the_published_step_of_ten_mice_fits_a_card_of_24_gigabytes():
    """As accelerators lower it, every mouse with 8 clips; by the compiler, nothing is allocated."""
    asked = dict(mice=10, clips=8, neurons=7863, tiny=False, lowered=scaling_points.GPU)
    found = scaling_points.compiled("factorised", **asked, train={})["memory"]
    assert sum(found.values()) < 24e9, found
    fewer = scaling_points.compiled("factorised", **asked, train=dict(mice_at_once=2))["memory"]
    assert sum(fewer.values()) < sum(found.values()) / 3


# --- readout --------------------------------------------------------------------------------------


def test_memory_of_the_readout_grows_by_vectors_and_not_by_films_of_each_neuron():
    """Backward too: with each neuron come some vectors of features, and for each frame some
    numbers, and not a vector for each frame, which would be [batch*time, channel, neuron]."""
    frames, channels = 100, 256
    held = {n: held_by_the_readout(frames, channels, n) for n in (300, 900)}
    floats = (held[900] - held[300]) / 600 / 4
    # Measured: 5 vectors, and 11 numbers each frame (six of them kept, `gaussian2d._read`).
    assert floats <= MARGIN * (5 * channels + 11 * frames) < frames * channels / 5
    assert held[900] == pytest.approx(3 * held[300], rel=0.1)  # and nothing grows faster
    assert held[900] < 4 * frames * channels * 900 / 5


def held_by_the_readout(frames: int, channels: int, neurons: int) -> int:
    """Bytes between arguments and results of the Gaussian readout's backward pass."""
    build = functools.partial(readouts.build, "gaussian2d", neurons=neurons, channels=channels)
    graph, weights = separate(nnx.eval_shape(build))

    def pulled(params, features, noise, weights):
        model = assemble(graph, weights.replace(params=params))
        return jnp.sum(jnp.square(model(features, None, noise)))

    size = (1, frames, readouts.HEIGHT, readouts.WIDTH, channels)
    shapes = (programs.shape(*size), programs.shape(1, frames, neurons, 2))
    lowered = jax.jit(jax.grad(pulled, (0, 1))).lower(weights.params, *shapes, weights)
    found = counting.memory(lowered.compile())
    if found is None:
        pytest.skip("this backend gives no memory analysis")
    return found.temporary


# --- the loop of training -------------------------------------------------------------------------


class Unfinished:
    """A number that a step is still computing: who asks for it waits for the step."""

    def __init__(self, step: int, started: list):
        self.step, self.started = step, started

    def __array__(self, dtype=None, copy=None):
        assert len(self.started) in (self.step + 1, LAST), f"step {self.step} was waited for"
        return np.float32(1.0)


class Noted(list):
    """A journal that keeps the numbers of the steps it is told."""

    def step(self, done, **_):
        self.append(done)


@pytest.fixture(scope="module")
def experiment(data, cache):
    """One of two simulated mice, in whose loop nothing is saved."""
    config = runs.config(data, {"train.log_every": 3, "train.checkpoint_every": 10 * LAST})
    placement = mesh.Placement()
    with runs.cached(cache), jax.set_mesh(placement.mesh):
        yield Experiment(config, placement)


def test_programs_of_shapes_take_what_the_step_of_a_run_takes(experiment):
    stores, batches = experiment.stores, experiment.batches[0]
    first = next(iter(stores.values()))
    size = dict(height=first.height, width=first.width, trial_frames=first.max_frames)
    neurons = {mouse: len(store.neurons) for mouse, store in stores.items()}
    clips, frames = next(iter(batches.values())).valid.shape
    sizes = programs.Sizes(neurons, clips, frames, **size)
    made = programs.Programs(experiment.config, sizes)

    def shapes(tree):
        return jax.tree.map(lambda x: (x.shape, x.dtype), tree)

    real = (experiment.state, batches, experiment.statistics)
    assert shapes(made.step_arguments[:3]) == shapes(real)
    assert shapes(made.numbers()[:2]) == shapes(real[:2])


def test_the_loop_waits_for_a_step_only_when_the_next_one_has_started(experiment):
    """And never for its state."""
    started, noted = [], Noted()

    def train_step(*given):
        started.append(given)
        names = ("loss", "loss_per_response", "gradient_norm")
        measured = {each: Unfinished(len(started), started) for each in names}
        return object(), measured | {"parts": {}}

    experiment.train_step, experiment.interval = train_step, LAST
    experiment.train_to_next_evaluation(noted, saved=None)
    assert len(started) == LAST and noted == [3, 6]


# --- counting itself ------------------------------------------------------------------------------


def test_counted_operations_are_those_of_xla_where_nothing_loops():
    def both(x, kernel, weights):
        seen = convolution._spatial_direct((1, 2), (2, 1), (1, 1), x, kernel)
        return jnp.einsum("bthwc,cn->bn", seen, weights)

    shapes = [programs.shape(*size) for size in ((2, 3, 9, 12, 4), (3, 5, 4, 6), (6, 7))]
    for function in (both, jax.grad(lambda *a: jnp.sum(both(*a) ** 2), (0, 1, 2))):
        jitted = jax.jit(function)
        found = counting.analysed(jitted.lower(*shapes))
        counted = counting.work(jitted, *shapes)
        # XLA counts a few percent more, for sums and squares.
        assert counted.operations <= found["flops"] <= 1.15 * counted.operations


def test_a_loop_counts_as_often_as_it_runs_and_a_platform_has_its_own_branch():
    product = jax.jit(lambda x: jax.lax.map(lambda y: y @ y, x))
    x = programs.shape(10, 8, 8)
    assert counting.work(product, x) == counting.Work(10 * 2 * 8**3, 10 * 3 * 8 * 8 * 4)

    def chosen(x):
        return jax.lax.platform_dependent(x, cpu=lambda x: x @ x, default=lambda x: x @ x @ x)

    y = programs.shape(8, 8)
    found = [counting.work(jax.jit(chosen), y, platform=each) for each in ("cpu", "default")]
    assert [each.operations for each in found] == [2 * 8**3, 4 * 8**3]
