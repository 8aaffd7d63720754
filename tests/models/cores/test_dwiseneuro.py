"""The core of DwiseNeuro: what drops out, where it looks, what it refuses (parity is elsewhere)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sensojax.errors import UserError
from sensojax.models import cortex, layers, position_code
from sensojax.models.cores import dwiseneuro
from sensojax.models.encoder import Encoder
from sensojax.models.readouts import grouped
from tests.models import made_up
from tests.models.made_up import QUICKLY, normal

SMALL = dwiseneuro.TINY | dict(drop_path=0.5, cortex_drop_path=0.25)


@pytest.fixture(scope="module")
def made():
    return dwiseneuro.Core(3, **SMALL, rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def block():
    return dwiseneuro.Block(
        4, 6, stride=2, expansion=2, spatial_kernel=3, temporal_kernel=3, squeeze=4,
        weight_of_new=0.1, rngs=nnx.Rngs(0),
    )  # fmt: skip


def test_a_dropped_residual_leaves_the_shortcut_and_a_kept_one_is_enlarged(block):
    x = jnp.concatenate([normal(0, 1, 4, 6, 5, 4)] * 3)

    @functools.partial(jax.jit, compiler_options=QUICKLY)
    def run(x, kept):
        seen = position_code.add(x)[:, :, ::2][:, :, :, np.array([0, 1, 3])]  # 5 columns become 3
        shortcut = block.shortcut_norm(layers.repeat_channels(seen, 6), train=False)
        return block(x, train=False, kept=kept), shortcut

    (dropped, whole, twice), shortcut = run(x, jnp.array([0.0, 1.0, 2.0]))
    np.testing.assert_allclose(dropped, shortcut[0], atol=1e-6)
    np.testing.assert_allclose(twice - whole, whole - dropped, atol=1e-5)
    assert np.abs(whole - dropped).max() > 0.1


def test_residuals_of_examples_are_dropped_more_often_in_later_blocks():
    settings = dict(features=(4,) * 4, strides=(1,) * 4, cortex=(8, 8))
    rates = dict(drop_path=0.4, cortex_drop_path=0.2)
    made = nnx.eval_shape(lambda: dwiseneuro.Core(3, **settings, **rates, rngs=nnx.Rngs(0)))
    np.testing.assert_allclose(made.drop_rates, (0, 0.1, 0.2, 0.3, 0.2, 0.2), atol=1e-12)
    noise = np.asarray(made.draw_noise(jax.random.key(0), 5000, 16))
    np.testing.assert_allclose((noise == 0).mean(0), made.drop_rates, atol=0.03)
    made.drop_rates = (0.0,) * 6
    assert made.draw_noise(jax.random.key(0), 2, 16) is None


def test_every_mouse_drops_residuals_of_its_own(made):
    counts = {"ada": 2, "bob": 3}
    model = Encoder(made, {m: grouped.Readout(8, np.zeros((n, 3)), rngs=nnx.Rngs(0))
                           for m, n in counts.items()})  # fmt: skip
    batches = {mouse: made_up.batch(n, n, size=2, time=5) for mouse, n in counts.items()}
    noise = model.draw_core_noise(jax.random.key(0), batches)
    again = model.draw_core_noise(jax.random.key(0), batches)
    assert noise["ada"].shape == (2, 2) and np.array_equal(noise["bob"], again["bob"])
    alone = model.draw_core_noise(jax.random.key(0), {"bob": batches["bob"]})
    assert np.array_equal(alone["bob"], noise["ada"]), "the key is that of the place"
    noise = {"ada": jnp.array([[2.0, 0.0], [1.0, 1.0]]), "bob": jnp.array([[0.0, 1.0], [1.0, 3.0]])}

    @functools.partial(jax.jit, compiler_options=QUICKLY)
    def both(batches, noise):
        videos = {mouse: batch.video for mouse, batch in batches.items()}
        alone = made(videos["bob"], train=False, noise=noise["bob"])
        return model.features(videos, train=False, noise=noise)["bob"], alone

    np.testing.assert_allclose(*both(batches, noise), atol=1e-6)


def test_sizes_are_brought_to_the_nearest_pixels_as_published():
    def taken(old, size):
        return dwiseneuro.nearest(jnp.arange(old), size, 0).tolist()

    assert taken(9, 5) == [0, 1, 3, 5, 7]  # sota 1.2
    assert taken(8, 4) == [0, 2, 4, 6]
    assert taken(7, 7) == list(range(7))


def test_groups_of_the_cortex_are_weighed_apart_and_then_shuffled():
    layer = cortex.Layer(4, 6, groups=2, weight_of_new=0.1, rngs=nnx.Rngs(0))
    layer.shortcut_norm.scale[...] = jnp.zeros(6)
    first, second = (
        np.asarray(layer(x, train=False)) for x in np.float32([[[1, 2, 0, 0]], [[0, 0, 1, 2]]])
    )
    # Results of both groups take turns; the first group sees channels 0 and 1 alone.
    assert (first != 0).tolist() == [[True, False] * 3]
    assert (second != 0).tolist() == [[False, True] * 3]


ON_EIGHT_DEVICES = """
import jax
from flax import nnx
from sensojax.models.cores import dwiseneuro
from sensojax.models.encoder import assemble, separate
from sensojax.training.mesh import Placement
from tests.models.cores.test_dwiseneuro import SMALL
from tests.models.made_up import QUICKLY, leaves, normal

