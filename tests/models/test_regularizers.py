"""Penalties on weights: numbers known by hand, and what each of them wants of a filter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sensojax.errors import UserError
from sensojax.models import regularizers


def filters(*planes):
    """[height width 1 feature] of planes [height width]."""
    return jnp.float32(np.stack(planes, -1)[:, :, None])


def single_weight(height=5, width=5, value=3.0):
    plane = np.zeros((height, width))
    plane[height // 2, width // 2] = value
    return plane


def smooth_and_rough():
    y, x = np.mgrid[-3:4, -3:4]
    smooth = np.exp(-(x**2 + y**2) / 8.0)
    return smooth, smooth * (-1.0) ** (x + y)


@pytest.mark.parametrize("name", regularizers.SPATIAL)
def test_smooth_filters_are_cheaper_than_rough_ones(name):
    smooth, rough = (filters(plane) for plane in smooth_and_rough())
    penalty = regularizers.SPATIAL[name]
    assert 0 < penalty(smooth) < 0.5 * penalty(rough)
    assert penalty(smooth, 1, average=False) < 0.5 * penalty(rough, 1, average=False)


def test_only_normed_penalties_are_the_same_for_louder_filters():
    smooth, _ = smooth_and_rough()
    for name, penalty in regularizers.SPATIAL.items():
        times = float(penalty(filters(7 * smooth)) / penalty(filters(smooth)))
        expected = {"laplace_l1": 7.0, "laplace_l2": 49.0}.get(name, 1.0)
        assert times == pytest.approx(expected, rel=1e-5), name


def test_penalties_of_a_single_weight_are_known():
    kernel = filters(single_weight())
    # The Laplacian of one weight is itself: 4 and four times -1, over 25 places (9 unpadded).
    assert regularizers.laplace_l2(kernel) == pytest.approx(0.5 * 9 * 20 / 25)
    assert regularizers.laplace_l2(kernel, 0) == pytest.approx(0.5 * 9 * 20 / 9)
    assert regularizers.laplace_l2(kernel, average=False) == pytest.approx(0.5 * 9 * 20)
    assert regularizers.laplace_l1(kernel) == pytest.approx(3 * 8 / 25)
    assert regularizers.laplace_l2_norm(kernel) == pytest.approx(20.0)
    assert regularizers.laplace_l2_norm(kernel, 0) == pytest.approx(20.0 * 25 / 9)
    assert regularizers.laplace_l2_norm(kernel, 0, average=False) == pytest.approx(20.0)
    course = jnp.zeros((5, 1, 1)).at[2].set(3.0)
    assert regularizers.temporal_l2_norm(course) == pytest.approx(18.0)
    assert regularizers.temporal_l2_norm(course, 0) == pytest.approx(18.0 * 5 / 3)


@pytest.mark.parametrize("size", regularizers.LAPLACE)
def test_laplacians_ignore_flat_and_sloping_filters(size):
    stencil = np.array(regularizers.LAPLACE[size])
    assert stencil.shape == (size, size)
    assert np.array_equal(stencil, stencil.T) and np.array_equal(stencil, stencil[::-1])
    y, x = np.mgrid[:9, :9]
    for plane, least in ((np.ones((9, 9)), 0.0), (x - 2.0 * y, 0.0), (x**2.0, 1.0)):
        found = float(regularizers.laplace_l2(filters(plane), 0, size=size))
        assert found == pytest.approx(0.0, abs=1e-9) if least == 0.0 else found > least


def test_the_gaussian_penalty_spares_the_middle_and_not_the_corner():
    middle = single_weight(7, 9)
    corner = np.zeros((7, 9))
    corner[0, 0] = 3.0
    spared, whole = (regularizers.gaussian_laplace_l2(filters(p)) for p in (middle, corner))
    assert spared < 0.3 * whole
    assert whole < regularizers.laplace_l2_norm(filters(corner))
    with pytest.raises(UserError, match="found laplace_padding 0"):
        regularizers.gaussian_laplace_l2(filters(middle), 0)


def test_the_penalty_in_space_and_time_sees_all_three_axes():
    kernel = np.zeros((5, 5, 5, 1, 1), np.float32)
    kernel[2, 2, 2] = 3.0
    assert regularizers.laplace_l2_3d(jnp.asarray(kernel)) == pytest.approx(0.5 * 9 * 42 / 27)
    for axis in range(3):
        course = np.arange(5.0).reshape([-1 if axis == i else 1 for i in range(3)])
        straight, bent = (
            jnp.float32(np.broadcast_to(values, (5, 5, 5))[..., None, None])
            for values in (course, course**2)
        )
        assert regularizers.laplace_l2_3d(straight) == pytest.approx(0.0, abs=1e-9)
        assert regularizers.laplace_l2_3d(bent) == pytest.approx(0.5 * 2.0**2)


def test_group_sparsity_is_the_mean_length_of_filters_and_kind_to_those_that_are_zero():
    kernel = filters(single_weight(), np.zeros((5, 5)), 4 * np.eye(5))
    assert regularizers.group_sparsity(kernel) == pytest.approx((3 + 0 + 4 * np.sqrt(5)) / 3)
    gradient = np.asarray(jax.grad(regularizers.group_sparsity)(kernel))[:, :, 0]
    assert np.isfinite(gradient).all() and not gradient[..., 1].any()
    # Along a filter, of length one third, whatever its own length is.
    np.testing.assert_allclose(np.linalg.norm(gradient[..., [0, 2]], axis=(0, 1)), 1 / 3, rtol=1e-6)
