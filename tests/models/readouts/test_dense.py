"""The dense readout: a product with all features of all pixels, of squares' greatest values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sensojax.errors import UserError
from sensojax.models import layers
from sensojax.models.readouts import dense
from tests.goldens import assert_close
from tests.models.made_up import QUICKLY, Running, leaves, normal, unfilled

PLACES = np.zeros((4, 3))
FEATURES = normal(0, 2, 3, 5, 7, 2)


def readout(pool=1, map_size=(5, 7)):
    made = unfilled(
        lambda: dense.Readout(2, PLACES, map_size=map_size, pool=pool, rngs=nnx.Rngs(0))
    )
    made.weight[...] = normal(1, *made.weight.shape)
    made.bias[...] = np.arange(4.0, dtype=np.float32)
    return made


def test_of_a_whole_map_every_channel_gives_its_greatest_value():
    made = readout(0)
    assert made.weight.shape == (4, 2)
    expected = np.asarray(FEATURES).max((2, 3)) @ np.asarray(made.weight[...]).T + np.arange(4)
    found = Running(made, lambda model, x: model(x))(FEATURES)
    assert_close(found, expected, 2e-6)


@pytest.mark.parametrize("pool", [1, 2, 3])
def test_a_neuron_is_a_weighted_sum_of_the_greatest_values_of_squares(pool):
    made = readout(pool)
    height, width = 5 // pool, 7 // pool
    expected = np.zeros((2, 3, 4)) + np.arange(4)
    weight = np.asarray(made.weight[...]).reshape(4, height, width, 2)
    for row in range(height):
        for column in range(width):
            square = np.asarray(FEATURES)[
                :, :, row * pool : (row + 1) * pool, column * pool : (column + 1) * pool
            ]
            greatest = square.max((2, 3))
            expected += np.einsum("btc,nc->btn", greatest, weight[:, row, column])
    found = Running(made, lambda model, x: model(x))(FEATURES)
    assert_close(found, expected, 2e-6)


def test_gradients_stay_numbers_where_the_compiler_computes_features_twice():
    """As it does with batch norm's: a square's greatest value is then nowhere in the square."""
    norm = layers.BatchNorm(2, weight_of_new=0.1)

    def total(norm, x):
        return jnp.sum(jnp.sin(dense.greatest(norm(x, train=True), (4, 4))))

    run = Running(norm, total)
    gradient = jax.jit(jax.grad(run.pure, (0, 1), allow_int=True), compiler_options=QUICKLY)
    found = gradient(run.weights, normal(0, 4, 12, 12, 14, 2))
    assert all(np.isfinite(each).all() for each in leaves(found).values())


def test_maps_and_pools_that_do_not_fit_are_refused():
    with pytest.raises(
        UserError, match=r"found features of \(5, 7\) pixels for weights of \(5, 6\)"
    ):
        jax.eval_shape(lambda: readout(map_size=(5, 6))(FEATURES))
    for pool in (-1, 6):
        with pytest.raises(UserError, match=f"found readout.pool {pool} for a map of 5 by 7"):
            readout(pool)
