"""Work on many things gives the same results in the same order, whoever does it."""

import os

import pytest

from sensojax.errors import UserError
from sensojax.spikes.motifs.patches import Patch
from sensojax.spikes.workers import ONE_THREAD, Workers, one_of_each, refuse_failures


@pytest.mark.parametrize("processes", [1, 2])
def test_results_stand_in_the_order_of_the_tasks_and_failures_in_their_place(processes):
    texts = ["1x2", "bad", "2x3", "", "4x5"]
    with Workers(processes) as workers:
        found = workers.run(Patch.parse, texts, "reading")
        assert found[::2] == [Patch(1, 2), Patch(2, 3), Patch(4, 5)]
        assert all(isinstance(error, UserError) for error in found[1::2])
        with pytest.raises(UserError, match="2 of 5 sessions could not be read; ") as refused:
            refuse_failures(texts, found, "read")
        assert "\n  bad: found a patch 'bad'" in str(refused.value)
        with pytest.raises(ValueError, match="invalid literal"):  # ours, not the user's
            workers.run(int, ["1", "x"], "reading")
    refuse_failures(texts[::2], found[::2], "read")


def test_processes_have_one_thread_each_and_a_dead_one_is_told_of(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    with Workers(2) as workers:
        assert workers.run(os.getenv, ONE_THREAD, "asking") == ["1", "1", "1"]
        with pytest.raises(UserError, match=r"ended without a word.*fewer --workers"):
            workers.run(os._exit, [3], "dying")
    assert os.getenv("OMP_NUM_THREADS") == "7" and os.getenv("OPENBLAS_NUM_THREADS") is None


def test_two_sessions_of_one_name_are_refused():
    one_of_each([])
    one_of_each(["a", "b"])
    with pytest.raises(UserError, match="found 2 sessions named b"):
        one_of_each(["a", "b", "b"])
