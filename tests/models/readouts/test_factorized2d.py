"""The factorised readout beyond the contract of all readouts: masks, penalties, sizes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sensojax.errors import UserError
from sensojax.models.encoder import assemble, separate
from sensojax.models.readouts import factorized2d
from tests.goldens import assert_close
from tests.models.made_up import normal

NEURONS, CHANNELS, SIZE = 5, 3, (4, 6)


def readout(neurons=NEURONS, size=SIZE, **settings):
    settings = dict(init_noise=1.0) | settings
    position_um = np.zeros((neurons, 3))
    return factorized2d.Readout(CHANNELS, position_um, map_size=size, **settings, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("frames", [1, 6])
def test_a_neuron_sums_mask_times_weight_times_feature(frames):
    made = readout(normalize=False, bias=False)
    features = normal(0, 2, frames, *SIZE, CHANNELS)
    parts = (np.asarray(x, np.float64) for x in (features, made.spatial[...], made.features[...]))
    expected = np.einsum("bthwc,nhw,nc->btn", *parts)
    assert_close(jax.jit(made)(features), expected, 1e-6)


def test_normalised_masks_have_length_one_whatever_their_scale():
    made = readout()
    lengths = np.sqrt(np.square(made.masks()).sum((1, 2)))
    np.testing.assert_allclose(lengths, 1.0, rtol=1e-5)
    features = normal(0, 1, 2, *SIZE, CHANNELS)
    before = made(features)
    made.spatial[...] *= 7.0
    assert_close(made(features), before, 1e-5)


def test_a_mask_of_zeros_reads_nothing_and_has_a_finite_gradient():
    made = readout(bias=False)
    made.spatial[...] = made.spatial[...].at[2].set(0.0)
    graph, weights = separate(made)
    features = normal(0, 1, 2, *SIZE, CHANNELS)

    @jax.jit
    def both(params):
        def total(params):
            out = assemble(graph, weights.replace(params=params))(features)
            return jnp.sum(out), out

        return jax.grad(total, has_aux=True)(params)

    gradient, out = both(weights.params)
    assert not np.any(out[:, :, 2]) and np.all(out[:, :, 0])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_masks_are_kept_or_made_positive_as_asked():
    free, kept, made_so = readout(), readout(constrain_pos=True), readout(positive_spatial=True)
    assert np.min(free.masks()) < 0
    assert np.min(kept.masks()) == 0 and np.max(kept.masks()) > 0
    kept.spatial[...] -= 0.1
    kept.constrain()
    assert np.min(kept.spatial[...]) == 0
    np.testing.assert_allclose(made_so.masks(), np.abs(free.masks()), rtol=1e-6)


def penalties_after_silencing_neuron_0(l1):
    """The penalty before and after the feature weights of one neuron are set to 0."""
    made = readout(l1=l1, l1_weight=2.0)
    before = float(made.regularizer())
    made.features[...] = made.features[...].at[0].set(0.0)
    return made, before, float(made.regularizer())


def test_the_penalty_of_a_neuron_is_its_own_unless_the_published_one_is_asked_for():
    made, before, after = penalties_after_silencing_neuron_0("per_neuron")
    masks = np.abs(made.masks()).sum((1, 2))
    own = 2.0 * np.sum(masks[1:] * np.abs(made.features[...]).sum(1)[1:])
    assert after == pytest.approx(own, rel=1e-5) and after < before
    made, before, after = penalties_after_silencing_neuron_0("published")
    every_pair = np.outer(np.abs(made.features[...]).sum(1), masks)
    assert after == pytest.approx(2.0 * every_pair.sum(), rel=1e-5) and after < before


def test_the_published_penalty_never_holds_every_pair_of_neurons():
    neurons = 3000
    made = jax.eval_shape(functools.partial(readout, neurons, (1, 2), l1="published"))
    graph, weights = separate(made)
    compiled = jax.jit(lambda weights: assemble(graph, weights).regularizer()).lower(weights)
    used = compiled.compile().memory_analysis().temp_size_in_bytes
    assert used < neurons**2 / 4, f"{used / 1e6:.1f} MB for {neurons} neurons"


def test_features_of_another_size_are_refused():
    with pytest.raises(UserError, match=r"found features of \(4, 5\) pixels for masks of \(4, 6\)"):
        readout()(jnp.zeros((1, 1, 4, 5, CHANNELS)))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (dict(l1="all_pairs"), "readout.l1 'all_pairs'"),
        (dict(bias_start="meen"), "did you mean 'mean'"),
    ],
)
def test_settings_that_make_no_readout_are_refused_in_a_sentence(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        readout(**settings)
