"""The linear core: a weight and an offset for each pixel, and what it refuses."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sensojax.errors import UserError
from sensojax.models.cores import linear
from tests.models.made_up import normal


def test_features_are_pixels_times_weights_of_their_own():
    made = linear.Core(2, frame_size=(3, 4), rngs=nnx.Rngs(0))
    assert np.abs(made.weight[...] - 1).max() < 0.1 and not np.any(made.bias[...])
    made.weight[...], made.bias[...] = normal(0, 3, 4, 2), normal(1, 3, 4, 2)
    video = normal(2, 2, 5, 3, 4, 2)
    expected = np.asarray(video) * np.asarray(made.weight) + np.asarray(made.bias)
    np.testing.assert_allclose(made(video, train=True), expected, rtol=1e-6)


def test_videos_of_another_or_of_no_known_size_are_refused():
    with pytest.raises(UserError, match="videos of unknown size"):
        linear.Core(2, rngs=nnx.Rngs(0))
    made = linear.Core(1, frame_size=(3, 4), rngs=nnx.Rngs(0))
    with pytest.raises(UserError, match="found frames of 4x3 pixels for the weights of 3x4"):
        made(jnp.zeros((1, 1, 4, 3, 1)), train=False)
