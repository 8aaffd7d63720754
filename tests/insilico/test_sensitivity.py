"""Responses to stills and their derivatives, of a model whose fields are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sensojax.insilico import sensitivity
from sensojax.models.cores import stacked2d
from sensojax.models.encoder import Encoder
from sensojax.models.readouts import gaussian2d
from tests.models import made_up
from tests.models.made_up import unfilled

HEIGHT, WIDTH, NEURONS = 15, 19, 5
NOBODY = np.zeros((3, 2), np.float32)


@pytest.fixture(scope="module")
def model():
    """One layer of bumps on a picture and a plane of behaviour, neurons at known points."""

    def made():
        core = stacked2d.Core(2, channels=(2,), kernels=(5,), paddings=("valid",), rngs=nnx.Rngs(0))
        readout = gaussian2d.Readout(2, np.eye(NEURONS, 3), positions="learned", rngs=nnx.Rngs(0))
        return Encoder(core, {"ada": readout})

    model = unfilled(made)
    away = np.square(np.arange(-2, 3))
    bump = np.exp(-(away[:, None] + away) / 4.0)
    layer = model.core.layers[0]
    weight = np.stack([np.stack([bump, 0.5 * bump], -1), np.stack([-0.3 * bump, bump], -1)], -2)
    layer.filters.weight[...] = jnp.float32(weight)
    layer.norm.scale[...], layer.norm.variance[...] = jnp.ones(2), jnp.ones(2)
    readout = model.readouts["ada"]
    readout.mu[...] = jnp.float32([[0, 0], [-0.8, 0.6], [0.5, 0.5], [0.9, -0.9], [-0.3, -0.2]])
    readout.features[...] = jnp.float32(np.random.default_rng(0).normal(size=(NEURONS, 2)))
    return model


@pytest.fixture(scope="module")
def stills():
    return np.random.default_rng(1).normal(size=(3, HEIGHT, WIDTH, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def changes(model, stills):
    return sensitivity.derivatives(model, "ada", stills, NOBODY, list(range(NEURONS)))


def test_a_neuron_depends_on_the_pixels_around_the_point_that_its_readout_looks_at(model, changes):
    assert changes.shape == (3, NEURONS, HEIGHT, WIDTH)
    centres, reach = sensitivity.reach(np.square(changes).mean(0))
    points = model.core.map_to_image(model.readouts["ada"].positions(), HEIGHT, WIDTH)
    pixels = (np.asarray(points) + 1) / 2 * (WIDTH - 1, HEIGHT - 1)
    # The look-up between four pixels spreads a field, and not evenly where elu bends.
    np.testing.assert_allclose(centres, pixels, atol=0.35)
    assert (reach < 2.5).all() and (reach > 0.5).all()


def test_a_small_change_of_a_pixel_changes_responses_by_the_derivative(model, stills, changes):
    moved = stills.copy()
    moved[:, 7, 9, 0] += 1e-2
    found = [sensitivity.responses(model, "ada", each, NOBODY) for each in (moved, stills)]
    np.testing.assert_allclose(
        (found[0] - found[1]) / 1e-2, changes[:, :, 7, 9], atol=2e-2 * np.abs(changes).max()
    )
    assert np.abs(changes[:, 0, 7, 9]).min() > 0


def test_responses_do_not_depend_on_how_many_stills_are_shown_at_once(model, stills):
    expected = sensitivity.responses(model, "ada", stills, NOBODY)
    many, eyes = np.tile(stills, (12, 1, 1, 1)), np.tile(NOBODY, (12, 1))
    found = sensitivity.responses(model, "ada", many, eyes)  # 36, in two parts
    assert expected.shape == (3, NEURONS)
    np.testing.assert_allclose(found, np.tile(expected, (12, 1)), rtol=1e-6)


def test_a_still_is_shown_to_a_model_of_videos_for_longer_than_it_loses(model):
    assert sensitivity.frames_shown(model) == 1
    video = jax.eval_shape(lambda: made_up.encoder({"ada": 3}))
    assert sensitivity.frames_shown(video) == video.core.lost_frames + sensitivity.FRAMES_BEYOND


def test_reach_of_a_gaussian_is_its_known_radius():
    x, y = np.meshgrid(np.arange(80), np.arange(60))
    energy = np.exp(-((x - 41.0) ** 2 + (y - 22.5) ** 2) / (2 * 6.0**2))
    empty = np.zeros_like(energy)
    centres, radii = sensitivity.reach(np.stack([energy, empty]))
    np.testing.assert_allclose(centres[0], (41, 22.5), atol=0.01)
    # Half of a Gaussian in the plane lies within sqrt(2 ln 2) of its standard deviations.
    np.testing.assert_allclose(radii[0], 6 * np.sqrt(2 * np.log(2)), rtol=0.02)
    assert np.isnan(radii[1]) and np.isnan(centres[1]).all()
