"""The contract of every metric: the classes of `metrics` are listed, each is asked the same."""

import inspect
import itertools
import os
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sensojax import losses, metrics, moments
from tests.goldens import REPOSITORY


def correlation(predicted, observed):
    """numpy in float64 on whole arrays [frame neuron], as the benchmark defines it."""

    def scored(x):
        return (x - x.mean(0)) / (x.std(0) + 1e-8)

    return (scored(predicted) * scored(observed)).mean(0)


def poisson_loss(predicted, observed):
    return (predicted - observed * np.log(predicted + 1e-8)).mean(0)


# What each metric must equal on the counted frames, [frame neuron] float64. Another class in
# metrics.py with `of(predicted, observed, valid)` needs a line here.
NUMPY = {"Correlation": correlation, "PoissonLoss": poisson_loss}
METRICS = {
    name: cls
    for name, cls in inspect.getmembers(metrics, inspect.isclass)
    if hasattr(cls, "of")
    and list(inspect.signature(cls.of).parameters)[:3] == ["predicted", "observed", "valid"]
}
every_metric = pytest.mark.parametrize("name", METRICS)


def responses(seed=0, batch=6, time=40, neurons=7):
    rng = np.random.default_rng(seed)
    observed = rng.gamma(1.0, 1.0, (batch, time, neurons)).astype(np.float32)
    noise = rng.gamma(1.0, 1.0, observed.shape).astype(np.float32)
    valid = rng.random((batch, time)) < 0.7
    return 0.4 * observed + noise, observed, valid


def total(name, arrays, parts):
    metric = METRICS[name]
    sums = [metric.of(*(array[part] for array in arrays)) for part in parts]
    return sum(sums, start=metric.zero(arrays[0].shape[2]))


def test_metrics_of_the_module_are_found():
    assert set(METRICS) == set(NUMPY)


@every_metric
def test_whole_equals_numpy_on_the_frames_that_count(name):
    predicted, observed, valid = responses()
    expected = NUMPY[name](predicted[valid].astype(np.float64), observed[valid].astype(np.float64))
    found = METRICS[name].of(predicted, observed, valid).value()
    np.testing.assert_allclose(found, expected, rtol=1e-6)  # float32 within a batch


@every_metric
@pytest.mark.parametrize("cuts", [[], [3], [1, 2, 3, 4, 5], [0, 0, 5, 6]])
def test_sum_over_any_split_is_the_whole(name, cuts):
    arrays = responses()
    edges = [0, *cuts, len(arrays[0])]
    parts = [slice(*pair) for pair in itertools.pairwise(edges) if pair[0] < pair[1]]
    found = total(name, arrays, parts)
    np.testing.assert_allclose(found.value(), METRICS[name].of(*arrays).value(), rtol=1e-6)
    backwards = total(name, arrays, parts[::-1])
    np.testing.assert_allclose(backwards.value(), found.value(), rtol=1e-12)  # float64 on the host


@every_metric
@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e30])
def test_frames_that_do_not_count_change_nothing(name, garbage):
    predicted, observed, valid = responses()
    spoilt = [
        np.where(valid[:, :, None], array, np.float32(garbage)) for array in (predicted, observed)
    ]
    found, expected = METRICS[name].of(*spoilt, valid), METRICS[name].of(predicted, observed, valid)
    jax.tree.map(np.testing.assert_array_equal, found.on_host(), expected.on_host())


@every_metric
def test_batch_without_a_frame_that_counts_adds_nothing(name):
    predicted, observed, valid = responses()
    sums = METRICS[name].of(predicted, observed, valid)
    nothing = METRICS[name].of(predicted * np.nan, observed, np.zeros_like(valid))
    for both in (sums + nothing, nothing + sums, METRICS[name].zero(7) + sums):
        np.testing.assert_array_equal(both.value(), sums.value())


