"""A training step is a function of (state, batch, seed, step) and of nothing else."""

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sensojax import build, losses
from sensojax.models.encoder import assemble
from sensojax.training import checkpoints, optimizers, step
from sensojax.types import Batch, Neurons
from tests import runs

NEURONS = {"left": 4, "right": 3}
FILES = {"left": 20, "right": 50}
BATCH, TIME, HEIGHT, WIDTH = 2, 7, 10, 12


def made_up(batch_norm: str = "joint"):
    """(graph, state) of a small encoder of two mice."""
    config = runs.config(
        Path(),
        {
            "inputs.behavior": False,
            "encoder.batch_norm": batch_norm,
            "readout.positions": "learned",
        },
    )
    neurons = {m: Neurons(np.arange(n), np.zeros((n, 3))) for m, n in NEURONS.items()}
    model = build.new_encoder(config, neurons, 2)
    return step.initial_state(model, optimizers.adamw())


def batches(seed: int = 0, valid_from: int = 2) -> dict[str, Batch]:
    """Normalised batches; the core loses the first two frames."""
    rng = np.random.default_rng(seed)
    made = {}
    for mouse, count in NEURONS.items():
        made[mouse] = Batch(
            video=rng.normal(size=(BATCH, TIME, HEIGHT, WIDTH, 1)).astype(np.float32),
            responses=rng.exponential(size=(BATCH, TIME, count)).astype(np.float32),
            behavior=np.zeros((BATCH, TIME, 2), np.float32),
            pupil_center=rng.normal(size=(BATCH, TIME, 2)).astype(np.float32),
            valid=np.tile(np.arange(TIME) >= valid_from, (BATCH, 1)),
            start=np.zeros(BATCH, np.int32),
        )
    return made


def make_step(graph, seed: int = 0):
    return step.make_train_step(
        graph,
        optimizers.adamw(),
        lambda *seen: losses.poisson(*seen, reduction="sum"),
        lambda raw, statistics: raw,
        num_files=FILES,
        seed=seed,
    )


@pytest.fixture(scope="module")
def made():
    """(graph, initial state, step of seed 0), compiled once for all tests."""
    graph, state = made_up()
    return graph, state, make_step(graph)


def copy(state):
    return jax.tree.map(jnp.copy, state)


def digest(state) -> str:
    return checkpoints.digest(checkpoints.flatten(state))


def test_same_step_from_the_same_state_is_bit_equal(made):
    _, state, train = made
    ends = [train(copy(state), batches(), {}, 0.01)[0] for _ in range(2)]
    assert digest(ends[0]) == digest(ends[1]) != digest(state)
    assert int(ends[0].step) == 1


def test_another_step_or_seed_draws_other_noise(made):
    graph, state, train = made
    loss = float(train(copy(state), batches(), {}, 0.0)[1]["loss"])
    later = state.replace(step=jnp.asarray(1, jnp.int32))
    assert float(train(copy(later), batches(), {}, 0.0)[1]["loss"]) != loss
    assert float(make_step(graph, seed=1)(copy(state), batches(), {}, 0.0)[1]["loss"]) != loss


def test_mice_draw_noise_of_their_own(made):
    """Also when they look the same: otherwise their readouts would be shaken in unison."""
    graph, state, _ = made
    noise = assemble(graph, state.weights).draw_noise(jax.random.key(0), batches())
    shared = min(NEURONS.values())
    assert not np.any(noise["left"][:, :, :shared] == noise["right"][:, :, :shared])


def test_objective_is_the_published_one(made):
    """sqrt(M / b) times each mouse's summed loss, and the penalties; M counts a session's files."""
    graph, state, train = made
    _, measured = train(copy(state), batches(), {}, 0.01)
    model = assemble(graph, state.weights)
    key = jax.random.fold_in(jax.random.key(0), 0)
    predicted = model(batches(), train=True, noise=model.draw_noise(key, batches()))
    for mouse, batch in batches().items():
        seen = (predicted[mouse], batch.responses[:, 2:], batch.valid[:, 2:])
        expected = math.sqrt(FILES[mouse] / BATCH) * losses.poisson(*seen, reduction="sum")
        assert float(measured["parts"][mouse]) == pytest.approx(float(expected), rel=2e-5)
    penalties = model.regularizers(tuple(NEURONS))
    for name, value in penalties.items():
        assert float(measured["parts"][name]) == pytest.approx(float(value), rel=1e-5)
    assert float(measured["loss"]) == pytest.approx(
        sum(float(part) for part in measured["parts"].values()), rel=1e-6
    )


