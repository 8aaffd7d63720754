"""The attention readout: what a neuron reads by definition, of odd maps, and on several devices."""

import jax
import numpy as np
import pytest
from flax import nnx

from sensojax.errors import UserError
from sensojax.models.readouts import attention
from tests.models import made_up
from tests.models.made_up import Running, normal

SIZE, CHANNELS, EMBEDDING, NEURONS = (3, 5), 6, 4, 7


def made() -> nnx.Dict:
    rngs = nnx.Rngs(0)
    shared = attention.KeysAndValues(CHANNELS, embedding=EMBEDDING, rngs=rngs)
    readout = attention.Readout(shared.num_features, np.zeros((NEURONS, 3)), rngs=rngs)
    readout.features[...] = normal(5, *readout.features.shape)
    readout.bias[...] = normal(6, NEURONS)
    return nnx.Dict(shared=shared, readout=readout)


def read(both: nnx.Dict, features: jax.Array) -> jax.Array:
    return both.readout(both.shared(features))


def test_a_neuron_reads_values_by_how_well_keys_answer_its_query():
    both, features = made(), normal(0, 2, 3, *SIZE, CHANNELS)
    code = attention.position_code(*SIZE, CHANNELS)
    queries, read_out, bias, weight = map(
        np.asarray,
        (both.readout.queries, both.readout.features, both.readout.bias, both.shared.weight),
    )
    keys, values = np.split((np.asarray(features) + code) @ weight, 2, axis=-1)
    scores = np.einsum("bthwe,ne->btnhw", keys, queries) / np.sqrt(CHANNELS)
    weights = np.exp(scores) / np.exp(scores).sum((-2, -1), keepdims=True)
    seen = np.einsum("btnhw,bthwe->btne", weights, values)
    expected = np.einsum("btne,ne->btn", seen, read_out) + bias
    np.testing.assert_allclose(Running(both, read)(features), expected, rtol=2e-5, atol=2e-5)


def test_half_of_the_channels_tell_the_row_and_half_the_column():
    code = attention.position_code(*SIZE, CHANNELS)
    assert code.shape == (*SIZE, CHANNELS)
    assert (code[:, :1, :3] == code[..., :3]).all() and (code[:1, :, 3:] == code[..., 3:]).all()
    assert len(np.unique(code.reshape(-1, CHANNELS), axis=0)) == SIZE[0] * SIZE[1]
    with pytest.raises(UserError, match="found 5 channels for an attention readout"):
        attention.position_code(*SIZE, 5)


ON_EIGHT_DEVICES = """
import jax
from sensojax.training.mesh import Placement
from tests.goldens import assert_close
from tests.models.made_up import Running, leaves, normal
from tests.models.readouts.test_attention import CHANNELS, SIZE, made, read

assert len(jax.devices()) == 8
running = Running(made(), read)

@jax.jit
def run(weights, features):
    value, back = jax.vjp(running.pure, weights, features)
    return value, *back(jax.numpy.cos(value))

features = normal(0, 8, 3, *SIZE, CHANNELS)
alone = leaves(run(running.weights, features))
placement = Placement()
with jax.set_mesh(placement.mesh):
    given = placement.everywhere(running.weights), placement.batch(features)
    spread = run.lower(*given).compile()
    found = spread(*given)
for each in (found[0], found[2]):
    assert each.sharding.is_equivalent_to(placement.split, each.ndim), each.sharding
for name, value in leaves(found).items():
    assert_close(value, alone[name], 5e-6, name)
assert "all-gather" not in spread.as_text()
print("equal on eight devices")
"""


@pytest.mark.slow
def test_eight_devices_read_their_own_clips_as_one_does():
    made_up.assert_equal_on_eight_devices(ON_EIGHT_DEVICES)
