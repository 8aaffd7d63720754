"""The convolutional GRU is its formula, applied to one frame after the other.

The reference is a plain loop with XLA's convolutions, one for each of the six correlations, and the
gradients that JAX finds for it. On a CPU the recurrence works in the transform domain; its
formulation for accelerators is asked for by its name.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from sensojax.errors import UserError
from sensojax.models import direct, fourier
from sensojax.models.recurrent import conv_gru
from tests.goldens import assert_close
from tests.models import made_up
from tests.models.made_up import QUICKLY, leaves, normal, unfilled

CLOSE = 5e-6
BATCH, CHANNELS = 2, 4
SHAPE = (BATCH, 5, 6, 7, CHANNELS)
SETTINGS = dict(
    padded=dict(channels=3, input_kernel=4, recurrent_kernel=5),
    grouped=dict(channels=6, input_kernel=3, recurrent_kernel=3, groups=2, padding=False),
)


def recurrence(name: str) -> conv_gru.Recurrence:
    """One with random weights and biases (those of a new one are zero)."""
    made = unfilled(
        lambda: conv_gru.Recurrence(CHANNELS, **SETTINGS[name], rngs=nnx.Rngs(0)),
    )
    for seed, (_, part) in enumerate(nnx.iter_children(made)):
        part.kernel[...] = 0.2 * normal(seed, *part.kernel.shape)
        part.bias[...] = normal(10 + seed, *part.bias.shape)
    return made


def loop(model: conv_gru.Recurrence, features: jax.Array) -> jax.Array:
    """The formula."""

    def correlated(part, x, pad):
        out = lax.conv_general_dilated(
            x,
            part.kernel[...],
            window_strides=(1, 1),
            padding=[(pad, pad)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=model.groups,
        )
        return out + jnp.broadcast_to(part.bias[...], out.shape)

    pad = model.geometry.padding[0]
    same = model.out_gate_hidden.kernel.shape[0] // 2
    height, width = model.map_size(*features.shape[2:4])

    def one_frame(state, x):
        update = jax.nn.sigmoid(
            correlated(model.update_gate_input, x, pad)
            + correlated(model.update_gate_hidden, state, same)
        )
        reset = jax.nn.sigmoid(
            correlated(model.reset_gate_input, x, pad)
            + correlated(model.reset_gate_hidden, state, same)
        )
        new = jnp.tanh(
            correlated(model.out_gate_input, x, pad)
            + correlated(model.out_gate_hidden, reset * state, same)
        )
        state = (1 - update) * state + update * new
        return state, state

    zero = jnp.zeros((len(features), height, width, model.channels))
    return jnp.moveaxis(lax.scan(one_frame, zero, jnp.moveaxis(features, 1, 0))[1], 0, 1)


def states_and_gradients(function, model, features):
    """function(model, features), and the gradients of a random weighting of it."""
    graph, params = nnx.split(model)

    def run(params, features):
        out, back = jax.vjp(lambda p, x: function(nnx.merge(graph, p), x), params, features)
        return out, *back(jnp.cos(jnp.arange(out.size, dtype=jnp.float32)).reshape(out.shape))

    out, d_params, d_features = jax.jit(run, compiler_options=QUICKLY)(params, features)
    return {"states": out, "features": d_features, **leaves(nnx.to_pure_dict(d_params))}


@functools.cache
def expected(name):
    return states_and_gradients(loop, recurrence(name), normal(9, *SHAPE))


def assert_equal_to_the_loop(name):
    found = states_and_gradients(lambda m, x: m(x), recurrence(name), normal(9, *SHAPE))
    assert found.keys() == expected(name).keys() and len(found) == 2 + 12
    for what, value in expected(name).items():
        assert_close(found[what], value, CLOSE, what)


@pytest.mark.slow
def test_states_and_all_gradients_are_those_of_a_plain_loop():
    assert_equal_to_the_loop("padded")


def test_portions_of_some_frames_change_nothing(monkeypatch):
    """Two frames at once leave a last portion that is not full."""
    monkeypatch.setattr(fourier, "frames_at_once", lambda *_: 2 * BATCH)
    assert_equal_to_the_loop("grouped")


def test_the_formulation_for_accelerators_is_the_same_function(monkeypatch):
    monkeypatch.setattr(conv_gru, "formulation_on_cpu", lambda *_: direct)
    assert_equal_to_the_loop("grouped")


def test_groups_do_not_see_each_other():
    model, features, half = recurrence("grouped"), normal(9, *SHAPE), CHANNELS // 2
    other = features.at[..., :half].set(normal(3, *SHAPE)[..., :half])
    run = made_up.Running(model, lambda model, x: model(x))
    one, two = run(features), run(other)
    assert_close(one[..., 3:], two[..., 3:], CLOSE)
    assert np.abs(one[..., :3] - two[..., :3]).max() > 0.1


@pytest.mark.slow
def test_memory_beside_features_and_states_does_not_grow_with_the_clip():
    sizes = dict(channels=8, input_kernel=3, recurrent_kernel=3)
    graph, params = nnx.split(unfilled(lambda: conv_gru.Recurrence(8, **sizes, rngs=nnx.Rngs(0))))

    def temporary(frames):
        def loss(params, x):
            return jnp.sum(jnp.square(nnx.merge(graph, params)(x)))

        x = jax.ShapeDtypeStruct((1, frames, 8, 8, 8), jnp.float32)
        compiled = jax.jit(jax.grad(loss, (0, 1)), compiler_options=QUICKLY).lower(params, x)
        return compiled.compile().memory_analysis().temp_size_in_bytes

    states = 64 * 8 * 8 * 8 * 4  # of 64 frames
    assert temporary(256) - temporary(128) <= 2 * 4 * states


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (dict(groups=3), "found recurrent.groups 3 for 4 channels in and 64 out"),
        (dict(recurrent_kernel=8), "found recurrent.recurrent_kernel 8, expected an odd number"),
    ],
)
def test_impossible_settings_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        conv_gru.Recurrence(CHANNELS, **settings, rngs=nnx.Rngs(0))


def test_features_smaller_than_an_unpadded_kernel_are_refused():
    def run():
        made = conv_gru.Recurrence(CHANNELS, padding=False, rngs=nnx.Rngs(0))
        return made(jnp.zeros(SHAPE))

    with pytest.raises(UserError, match=r"found features of 6 by 7 pixels .* needs 9"):
        jax.eval_shape(run)


ON_EIGHT_DEVICES = """
import jax, numpy as np
from flax import nnx
from sensojax.models.recurrent import conv_gru
from sensojax.training.mesh import Placement
from tests.goldens import assert_close

assert len(jax.devices()) == 8
graph, params = nnx.split(conv_gru.Recurrence(2, **conv_gru.TINY, rngs=nnx.Rngs(0)))
x = np.random.default_rng(0).normal(size=(8, 3, 5, 6, 2)).astype(np.float32)

def run(params, x):
    value, back = jax.vjp(lambda p, x: nnx.merge(graph, p)(x), params, x)
    return value, *back(jax.numpy.cos(value))

alone = jax.jit(run)(params, x)
placement = Placement()
with jax.set_mesh(placement.mesh):
    spread = jax.jit(run).lower(placement.everywhere(params), placement.batch(x)).compile()
    together = spread(placement.everywhere(params), placement.batch(x))
for one, other in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
    assert_close(one, other, 2e-6)
assert together[0].sharding.is_equivalent_to(placement.split, 5), together[0].sharding
assert "all-gather" not in spread.as_text()
print("equal on eight devices")
"""


@pytest.mark.slow
def test_eight_devices_give_what_one_gives_and_never_gather_the_batch():
    made_up.assert_equal_on_eight_devices(ON_EIGHT_DEVICES)
