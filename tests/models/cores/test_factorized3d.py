"""The factorised core beyond the contract of all cores: its geometry under every setting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sensojax.errors import UserError
from sensojax.models.cores import factorized3d
from tests.models.made_up import Running, normal

HEIGHT, WIDTH = 41, 46
VARIANTS = {
    "unpadded": dict(
        channels=(2, 2), spatial_kernels=(3, (3, 2)), strides=(2, 1), spatial_dilations=(2, 1)
    ),
    "padded": dict(
        channels=(2, 2), spatial_kernels=((4, 5), 3), strides=2, padding=True, spatial_dilations=2
    ),
}


def core(**settings):
    settings = dict(temporal_kernels=[1] * len(settings["channels"])) | settings
    return factorized3d.Core(1, **settings, rngs=nnx.Rngs(0))


def penalties(made):
    return {name: float(value) for name, value in made.regularizers().items()}


@pytest.mark.parametrize("name", VARIANTS)
def test_receptive_fields_lie_where_map_to_image_says(name):
    made = core(**VARIANTS[name])
    run = Running(made, lambda model, video: model(video, train=False))
    video = normal(0, 1, 1, HEIGHT, WIDTH, 1)
    height, width = jax.eval_shape(run.pure, run.weights, video).shape[2:4]

    @jax.jit
    def pull(row, column):
        def at(video):
            return jnp.sum(run.pure(run.weights, video)[0, 0, row, column])

        return jax.grad(at)(video)[0, 0, ..., 0]

    # Away from the border, where padding would cut the fields off.
    for row, column in ((height // 2, width // 2), (height // 2 + 1, width // 2 - 1)):
        rows, columns = np.nonzero(pull(row, column))
        found = [(rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2]
        point = jnp.array([[2 * column / (width - 1) - 1, 2 * row / (height - 1) - 1]])
        x, y = (np.asarray(made.map_to_image(point, HEIGHT, WIDTH), np.float64)[0] + 1) / 2
        expected = [y * (HEIGHT - 1), x * (WIDTH - 1)]
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_frames_are_lost_to_every_temporal_kernel_and_its_dilation():
    made = core(
        channels=(2, 2), spatial_kernels=(3, 3), temporal_kernels=(3, 2), temporal_dilations=(2, 3)
    )
    assert made.lost_frames == 2 * 2 + 1 * 3
    out = jax.eval_shape(lambda v: made(v, train=False), jnp.zeros((1, 9, 7, 7, 1)))
    assert out.shape[1] == 9 - 7


def test_penalties_are_scaled_by_their_settings_and_see_the_first_layer_alone():
    made = core(channels=(2, 2), spatial_kernels=(3, 3), temporal_kernels=(3, 3))
    before = penalties(made)
    made.spatial_smoothness, made.temporal_smoothness = 20.0, 0.03
    made.layers[1].spatial[...] += 1.0
    after = penalties(made)
    assert after["core_spatial"] == pytest.approx(2 * before["core_spatial"], rel=1e-6)
    assert after["core_temporal"] == pytest.approx(3 * before["core_temporal"], rel=1e-6)
    made.layers[0].spatial[...] += 1.0
    assert penalties(made)["core_spatial"] != after["core_spatial"]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (dict(spatial_kernels=(3,)), "found 1 values in core.spatial_kernels"),
        (dict(strides=(1, 1, 1)), "found 3 values in core.strides"),
        (dict(nonlinearity="elo"), "did you mean 'elu'"),
        (dict(smoothness="laplace"), "core.smoothness 'laplace'"),
    ],
)
def test_settings_that_make_no_core_are_refused_in_a_sentence(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        core(**dict(channels=(2, 2), spatial_kernels=(3, 3)) | settings)