@every_metric
def test_sums_merge_inside_jit_and_across_an_axis(name):
    arrays = responses()
    metric = METRICS[name]
    stacked = [array[:, None] for array in arrays]  # six batches of one trial
    merged = jax.jit(lambda *batch: metrics.merge(jax.vmap(metric.of)(*batch)))(*stacked)
    expected = metric.of(*arrays).value()
    np.testing.assert_allclose(merged.value(), expected, rtol=1e-6)

    def device(*batch):
        return metrics.across_axis(metric.of(*batch), "data")

    everywhere = jax.vmap(device, axis_name="data")(*stacked)
    for part in range(len(arrays[0])):
        one = jax.tree.map(lambda leaf, part=part: leaf[part], everywhere)
        np.testing.assert_allclose(one.value(), expected, rtol=1e-6)


@every_metric
def test_one_host_alone_keeps_its_sums(name):
    sums = METRICS[name].of(*responses())
    np.testing.assert_array_equal(metrics.across_hosts(sums).value(), sums.value())


@every_metric
def test_second_batch_of_a_shape_does_not_trace_again(name):
    METRICS[name].of(*responses(seed=0))
    with jax.no_tracing():
        METRICS[name].of(*responses(seed=1))


@every_metric
def test_unequal_shapes_are_refused_and_not_broadcast(name):
    predicted, observed, valid = responses()
    with pytest.raises(ValueError, match=r"\(6, 40, 7\).*\(6, 40, 1\)"):
        METRICS[name].of(predicted, observed[:, :, :1], valid)
    with pytest.raises(ValueError, match=r"\(6, 1\)"):
        METRICS[name].of(predicted, observed, valid[:, :1])


def test_correlation_of_equal_opposite_and_constant_traces():
    rng = np.random.default_rng(0)
    trace = rng.gamma(1.0, 1.0, (4, 50)).astype(np.float32)
    still = np.full_like(trace, 0.3)
    observed = np.stack([trace, trace, trace, still, still], axis=2)
    predicted = np.stack([trace * 3 + 1, -trace, still, trace, still], axis=2)
    valid = np.ones((4, 50), bool)
    parts = [slice(k, k + 1) for k in range(4)]
    found = total("Correlation", (predicted, observed, valid), parts)
    np.testing.assert_allclose(found.value(), [1, -1, 0, 0, 0], atol=1e-6)
    assert (found.value()[2:] == 0).all()  # exactly, however the trials were split
    np.testing.assert_array_equal(found.constant(), [False, False, True, True, True])
    assert not found.undefined().any()


def test_correlation_survives_means_of_a_hundred_spreads_over_many_frames():
    rng = np.random.default_rng(0)
    frames, neurons = 200_000, 6
    signal = rng.normal(0, 1, (frames, neurons))
    drift = np.linspace(0, 1, frames)[:, None]
    observed = (100 + drift + signal).astype(np.float32)[None]
    predicted = (-300 + 2 * drift + 0.5 * signal + rng.normal(0, 1, signal.shape)).astype(
        np.float32
    )
    predicted = predicted[None]
    valid = np.ones((1, frames), bool)
    expected = correlation(predicted[0].astype(np.float64), observed[0].astype(np.float64))

    batches = [
        (predicted[:, k : k + 1000], observed[:, k : k + 1000]) for k in range(0, frames, 1000)
    ]
    sums = [metrics.Correlation.of(p, o, valid[:, :1000]) for p, o in batches]
    merged = sum(sums, start=metrics.Correlation.zero(neurons))
    np.testing.assert_allclose(merged.value(), expected, atol=1e-6, rtol=0)
    on_device = jax.jit(metrics.merge)(jax.tree.map(lambda *leaves: np.stack(leaves), *sums))
    np.testing.assert_allclose(on_device.value(), expected, atol=1e-6, rtol=0)
    at_once = metrics.Correlation.of(predicted, observed, valid)
    np.testing.assert_allclose(at_once.value(), expected, atol=1e-6, rtol=0)  # all in float32


