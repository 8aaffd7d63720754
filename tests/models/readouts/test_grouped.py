"""The grouped readout: who sees which channels, and what training leaves out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sensojax.errors import UserError
from sensojax.models.readouts import grouped
from tests.models.made_up import normal


def made(neurons=5, channels=6, **settings):
    return grouped.Readout(channels, np.zeros((neurons, 3)), **settings, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(("groups", "first"), [(2, 3), (3, 2)])
def test_neurons_see_the_channels_of_their_own_group(groups, first):
    readout = made(groups=groups)
    one_channel = jnp.eye(6).reshape(6, 1, 1, 1, 6)
    seen = np.asarray(readout(one_channel))[:, 0].T != 0
    assert seen.shape == (5, 6)  # the last group has a neuron that nobody sees
    for neuron in range(5):
        own = neuron // first * (6 // groups)
        assert np.flatnonzero(seen[neuron]).tolist() == list(range(own, own + 6 // groups))


def test_a_map_is_read_by_its_mean():
    readout, features = made(), normal(0, 2, 3, 4, 5, 6)
    once = readout(features.mean((2, 3), keepdims=True))
    np.testing.assert_allclose(readout(features), once, atol=1e-6)


def test_a_channel_is_left_out_of_all_frames_of_an_example():
    readout, features = made(dropout=0.5), normal(0, 2, 3, 1, 1, 6)
    noise = readout.draw_noise(jax.random.key(0), 2, 3)
    assert noise.shape == (2, 6) and set(np.unique(noise)) == {0.0, 2.0}
    left = readout(features * noise[:, None, None, None])
    np.testing.assert_allclose(readout(features, None, noise), left, atol=1e-6)
    assert made(dropout=0.0).draw_noise(jax.random.key(0), 2, 3) is None


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (dict(groups=4), "found 6 channels for 4 groups"),
        (dict(dropout=1.0), "found readout.dropout 1.0"),
        (dict(bias_start="meen"), "did you mean 'mean'"),
    ],
)
def test_settings_of_which_no_readout_can_be_made_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        made(**settings)
