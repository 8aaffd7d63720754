"""Convolutions: whatever the platform's formulation, they are the correlation that XLA defines.

On a CPU the public functions are the reformulated ones; the formulation for accelerators is asked
for by its private name, so that it is tested without one.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from sensojax.models import convolution, fourier, geometry, slabs, spectral
from tests.goldens import assert_close
from tests.models import made_up

CLOSE = 1e-5  # float32 sums over a few hundred products, in another order

# kernel, stride, padding, dilation, frame size, channels in, features out
SPATIAL = [
    ((1, 1), (1, 1), (0, 0), (1, 1), (4, 5), 3, 2),
    ((3, 3), (1, 1), (0, 0), (1, 1), (7, 8), 2, 3),
    ((2, 5), (1, 1), (0, 0), (1, 1), (6, 9), 1, 2),
    ((5, 5), (1, 1), (2, 2), (1, 1), (6, 7), 2, 2),
    ((3, 3), (2, 2), (1, 0), (1, 1), (9, 8), 2, 3),
    ((3, 2), (3, 2), (0, 1), (2, 3), (11, 10), 2, 2),
    ((4, 7), (1, 1), (0, 0), (1, 1), (4, 7), 2, 2),
    ((3, 2), (2, 1), (1, 0), (1, 2), (7, 6), slabs.THIN // 2, 2),  # one row after the other
]
# kernel, dilation, frames, channels
TEMPORAL = [(1, 1, 3, 2), (3, 1, 7, 2), (4, 2, 9, 2), (5, 1, 5, 2), (2, 2, 5, slabs.STACKED)]


def random(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def by_definition(x, kernel, stride, padding, dilation):
    """One 3-D correlation over all of [batch time height width channel], as XLA has it."""
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(1, *stride),
        padding=[(0, 0), *((size, size) for size in padding)],
        rhs_dilation=dilation,
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
    )


def value_and_both_gradients(function, x, kernel):
    """Output and the gradients of a random weighting of it with respect to x and kernel."""

    @jax.jit
    def run(x, kernel):
        out, back = jax.vjp(function, x, kernel)
        weights = jnp.cos(jnp.arange(out.size, dtype=jnp.float32)).reshape(out.shape)
        return out, *back(weights)

    return run(x, kernel)


def assert_same(found, expected):
    for name, one, other in zip(("output", "d x", "d kernel"), found, expected, strict=True):
        assert_close(one, other, CLOSE, name)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "size", "channel", "feature"), SPATIAL
)
def test_spatial_is_the_correlation_of_every_frame(
    kernel, stride, padding, dilation, size, channel, feature
):
    x, weights = random(0, 2, 3, *size, channel), random(1, *kernel, channel, feature)
    settings = dict(stride=stride, padding=padding, dilation=dilation)
    found = value_and_both_gradients(functools.partial(convolution.spatial, **settings), x, weights)

    def expected(x, weights):
        return by_definition(x, weights[None], stride, padding, (1, *dilation))

    assert_same(found, value_and_both_gradients(expected, x, weights))
    for axis in (0, 1):
        length = geometry.output_size(
            size[axis], kernel[axis], stride[axis], padding[axis], dilation[axis]
        )
        assert found[0].shape[2 + axis] == length


@pytest.fixture
def transformed(monkeypatch):
    """Tiny layers as large ones are done on a CPU, two frames at once."""
    monkeypatch.setattr(spectral, "worthwhile", lambda *_: True)
    monkeypatch.setattr(fourier, "frames_at_once", lambda *_: 2)


def test_in_the_transform_domain_spatial_is_the_same_correlation(transformed):
    """Three frames in portions of two: the one that both portions hold counts once."""
    x, weights, padding = random(0, 1, 3, 6, 7, 2), random(1, 3, 4, 2, 3), (2, 1)
    ours = functools.partial(convolution.spatial, padding=padding)

    def expected(x, weights):
        return by_definition(x, weights[None], (1, 1), padding, (1, 1, 1))

    found = value_and_both_gradients(ours, x, weights)
    assert_same(found, value_and_both_gradients(expected, x, weights))


def test_in_the_transform_domain_half_precision_stays_what_it_is(transformed):
    def total(x, weights):
        out = convolution.spatial(x, weights)
        return jnp.sum(jnp.square(out.astype(jnp.float32))), out

    arrays = random(0, 1, 3, 6, 7, 2), random(1, 3, 3, 2, 3)
    run = jax.jit(jax.grad(total, (0, 1), has_aux=True))
    exact, halves = run(*arrays), run(*(jnp.asarray(each, jnp.bfloat16) for each in arrays))
    for one, other in zip(jax.tree.leaves(halves), jax.tree.leaves(exact), strict=True):
        assert one.dtype == jnp.bfloat16
        assert_close(np.asarray(one, np.float32), other, 0.03)


def test_large_kernels_are_transformed_small_ones_are_slabs_and_pointwise_ones_a_product():
    def formulation(kernel):
        x = jax.ShapeDtypeStruct((8, 80, 28, 56, 64), jnp.float32)
        kernel = jax.ShapeDtypeStruct((kernel, kernel, 64, 64), jnp.float32)
        made = str(jax.make_jaxpr(convolution.spatial)(x, kernel))
        return [name for name in ("name=spatial", "name=_spatial") if name in made]

    assert [formulation(size) for size in (7, 3, 1)] == [["name=spatial"], ["name=_spatial"], []]


@pytest.mark.parametrize(("kernel", "dilation", "frames", "channel"), TEMPORAL)
def test_temporal_is_the_correlation_of_every_pixel(kernel, dilation, frames, channel):
    x, weights = random(0, 2, frames, 3, 4, channel), random(1, kernel, channel, 3)
    found = value_and_both_gradients(
        functools.partial(convolution.temporal, dilation=dilation), x, weights
    )

    def expected(x, weights):
        return by_definition(x, weights[:, None, None], (1, 1), (0, 0), (dilation, 1, 1))

    assert_same(found, value_and_both_gradients(expected, x, weights))
    assert found[0].shape[1] == frames - (kernel - 1) * dilation


def test_the_formulation_for_accelerators_is_the_same_function():
    x, kernel = random(0, 2, 5, 7, 8, 2), random(1, 3, 3, 2, 3)
    ours = functools.partial(convolution.spatial, stride=(2, 1), dilation=(1, 2))
    direct = functools.partial(convolution._spatial_direct, (2, 1), (0, 0), (1, 2))
    assert_close(jax.jit(direct)(x, kernel), jax.jit(ours)(x, kernel), CLOSE)
    kernel = random(1, 3, 2, 3)
    ours = functools.partial(convolution.temporal, dilation=2)
    direct = functools.partial(convolution._temporal_direct, 2)
    assert_close(jax.jit(direct)(x, kernel), jax.jit(ours)(x, kernel), CLOSE)


def test_a_known_frame_gives_the_known_numbers():
    frame = jnp.arange(12.0).reshape(1, 1, 3, 4, 1)
    kernel = jnp.array([[1.0, 0.0], [0.0, -10.0]])[..., None, None]
    expected = [[0 - 50, 1 - 60, 2 - 70], [4 - 90, 5 - 100, 6 - 110]]
    assert convolution.spatial(frame, kernel)[0, 0, ..., 0].tolist() == expected
    course = jnp.array([1.0, 2.0, 4.0, 8.0]).reshape(1, 4, 1, 1, 1)
    kernel = jnp.array([1.0, -10.0])[:, None, None]
    found = convolution.temporal(course, kernel)
    assert found.ravel().tolist() == [1 - 20, 2 - 40, 4 - 80]


def test_frames_and_clips_never_mix():
    x, other = random(0, 2, 4, 5, 6, 2), random(9, 5, 6, 2)
    changed = np.array(x)
    changed[1, 2] = other
    spatial, temporal = jax.jit(convolution.spatial), jax.jit(convolution.temporal)
    kernel = random(1, 3, 3, 2, 2)
    same = np.asarray(spatial(x, kernel) == spatial(changed, kernel)).all(axis=(2, 3, 4))
    assert same.tolist() == [[True] * 4, [True, True, False, True]]
    kernel = random(1, 2, 2, 2)
    same = np.asarray(temporal(x, kernel) == temporal(changed, kernel)).all(axis=(2, 3, 4))
    assert same.tolist() == [[True] * 3, [True, False, False]]


def test_vmap_in_the_transform_domain_is_a_loop(transformed):
    test_vmap_over_inputs_and_kernels_is_a_loop(convolution.spatial)


@pytest.mark.parametrize("function", [convolution.spatial, convolution.temporal])
def test_vmap_over_inputs_and_kernels_is_a_loop(function):
    x = random(0, 2, 1, 4, 5, 6, 2)
    kernels = random(1, 2, 3, 3, 2, 2) if function is convolution.spatial else random(1, 2, 3, 2, 2)
    found = value_and_both_gradients(jax.vmap(function), x, kernels)

    def loop(x, kernels):
        return jnp.stack([function(one, kernel) for one, kernel in zip(x, kernels, strict=True)])

    assert_same(found, value_and_both_gradients(loop, x, kernels))


ON_EIGHT_DEVICES = """
import jax, numpy as np
from sensojax.models import convolution, fourier, geometry, slabs, spectral
from sensojax.training.mesh import Placement
from tests.goldens import assert_close