def made_difficult() -> dict[str, np.ndarray]:
    """What makes one pass over float32 lose digits, [frame neuron] each."""
    rng = np.random.default_rng(0)
    signal = rng.normal(0, 1, (1000, 8))
    first = np.arange(1000)[:, None] == 0
    return {
        "a mean of ten thousand spreads": 1e4 + signal,
        "drifting far": signal + np.linspace(0, 1e3, 1000)[:, None],
        "another level in the middle": signal + 1e4 * (np.arange(1000)[:, None] > 400),
        "an outlier where the origin is taken": signal + 1e4 * first,
        "silent but for a few events": (rng.random(signal.shape) < 0.01) * 30.0,
        "a late beginning": np.where(np.arange(1000)[:, None] < 900, 5.0, 5 + signal),
    }


@pytest.mark.parametrize("what", made_difficult())
def test_one_pass_over_float32_agrees_with_float64(what):
    observed = made_difficult()[what].astype(np.float32)
    noise = np.random.default_rng(1).normal(0, 1, observed.shape)
    predicted = (0.3 * observed + noise).astype(np.float32)
    expected = correlation(predicted.astype(np.float64), observed.astype(np.float64))
    for length in (1000, 250):  # several chunks, and one
        parts = [slice(k, k + length) for k in range(0, 1000, length)]
        arrays = [np.stack([each[part] for part in parts]) for each in (predicted, observed)]
        valid = np.ones((len(parts), length), bool)
        whole = metrics.Correlation.of(*arrays, valid)
        np.testing.assert_allclose(whole.value(), expected, atol=1e-6, rtol=0)
        merged = total(
            "Correlation", (*arrays, valid), [slice(k, k + 1) for k in range(len(parts))]
        )
        np.testing.assert_allclose(merged.value(), expected, atol=1e-6, rtol=0)
    exact = ((observed - observed.mean(0, dtype=np.float64)) ** 2).sum(0)
    np.testing.assert_allclose(whole.squares_observed, exact, rtol=1e-6)


def test_rounding_errors_of_many_chunks_are_carried_along():
    """Added up plainly in float32, 100,000 chunks would be 1e-3 off."""
    one = tuple(np.full(3, each, np.float32) for each in (2, 0.5, 0.5, 1.1, 1.1, 0.3))

    def add(_, so_far):
        return moments._merged(*so_far, one)

    none = jnp.zeros(3)
    begun = (jnp.zeros(3), none, none, none, none, none), (none,) * 5
    sums, lost = jax.jit(lambda: jax.lax.fori_loop(0, 100_000, add, begun))()
    found = np.asarray(sums[3], np.float64) + np.asarray(lost[2], np.float64)
    np.testing.assert_allclose(found, 100_000 * np.float64(one[3]), rtol=1e-6)


def test_not_a_number_in_a_counted_frame_makes_that_neuron_zero():
    predicted, observed, valid = responses()
    clean = metrics.Correlation.of(predicted, observed, valid).value()
    observed[1, np.flatnonzero(valid[1])[3], 2] = np.nan
    predicted[4, np.flatnonzero(valid[4])[0], 5] = np.nan
    parts = [slice(k, k + 2) for k in range(0, 6, 2)]
    found = total("Correlation", (predicted, observed, valid), parts)
    assert np.flatnonzero(found.undefined()).tolist() == [2, 5]
    assert (found.value()[[2, 5]] == 0).all()
    others = [0, 1, 3, 4, 6]
    np.testing.assert_allclose(found.value()[others], clean[others], rtol=1e-6)


def test_skipping_not_a_number_leaves_out_its_frame_for_its_neuron_only():
    predicted, observed, valid = responses()
    first = np.flatnonzero(valid[0])[0]  # where the origin would be taken
    observed[0, first, 2] = np.nan
    predicted[3, :, 4] = np.nan
    observed[:, :, 6] = np.nan
    for parts in ([slice(0, 6)], [slice(k, k + 1) for k in range(6)]):
        sums = [
            metrics.Correlation.of(predicted[p], observed[p], valid[p], nan_rule="skip")
            for p in parts
        ]
        found = sum(sums, start=metrics.Correlation.zero(7, nan_rule="skip"))
        for neuron in range(6):
            keep = valid & ~np.isnan(observed[..., neuron]) & ~np.isnan(predicted[..., neuron])
            pair = [each[keep][:, [neuron]].astype(np.float64) for each in (predicted, observed)]
            np.testing.assert_allclose(found.value()[neuron], correlation(*pair)[0], rtol=1e-6)
        assert found.value()[6] == 0
        assert np.flatnonzero(found.undefined()).tolist() == [6]


