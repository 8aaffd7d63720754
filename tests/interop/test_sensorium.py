"""Names of the published state dicts, beyond what parity says of the golden models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sensojax.errors import UserError
from sensojax.interop import sensorium
from sensojax.models import composed
from sensojax.models.encoder import Encoder, assemble, separate
from sensojax.models.readouts import factorized2d
from sensojax.models.recurrent import conv_gru
from tests.models import made_up

NEURONS = {"ada": 3}


def test_every_array_of_a_recurrent_model_with_masks_goes_out_and_comes_back():
    def made():
        rngs = nnx.Rngs(0)
        core = made_up.encoder(NEURONS).core
        core = composed.Core(core, conv_gru.Recurrence(4, **conv_gru.TINY, rngs=rngs))
        readout = factorized2d.Readout(3, np.zeros((3, 3)), map_size=(2, 5), rngs=rngs)
        return Encoder(core, {"ada": readout})

    graph, shapes = separate(jax.eval_shape(made))

    def filled(seed):
        draw = np.random.default_rng(seed).normal
        return assemble(graph, jax.tree.map(lambda x: jnp.float32(draw(size=x.shape)), shapes))

    first, other = filled(0), filled(1)
    weights = sensorium.export(sensorium.encoder(first))
    assert weights["gru_module.gru.out_gate_hidden.weight"].shape == (3, 3, 3, 3)
    assert weights["readout.ada.spatial"].shape == (3, 2, 5)
    assert sensorium.load(sensorium.encoder(other), weights) == []
    found = made_up.leaves(nnx.to_pure_dict(nnx.state(other)))
    expected = made_up.leaves(nnx.to_pure_dict(nnx.state(first)))
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_a_part_that_the_kits_do_not_have_is_refused():
    model = jax.eval_shape(lambda: made_up.encoder(NEURONS))
    model.core = nnx.data(nnx.Linear(1, 1, rngs=nnx.Rngs(0)))
    with pytest.raises(UserError, match=r"found 'linear' in the model.*factorized3d, full3d"):
        list(sensorium.encoder(model))
