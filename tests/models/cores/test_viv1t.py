"""ViV1T's cores and what mice share: settings, what is left out in training, behaviour, builds."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from configs import dynamic_viv1t
from sensojax import build
from sensojax.errors import UserError
from sensojax.experiments import transfer
from sensojax.interop import viv1t as names
from sensojax.models import token_behavior, token_places, transformer
from sensojax.models.cores import viv1t, viv1t2023
from sensojax.models.encoder import assemble, separate
from sensojax.types import Neurons
from tests.models.made_up import (
    QUICKLY,
    Running,
    assert_equal_on_eight_devices,
    batch,
    leaves,
    normal,
)

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


def test_of_the_networks_of_mice_each_answers_to_its_own_clips():
    made = token_behavior.OfMice(3, 4, 2, 6, rngs=nnx.Rngs(0))
    state, mice = normal(0, 4, 5, 4), (2, 0, 1, 2)
    found = made(state, jnp.array(mice))
    for clip, mouse in enumerate(mice):
        own = made.networks[mouse](state[clip : clip + 1])[0]
        np.testing.assert_allclose(found[clip], own, atol=1e-6)


@pytest.fixture(scope="module")
def with_networks():
    """An encoder of two mice, each with networks of behaviour of its own."""
    made = encoder(core=dict(name="viv1t2023", **viv1t2023.TINY, behavior="networks"))
    for readout in made.readouts.values():
        readout.features[...] = normal(3, *readout.features.shape)
    return made


@pytest.mark.slow
def test_every_mouse_is_told_by_its_own_network_whoever_is_asked_beside_it(with_networks):
    graph, weights = separate(with_networks)
    run = Running(with_networks, lambda model, batches: model(batches))
    given = batches()
    before = run(given)
    unequal = given | {"b": batch(4, 4, size=3, time=4, channels=5)}
    asked = [run(unequal)["a"], *(run({mouse: each})[mouse] for mouse, each in given.items())]
    for found, mouse in zip(asked, "aab", strict=True):
        np.testing.assert_allclose(found, before[mouse], rtol=1e-5, atol=1e-6)
    changed = assemble(graph, weights)
    changed.core.in_time.networks[0].networks[1].out.bias[...] += 1.0
    after = run.jitted(separate(changed)[1], given)
    assert np.array_equal(after["a"], before["a"]) and not np.allclose(after["b"], before["b"])


@pytest.mark.slow
def test_a_core_with_networks_of_its_mice_is_not_taken_to_others(with_networks):
    run = (*separate(with_networks), {})
    with pytest.raises(UserError, match="networks of behaviour that each belong to one"):
        transfer.take_core(with_networks, {"transfer": {"run": "runs/own"}}, run)


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


ON_EIGHT_DEVICES = """
import jax, numpy as np
from flax import nnx
from sensojax.models.cores import viv1t, viv1t2023
from sensojax.models.encoder import assemble, separate
from sensojax.training.mesh import Placement
from tests.goldens import assert_close
from tests.models.made_up import QUICKLY

assert len(jax.devices()) == 8
drops = dict(patch_dropout=0.1, attention_dropout=0.1, hidden_dropout=0.1, drop_path=0.2)
video = np.random.default_rng(0).normal(size=(8, 4, 9, 11, 3)).astype(np.float32)
placement = Placement()
for module in (viv1t, viv1t2023):
    core = module.Core(3, **module.TINY, **drops, frame_size=(9, 11), rngs=nnx.Rngs(0))
    graph, weights = separate(core)

    def run(weights, video, keys):
        def out(params, video):
            core = assemble(graph, weights.replace(params=params))
            return core(video, train=True, noise=keys)
        value, back = jax.vjp(out, weights.params, video)
        return value, *back(jax.numpy.cos(value))

    keys = core.draw_noise(jax.random.key(1), 8, 4)  # what each example leaves out
    run = jax.jit(run, compiler_options=QUICKLY)
    alone = run(weights, video, keys)
    spread_keys = jax.device_put(keys, placement.split)
    given = placement.everywhere(weights), placement.batch(video), spread_keys
    with jax.set_mesh(placement.mesh):
        spread = run.lower(*given).compile()
        value, of_weights, of_video = spread(*given)
    assert_close(value, alone[0], 5e-6, "value")
    assert_close(of_video, alone[2], 5e-6, "d video")
    biggest = max(float(np.abs(each).max()) for each in jax.tree.leaves(alone[1]))
    for one, other in zip(*map(jax.tree.leaves, (of_weights, alone[1])), strict=True):
        assert np.abs(one - other).max() < 5e-6 * biggest
    for each in (value, of_video):
        assert each.sharding.is_equivalent_to(placement.split, each.ndim), each.sharding
    assert "all-gather" not in spread.as_text()
