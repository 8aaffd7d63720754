"""Checkpoints: what is read is what was written, or it is said that it is not."""

import jax.numpy as jnp
import numpy as np
import pytest

from sensojax.errors import UserError
from sensojax.training import checkpoints
from sensojax.training.checkpoints import Checkpoints
from tests import runs


def state(step: int) -> dict:
    """Arrays that differ between steps, of several types and shapes."""
    rng = np.random.default_rng(step)
    return {
        "step": jnp.asarray(step, jnp.int32),
        "weights": {"a": jnp.asarray(rng.normal(size=(3, 4)), jnp.float32), "b": jnp.ones(()) / 3},
        "seen": jnp.asarray([True, False]),
    }


def written(folder, steps=(1, 2, 3)):
    with Checkpoints(folder) as saved:
        for step in steps:
            saved.save(step, state(step), {"step": step, "note": f"of {step}"})
    return folder


def newest(folder, like=lambda about: state(0), **how):
    with Checkpoints(folder, **how) as saved:
        return saved.restore_newest(like)


def equal(one, other) -> bool:
    pairs = [checkpoints.flatten(one), checkpoints.flatten(other)]
    return checkpoints.digest(pairs[0]) == checkpoints.digest(pairs[1])


def test_newest_comes_back_bit_equal_with_what_it_says_of_itself(tmp_path):
    found, about = newest(written(tmp_path))
    assert equal(found, state(3)) and not equal(found, state(2))
    assert (about["step"], about["note"]) == (3, "of 3")


def test_folder_without_checkpoints_gives_none(tmp_path):
    assert newest(tmp_path) is None
    assert not checkpoints.finished(tmp_path)


def test_newest_two_are_kept(tmp_path):
    with Checkpoints(written(tmp_path)) as saved:
        assert saved.steps() == [3, 2]
    assert checkpoints.finished(tmp_path)


def test_saving_a_step_again_keeps_the_first(tmp_path):
    with Checkpoints(written(tmp_path)) as saved:
        saved.save(3, state(7), {"step": 3, "note": "other"})
    found, about = newest(tmp_path)
    assert equal(found, state(3)) and about["note"] == "of 3"


@pytest.mark.parametrize("how", runs.DAMAGES)
def test_damaged_newest_is_said_and_the_one_before_used(tmp_path, how):
    runs.damage(written(tmp_path), 3, how)
    said = []
    found, about = newest(tmp_path, say=said.append)
    assert equal(found, state(2)) and about["step"] == 2
    assert len(said) == 1
    assert f"{tmp_path}/checkpoints/3 is damaged" in said[0] and "\n" not in said[0]


def test_damaged_description_is_damage_too(tmp_path):
    (written(tmp_path) / "checkpoints" / "3" / "about" / "metadata").write_text("{")
    said = []
    assert newest(tmp_path, say=said.append)[1]["step"] == 2
    assert len(said) == 1


def test_arrays_exchanged_between_checkpoints_are_noticed(tmp_path):
    """Every file is whole and readable; only the digest tells."""
    folder = written(tmp_path) / "checkpoints"
    (folder / "3" / "arrays").rename(folder / "3" / "own")
    (folder / "2" / "arrays").rename(folder / "3" / "arrays")
    (folder / "3" / "own").rename(folder / "2" / "arrays")
    said = []
    with pytest.raises(UserError, match=r"2 checkpoints in .* all damaged"):
        newest(tmp_path, say=said.append)
    assert "not those that were written" in said[0]


def test_all_damaged_is_refused_and_nothing_deleted(tmp_path):
    written(tmp_path)
    for step in (2, 3):
        runs.damage(tmp_path, step, "cut")
    with pytest.raises(UserError, match=r"found 2 checkpoints in .*, all damaged; restore"):
        newest(tmp_path, say=lambda line: None)
    with Checkpoints(tmp_path) as saved:
        assert saved.steps() == [3, 2]


def test_another_shape_is_refused_by_name_and_not_taken_for_damage(tmp_path):
    def like(about):
        return state(0) | {"seen": jnp.zeros(5, bool)}

    with pytest.raises(UserError, match=r"seen has shape \[2\] in checkpoint .* and \[5\] in this"):
        newest(written(tmp_path), like)


def test_array_that_is_not_there_is_refused_by_name(tmp_path):
    def like(about):
        return state(0) | {"more": jnp.zeros(5)}

    with pytest.raises(UserError, match=r"more has shape none in checkpoint .* and \[5\]"):
        newest(written(tmp_path), like)


def test_other_format_is_refused(tmp_path, monkeypatch):
    written(tmp_path)
    monkeypatch.setattr(checkpoints, "FORMAT", checkpoints.FORMAT + 1)
    with pytest.raises(UserError, match="has format 1, expected 2"):
        newest(tmp_path)


def test_later_checkpoints_are_dropped_to_be_written_again(tmp_path):
    with Checkpoints(written(tmp_path)) as saved:
        saved.drop_after(2)
        assert saved.steps() == [2]
        saved.save(3, state(8), {"step": 3})
    assert equal(newest(tmp_path)[0], state(8))


def test_what_a_killed_run_left_is_removed_by_the_next_one_only(tmp_path):
    half = written(tmp_path) / "checkpoints" / "4.orbax-checkpoint-tmp" / "arrays"
    half.mkdir(parents=True)
    assert newest(tmp_path, read_only=True)[1]["step"] == 3
    assert half.exists()  # a run that is still going may be writing it
    assert newest(tmp_path)[1]["step"] == 3
    assert not half.parent.exists()


def test_reader_leaves_no_trace(tmp_path):
    with Checkpoints(tmp_path, read_only=True) as saved:
        assert saved.steps() == []
    assert not list(tmp_path.iterdir())


def test_digest_sees_names_types_shapes_and_bytes():
    one = {"a": np.zeros((2, 3), np.float32), "b": np.ones(2)}
    others = [
        {"c": one["a"], "b": one["b"]},
        {"a": one["a"].astype(np.int32), "b": one["b"]},
        {"a": one["a"].reshape(3, 2), "b": one["b"]},
        {"a": -one["a"], "b": one["b"]},  # minus zero
    ]
    assert checkpoints.digest(dict(reversed(one.items()))) == checkpoints.digest(one)
    assert len({checkpoints.digest(each) for each in [one, *others]}) == 5
