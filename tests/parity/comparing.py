"""What parity tests of models share: tolerances, axes, and gradients beside the published ones."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from sensojax.interop import entries
from sensojax.models.encoder import assemble, separate
from tests.goldens import assert_close
from tests.models.made_up import QUICKLY

# Allowed: up to ten times what float32 itself does to the published code (goldens' README).
OUTPUT, GRADIENT = 5e-6, 5e-5
# Weights of the published modules that are no parameters of the model.
NOT_OURS = ("num_batches_tracked", "laplace.filter")


def channels_last(array):
    """batch, channel, [time,] height, width -> ours."""
    return jnp.asarray(np.moveaxis(array, 1, -1))


def gradient_of(function, model):
    """Value, auxiliary output and gradient of function(model), the gradient as a model."""
    graph, weights = separate(model)

    @functools.partial(jax.jit, compiler_options=QUICKLY)
    def run(params):
        return jax.value_and_grad(
            lambda p: function(assemble(graph, weights.replace(params=p))), has_aux=True
        )(params)

    (value, aux), gradient = run(weights.params)
    return value, aux, assemble(graph, weights.replace(params=gradient))


def assert_gradients(golden, prefix, listed, zero_up_to_rounding):
    """listed: entries of the model that holds the gradient."""
    found = entries.export(listed)
    expected = golden.part(prefix)
    biggest = max(np.abs(value).max() for value in expected.values())
    for name, value in expected.items():
        if f"{prefix}/{name}" in zero_up_to_rounding:
            assert np.abs(found[name]).max() <= 1e-4 * biggest, name
        else:
            assert_close(found[name], value, GRADIENT, f"{prefix}/{name}")
