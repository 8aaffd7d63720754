"""Filters that turn: the basis by its definition, rotations by what they do to drawn filters."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sensojax.models import hermite
from tests.goldens import assert_close


def drawn(coefficients, size, turns, oriented=False, upsampling=2):
    """[rotation height width channel feature] of coefficients [function channel feature]."""
    expand = functools.partial(hermite.expand, upsampling=upsampling, oriented=oriented)
    arrays = coefficients, hermite.basis(size, upsampling), hermite.rotations(size, turns)
    kernel = jax.jit(expand)(*(jnp.float32(each) for each in arrays))
    size, _, channel, _ = kernel.shape
    return np.moveaxis(np.reshape(kernel, (size, size, channel, turns, -1)), 3, 0)


def random(*shape):
    return np.random.default_rng(0).normal(size=shape)


@pytest.mark.parametrize("size", [1, 3, 6])
def test_the_basis_has_every_order_once_and_functions_of_length_one(size):
    found = hermite.basis(size, upsampling=2)
    assert found.shape == (size * (size + 1) // 2, 2 * size, 2 * size)
    np.testing.assert_allclose(np.sum(found**2, (1, 2)), 1.0, rtol=1e-12)
    # On a fine grid that reaches far enough the functions are orthogonal, as Hermite's are.
    wide = hermite.basis(size, upsampling=40).reshape(len(found), -1)
    off = wide @ wide.T - np.eye(len(found))
    assert np.abs(off).max() < 0.15  # the grid ends where the highest orders are not yet zero


def test_the_first_functions_are_a_gaussian_its_slopes_and_a_ring():
    size, points = 4, 8
    grid = np.linspace(-4, 4, points) * (1 - 1 / points)
    x, y = np.meshgrid(grid, grid)
    gaussian = np.exp(-(x**2 + y**2) / 4)
    known = [
        gaussian,
        x * gaussian,
        y * gaussian,
        (x**2 + y**2 - 2) * gaussian,
        (x**2 - y**2) * gaussian,
        2 * x * y * gaussian,
    ]
    for found, expected in zip(hermite.basis(size, 2), known, strict=False):
        np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-12)


@pytest.mark.parametrize("count", [1, 4, 6])
def test_rotations_are_a_circle(count):
    turns = hermite.rotations(5, count)
    np.testing.assert_allclose(turns[0], np.eye(15), atol=1e-12)
    step = turns[1 % count]
    for index, turn in enumerate(turns):
        np.testing.assert_allclose(np.linalg.matrix_power(step, index), turn, atol=1e-12)
        np.testing.assert_allclose(turn @ turn.T, np.eye(15), atol=1e-12)
    np.testing.assert_allclose(np.linalg.matrix_power(step, count), np.eye(15), atol=1e-12)


@pytest.mark.parametrize("upsampling", [1, 2])
def test_a_quarter_turn_is_that_of_the_pixels(upsampling):
    coefficients = random(15, 2, 3)
    found = drawn(coefficients, 5, 8, upsampling=upsampling)
    for quarter in range(4):
        assert_close(found[2 * quarter], np.rot90(found[0], quarter), 1e-6, f"{quarter} / 4")
    assert np.abs(found[1] - found[0]).max() > 0.1 * np.abs(found[0]).max()


def test_an_eighth_turn_is_that_of_the_function_in_the_plane():
    """A slope along x turned by 45 degrees is the slope along the diagonal, up on the screen."""
    along_x = np.zeros((10, 1, 1))
    along_x[1] = 1.0
    diagonal = np.zeros((10, 1, 1))
    diagonal[1], diagonal[2] = np.sqrt(0.5), -np.sqrt(0.5)  # rows run downwards
    assert_close(drawn(along_x, 4, 8)[1], drawn(diagonal, 4, 8)[0], 1e-6)


def test_filters_on_oriented_channels_turn_and_move_on_through_them():
    turns, features = 4, 2
    coefficients = random(6, turns * features, 3)
    found = drawn(coefficients, 3, turns, oriented=True)
    for turn in range(turns):
        moved = np.roll(found[0], turn * features, axis=2)
        assert_close(found[turn], np.rot90(moved, turn), 1e-6, f"{turn} / {turns}")
