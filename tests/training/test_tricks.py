"""What a step does beyond the published kits: averages, mixed clips, teachers, fewer bits.

All are off by default; each is asked for what it promises, on the small encoder of test_step.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from sensojax import build, losses
from sensojax.models import narrowing
from sensojax.models.encoder import assemble, separate
from sensojax.pipeline import cutmix
from sensojax.training import checkpoints, distillation, optimizers, step
from tests import runs
from tests.training.test_step import FILES, TIME, batches, copy, digest, made_up

RATE, DECAY = 0.05, 0.9


@functools.cache
def graph_and_state():
    return made_up()


def state_of(recipe, averages: bool = False):
    graph, state = graph_and_state()
    return step.initial_state(assemble(graph, state.weights), recipe, averages=averages)[1]


def make(recipe, **tricks):
    return step.make_train_step(
        graph_and_state()[0],
        recipe,
        losses.poisson,
        lambda raw, statistics: raw,
        num_files=FILES,
        seed=0,
        **tricks,
    )


@functools.cache
def plain():
    return make(optimizers.adamw())


def leaves(tree) -> dict[str, np.ndarray]:
    return {name: np.asarray(x) for name, x in checkpoints.flatten(tree).items()}


@pytest.mark.slow
def test_the_average_follows_the_weights_and_batch_norm_and_changes_neither():
    """The weights are those of a run without an average, to the bit; the average is their sum."""
    recipe = optimizers.adamw()
    train, state = make(recipe, average=DECAY), state_of(recipe, averages=True)
    bare = state_of(recipe)
    expected = leaves((state.weights.params, state.weights.statistics))
    for number in range(3):
        state, _ = train(state, batches(number), {}, RATE)
        bare, _ = plain()(bare, batches(number), {}, RATE)
        now = leaves((state.weights.params, state.weights.statistics))
        expected = {k: DECAY * v + (1 - DECAY) * now[k] for k, v in expected.items()}
    assert digest(state.weights) == digest(bare.weights)
    found = leaves((state.average["params"], state.average["statistics"]))
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], rtol=2e-6, atol=1e-7, err_msg=name)
    scored = step.scored_weights(state)
    assert digest(scored.params) == digest(state.average["params"])
    assert digest(scored.statistics) == digest(state.average["statistics"])
    check_best(state)
    # Through plain numbers and back, as a checkpoint stores it: the next step is the same.
    again = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), state)
    ends = [train(copy(each), batches(9), {}, RATE)[0] for each in (state, again)]
    assert digest(ends[0]) == digest(ends[1])


def check_best(state):
    """The average is kept as the best; when it comes back it is all that there is."""
    kept = step.keep_best(state)
    assert digest(step.best_weights(kept)) == digest(step.scored_weights(state))
    back = step.reload_best(kept)
    for weights in (back.weights, step.scored_weights(back)):
        for name, value in leaves(weights).items():
            expected = leaves(step.best_weights(kept))[name]
            np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-7, err_msg=name)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(back)]
    assert len(set(pointers)) == len(pointers)


@pytest.mark.slow
def test_schedule_free_training_is_scored_at_the_average_of_its_path():
    """And clips gradients at a percentile of their history, which is part of the state."""
    recipe = optimizers.schedule_free(clip_percentile=10.0, clip_history=5)
    train, state = make(recipe), state_of(recipe)
    assert digest(step.scored_weights(state).statistics) == digest(state.weights.statistics)
    begun, fast = leaves(state.weights.params), []
    for number in range(3):
        state, measured = train(state, batches(number), {}, RATE)
        fast.append(leaves(state.optimizer.z))
    scored = leaves(step.scored_weights(state).params)
    for name, value in scored.items():
        mean = np.mean([path[name] for path in fast], axis=0)  # a constant rate: equal weights
        np.testing.assert_allclose(value, mean, rtol=2e-4, atol=2e-5, err_msg=name)
    moved = [name for name in scored if np.abs(scored[name] - begun[name]).max() > 0]
    assert len(moved) > 5
    assert int(state.optimizer.base_optimizer_state[0].count) == 3
    norms = state.optimizer.base_optimizer_state[0].norms
    assert float(norms[2]) == pytest.approx(float(measured["gradient_norm"]), rel=1e-5)
    check_best(state)
    again = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), state)
    ends = [train(copy(each), batches(9), {}, RATE)[0] for each in (state, again)]
    assert digest(ends[0]) == digest(ends[1])


MIX = cutmix.mixing(probability=1.0, alpha=1.0, axes="image")
WEIGHTS = {"left": lambda clips: 3.0 / clips, "right": lambda clips: 0.7}


@functools.cache
def taught():
    """A teacher with other weights, and a step of mixed clips and weighted mice that listens."""
    graph, state = graph_and_state()
    shaken = jax.tree.map(lambda x: x + 0.1, state.weights.params)
    teacher = distillation.Teacher(graph, state.weights.replace(params=shaken), ratio=0.36)
    return teacher, make(optimizers.adamw(), teacher=teacher, augment=MIX, mouse_weights=WEIGHTS)


@pytest.mark.slow
def test_every_mouse_learns_from_the_clips_of_the_others_what_the_teacher_says():
    """Of clips mixed as the step's key says, and with the weights of the mice."""
    teacher, train = taught()
    graph, state = graph_and_state()
    _, measured = train(copy(state_of(optimizers.adamw())), batches(), {}, RATE)
    model, other = assemble(graph, state.weights), assemble(graph, teacher.weights)
    key = jax.random.fold_in(jax.random.key(0), 0)
    mixed = jax.jit(MIX)(jax.random.fold_in(key, step.OF_THE_MIXING), batches())
    noise = model.draw_noise(key, mixed, everyone=True)
    predicted = model(mixed, train=True, noise=noise, everyone=True)
    answers = other(mixed, everyone=True)
    total, weights = 0.0, []
    for number, (mouse, batch) in enumerate(mixed.items()):
        own, others = slice(2 * number, 2 * number + 2), slice(2 - 2 * number, 4 - 2 * number)
        weight = WEIGHTS[mouse](2)
        seen = predicted[mouse][own], batch.responses[:, 2:], batch.valid[:, 2:]
        expected = 0.64 * weight * float(losses.poisson(*seen))
        assert float(measured["parts"][mouse]) == pytest.approx(expected, rel=2e-5)
        valid = jnp.ones((2, TIME - 2), bool)
        total += float(losses.poisson(predicted[mouse][others], answers[mouse][others], valid))
        weights += [weight] * 2
    each = 0.36 * sum(weights) / 4  # two clips of each of two mice are not the other's
    assert float(measured["parts"]["distilled"]) == pytest.approx(each * total, rel=2e-5)


