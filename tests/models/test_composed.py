"""A core with a recurrence behind it: who gives what, and where points of the last map lie.

The contract of all cores is held by test_every_core, with the recurrences of the package.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sensojax.models import composed, geometry
from sensojax.models.cores import factorized3d
from sensojax.models.encoder import assemble, separate
from tests.models.made_up import Running, assert_equal_on_eight_devices, normal


class Sum(nnx.Module):
    """A recurrence of which everything is known: the running sum of the map without its border."""

    causal, lost_frames, channels = True, 0, 3
    seen = (geometry.Step((3, 3)),)

    def __init__(self):
        self.gain = nnx.Param(jnp.ones(()))

    def __call__(self, features, *, train):
        self.trained = train
        return self.gain[...] * jnp.cumsum(features[:, :, 1:-1, 1:-1], axis=1)

    def map_size(self, height, width):
        return geometry.map_size(self.seen, height, width)

    def map_to_image(self, points, height, width):
        return geometry.map_to_image(self.seen, points, height, width)

    def regularizers(self):
        return {"recurrence": self.gain[...]}


@pytest.fixture(scope="module")
def core():
    settings = dict(channels=(3,), spatial_kernels=(3,), temporal_kernels=(2,), strides=2)
    return factorized3d.Core(1, **settings, rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def made(core):
    return composed.Core(core, Sum())


def test_the_recurrence_sees_what_the_core_makes(core, made):
    video = normal(0, 1, 5, 13, 15, 1)
    features = Running(core, lambda model, x: model(x, train=False))(video)
    found = Running(made, lambda model, x: model(x, train=False))(video)
    np.testing.assert_allclose(
        found, np.cumsum(features[:, :, 1:-1, 1:-1], axis=1), rtol=1e-5, atol=1e-5
    )
    assert made.map_size(13, 15) == found.shape[2:4]
    assert made.lost_frames == core.lost_frames == 1 and made.causal
    assert made.num_features == found.shape[-1] == 3


def test_both_are_told_whether_they_train(made):
    graph, weights = separate(made)

    @jax.jit
    def mean_after(video):
        model = assemble(graph, weights)
        model(video, train=True)
        assert model.recurrence.trained
        return model.core.layers[0].norm.mean[...]

    assert np.all(mean_after(normal(0, 1, 3, 13, 15, 1)) != made.core.layers[0].norm.mean[...])


def test_points_are_followed_through_both_maps(core, made):
    # The first state is the core's pixel 1, which is two pixels from its pixel 0 in the video.
    corner = jnp.array([[-1.0, -1.0]])
    height, width = core.map_size(13, 15)
    inside = jnp.array([[2 / (width - 1) - 1, 2 / (height - 1) - 1]])
    expected = core.map_to_image(inside, 13, 15)
    np.testing.assert_allclose(made.map_to_image(corner, 13, 15), expected, atol=1e-6)
    middle = jnp.zeros((1, 2))
    np.testing.assert_allclose(made.map_to_image(middle, 13, 15), 0.0, atol=1e-6)


def test_penalties_of_both_count(made):
    assert set(made.regularizers()) == {"core_spatial", "core_temporal", "recurrence"}


def test_a_wider_recurrence_decides_how_many_features_come_out(core):
    wide = Sum()
    wide.channels = 7
    assert composed.Core(core, wide).num_features == 7
    shapes = jax.eval_shape(lambda: nnx.to_pure_dict(nnx.state(composed.Core(core, wide))))
    assert set(shapes) == {"core", "recurrence"}


# A full 3-D core, a recurrence and masks instead of points, in one model.
EIGHT_DEVICES = """
import jax, numpy
from flax import nnx
from sensojax.models import composed
from sensojax.models.cores import full3d
from sensojax.models.encoder import Encoder, assemble, separate
from sensojax.models.readouts import factorized2d
from sensojax.models.recurrent import conv_gru
from sensojax.training.mesh import Placement
from tests.models import made_up

assert len(jax.devices()) == 8
rngs = nnx.Rngs(0)
core = full3d.Core(3, **full3d.TINY, rngs=rngs)
core = composed.Core(core, conv_gru.Recurrence(core.num_features, **conv_gru.TINY, rngs=rngs))
of_mice = {
    mouse: factorized2d.Readout(
        core.num_features, numpy.zeros((count, 3)), map_size=core.map_size(9, 11), rngs=rngs
    )
    for mouse, count in {"ada": 3, "bob": 2}.items()
}
graph, weights = separate(Encoder(core, of_mice))
batches = {m: made_up.batch(3, r.num_neurons, size=8) for m, r in of_mice.items()}

@jax.jit
def value_and_gradient(weights, batches):
    def loss(params):
        model = assemble(graph, weights.replace(params=params))
        out = model(batches, train=True)
        return sum(jax.numpy.sum(each**2) for each in out.values()), separate(model)[1].statistics
    return jax.value_and_grad(loss, has_aux=True)(weights.params)

expected = made_up.leaves(value_and_gradient(weights, batches))
placement = Placement()
with jax.set_mesh(placement.mesh):
    inputs = placement.everywhere(weights), placement.batch(batches)
    found = made_up.leaves(value_and_gradient(*inputs))
scale = max(abs(value).max() for value in expected.values())
for name, value in expected.items():
    # A sum that nearly cancels is only as exact as its largest terms.
    assert abs(found[name] - value).max() <= 1e-4 * max(abs(value).max(), 1e-3 * scale), name
print("equal on eight devices")
"""


@pytest.mark.slow
def test_eight_devices_do_as_one_does():
    assert_equal_on_eight_devices(EIGHT_DEVICES)