assert len(jax.devices()) == 8
settings = SMALL | dict(features=(4, 6), strides=(1, 2))
core = dwiseneuro.Core(3, **settings, rngs=nnx.Rngs(0))
graph, weights = separate(core)

def run(weights, video, noise):
    def out(params, video):
        core = assemble(graph, weights.replace(params=params))
        return core(video, train=True, noise=noise), separate(core)[1].statistics
    value, back, statistics = jax.vjp(out, weights.params, video, has_aux=True)
    of_weights, of_video = back(jax.numpy.cos(value))
    return dict(value=value, of_video=of_video), dict(weights=of_weights, statistics=statistics)

run = jax.jit(run, compiler_options=QUICKLY)
video, noise = normal(0, 8, 6, 9, 11, 3), core.draw_noise(jax.random.key(1), 8, 6)
assert (noise == 0).any()
alone = leaves(run(weights, video, noise))
placement = Placement()
with jax.set_mesh(placement.mesh):
    given = placement.everywhere(weights), placement.batch(video), placement.batch(noise)
    spread = run.lower(*given).compile()
    found = spread(*given)
for each in found[0].values():
    assert each.sharding.is_equivalent_to(placement.split, each.ndim), each.sharding
found, biggest = leaves(found), max(abs(each).max() for each in alone.values())
for name, expected in alone.items():
    # A shift in front of batch norm has no effect: its gradient is rounding noise.
    assert abs(found[name] - expected).max() <= 1e-5 * max(abs(expected).max(), 0.1 * biggest), name
assert "all-gather" not in spread.as_text()
print("equal on eight devices")
"""


@pytest.mark.slow
def test_eight_devices_give_what_one_gives_and_never_gather_the_batch():
    """Batch norm is that of the clips of all devices; gates and dropped residuals stay a clip's."""
    made_up.assert_equal_on_eight_devices(ON_EIGHT_DEVICES)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (dict(strides=(2, 1)), "found 2 core.strides for 1 core.features"),
        (dict(spatial_kernel=4), "found core.spatial_kernel 4, expected an odd number"),
        (dict(temporal_kernel=2), "found core.temporal_kernel 2"),
        (dict(drop_path=1.0), "found core.drop_path 1.0"),
        (dict(cortex=(7,)), "found 7 channels for 2 groups"),
    ],
)
def test_settings_of_which_no_core_can_be_made_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        nnx.eval_shape(lambda: dwiseneuro.Core(3, **dwiseneuro.TINY | settings, rngs=nnx.Rngs(0)))
