"""A step that does with less memory takes the same step: groups of mice, layers computed again."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sensojax import build, losses
from sensojax.errors import UserError
from sensojax.models import recomputing
from sensojax.training import checkpoints, groups, optimizers, step
from sensojax.types import Batch, Neurons
from tests import runs
from tests.training.test_step import FILES, batches, copy, digest, made_up


def make(graph, prepare=lambda raw, statistics: raw, files=FILES, **less):
    return step.make_train_step(
        graph, optimizers.adamw(), losses.poisson, prepare, num_files=files, seed=0, **less
    )


@functools.cache
def taken(batch_norm: str, **less):
    """The compiled step's memory, and what it makes of the first state."""
    graph, state = made_up(batch_norm)
    train = make(graph, **less)
    arguments = batches(), {}, 0.01
    memory = train.lower(state, *arguments).compile().memory_analysis()
    return memory, *train(copy(state), *arguments)


def assert_close(found, expected, tolerance=1e-6):
    found, expected = (checkpoints.flatten(each) for each in (found, expected))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        value, other = np.asarray(value, np.float64), np.asarray(found[name], np.float64)
        allowed = tolerance * max(np.abs(value).max(initial=0.0), 1e-3)
        assert np.abs(other - value).max(initial=0.0) <= allowed, name


def test_groups_are_the_mice_in_their_order():
    mice = ("a", "b", "c", "d", "e")
    assert groups.of(mice, 2) == [("a", "b"), ("c", "d"), ("e",)]
    assert groups.of(mice, 0) == groups.of(mice, 5) == groups.of(mice, 9) == [mice]


def test_what_a_group_does_not_have_counts_as_nothing():
    def one_group(mice, given, statistics):
        parts = {mouse: jnp.float32(given[mouse]) for mouse in mice}
        return {"parts": parts, "loss": sum(parts.values())}, statistics + len(mice)

    given = {"a": 1.0, "b": 2.0, "c": 4.0}
    run = jax.jit(lambda given: groups.summed(one_group, [("a", "b"), ("c",)], given, jnp.int32(7)))
    sums, statistics = run(given)
    assert {name: float(part) for name, part in sums["parts"].items()} == given
    assert float(sums["loss"]) == 7.0 and int(statistics) == 10


@pytest.mark.parametrize("number", [0.0, 1.0, -3.0, np.inf, -np.inf, np.nan])
def test_what_waits_for_a_number_is_done_whatever_the_number_is(number):
    found = jax.jit(lambda n, x: recomputing.after(n, lambda x: 2 * x, x))(number, jnp.float32(3.0))
    assert float(found) == 6.0


@pytest.mark.slow
def test_mice_one_after_the_other_take_the_step_of_all_at_once():
    """Each normalised by itself: the same noise, gradients, statistics and scalars."""
    assert_close(taken("per_mouse", mice_at_once=1)[1:], taken("per_mouse")[1:])


@pytest.mark.slow
def test_joint_batch_norm_is_that_of_a_group():
    """So a group of one mouse is what `per_mouse` is, and all of them together are not."""
    alone = taken("joint", mice_at_once=1)[1:]
    assert_close(alone, taken("per_mouse")[1:])
    difference = float(alone[1]["loss"]) - float(taken("joint")[2]["loss"])
    assert abs(difference) > 1e-3 * float(alone[1]["loss"])


@pytest.mark.slow
@pytest.mark.parametrize("batch_norm", ["per_mouse", "joint"])
def test_layers_computed_again_change_no_bit(batch_norm):
    _, state, measured = taken(batch_norm, recompute=True)
    _, expected, expected_measured = taken(batch_norm)
    assert digest(state) == digest(expected)
    assert digest(measured) == digest(expected_measured)


@pytest.mark.slow
def test_what_accelerators_are_given_is_the_same_step(monkeypatch):
    """They have barriers in place of branches; run here, these order nothing and change nothing."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    _, *found = taken.__wrapped__("per_mouse", mice_at_once=1, recompute=True)
    monkeypatch.undo()
    assert_close(found, taken("per_mouse")[1:])


@pytest.mark.slow
def test_the_state_is_updated_where_it_lies():
    """Every array that a step returns takes the memory of the one that it replaces."""
    for less in ({}, dict(mice_at_once=1), dict(recompute=True)):
        memory, state, _ = taken("per_mouse", **less)
        held = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        assert memory.alias_size_in_bytes >= 0.95 * held  # the best weights pass through as well


def of_layers(frames=20, mice=4):
    """(graph, shapes of a state, shapes of batches) of a core with three layers."""
    config = runs.preset("tiny")
    config["core"] |= dict(channels=(8, 8, 8), spatial_kernels=(5, 3, 3), strides=1)
    config["core"]["temporal_kernels"] = (3, 3, 3)
    config["readout"]["positions"], config["inputs"]["behavior"] = "learned", False
    names = [f"mouse{i}" for i in range(mice)]
    neurons = {mouse: Neurons(np.arange(4), np.zeros((4, 3))) for mouse in names}
    graph, state = step.initial_state(build.new_encoder(config, neurons, 2), optimizers.adamw())
    shape = jax.ShapeDtypeStruct
    batch = Batch(
        video=shape((2, frames, 24, 32, 1), jnp.float32),
        responses=shape((2, frames, 4), jnp.float32),
        behavior=shape((2, frames, 2), jnp.float32),
        pupil_center=shape((2, frames, 2), jnp.float32),
        valid=shape((2, frames), bool),
        start=shape((2,), jnp.int32),
    )
    return graph, state, dict.fromkeys(names, batch)


@pytest.mark.slow
def test_less_memory_is_needed_as_the_compiler_counts_it():
    """With features of one group, about that group's share; what is computed again is not kept."""
    graph, state, shapes = of_layers()

    def temporary(**less):
        train = make(graph, files=dict.fromkeys(shapes, 10), **less)
        compiled = train.lower(state, shapes, {}, 0.01).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    whole = temporary()
    alone, pairs = temporary(mice_at_once=1), temporary(mice_at_once=2)
    assert alone < 0.35 * whole and 0.4 * whole < pairs < 0.65 * whole
    assert temporary(recompute=True) < 0.9 * whole


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train.mice_at_once": -1}, "found train.mice_at_once -1, expected 0 or more"),
        (
            {"train.mice_at_once": 1, "distillation.run": "runs/teacher"},
            "train.mice_at_once 1 and distillation.run 'runs/teacher', expected one of them",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path, changes, said):
    with pytest.raises(UserError, match=said):
        build.check(runs.config(tmp_path, changes))
