"""Convolution over space and time: equal to XLA's own whatever the settings, and to its parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sensojax.errors import UserError
from sensojax.models import convolution, volume
from tests.goldens import assert_close
from tests.models.made_up import normal

# Channels, kernel (time, height, width), features, and the rest. Of 40 channels two frames are
# stacked at a time, so five kernel frames make three stacks.
VARIANTS = {
    "plain": (3, (3, 3, 2), 4, dict()),
    "padded": (2, (2, 5, 3), 3, dict(padding=(2, 1))),
    "strided": (2, (3, 3, 3), 2, dict(stride=(2, 3))),
    "dilated": (1, (3, 2, 3), 2, dict(dilation=(3, 2), temporal_dilation=2)),
    "several stacks": (40, (5, 3, 3), 2, dict(padding=(1, 1))),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_values_and_gradients_are_those_of_the_direct_convolution(name):
    channels, extent, features, how = VARIANTS[name]
    x, kernel = normal(0, 2, 8, 9, 10, channels), normal(1, *extent, channels, features)
    space = dict(stride=(1, 1), padding=(0, 0), dilation=(1, 1)) | how
    in_time = space.pop("temporal_dilation", 1)

    def direct(x, kernel):
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (1, *space["stride"]),
            [(0, 0), *((pad, pad) for pad in space["padding"])],
            rhs_dilation=(in_time, *space["dilation"]),
            dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
        )

    @jax.jit
    def both(x, kernel):
        found, pull = jax.vjp(lambda *args: volume.spatiotemporal(*args, **how), x, kernel)
        expected, pull_direct = jax.vjp(direct, x, kernel)
        weighting = jnp.cos(expected)
        return (found, *pull(weighting)), (expected, *pull_direct(weighting))

    for found, expected in zip(*both(x, kernel), strict=True):
        assert_close(found, expected, 5e-6, name)


def test_a_product_of_space_and_time_is_the_two_convolutions_one_after_the_other():
    x, space, time = normal(0, 1, 7, 8, 9, 2), normal(1, 3, 3, 2, 4), normal(2, 4, 4, 5)
    kernel = jnp.einsum("hwcm,tmf->thwcf", space, time)
    expected = convolution.temporal(convolution.spatial(x, space), time)
    assert_close(volume.spatiotemporal(x, kernel), expected, 5e-6)


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ((1, 4, 8, 8, 1), "found 4 frames for a kernel that reaches over 5"),
        ((1, 9, 2, 8, 1), "found 2 rows of pixels"),
    ],
)
def test_a_kernel_that_has_nowhere_to_lie_is_refused(shape, sentence):
    with pytest.raises(UserError, match=sentence):
        volume.spatiotemporal(jnp.zeros(shape), np.zeros((3, 3, 3, 1, 1)), temporal_dilation=2)
