"""A gain multiplies the responses of each neuron by what the animal does now and just before."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sensojax.models import behavior
from sensojax.models.encoder import Encoder
from tests.models import made_up
from tests.models.made_up import normal

NEURONS, FRAMES = 5, 3


@pytest.fixture(scope="module")
def gain():
    made = behavior.Gain(NEURONS, channels=4, hidden=4, frames=FRAMES, rngs=nnx.Rngs(0))
    made.weights[...] = 0.3 * normal(1, NEURONS, 4)
    return made


def features(frames: int, clips: int = 1) -> jax.Array:
    return normal(2, clips, frames, 3, 2, 4)


def test_before_training_every_gain_is_one():
    untrained = behavior.Gain(NEURONS, channels=4, reads_core=True, rngs=nnx.Rngs(0))
    out = untrained(normal(0, 2, 7, 4), features(7, clips=2))
    np.testing.assert_array_equal(out, np.ones((2, 7, NEURONS)))


def test_a_gain_that_reads_the_core_sees_the_mean_of_its_own_frame():
    made = behavior.Gain(NEURONS, channels=4, reads_core=True, rngs=nnx.Rngs(0))
    made.weights[...] = normal(1, *made.weights.shape)
    grown = jax.jacobian(lambda f: made(normal(0, 1, 6, 4), f)[0, 2])(features(6))
    assert (np.abs(grown).max(axis=(0, 1, 3, 4, 5)) > 0).tolist() == [False, False, True] + [
        False
    ] * 3
    np.testing.assert_allclose(grown, np.broadcast_to(grown[..., :1, :1, :], grown.shape))


def test_a_gain_knows_so_many_frames_and_none_that_come_later(gain):
    state = normal(0, 1, 8, 4)
    grown = jax.jacobian(lambda s: gain(s, features(8))[0, 5])(state)  # [neuron batch time column]
    reach = np.abs(grown).max(axis=(0, 1, 3)) > 0
    assert reach.tolist() == [False] * 3 + [True] * FRAMES + [False] * 2


def test_frames_before_the_first_one_are_like_it(gain):
    state = normal(0, 1, 6, 4)
    longer = jnp.concatenate([jnp.repeat(state[:, :1], FRAMES, axis=1), state], axis=1)
    np.testing.assert_array_equal(gain(state, features(6)), gain(longer, features(6)))
    np.testing.assert_array_equal(gain(state, features(2)), gain(state, features(6))[:, -2:])


def test_an_encoder_multiplies_what_it_would_say_without_gains(gain):
    plain = made_up.encoder({"ada": NEURONS})
    parts = (plain.core, dict(plain.readouts), dict(plain.shifters))
    gained = Encoder(*parts, gains={"ada": gain})
    batch = made_up.batch(0, NEURONS)
    state = behavior.state(batch.behavior, batch.pupil_center, 8)
    frames = 8 - plain.core.lost_frames
    expected = plain({"ada": batch})["ada"] * gain(state, features(frames, clips=2))
    np.testing.assert_allclose(gained({"ada": batch})["ada"], expected, rtol=1e-6)
    assert np.abs(expected / plain({"ada": batch})["ada"] - 1).max() > 0.1
