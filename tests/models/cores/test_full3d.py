"""The full 3-D core beyond the contract of all cores: its settings, and where they lead."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sensojax.errors import UserError
from sensojax.models.cores import factorized3d, full3d
from tests.goldens import assert_close
from tests.models.made_up import normal

TWO = dict(channels=(2, 3), spatial_kernels=((3, 5), 2), temporal_kernels=(3, 2))


# Cores are made inside of jitted functions here, which compile faster than their parts one by one.


def core(**settings):
    return full3d.Core(1, **TWO | settings, rngs=nnx.Rngs(0))


def test_a_kernel_that_is_a_product_makes_it_the_factorised_core():
    one = dict(channels=(4,), spatial_kernels=(5,), temporal_kernels=(3,), weight_of_new=0.3)

    @jax.jit
    def both(video):
        parts = factorized3d.Core(2, **one, rngs=nnx.Rngs(0))
        whole = full3d.Core(2, **one, padding=False, rngs=nnx.Rngs(1))
        space, time = parts.layers[0].spatial[...], parts.layers[0].temporal[...]
        whole.layers[0].kernel[...] = jnp.einsum("hwcm,tmf->thwcf", space, time)
        return whole(video, train=True), parts(video, train=True)

    found, expected = both(normal(0, 2, 6, 9, 10, 2))
    assert_close(found, expected, 5e-6)


@pytest.mark.parametrize(
    ("settings", "lost"),
    [
        (dict(), 2 + 1),
        (dict(padding=False), 2 + 1),
        (dict(strides=(2, 1), temporal_dilations=(2, 3)), 2 * 2 + 1 * 3),
        (dict(padding=False, strides=2, spatial_dilations=(2, 1)), 2 + 1),
    ],
)
def test_the_size_of_the_result_is_known_beforehand(settings, lost):
    made = jax.eval_shape(lambda: core(**settings))
    assert made.lost_frames == lost
    video = jnp.zeros((1, 12, 20, 22, 1))
    out = jax.eval_shape(lambda v: core(**settings)(v, train=False), video)
    batch, time, height, width, feature = out.shape
    assert (batch, time, feature) == (1, 12 - lost, made.num_features)
    assert made.map_size(20, 22) == (height, width)


def test_layers_may_differ_in_every_setting():
    how = dict(
        bias=(False, True),
        batch_norm=(True, False),
        norm_scale=(False, True),
        norm_bias=(True, True),
        nonlinearity=("relu", "none"),
    )
    first, second = jax.eval_shape(lambda: core(**how)).layers
    assert first.bias is None and second.bias is not None
    assert first.norm.scale is None and first.norm.bias is not None and second.norm is None
    assert (first.nonlinearity, second.nonlinearity) == ("relu", "none")


def test_penalties_see_the_first_layer_frame_by_frame_and_pixel_by_pixel():
    @jax.jit
    def made():
        made = core(spatial_smoothness=2.0, temporal_smoothness=3.0)
        before = made.regularizers()
        made.layers[1].kernel[...] += 1.0
        return made.layers[0].kernel[...], before, made.regularizers()

    kernel, found, after = made()
    assert after == found
    kernel = np.asarray(kernel, np.float64)[..., 0, :]
    around = np.pad(kernel, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rough = 4 * kernel - around[:, 2:, 1:-1] - around[:, :-2, 1:-1]
    rough -= around[:, 1:-1, 2:] + around[:, 1:-1, :-2]
    before_after = np.pad(kernel, ((1, 1), (0, 0), (0, 0), (0, 0)))
    slow = 4 * kernel - before_after[2:] - before_after[:-2]
    by_frame = (rough**2).sum((1, 2, 3)) / (kernel**2).sum((1, 2, 3))
    by_pixel = (slow**2).sum((0, 3)) / (kernel**2).sum((0, 3))
    assert found["core_spatial"] == pytest.approx(2 * by_frame.sum(), rel=1e-5)
    assert found["core_temporal"] == pytest.approx(3 * by_pixel.sum(), rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (dict(spatial_kernels=(3,)), "found 1 values in core.spatial_kernels"),
        (dict(bias=(True, True, True)), "found 3 values in core.bias"),
        (dict(nonlinearity=("elu", "elo")), "did you mean 'elu'"),
        (dict(smoothness="laplace"), "core.smoothness 'laplace'"),
    ],
)
def test_settings_that_make_no_core_are_refused_in_a_sentence(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        core(**settings)
