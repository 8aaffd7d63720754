"""The depthwise convolution: on a CPU it is written otherwise than XLA has it, and is the same."""

import functools

import jax
import jax.numpy as jnp
import pytest

from sensojax.errors import UserError
from sensojax.models import depthwise
from tests.goldens import assert_close
from tests.models import made_up
from tests.models.made_up import normal

CLOSE = 2e-6  # float32 sums over a few hundred products, in another order

# kernel, stride, padding, dilation, frame size
CASES = [
    ((3, 3), (1, 1), (1, 1), (1, 1), (5, 6)),
    ((4, 5), (2, 3), (0, 2), (2, 1), (21, 22)),
    ((3, 2), (2, 1), (1, 0), (1, 2), (10, 9)),
]


def value_and_both_gradients(function, x, kernel):
    out, back = jax.vjp(function, x, kernel)
    return out, *back(jnp.cos(jnp.arange(out.size, dtype=jnp.float32)).reshape(out.shape))


@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation", "size"), CASES)
def test_every_channel_is_correlated_with_its_own_filter(
    kernel, stride, padding, dilation, size, monkeypatch
):
    monkeypatch.setattr(depthwise, "AT_ONCE", 1000)  # some frames at a time
    x, weights = normal(0, 2, 3, *size, 3), normal(1, *kernel, 3)
    ours = functools.partial(depthwise.depthwise, stride=stride, padding=padding, dilation=dilation)

    def expected(x, weights):
        return depthwise._space_direct(stride, padding, dilation, x, weights)

    @functools.partial(jax.jit, compiler_options=made_up.QUICKLY)
    def both(x, weights):
        return [value_and_both_gradients(function, x, weights) for function in (ours, expected)]

    for name, one, other in zip(("output", "d x", "d kernel"), *both(x, weights), strict=True):
        assert_close(one, other, CLOSE, name)


@pytest.mark.parametrize(("frames", "padding", "size"), [(5, 2, (4, 6)), (2, 0, (7, 1))])
def test_every_time_course_is_correlated_with_the_filter_of_its_channel(
    frames, padding, size, monkeypatch
):
    monkeypatch.setattr(depthwise, "AT_ONCE", 1000)  # some pixels at a time
    x, weights = normal(0, 2, 6, *size, 3), normal(1, frames, 3)

    @functools.partial(jax.jit, compiler_options=made_up.QUICKLY)
    def both(x, weights):
        ours = functools.partial(depthwise.temporal, padding=padding)
        expected = functools.partial(depthwise._time_direct, padding)
        return [value_and_both_gradients(function, x, weights) for function in (ours, expected)]

    for name, one, other in zip(("output", "d x", "d kernel"), *both(x, weights), strict=True):
        assert_close(one, other, CLOSE, name)


def test_a_known_time_course_gives_the_known_numbers():
    x = jnp.array([1.0, 2.0, 4.0])[None, :, None, None, None]
    kernel = jnp.array([[1.0], [10.0], [100.0]])
    found = depthwise.temporal(x, kernel, padding=1)
    assert found.ravel().tolist() == [210.0, 421.0, 42.0]


def test_a_known_frame_gives_the_known_numbers():
    frame = jnp.stack([jnp.arange(6.0).reshape(2, 3), jnp.ones((2, 3))], -1)[None, None]
    kernel = jnp.array([[[1.0, 0.0], [10.0, 3.0]]])
    found = depthwise.depthwise(frame, kernel)[0, 0]
    assert found[..., 0].tolist() == [[10.0, 21.0], [43.0, 54.0]]
    assert found[..., 1].tolist() == [[3.0, 3.0], [3.0, 3.0]]


def test_vmap_over_kernels_is_a_loop():
    x, kernels = normal(0, 1, 2, 5, 6, 2), normal(1, 3, 3, 3, 2)

    @functools.partial(jax.jit, compiler_options=made_up.QUICKLY)
    def both(kernels):
        def square(kernels):
            return jnp.sum(jax.vmap(depthwise.depthwise, (None, 0))(x, kernels) ** 2)

        def loop(kernels):
            return sum(jnp.sum(depthwise.depthwise(x, kernel) ** 2) for kernel in kernels)

        return jax.grad(square)(kernels), jax.grad(loop)(kernels)

    assert_close(*both(kernels), CLOSE)


def test_a_kernel_larger_than_the_map_is_refused_in_a_sentence():
    with pytest.raises(UserError, match="found 4 rows of pixels for a kernel that reaches over 5"):
        depthwise.depthwise(jnp.zeros((1, 1, 4, 9, 2)), jnp.zeros((5, 3, 2)))
    with pytest.raises(UserError, match="found 3 frames for a kernel that reaches over 5"):
        depthwise.temporal(jnp.zeros((1, 1, 4, 9, 2)), jnp.zeros((5, 2)), padding=1)


ON_EIGHT_DEVICES = """
import jax, numpy as np
from sensojax.models.depthwise import depthwise, temporal
from sensojax.training.mesh import Placement
from tests.goldens import assert_close

assert len(jax.devices()) == 8
rng = np.random.default_rng(0)
x = rng.normal(size=(8, 3, 5, 6, 2)).astype(np.float32)
kernel = rng.normal(size=(3, 3, 2)).astype(np.float32)

def run(x, kernel):
    both = lambda x, kernel: temporal(depthwise(x, kernel, padding=(1, 0)), kernel[0], padding=1)
    value, back = jax.vjp(both, x, kernel)
    return value, *back(jax.numpy.cos(value))

alone = jax.jit(run)(x, kernel)
placement = Placement()
with jax.set_mesh(placement.mesh):
    spread = jax.jit(run).lower(placement.batch(x), placement.everywhere(kernel)).compile()
    together = spread(placement.batch(x), placement.everywhere(kernel))
for name, one, other in zip(("value", "d x", "d kernel"), together, alone, strict=True):
    assert_close(one, other, 1e-6, name)
for each in together[:2]:
    assert each.sharding.is_equivalent_to(placement.split, each.ndim), each.sharding
assert "all-gather" not in spread.as_text()
print("equal on eight devices")
"""


@pytest.mark.slow
def test_eight_devices_give_what_one_gives_and_never_gather_the_batch():
    made_up.assert_equal_on_eight_devices(ON_EIGHT_DEVICES)