def test_frames_that_do_not_count_change_nothing(made):
    _, state, train = made
    plain, changed = batches(valid_from=4), batches(valid_from=4)
    for batch in changed.values():
        batch.responses[:, :4] = 1e6
    ends = [train(copy(state), each, {}, 0.01)[0] for each in (plain, changed)]
    assert digest(ends[0]) == digest(ends[1])


def test_responses_that_count_do_change_the_step(made):
    _, state, train = made
    changed = batches()
    changed["right"].responses[0, -1, 0] += 1.0
    ends = [train(copy(state), each, {}, 0.01)[0] for each in (batches(), changed)]
    assert digest(ends[0].weights.params) != digest(ends[1].weights.params)


def test_learning_rate_zero_moves_statistics_and_moments_but_no_parameter(made):
    _, state, train = made
    end, _ = train(copy(state), batches(), {}, 0.0)
    assert digest(end.weights.params) == digest(state.weights.params)
    assert digest(end.weights.statistics) != digest(state.weights.statistics)
    assert digest(end.optimizer) != digest(state.optimizer)
    assert digest(end.best) == digest(state.best)
    assert digest(end.weights.fixed) == digest(state.weights.fixed)


def test_step_learns(made):
    _, state, train = made
    state, losses_seen = copy(state), []
    for _ in range(30):
        state, measured = train(state, batches(), {}, 0.01)
        losses_seen.append(float(measured["loss_per_response"]))
    assert min(losses_seen[-5:]) < losses_seen[0] - 0.1


def test_biases_that_batch_norm_takes_away_are_not_moved_by_rounding_noise(made):
    """Their gradient is 0; Adam would make full steps of noise, other ones on other devices."""
    _, state, train = made
    end, _ = train(copy(state), batches(), {}, 0.01)
    (layer,) = end.weights.params["core"]["layers"].values()
    for name in ("spatial_bias", "temporal_bias"):
        np.testing.assert_array_equal(layer[name], 0.0)
    assert np.any(layer["norm"]["bias"] != 0.0)


def test_state_is_donated(made):
    """The old state's memory is used for the new one: a ten-mouse state exists once."""
    _, state, train = made
    old = copy(state)
    train(old, batches(), {}, 0.01)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(old))


def test_no_array_stands_twice_in_a_state(made):
    _, state, _ = made
    for each in (state, step.keep_best(state), step.reload_best(step.keep_best(state))):
        pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(each)]
        assert len(set(pointers)) == len(pointers)


def test_nothing_is_compiled_again_after_the_first_step():
    """Neither for a state that a step made, nor for kept and reloaded weights, nor for a rate."""
    graph, state = made_up("per_mouse")
    train = make_step(graph)
    with runs.compilations() as compiled:
        for number in range(4):
            state, _ = train(state, batches(number), {}, 0.01 / (1 + number))
            state = step.reload_best(state) if number % 2 else step.keep_best(state)
    assert compiled["step"] == 1
    assert train._cache_size() == 1


def test_best_weights_come_back_and_moments_stay(made):
    graph, state, train = made
    best, _ = train(copy(state), batches(0), {}, 0.01)
    best = step.keep_best(best)
    kept = digest(step.best_weights(best))
    assert kept == digest(best.weights)
    end, _ = train(best, batches(1), {}, 0.01)
    assert digest(end.weights) != kept == digest(step.best_weights(end))
    assert int(end.best["step"]) == 1 and int(end.step) == 2
    back = step.reload_best(end)
    assert digest(back.weights) == kept
    assert digest(back.optimizer) == digest(end.optimizer)
    assert int(back.step) == 2
    assert int(assemble(graph, back.weights).readouts["left"].num_neurons) == NEURONS["left"]