assert len(jax.devices()) == 8
rng = np.random.default_rng(0)
x = rng.normal(size=(8, 3, 5, 6, 2)).astype(np.float32)
space = rng.normal(size=(3, 3, 2, 2)).astype(np.float32)
time = rng.normal(size=(2, 2, 2)).astype(np.float32)

def run(x, space, time):
    def out(x, space, time):
        spectral.worthwhile = lambda *_: False
        x = convolution.spatial(x, space, padding=(1, 0))
        spectral.worthwhile = lambda *_: True
        return convolution.temporal(convolution.spatial(x, space, padding=(1, 1)), time)
    value, back = jax.vjp(out, x, space, time)
    return value, *back(jax.numpy.cos(value))

alone = jax.jit(run)(x, space, time)
placement = Placement()
with jax.set_mesh(placement.mesh):
    spread = jax.jit(run).lower(placement.batch(x), *placement.everywhere((space, time))).compile()
    together = spread(placement.batch(x), *placement.everywhere((space, time)))
for name, one, other in zip(("value", "d x", "d space", "d time"), together, alone, strict=True):
    assert_close(one, other, 5e-6, name)  # fewer frames at once are added up in another order
for each in together[:2]:
    assert each.sharding.is_equivalent_to(placement.split, each.ndim), each.sharding
assert "all-gather" not in spread.as_text()
print("equal on eight devices")
"""


def test_eight_devices_give_what_one_gives_and_never_gather_the_batch():
    made_up.assert_equal_on_eight_devices(ON_EIGHT_DEVICES)
