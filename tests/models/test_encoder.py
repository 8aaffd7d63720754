"""The encoder: mice share a core and nothing else, and a model is its structure and its arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sensojax.errors import UserError
from sensojax.models.encoder import assemble, separate
from tests.goldens import assert_close
from tests.models import made_up
from tests.models.made_up import Running, leaves, normal

NEURONS = {"ada": 5, "bob": 7}


def predicted(model, batches):
    return model(batches)


def trained(model, batches, noise=None):
    """Training mode, and the running statistics that it leaves behind."""
    return model(batches, train=True, noise=noise), separate(model)[1].statistics


@pytest.fixture(scope="module")
def batches():
    return {"ada": made_up.batch(0, 5), "bob": made_up.batch(10, 7)}


@pytest.fixture(scope="module")
def model():
    return made_up.encoder(NEURONS)


@pytest.fixture(scope="module")
def evaluate(model):
    return Running(model, predicted)


@pytest.fixture(scope="module")
def train(model):
    return Running(model, trained)


@pytest.fixture(scope="module")
def train_per_mouse():
    return Running(made_up.encoder(NEURONS, batch_norm="per_mouse"), trained)


def test_responses_of_the_last_frames_are_positive(model, batches, evaluate):
    out = evaluate(batches)
    frames = batches["ada"].video.shape[1] - model.core.lost_frames
    assert {mouse: each.shape for mouse, each in out.items()} == {
        mouse: (2, frames, neurons) for mouse, neurons in NEURONS.items()
    }
    assert all(each.min() > 0 for each in out.values())
    assert model.mice == tuple(NEURONS)


def test_mice_do_not_influence_each_other_in_evaluation(batches, evaluate):
    before = evaluate(batches)
    after = evaluate(batches | {"bob": made_up.batch(77, 7)})
    assert np.array_equal(after["ada"], before["ada"])
    assert not np.array_equal(after["bob"], before["bob"])


def test_a_subset_of_the_mice_can_be_predicted(batches, evaluate):
    together = evaluate(batches)
    alone = evaluate({"bob": batches["bob"]})
    assert list(alone) == ["bob"]
    assert_close(alone["bob"], together["bob"], 1e-6)


def test_mice_with_batches_of_another_size_are_predicted_alike(batches, evaluate):
    together = evaluate(batches)
    one = jax.tree.map(lambda x: x[:1], batches["bob"])
    uneven = evaluate(batches | {"bob": one})
    assert uneven["bob"].shape[0] == 1
    assert_close(uneven["ada"], together["ada"], 1e-6)
    assert_close(uneven["bob"], together["bob"][:1], 1e-6)


def test_each_predicted_frame_sees_the_pupil_of_its_own_frame(model, batches, evaluate):
    lost = model.core.lost_frames

    def changed_frames(frame):
        pupil = batches["ada"].pupil_center.at[:, frame].add(1.0)
        after = evaluate(batches | {"ada": batches["ada"].replace(pupil_center=pupil)})
        differs = np.any(after["ada"] != evaluate(batches)["ada"], axis=(0, 2))
        return np.nonzero(differs)[0].tolist()

    assert changed_frames(lost - 1) == []
    assert changed_frames(lost + 1) == [1]


def test_responses_and_validity_are_not_read(batches, evaluate):
    blind = {m: b.replace(responses=b.responses + 1, valid=~b.valid) for m, b in batches.items()}
    before, after = evaluate(batches), evaluate(blind)
    assert all(np.array_equal(before[mouse], after[mouse]) for mouse in NEURONS)


def test_batch_norms_are_the_same_program_except_in_training(
    batches, evaluate, train, train_per_mouse
):
    per_mouse = Running(made_up.encoder(NEURONS, batch_norm="per_mouse"), predicted)
    programs = [jax.make_jaxpr(each.pure)(each.weights, batches) for each in (evaluate, per_mouse)]
    assert str(programs[0]) == str(programs[1])
    one, other = train(batches)[0], train_per_mouse(batches)[0]
    assert all(not np.allclose(one[mouse], other[mouse], rtol=1e-2) for mouse in NEURONS)


def test_mice_in_training_meet_in_joint_batch_norm_alone(batches, train, train_per_mouse):
    changed = batches | {"bob": made_up.batch(77, 7)}
    assert not np.array_equal(train(changed)[0]["ada"], train(batches)[0]["ada"])
    assert np.array_equal(train_per_mouse(changed)[0]["ada"], train_per_mouse(batches)[0]["ada"])


def test_joint_batch_norm_sees_all_mice_as_one_batch(model, batches, train):
    videos = jnp.concatenate([batch.video for batch in batches.values()])

    def core_alone(model, videos):
        model.core(videos, train=True)
        return separate(model)[1].statistics

    expected = leaves(Running(model, core_alone)(videos))
    for name, value in leaves(train(batches)[1]).items():
        assert_close(value, expected[name], 1e-5, name)


def test_per_mouse_batch_norm_sees_one_mouse_after_another(batches, train_per_mouse):
    def cores_in_order(model, videos):
        for video in videos:
            model.core(video, train=True)
        return separate(model)[1].statistics

    run = Running(assemble(train_per_mouse.graph, train_per_mouse.weights), cores_in_order)
    videos = [batch.video for batch in batches.values()]
    expected, backwards = leaves(run(videos)), leaves(run(videos[::-1]))
    found = leaves(train_per_mouse(batches)[1])
    for name, value in found.items():
        assert_close(value, expected[name], 1e-6, name)
    # The last mouse leaves most of the statistics, so the order can be told.
    assert any(not np.allclose(found[name], backwards[name], rtol=0.01) for name in found)


def test_a_model_survives_being_taken_apart(model, batches, evaluate):
    graph, weights = separate(model)
    again = separate(assemble(graph, weights))
    assert again[0] == graph
    found, expected = leaves(again[1]), leaves(weights)
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    out, other = evaluate(batches), evaluate.jitted(again[1], batches)
    assert all(np.array_equal(out[mouse], other[mouse]) for mouse in NEURONS)


def test_every_array_is_trained_updated_or_fixed(model):
    weights = separate(model)[1]
    assert all("mean" in name or "variance" in name for name in leaves(weights.statistics))
    assert {name.split("'")[-2] for name in leaves(weights.fixed)} == {"cortex"}
    assert not any("cortex" in name for name in leaves(weights.params))


def test_changing_an_assembled_model_changes_nothing_else(model):
    graph, weights = separate(model)
    before = leaves(weights)
    made = assemble(graph, weights)
    made.core.layers[0].spatial[...] *= 2
    made.core.layers[0].norm.mean[...] += 1
    for after in (leaves(weights), leaves(separate(model)[1])):
        assert all(np.array_equal(after[name], before[name]) for name in before)


def test_noise_depends_on_the_key_only(model, batches):
    draw = Running(model, lambda model, key, batches: model.draw_noise(key, batches))
    first = draw(jax.random.key(3), batches)
    other_batches = {"ada": made_up.batch(50, 5), "bob": made_up.batch(60, 7)}
    again, other = draw(jax.random.key(3), other_batches), draw(jax.random.key(4), batches)
    frames = batches["ada"].video.shape[1] - model.core.lost_frames
    for mouse, neurons in NEURONS.items():
        assert first[mouse].shape == (2, frames, neurons, 2)
        assert np.array_equal(first[mouse], again[mouse])
        assert not np.any(first[mouse] == other[mouse])
    assert not np.any(first["ada"] == first["bob"][:, :, :5]), "mice draw independently"


def test_penalties_of_the_core_count_once_for_each_mouse(model):
    one, two = model.regularizers(("ada",)), model.regularizers(("ada", "bob"))
    for name, value in model.core.regularizers().items():
        assert float(one[name]) == float(value)
        assert float(two[name]) == 2 * float(value)
    model.readouts["bob"].feature_l1 = 0.5
    with_bob = model.regularizers(("ada", "bob"))
    model.readouts["bob"].feature_l1 = 0.0
    expected = 0.5 * np.abs(model.readouts["bob"].features[...]).sum()
    assert float(with_bob["readout"]) == pytest.approx(float(expected), rel=1e-6)


def test_a_batch_norm_nobody_knows_is_refused_with_the_nearest(model):
    with pytest.raises(UserError, match="did you mean 'joint'"):
        made_up.encoder(NEURONS, batch_norm="jont")


@pytest.mark.slow
def test_gradients_reach_every_part_of_the_model(model, batches, train):
    noise = model.draw_noise(jax.random.key(0), batches)

    def loss(weights):
        out, _ = train.pure(weights, batches, noise)
        return sum(jnp.sum(each * normal(5, *each.shape)) for each in out.values())

    for name, gradient in leaves(jax.jit(jax.grad(loss))(train.weights).params).items():
        assert np.isfinite(gradient).all(), name
        assert gradient.ndim < 2 or gradient.any(), name


def test_channels_are_left_out_for_all_frames_of_a_clip_and_other_ones_for_each_mouse(
    model, batches, evaluate
):
    key, dropping = jax.random.key(0), made_up.encoder(NEURONS, channel_dropout=0.5)
    drawn = dropping.draw_channels(key, batches)
    assert model.draw_channels(key, batches) is None
    for factors in drawn.values():
        assert factors.shape == (2, model.core.num_features) and set(np.unique(factors)) == {0, 2}
    assert not np.array_equal(drawn["ada"], drawn["bob"])
    assert dropping.draw_channels(key, batches, everyone=True)["ada"].shape[0] == 4
    run = Running(model, lambda model, batches, channels: model(batches, channels=channels))
    all_of_them = {mouse: jnp.ones_like(factors) for mouse, factors in drawn.items()}
    none_of_a_clip = all_of_them | {"ada": all_of_them["ada"].at[0].set(0.0)}
    found, expected = run(batches, none_of_a_clip), evaluate(batches)
    assert np.ptp(found["ada"][0], axis=0).max() == 0, "what is left are the neurons' biases"
    assert_close(found["ada"][1], expected["ada"][1], 1e-6)
    assert_close(found["bob"], expected["bob"], 1e-6)
    with pytest.raises(UserError, match=r"encoder\.channel_dropout 1\.0"):
        made_up.encoder(NEURONS, channel_dropout=1.0)


ON_EIGHT_DEVICES = """
import jax
from sensojax.models.encoder import assemble
from sensojax.training.mesh import Placement
from tests.models import made_up
from tests.models.test_encoder import NEURONS, trained
from tests.goldens import assert_close