@pytest.mark.parametrize("skip_nan", [False, True])
@pytest.mark.parametrize("frames", [1, 5, 320, 321, 700])
def test_both_lowerings_of_the_moments_agree(frames, skip_nan):
    rng = np.random.default_rng(frames)
    predicted, observed = rng.normal(3, 1, (2, frames, 4)).astype(np.float32)
    observed[0, 1] = np.nan if skip_nan else 1.0
    valid = rng.random(frames) < 0.8
    valid[-1] = True
    origins = predicted[-1] + 1, np.zeros(4, np.float32)
    arrays = jax.tree.map(jnp.asarray, (predicted, observed, valid, *origins))
    loop = moments.in_chunks(*arrays, skip_nan=skip_nan)
    whole = moments.at_once(*arrays, skip_nan=skip_nan)
    for one, other in zip(loop, whole, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)  # float32, other order of sums


def test_mean_is_taken_over_counted_frames_of_any_quantity():
    values, _, valid = responses()
    sums = metrics.Mean.of(values[:2], valid[:2]) + metrics.Mean.of(values[2:], valid[2:])
    np.testing.assert_allclose(sums.value(), values[valid].mean(0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_array_equal(sums.count, valid.sum())


def test_poisson_metric_is_the_mean_of_the_loss_that_trains():
    arrays = responses()
    loss = losses.poisson(*arrays, reduction="mean")
    np.testing.assert_allclose(metrics.PoissonLoss.of(*arrays).value().mean(), loss, rtol=1e-6)


def test_sums_of_different_kinds_are_not_added():
    arrays = responses()
    one = metrics.Correlation.of(*arrays)
    with pytest.raises(TypeError, match="expected sums of one kind"):
        one + metrics.PoissonLoss.of(*arrays)
    with pytest.raises(TypeError, match="expected sums of one kind"):
        one + metrics.Correlation.of(*arrays, nan_rule="skip")
    with pytest.raises(ValueError, match="nan_rule 'ignore'"):
        metrics.Correlation.of(*arrays, nan_rule="ignore")


def test_mouse_with_more_neurons_weighs_more():
    assert metrics.mean_over_neurons([np.full(3, 1.0), np.full(1, 0.0)]) == 0.75
    assert np.isnan(metrics.mean_over_neurons([]))


PROCESS = """
import sys
import jax, numpy as np
number, port = int(sys.argv[1]), sys.argv[2]
jax.distributed.initialize(f"localhost:{port}", 2, number)
from sensojax import metrics
rng = np.random.default_rng(0)
predicted, observed = rng.gamma(1.0, 1.0, (2, 4, 30, 5)).astype(np.float32)
valid = rng.random((4, 30)) < 0.7
mine = slice(0, 1) if number == 0 else slice(1, 4)
sums = metrics.across_hosts(metrics.Correlation.of(predicted[mine], observed[mine], valid[mine]))
one, two = (
    metrics.Correlation.of(predicted[part], observed[part], valid[part])
    for part in (slice(0, 1), slice(1, 4))
)
np.testing.assert_array_equal(sums.value(), (one + two).value())
print("the same", sums.value().tobytes().hex())
"""


@pytest.mark.slow
def test_two_processes_agree_with_one_to_the_last_bit():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(REPOSITORY)}
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(number), port],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for number in range(2)
    ]  # fmt: skip
    try:
        said = [run.communicate(timeout=120)[0].splitlines() for run in runs]
    finally:
        for run in runs:
            run.kill()
    same = [[line for line in lines if line.startswith("the same")] for lines in said]
    assert len(same[0]) == 1, said
    assert same[0] == same[1]
