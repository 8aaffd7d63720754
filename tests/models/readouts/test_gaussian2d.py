"""The Gaussian readout beyond the contract: where it looks, and what sampling does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sensojax.errors import UserError
from sensojax.models.readouts import gaussian2d
from tests.models.made_up import normal

HEIGHT, WIDTH, CHANNELS = 4, 7, 3
look_up = jax.jit(gaussian2d.look_up)


def readout(neurons=5, **settings):
    settings = dict(positions="learned", bias=False) | settings
    return gaussian2d.Readout(CHANNELS, np.zeros((neurons, 3)), **settings, rngs=nnx.Rngs(0))


def at(points):
    """Points [neuron 2] as [batch time neuron 2]."""
    return jnp.asarray(points, jnp.float32)[None, None]


def bilinear(image, x, y):
    """One point of an image [height width channel], by the definition, in float64."""
    column, row = (x + 1) / 2 * (WIDTH - 1), (y + 1) / 2 * (HEIGHT - 1)
    total = np.zeros(image.shape[-1])
    for i in range(HEIGHT):
        for j in range(WIDTH):
            total += image[i, j] * max(0, 1 - abs(row - i)) * max(0, 1 - abs(column - j))
    return total


def test_any_point_reads_the_bilinear_mean_of_its_neighbours():
    features, weights = normal(0, 1, 1, HEIGHT, WIDTH, CHANNELS), normal(1, 40, CHANNELS)
    points = np.random.default_rng(2).uniform(-1.4, 1.4, (40, 2)).astype(np.float32)
    image = np.asarray(features[0, 0], np.float64)
    expected = [bilinear(image, *point) @ w for point, w in zip(points, weights, strict=True)]
    found = look_up(features, at(points), weights)[0, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)  # float32 pixel positions


def test_plus_and_minus_one_are_the_centres_of_the_outermost_pixels():
    features = normal(0, 1, 1, HEIGHT, WIDTH, CHANNELS)
    corners = at([[-1, -1], [1, -1], [-1, 1], [1, 1]])
    found = look_up(features, corners, jnp.ones((4, CHANNELS)))[0, 0]
    expected = features[0, 0].sum(-1)[jnp.array([0, 0, -1, -1]), jnp.array([0, -1, 0, -1])]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_points_a_pixel_outside_read_exactly_zero_and_pull_on_nothing():
    features = normal(0, 1, 1, HEIGHT, WIDTH, CHANNELS)
    beyond_x, beyond_y = 1 + 2 / (WIDTH - 1), 1 + 2 / (HEIGHT - 1)
    points = at([[beyond_x + 1e-3, 0], [0, -beyond_y - 1e-3], [-9, 9], [1e6, 0], [-1e9, 1e9]])
    weights = jnp.ones((5, CHANNELS))
    assert not np.any(look_up(features, points, weights))
    pull = jax.jit(jax.grad(lambda f, w: jnp.sum(gaussian2d.look_up(f, points, w)), (0, 1)))
    assert not any(np.any(gradient) for gradient in pull(features, weights))


def test_half_a_pixel_outside_reads_half():
    features = jnp.ones((1, 1, HEIGHT, WIDTH, CHANNELS))
    points = at([[1 + 1 / (WIDTH - 1), 0.0], [0.0, -1 - 1 / (HEIGHT - 1)]])
    found = look_up(features, points, jnp.ones((2, CHANNELS)))
    np.testing.assert_allclose(found.ravel(), [CHANNELS / 2] * 2, rtol=1e-5)


def test_a_shift_moves_every_point_after_clipping():
    made = readout()
    made.mu[...] = jnp.full((5, 2), 1.0)
    ramp = jnp.broadcast_to(jnp.linspace(-1, 1, WIDTH)[:, None], (1, 1, HEIGHT, WIDTH, CHANNELS))
    inside = made(ramp, jnp.array([[[-0.5, 0.0]]]))
    np.testing.assert_allclose(inside, 0.5, rtol=1e-5)
    assert not np.any(made(ramp, jnp.array([[[2.0, 0.0]]])))


@pytest.mark.parametrize("gaussian", gaussian2d.SIGMA_SHAPES)
def test_sampled_points_have_the_learned_mean_and_covariance(gaussian):
    made = readout(gaussian=gaussian, init_sigma=0.05)
    sigma = np.asarray(made.sigma[...], np.float64)
    root = sigma if gaussian == "full" else [np.diag(np.broadcast_to(s, 2)) for s in sigma]
    frames = 4000
    points = made.points(made.draw_noise(jax.random.key(0), 4, frames))
    assert points.shape == (4, frames, 5, 2)
    points = np.asarray(points, np.float64).reshape(-1, 5, 2)
    for neuron in range(5):
        expected = root[neuron] @ root[neuron].T
        spread = np.sqrt(np.diag(expected))
        error = points[:, neuron].mean(0) - np.asarray(made.positions())[neuron]
        assert (np.abs(error) < 5 * spread / np.sqrt(len(points)) + 1e-6).all()
        found = np.cov(points[:, neuron].T)
        assert np.abs(found - expected).max() < 5 * expected.max() / np.sqrt(len(points))


def test_the_mean_of_sampled_answers_converges_to_the_blurred_feature():
    """On a parabola the blur is known: E[(x + s n)^2] = x^2 + s^2, up to bilinear steps."""
    made, width, sigma = readout(neurons=3, gaussian="isotropic"), 101, 0.2
    made.sigma[...] = jnp.full((3, 1), sigma)
    made.mu[...] = jnp.array([[-0.2, 0.0], [0.0, 0.0], [0.3, 0.0]])
    parabola = jnp.square(jnp.linspace(-1, 1, width))[:, None]
    frames = 5000
    features = jnp.broadcast_to(parabola, (1, frames, 3, width, CHANNELS))
    noise = made.draw_noise(jax.random.key(1), 1, frames)
    out = np.asarray(jax.jit(lambda f, n: made(f, None, n))(features, noise), np.float64)[0]
    expected = np.square([-0.2, 0.0, 0.3]) + sigma**2  # feature weights are 1 / channels
    error = out.std(axis=0) / np.sqrt(frames)
    assert (np.abs(out.mean(axis=0) - expected) < 4 * error + 1e-4).all()
    still = np.asarray(made(features[:, :1]))[0, 0]
    np.testing.assert_allclose(still, np.square([-0.2, 0.0, 0.3]), atol=1e-4)


@pytest.mark.parametrize(("draws", "shape"), [("batch", (1, 1, 5, 2)), ("clip", (2, 1, 5, 2))])
def test_a_draw_is_kept_for_as_long_as_asked(draws, shape):
    made = readout(draws=draws)
    noise = made.draw_noise(jax.random.key(0), 2, 3)
    assert noise.shape == shape
    image = normal(0, HEIGHT, WIDTH, CHANNELS)
    out = np.asarray(made(jnp.broadcast_to(image, (2, 3, *image.shape)), None, noise))
    assert np.array_equal(out, np.broadcast_to(out[:, :1], out.shape))
    assert np.array_equal(out[0], out[1]) == (draws == "batch")


def test_learned_positions_are_kept_on_the_map():
    made = readout()
    made.mu[...] = jnp.array([[-3.0, 0.5], [1.0, -1.0], [0.0, 2.0], [0.1, 0.2], [9.0, -9.0]])
    made.constrain()
    expected = [[-1.0, 0.5], [1.0, -1.0], [0.0, 1.0], [0.1, 0.2], [1.0, -1.0]]
    np.testing.assert_array_equal(made.mu[...], np.float32(expected))


def test_both_are_the_place_in_cortex_and_a_step_that_costs():
    made = readout(positions="both", position_l2=0.5)
    by_cortex = np.asarray(made.network())
    np.testing.assert_array_equal(made.positions(), by_cortex)
    step = np.float32([[0.0, 0.0], [0.1, -0.2], [0.0, 0.0], [0.0, 0.0], [3.0, 0.0]])
    made.mu[...] = jnp.asarray(step)
    made.constrain()  # what is clipped is where a neuron looks, not the step
    np.testing.assert_allclose(made.positions(), by_cortex + step, rtol=1e-6)
    assert made.regularizer() == pytest.approx(0.5 * np.square(step).sum(), rel=1e-6)


def test_the_position_network_sees_centred_positions_up_to_one():
    position_um = np.array([[100.0, 400.0, 5.0], [300.0, 100.0, 5.0], [200.0, 100.0, 900.0]])
    expected = np.array([[-100.0, 200.0], [100.0, -100.0], [0.0, -100.0]]) / 200.0
    np.testing.assert_allclose(gaussian2d.cortex_grid(position_um), expected)
    one = gaussian2d.cortex_grid(position_um[:1])
    assert one.tolist() == [[0.0, 0.0]]  # a single neuron lies in the middle, not nowhere


def test_the_penalty_is_the_weighted_l1_norm():
    made = readout(feature_l1=0.5)
    made.features[...] = made.features[...].at[0].set(jnp.array([-2.0, 1.0, 0.0]))
    rest = 4 * CHANNELS * (1 / CHANNELS)
    assert made.regularizer() == pytest.approx(0.5 * (3.0 + rest), rel=1e-6)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (dict(gaussian="ful"), "did you mean 'full'"),
        (dict(positions="lerned"), "did you mean 'learned'"),
    ],
)
def test_settings_nobody_knows_are_refused_with_the_nearest(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        readout(**settings)


def test_neurons_without_a_cortical_position_are_refused():
    with pytest.raises(UserError, match="without a cortical position"):
        gaussian2d.cortex_grid(np.full((3, 3), np.nan))