assert len(jax.devices()) == 8
running = made_up.Running(made_up.encoder(NEURONS), trained)
batches = {m: made_up.batch(3, n, size=8) for m, n in NEURONS.items()}

@jax.jit
def value_and_gradient(weights, batches):
    noise = assemble(running.graph, weights).draw_noise(jax.random.key(0), batches)
    def loss(params):
        out, statistics = running.pure(weights.replace(params=params), batches, noise)
        return sum(jax.numpy.sum(each**2) for each in out.values()), statistics
    return jax.value_and_grad(loss, has_aux=True)(weights.params)

expected = made_up.leaves(value_and_gradient(running.weights, batches))
placement = Placement()
with jax.set_mesh(placement.mesh):
    inputs = placement.everywhere(running.weights), placement.batch(batches)
    found = made_up.leaves(value_and_gradient(*inputs))
scale = max(abs(value).max() for value in expected.values())
for name, value in expected.items():
    # A sum that nearly cancels is only as exact as its largest terms.
    assert abs(found[name] - value).max() <= 1e-4 * max(abs(value).max(), 1e-3 * scale), name
print("equal on eight devices")
"""


@pytest.mark.slow
def test_eight_devices_train_as_one_does():
    made_up.assert_equal_on_eight_devices(ON_EIGHT_DEVICES)
