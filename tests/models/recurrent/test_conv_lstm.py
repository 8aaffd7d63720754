"""The convolutional LSTM is its formula, applied to one frame after the other.

The reference is a plain loop with scipy's correlations.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.signal import correlate2d

from sensojax.errors import UserError
from sensojax.models.recurrent import conv_lstm
from tests.goldens import assert_close
from tests.models import made_up
from tests.models.made_up import normal, unfilled

CHANNELS = 2
SHAPE = (2, 4, 5, 6, CHANNELS)
FEATURES = normal(9, *SHAPE)


def filled(**settings) -> conv_lstm.Recurrence:
    """With random weights and biases, large enough that gates reach both of their ends."""
    made = unfilled(
        lambda: conv_lstm.Recurrence(CHANNELS, channels=3, kernel=3, **settings, rngs=nnx.Rngs(0))
    )
    for seed, part in enumerate((made.seeing, made.remembering, made.bias)):
        part[...] = 0.5 * normal(seed, *part.shape)
    return made


@pytest.fixture(scope="module")
def recurrence():
    return filled(batch_norm=False)


def correlated(x, kernel):
    """[height width channel] with [row column channel feature], zeros around it."""
    return np.stack(
        [
            sum(correlate2d(x[..., c], kernel[:, :, c, f], "same") for c in range(x.shape[-1]))
            for f in range(kernel.shape[-1])
        ],
        axis=-1,
    )


def loop(made, features):
    seeing, remembering, bias = (
        np.asarray(each[...], np.float64) for each in (made.seeing, made.remembering, made.bias)
    )
    out = []
    for clip in np.asarray(features, np.float64):
        state = memory = np.zeros((*clip.shape[1:3], made.channels))
        for frame in clip:
            told = correlated(frame, seeing) + correlated(state, remembering) + bias
            enter, forget, new, leave = np.split(told, 4, axis=-1)
            gate = lambda x: np.clip(0.2 * x + 0.5, 0, 1)  # noqa: E731
            memory = gate(forget) * memory + gate(enter) * np.tanh(new)
            state = gate(leave) * np.tanh(memory)
            out.append(state)
    return np.stack(out).reshape(*SHAPE[:4], made.channels)


def run(model, features):
    return made_up.Running(model, lambda model, x: model(x))(features)


def test_states_are_those_of_a_plain_loop(recurrence):
    assert_close(run(recurrence, FEATURES), loop(recurrence, FEATURES), 5e-6)


def test_batch_norm_follows_the_states(recurrence):
    made = filled()
    made.norm.scale[...] = jnp.ones(3)
    states = loop(recurrence, FEATURES)
    mean, variance = states.mean((0, 1, 2, 3)), states.var((0, 1, 2, 3))
    found = made_up.Running(made, lambda model, x: model(x, train=True))(FEATURES)
    assert_close(found, (states - mean) / np.sqrt(variance + 1e-3), 5e-6)


def test_an_even_kernel_is_refused():
    with pytest.raises(UserError, match=r"found recurrent.kernel 4, expected an odd number"):
        conv_lstm.Recurrence(CHANNELS, kernel=4, rngs=nnx.Rngs(0))


@pytest.mark.slow
def test_memory_beside_states_does_not_hold_the_gates_of_all_frames():
    graph, params = nnx.split(
        conv_lstm.Recurrence(4, channels=8, batch_norm=False, rngs=nnx.Rngs(0))
    )

    def temporary(frames):
        def loss(params, x):
            return jnp.sum(jnp.square(nnx.merge(graph, params)(x)))

        x = jax.ShapeDtypeStruct((1, frames, 16, 16, 4), jnp.float32)
        compiled = jax.jit(jax.grad(loss)).lower(params, x).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    state = 16 * 16 * 8 * 4  # of one frame; the gates are four of them
    assert temporary(96) - temporary(32) <= 64 * 4.5 * state


ON_EIGHT_DEVICES = """
import jax, numpy as np
from flax import nnx
from sensojax.models.cores import lstm
from sensojax.models.recurrent import conv_lstm
from sensojax.training.mesh import Placement
from tests.goldens import assert_close

assert len(jax.devices()) == 8
x = np.random.default_rng(0).normal(size=(8, 3, 5, 6, 2)).astype(np.float32)
for made in (
    conv_lstm.Recurrence(2, **conv_lstm.TINY, batch_norm=False, rngs=nnx.Rngs(0)),
    lstm.Core(2, units=(4, 3), batch_norm=False, frame_size=(5, 6), rngs=nnx.Rngs(0)),
):
    graph, params = nnx.split(made)

    def run(params, x):
        value, back = jax.vjp(lambda p, x: nnx.merge(graph, p)(x, train=False), params, x)
        return value, *back(jax.numpy.cos(value))

    alone = jax.jit(run)(params, x)
    placement = Placement()
    with jax.set_mesh(placement.mesh):
        spread = jax.jit(run).lower(placement.everywhere(params), placement.batch(x)).compile()
        together = spread(placement.everywhere(params), placement.batch(x))
    for one, other in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
        assert_close(one, other, 5e-6)
    assert "all-gather" not in spread.as_text(), type(made)
print("equal on eight devices")
"""


@pytest.mark.slow
def test_eight_devices_give_what_one_gives_and_never_gather_the_batch():
    made_up.assert_equal_on_eight_devices(ON_EIGHT_DEVICES)
