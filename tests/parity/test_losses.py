"""Losses against the published ones: values and gradients, at zero and tiny rates too."""

import json

import jax
import numpy as np
import pytest

from sensojax import losses
from tests.goldens import Golden, assert_close, golden_files

# The published name, our function, what it is given as `predicted`, and its settings; a setting
# that names an input is that array.
PUBLISHED = {
    "poisson_2023": (losses.poisson, "rate", {"epsilon": 1e-8}),
    "poisson_2022": (losses.poisson, "rate", {"epsilon": 1e-12}),
    "poisson_2023_full": (losses.poisson, "rate", {"epsilon": 1e-8, "full": True}),
    "gamma": (losses.gamma, "concentration", {"rate": "positive_rate"}),
    "gaussian": (losses.gaussian, "rate", {"variance": "variance"}),
    "exponential": (losses.exponential, "positive_rate", {}),
    "anscombe": (losses.anscombe, "positive_rate", {}),
}
ELSEWHERE = {"poisson_lagged", "correlation", "negative_mean_correlation"}
# Ten times what float32 and float64 of the published code differ by, and never less than a few
# float32 roundings.
FACTOR, FLOOR = 10, 1e-6

FILES = pytest.mark.parametrize("path", golden_files("11a_losses"))


def compare(golden, key, value, gradient):
    """Value and gradient against the published ones, at the file's own tolerance."""
    observed = json.loads(str(golden["observed_float32_vs_float64"]))
    for part, found in (("output", value), ("grad", gradient)):
        rounding = observed[f"{part}/{key}"]
        tolerance = max(FACTOR * rounding["max_abs_diff"] / rounding["max_abs"], FLOOR)
        expected = golden[f"output64/{key}" if part == "output" else f"grad/{key}"]
        assert_close(np.reshape(found, expected.shape), expected, tolerance, f"{part}/{key}")


def value_and_gradient(loss, predicted, *others, **settings):
    """The loss, and the gradient of its sum where it is one number per neuron."""

    def total(predicted):
        value = loss(predicted, *others, **settings)
        return value.sum(), value

    gradient, value = jax.grad(total, has_aux=True)(predicted)
    return value, gradient


def reductions(golden, name):
    return [key.split("/")[1] for key in golden.part("output") if key.startswith(f"{name}/")]


@FILES
def test_every_published_loss_is_compared(path):
    names = {key.split("/")[0] for key in Golden(path).part("output")}
    assert names <= set(PUBLISHED) | ELSEWHERE


@FILES
@pytest.mark.parametrize("name", PUBLISHED)
def test_value_and_gradient_are_the_published_ones(path, name):
    golden = Golden(path)
    loss, predicted, settings = PUBLISHED[name]
    settings = {
        key: golden[f"input/{value}"] if isinstance(value, str) else value
        for key, value in settings.items()
    }
    predicted, observed = golden[f"input/{predicted}"], golden["input/target"]
    valid = np.ones(observed.shape[:2], bool)
    found = reductions(golden, name)
    assert found
    for reduction in found:
        how = {"reduction": reduction.split("_")[0], "per_neuron": reduction.endswith("neuron")}
        both = value_and_gradient(loss, predicted, observed, valid, **settings, **how)
        compare(golden, f"{name}/{reduction}", *both)


@FILES
def test_lag_of_the_model_is_frames_that_do_not_count(path):
    """The published loss drops leading targets; here they stay and do not count."""
    golden = Golden(path)
    lead = golden["input/target_leading_frames"]
    observed = np.concatenate([lead, golden["input/target"]], axis=1)
    predicted = np.concatenate([np.full_like(lead, np.nan), golden["input/rate"]], axis=1)
    valid = np.ones(observed.shape[:2], bool)
    valid[:, : lead.shape[1]] = False
    value, gradient = value_and_gradient(losses.poisson, predicted, observed, valid)
    compare(golden, "poisson_lagged/sum", value, gradient[:, lead.shape[1] :])
    assert not np.asarray(gradient)[:, : lead.shape[1]].any()


@FILES
def test_correlation_losses_are_the_published_ones(path):
    """Published per neuron with its own sign, and as the negative mean; ours is negative always."""
    golden = Golden(path)
    predicted, observed = golden["input/rate"], golden["input/target"]
    arguments = (losses.correlation, predicted, observed, np.ones(observed.shape[:2], bool))
    frames = (-1, observed.shape[2])  # published after joining batch and time

    value, gradient = value_and_gradient(*arguments, per_neuron=True)
    compare(golden, "correlation/per_neuron", -value, -gradient.reshape(frames))
    value, gradient = value_and_gradient(*arguments)
    compare(golden, "negative_mean_correlation/mean", value, gradient.reshape(frames))