@pytest.mark.slow
def test_a_teacher_is_not_taught_and_its_answers_and_the_mixing_are_those_of_the_step():
    teacher, train = taught()
    state = state_of(optimizers.adamw())
    before = digest(teacher.weights)
    ends = [train(copy(state), batches(), {}, RATE)[0] for _ in range(2)]
    assert digest(ends[0]) == digest(ends[1]) and digest(teacher.weights) == before
    assert train.keywords["taught_by"] is teacher.weights  # an argument of the program
    shaken = jax.tree.map(lambda x: x - 0.2, teacher.weights.params)
    changed = functools.partial(train.func, taught_by=teacher.weights.replace(params=shaken))
    assert digest(changed(copy(state), batches(), {}, RATE)[0].weights) != digest(ends[0].weights)
    later = [train(copy(state.replace(step=jnp.int32(k))), batches(), {}, 0.0) for k in (0, 1)]
    assert float(later[0][1]["loss"]) != float(later[1][1]["loss"])


@pytest.mark.slow
def test_own_answers_in_the_midst_of_all_are_those_given_alone():
    graph, state = graph_and_state()
    model = assemble(graph, state.weights)
    alone, all_of_them = model(batches()), model(batches(), everyone=True)
    for number, (mouse, answer) in enumerate(alone.items()):
        own = all_of_them[mouse][2 * number : 2 * number + 2]
        np.testing.assert_allclose(own, answer, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_in_bfloat16_gradients_are_close_and_everything_kept_is_float32():
    graph, state = graph_and_state()
    narrow = make(optimizers.adamw(), compute="bfloat16")
    after, measured = jax.eval_shape(narrow, state, batches(), {}, RATE)
    for name, leaf in checkpoints.flatten((after, measured)).items():
        assert leaf.dtype in (np.float32, np.int32), name

    @functools.partial(jax.jit, static_argnums=1)
    def gradient(params, compute):
        def loss(params):
            model = assemble(graph, state.weights.replace(params=params))
            working, shown = narrowing.narrowed(model, batches(), compute)
            noise = model.draw_noise(jax.random.key(0), batches())
            seen = working(shown, train=True, noise=noise)
            assert all(answer.dtype == jnp.float32 for answer in seen.values())
            value = sum(jnp.sum(jnp.square(answer - 1.0)) for answer in seen.values())
            return value, separate(working)[1].statistics

        return jax.value_and_grad(loss, has_aux=True)(params)

    found = {name: gradient(state.weights.params, name) for name in narrowing.PRECISIONS}
    (wide, (slim, statistics)) = found["float32"][0], found["bfloat16"][0]
    assert float(slim) != float(wide[0])  # it does compute otherwise
    assert float(slim) == pytest.approx(float(wide[0]), rel=0.01)
    expected = leaves(wide[1])
    for name, value in leaves(statistics).items():
        np.testing.assert_allclose(value, expected[name], rtol=0.03, atol=0.01, err_msg=name)
    wide, slim = found["float32"][1], found["bfloat16"][1]
    assert {leaf.dtype.name for leaf in jax.tree.leaves(slim)} == {"float32"}
    difference = optax.tree.norm(jax.tree.map(jnp.subtract, slim, wide))
    assert 0 < float(difference / optax.tree.norm(wide)) < 0.03


def test_narrowing_leaves_the_model_as_it_was():
    graph, state = graph_and_state()
    model = assemble(graph, state.weights)
    same, seen = narrowing.narrowed(model, batches(), "float32")
    assert same is model and seen["left"].video.dtype == np.float32
    made, seen = narrowing.narrowed(model, batches(), "bfloat16")
    assert digest(separate(model)[1]) == digest(state.weights)
    assert seen["left"].video.dtype == jnp.bfloat16 and seen["left"].responses.dtype == np.float32
    kinds = {name: leaf.dtype.name for name, leaf in checkpoints.flatten(separate(made)[1]).items()}
    narrow = {name for name, kind in kinds.items() if kind == "bfloat16"}
    assert any("spatial" in name for name in narrow)
    assert all("core" in name and "norm" not in name for name in narrow)


@pytest.mark.parametrize(
    ("page", "preset"),
    [
        ("dynamic", "tiny"),
        ("dynamic_dwiseneuro", "tiny"),
        ("dynamic_gru", "tiny"),
        ("static", "tiny"),
    ],
)
def test_features_of_a_narrow_core_are_bfloat16_and_states_float32(page, preset):
    """Nothing on the way widens features: a sum with a float32 array would."""
    config = runs.preset(preset, page)

    def features(video):
        holder = nnx.Dict(core=build.new_core(config, 2, nnx.Rngs(0)))
        made, _ = narrowing.narrowed(holder, {}, "bfloat16")
        return made.core(video, train=True)

    columns = config["inputs"]["behavior_columns"] or (0, 1)
    channels = 1 + (len(columns) + 2 * config["inputs"]["pupil"]) * config["inputs"]["behavior"]
    video = jax.ShapeDtypeStruct((1, 24, 32, 40, channels), jnp.bfloat16)
    expected = jnp.float32 if config["recurrent"]["name"] else jnp.bfloat16
    assert jax.eval_shape(features, video).dtype == expected