print("equal on eight devices")
"""


@pytest.mark.slow
def test_eight_devices_give_what_one_gives_and_never_gather_the_batch():
    assert_equal_on_eight_devices(ON_EIGHT_DEVICES)


def test_without_registers_there_are_no_empty_arrays_which_no_checkpoint_can_hold(video):
    made = core(viv1t, registers=0)
    assert all(array.size for array in leaves(separate(made)[1]).values())
    features = Running(made, lambda model, video: model(video, train=False))(video)
    assert features.shape[:2] == video.shape[:2]
    assert not any("reg_" in entry.name for entry in names.core2025(made))


CODED = dict(viv1t2023.TINY, max_frames=6)  # 5 frames of tokens
PER_FEATURE = ("NDHWC", "DHWIO", "NDHWC")


def test_a_joint_code_has_a_row_for_every_place_and_frame():
    core = viv1t2023.Core(
        3, **CODED, space_code="joint", time_code="none", frame_size=(9, 11), rngs=nnx.Rngs(0)
    )
    rows, columns = core.map_size(9, 11)
    assert core.places.joint.shape == (5 * rows * columns, 8)
    tokens = normal(0, 2, 4, rows, columns, 8)
    table = core.places.joint[...].reshape(5, rows, columns, 8)
    np.testing.assert_array_equal(core.places(tokens), tokens + table[None, :4])
    with pytest.raises(UserError, match="6 frames of tokens for learned position codes of 5"):
        core.places(normal(0, 1, 6, rows, columns, 8))
    listed = {entry.name: entry.shape for entry in names.core2023(core)}
    shape = (1, 5, rows * columns, 8)
    assert listed["core.vivit.tokenizer.pos_embedding"] == shape


@pytest.mark.parametrize("along_time", [False, True])
def test_neighbours_tell_a_token_what_a_filter_sees_of_them(along_time):
    made = token_places.Neighbours(4, along_time=along_time, rngs=nnx.Rngs(0))
    x = normal(0, 2, 5, 3, 4, 4)  # batch time row column feature
    kernel = np.asarray(made.kernel)
    kernel = kernel[:, None, None] if along_time else kernel[None]
    around = [(size // 2, size // 2) for size in kernel.shape[:3]]
    expected = x + made.bias[...].reshape(1, 1, 1, 1, 4) + jax.lax.conv_general_dilated(
        x, kernel[..., None, :], (1, 1, 1), around, feature_group_count=4,
        dimension_numbers=PER_FEATURE,
    )  # fmt: skip
    found = made(x.reshape(2, 5, 12, 4), rows=3)
    np.testing.assert_allclose(found, expected.reshape(2, 5, 12, 4), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_convolution_as_code_acts_after_the_first_block_of_each_stack():
    size = dict(frame_size=(9, 11), rngs=nnx.Rngs(0))
    codes = dict(space_code="convolution", time_code="convolution")
    core = viv1t2023.Core(3, **CODED | dict(spatial_blocks=2), **codes, blocks="sequential", **size)
    plain = viv1t2023.Core(
        3, **CODED, space_code="none", time_code="none", blocks="sequential", **size
    )
    listed = {entry.name: entry.shape for entry in names.core2023(core)}
    here = "transformer.blocks.0.pos_encoding.pos_embedding.weight"
    assert listed[f"core.vivit.spatial_{here}"] == (8, 1, 3, 3)
    assert listed[f"core.vivit.temporal_{here}"] == (8, 1, 3)
    x, stack = normal(1, 1, 4, 20, 8), core.in_space

    @functools.partial(jax.jit, compiler_options=QUICKLY)
    def both(x):
        first = stack.neighbours(stack.blocks[0](x, transformer.PLACES), 4)
        step_by_step = stack.blocks[1](first, transformer.PLACES)
        return stack(x, transformer.PLACES, rows=4), step_by_step

    found, expected = both(x)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert plain.in_space.neighbours is None
