"""Work on many things gives the same results in the same order, whoever does it."""

import os
import subprocess
import sys
import threading

import pytest
from dask import distributed

from sensojax.errors import UserError
from sensojax.spikes.motifs.patches import Patch
from sensojax.spikes.workers import ONE_THREAD, Workers, one_of_each, refuse_failures

SCHEDULER = """
import time
from dask.distributed import LocalCluster
if __name__ == "__main__":
    quiet = dict(dashboard_address=None)
    with LocalCluster(n_workers=0, processes=False, protocol="tcp", **quiet) as cluster:
        print(cluster.scheduler_address, flush=True)
        time.sleep(60)
"""


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


def test_a_cluster_without_workers_is_waited_for_and_said(capsys):
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster,
        Workers(scheduler=cluster.scheduler_address) as workers,
    ):
        said = capsys.readouterr().err
        assert f"no worker has joined {cluster.scheduler_address} yet" in said
        cluster.scale(1)
        assert workers.run(len, ["a", "bb"], "measuring") == [1, 2]


@pytest.mark.slow
def test_a_lost_worker_or_scheduler_of_a_cluster_is_one_sentence():
    with (
        distributed.LocalCluster(n_workers=1, dashboard_address=None) as cluster,
        Workers(scheduler=cluster.scheduler_address) as workers,
        pytest.raises(UserError, match=r"ended without a word.*workers with more memory"),
    ):
        workers.run(os._exit, [3], "dying")
    line = [sys.executable, "-c", SCHEDULER]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as scheduler:
        address = scheduler.stdout.readline().strip()
        with Workers(scheduler=address) as workers:
            threading.Timer(1.0, scheduler.kill).start()
            with pytest.raises(UserError, match=f"scheduler {address} does not answer any more"):
                workers.run(len, ["waiting for a worker that never comes"], "waiting")


def test_two_sessions_of_one_name_are_refused():
    one_of_each([])
    one_of_each(["a", "b"])
    with pytest.raises(UserError, match="found 2 sessions named b"):
        one_of_each(["a", "b", "b"])
