"""ViV1T's cores and what mice share: settings, what is left out in training, behaviour, builds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from configs import dynamic_viv1t
from sensojax import build
from sensojax.errors import UserError
from sensojax.models.cores import viv1t, viv1t2023
from sensojax.models.encoder import assemble, separate
from sensojax.types import Neurons
from tests.models.made_up import QUICKLY, Running, batch, leaves, normal

SIZE = (9, 11)
NOTHING_LEFT_OUT = dict.fromkeys(
    ("patch_dropout", "attention_dropout", "hidden_dropout", "drop_path"), 0.0
)


def core(module, channels=3, **changed):
    settings = {**module.TINY, **changed}
    return module.Core(channels, **settings, frame_size=SIZE, rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def video():
    return normal(0, 2, 5, *SIZE, 3)


@pytest.mark.slow
@pytest.mark.parametrize("module", [viv1t, viv1t2023])
def test_what_is_left_out_depends_on_the_key_alone(module, video):
    made = core(module)
    run = Running(made, lambda model, video, noise: model(video, train=True, noise=noise))
    keys = [made.draw_noise(jax.random.key(seed), 2, 5) for seed in (0, 1)]
    found = run(video, keys[0])
    assert np.isfinite(found).all()
    assert np.array_equal(found, run(video, keys[0]))
    assert not np.array_equal(found, run(video, keys[1]))
    # An example's key is its own: its neighbours in the batch do not matter.
    turned = run(video[::-1], keys[0][::-1])[::-1]
    np.testing.assert_allclose(turned, found, atol=1e-5)
    assert core(module, **NOTHING_LEFT_OUT).draw_noise(jax.random.key(0), 2, 5) is None


@pytest.mark.slow
@pytest.mark.parametrize("module", [viv1t, viv1t2023])
def test_half_precision_stays_near_single_precision_and_where_it_is(module, video):
    made = core(module)
    keys = made.draw_noise(jax.random.key(0), 2, 5)
    run = Running(made, lambda model, video, keys: model(video, train=True, noise=keys))
    half = jax.tree.map(
        lambda x: x.astype(jnp.bfloat16) if x.dtype == jnp.float32 else x, run.weights
    )
    found = run.jitted(half, video.astype(jnp.bfloat16), keys)
    assert found.dtype == jnp.bfloat16
    expected = np.asarray(run(video, keys))
    assert np.corrcoef(np.asarray(found, np.float32).ravel(), expected.ravel())[0, 1] > 0.999


@pytest.mark.slow
def test_recomputing_changes_no_gradient(video):
    def gradient(recompute):
        made = core(viv1t, recompute=recompute, temporal_blocks=2)
        graph, weights = separate(made)

        def loss(params):
            model = assemble(graph, weights.replace(params=params))
            return jnp.sum(jnp.square(model(video, train=True)))

        return leaves(jax.jit(jax.grad(loss), compiler_options=QUICKLY)(weights.params))

    plain, again = gradient(False), gradient(True)
    for name, expected in plain.items():
        scale = np.abs(expected).max()
        np.testing.assert_allclose(again[name], expected, rtol=0, atol=1e-5 * scale, err_msg=name)


@pytest.mark.slow
def test_registers_of_time_matter_without_a_causal_mask_and_are_trained_then_only(video):
    open_ended = core(viv1t, causal=False)
    assert isinstance(open_ended.time_registers, nnx.Param) and not open_ended.causal
    run = Running(open_ended, lambda model, video: model(video, train=False))
    before = run(video)
    open_ended.time_registers[...] = normal(7, *open_ended.time_registers.shape)
    assert not np.allclose(run.jitted(separate(open_ended)[1], video), before)
    assert not isinstance(core(viv1t).time_registers, nnx.Param)


@pytest.mark.slow
def test_a_network_of_behavior_reads_the_planes_and_all_frames_of_a_token(video):
    made = core(viv1t2023, channels=5, behavior="network")
    assert made.tokenizer.kernel.shape[3] == 1

    def features(model, state):
        planes = jnp.broadcast_to(state[:, :, None, None], (2, 5, *SIZE, 4))
        return model(jnp.concatenate([video[..., :1], planes], axis=-1), train=False)

    def first(state):
        return jnp.sum(made.in_space.networks[0](state)[:, 0])

    state, run = normal(1, 2, 5, 4), Running(made, features)
    gradient = jax.jit(jax.grad(first), compiler_options=QUICKLY)(state)
    assert np.all(gradient[:, : viv1t2023.TINY["patch_frames"]] != 0)
    assert not np.any(gradient[:, viv1t2023.TINY["patch_frames"] :])
    assert not np.allclose(run(state), run(state + 1.0))


@pytest.mark.parametrize(
    ("module", "changed", "sentence"),
    [
        (viv1t, dict(activation="gelo"), "did you mean 'gelu'"),
        (viv1t, dict(drop_path=1.0), "found core.drop_path 1.0"),
        (viv1t, dict(rotary_gain="inverted"), "core.rotary_gain"),
        (viv1t, dict(final="elo"), "core.final"),
        (viv1t2023, dict(space_code="rotary"), "core.space_code"),
        (viv1t2023, dict(blocks="serial"), "core.blocks"),
    ],
)
def test_settings_that_nobody_knows_are_refused(module, changed, sentence):
    with pytest.raises(UserError, match=sentence):
        core(module, **changed)


def test_learned_codes_of_space_need_the_size_of_videos():
    with pytest.raises(UserError, match="videos of unknown size"):
        viv1t2023.Core(3, **viv1t2023.TINY, rngs=nnx.Rngs(0))


def encoder(**sections):
    config = dynamic_viv1t.get_config("tiny").to_dict()
    for name, changed in sections.items():
        config[name] = changed if "name" in changed else config[name] | changed
    mice = {name: Neurons(np.arange(n), np.eye(n, 3)) for name, n in (("a", 3), ("b", 4))}
    return build.new_encoder(config, mice, 2, frame_size=SIZE)


def predicted(made, batches):
    return Running(made, lambda model, batches: model(batches))(batches)


def batches():
    return {name: batch(n, n, time=4, channels=5) for name, n in (("a", 3), ("b", 4))}


@pytest.mark.slow
def test_readout_and_shifter_read_the_state_of_their_own_frame_where_asked_to():
    made = encoder(readout=dict(reads_state=True), shifter=dict(reads_state=True))
    for readout in made.readouts.values():
        readout.features[...] = normal(3, *readout.features.shape)
    given = batches()
    before = predicted(made, given)
    changed = given["a"].replace(behavior=given["a"].behavior.at[0, 2].add(1.0))
    after = predicted(made, given | {"a": changed})
    assert np.array_equal(after["b"], before["b"])
    moved = np.any(after["a"] != before["a"], axis=-1)
    assert np.argwhere(moved).tolist() == [[0, 2]]
    plain = encoder()
    assert np.array_equal(
        predicted(plain, given)["a"], predicted(plain, given | {"a": changed})["a"]
    )


@pytest.mark.slow
def test_mice_with_attention_readouts_share_keys_and_values():
    readout = dict(name="attention", embedding=6, bias_start="mean")
    made = encoder(readout=readout, shifter=dict(name=""))
    names = [name for name in leaves(separate(made)[1].params) if "shared" in name]
    assert len(names) == 1
    assert made.readouts["a"].queries.shape == (3, 6)
    given = batches()
    before = predicted(made, given)
    made.shared.weight[...] = normal(0, *made.shared.weight.shape)
    after = predicted(made, given)
    assert all(not np.allclose(after[mouse], before[mouse]) for mouse in before)
