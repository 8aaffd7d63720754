"""The organisers' LSTM stack and the entrants' network are their formulas, of the published size.

The reference is a plain loop over frames in numpy, written from the equations of Keras in 2017.
"""

import jax
import numpy as np
import pytest
from flax import nnx

from sensojax.errors import UserError
from sensojax.models.cores import lstm, mlp
from tests.goldens import assert_close
from tests.models.made_up import Running, normal, unfilled

SIZE = (3, 4)
SETTINGS = dict(units=(5, 3), weight_of_new=1.0, frame_size=SIZE)
VIDEO = normal(0, 2, 7, *SIZE, 2)


@pytest.fixture(scope="module")
def core():
    """With weights large enough that gates reach both of their ends."""
    made = unfilled(lambda: lstm.Core(2, **SETTINGS, rngs=nnx.Rngs(0)))
    for seed, layer in enumerate(made.layers):
        for part in (layer.weight, layer.recurrent, layer.bias):
            part[...] = normal(seed + part.size, *part.shape)
    for norm in made.norms:
        norm.scale[...] = np.ones(norm.scale.shape, np.float32)
    return made


def hard_sigmoid(x):
    return np.clip(0.2 * x + 0.5, 0, 1)


def loop(layer, x):
    """States [batch time unit] of one layer, frame by frame, gate by gate."""
    weight, recurrent, bias = (
        np.asarray(each[...], np.float64) for each in (layer.weight, layer.recurrent, layer.bias)
    )
    units, states = recurrent.shape[0], []
    state = memory = np.zeros((len(x), units))
    for frame in np.moveaxis(x, 1, 0):
        told = [
            frame @ weight[:, gate] + state @ recurrent[:, gate] + bias[gate]
            for gate in (slice(i * units, (i + 1) * units) for i in range(4))
        ]
        enter, forget, leave = (hard_sigmoid(told[i]) for i in (0, 1, 3))
        memory = forget * memory + enter * np.tanh(told[2])
        state = leave * np.tanh(memory)
        states.append(state)
    return np.stack(states, 1)


def normalized(x):
    """Batch norm of Keras in training: variance of the batch, 0.001 added to it."""
    return (x - x.mean((0, 1))) / np.sqrt(x.var((0, 1)) + 1e-3)


def test_features_are_those_of_a_plain_loop_with_batch_norm_and_relu_between(core):
    x = np.asarray(VIDEO, np.float64).reshape(2, 7, -1)
    first = normalized(loop(core.layers[0], x))
    expected = normalized(loop(core.layers[1], np.maximum(first, 0)))

    def run(model, video):
        return model(video, train=True), nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))

    out, statistics = Running(core, run)(VIDEO)
    assert_close(out[:, :, 0, 0], expected, 5e-6)
    # Without a memory, the running statistics are those of this batch.
    raw = loop(core.layers[1], np.maximum(first, 0))
    found = statistics["norms"][1]
    assert_close(found["mean"], raw.mean((0, 1)), 5e-6)
    assert_close(found["variance"], raw.reshape(14, -1).var(0, ddof=1), 5e-6)


def test_a_new_layer_keeps_its_memory_at_first_and_mixes_states_orthogonally():
    """Keras starts the forget gate's bias at 1 and all others at 0."""
    made = jax.jit(lambda: nnx.split(lstm.Layer(4, 3, "sigmoid", nnx.Rngs(0)))[1])()
    assert made["bias"][...].tolist() == [0] * 3 + [1] * 3 + [0] * 6
    recurrent = np.asarray(made["recurrent"][...])
    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(3), atol=1e-5)


def test_the_network_of_single_frames_is_its_formula():
    made = unfilled(lambda: mlp.Core(2, hidden=(4, 3), frame_size=SIZE, rngs=nnx.Rngs(0)))
    x = np.asarray(VIDEO, np.float64).reshape(2, 7, -1)
    for layer in made.layers:
        layer.weight[...] = 0.3 * normal(4, *layer.weight.shape)
        layer.bias[...] = normal(3, *layer.bias.shape)
        x = 1 / (1 + np.exp(-(x @ np.asarray(layer.weight[...]) + np.asarray(layer.bias[...]))))
    found = Running(made, lambda model, video: model(video, train=True))(VIDEO)
    assert_close(found[:, :, 0, 0], x, 2e-6)


@pytest.mark.parametrize("module", [lstm, mlp])
def test_frames_of_another_size_are_refused(module):
    def run():
        made = module.Core(2, **module.TINY, frame_size=SIZE, rngs=nnx.Rngs(0))
        return made(VIDEO[:, :, :2], train=False)

    with pytest.raises(UserError, match="found frames of 2 by 4 pixels for a core of 3 by 4"):
        jax.eval_shape(run)


def test_names_that_nobody_knows_are_refused():
    with pytest.raises(UserError, match=r"core.gate 'sigmod'.*did you mean 'sigmoid'"):
        lstm.Core(1, gate="sigmod", frame_size=SIZE, rngs=nnx.Rngs(0))
    with pytest.raises(UserError, match=r"core.nonlinearity 'sigmod'.*did you mean 'sigmoid'"):
        mlp.Core(1, nonlinearity="sigmod", frame_size=SIZE, rngs=nnx.Rngs(0))
