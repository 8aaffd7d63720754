"""One program on one device, on eight, and in two processes: the same numbers.

Not the same bits: a sum over a batch is taken in another order. In float32 that is 1e-7 of a sum;
Adam divides by the gradient's size, and 3 to 8 steps carry it on, so that parameters agree to about
1e-5 of their size (measured: 1e-6).
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from sensojax.errors import UserError
from sensojax.training import mesh
from tests import runs

CLOSE = 2e-5
EIGHT = {"data.batch_size": 8, "evaluation.batch_size": 8}
PROGRAM = """
import json, sys
from pathlib import Path
import jax, numpy as np
from sensojax.experiments.experiment import Experiment
from sensojax.training import checkpoints, mesh
from tests import runs

def trained(devices, norm):
    placement = mesh.Placement(devices)
    changes = json.loads(sys.argv[2]) | {"encoder.batch_norm": norm}
    with jax.set_mesh(placement.mesh):
        made = Experiment(runs.config(Path(sys.argv[1]), changes), placement)
        seen = []
        for step in range(3):
            batches = placement.batch(made.batches[step])
            made.state, measured = made.train_step(made.state, batches, made.statistics, 0.01)
            seen.append(jax.device_get(measured))
        score = made.validator.run(made.state.weights, step=3, seeds=(0,))
        leaf = jax.tree.leaves(batches)[0]
        return checkpoints.flatten(made.state), seen, score, len(leaf.sharding.device_set)

def difference(one, other):
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    return float(np.abs(one - other).max() / max(np.abs(one).max(), 1e-3))

answer = {}
for norm in ("joint", "per_mouse"):
    one, many = (trained(jax.devices()[:n], norm) for n in (1, 8))
    assert (one[3], many[3]) == (1, 8)
    scalars = [checkpoints.flatten(dict(enumerate(each[1]))) for each in (one, many)]
    answer[norm] = {
        "state": max(difference(one[0][k], many[0][k]) for k in one[0]),
        "measured": max(difference(scalars[0][k], scalars[1][k]) for k in scalars[0]),
        "score": max(difference(one[2].mice[m].correlation, many[2].mice[m].correlation)
                     for m in one[2].mice),
        "loss": float(one[1][-1]["loss"]),
    }
print(json.dumps(answer))
"""


def test_batch_must_fill_every_device():
    placement = mesh.Placement()
    many = mesh.Placement.__new__(mesh.Placement)
    many.mesh = type("Mesh", (), {"size": 4})()
    placement.check(3, "data.batch_size")
    many.check(8, "data.batch_size")
    with pytest.raises(UserError, match=r"data\.batch_size of 6 examples for 4 devices.*multiple"):
        many.check(6, "data.batch_size")


def test_batches_are_split_and_the_rest_is_everywhere():
    placement = mesh.Placement()
    tree = {"a": np.arange(6.0, dtype=np.float32).reshape(3, 2)}
    split, copied = placement.batch(tree)["a"], placement.everywhere(tree)["a"]
    assert split.sharding == placement.split and copied.sharding == placement.copied
    np.testing.assert_array_equal(split, tree["a"])
    np.testing.assert_array_equal(copied, tree["a"])


def test_nothing_is_joined_without_a_launcher(monkeypatch):
    for name in ("JAX_COORDINATOR_ADDRESS", "SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(jax.distributed, "initialize", None)
    mesh.join_processes()
    monkeypatch.setenv("SLURM_NTASKS", "1")
    mesh.join_processes()


def test_half_a_launch_by_hand_is_refused(monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "localhost:1")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    monkeypatch.delenv("JAX_PROCESS_ID", raising=False)
    with pytest.raises(UserError, match="JAX_PROCESS_ID"):
        mesh.join_processes()


def test_one_process_makes_files_at_once():
    assert mesh.lead_first(lambda: 5) == 5


@pytest.mark.slow
def test_eight_devices_train_and_score_as_one_does(data, cache):
    flags = "--xla_force_host_platform_device_count=8"
    done = runs.finish(
        [sys.executable, "-c", PROGRAM, str(data), json.dumps(EIGHT)],
        cache,
        env=runs.environment(cache, XLA_FLAGS=flags, PYTHONPATH="."),
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    for norm, differences in found.items():
        assert differences["measured"] < CLOSE, (norm, differences)
        assert differences["state"] < CLOSE, (norm, differences)
        assert differences["score"] < CLOSE, (norm, differences)
    assert found["joint"]["loss"] != pytest.approx(found["per_mouse"]["loss"], rel=1e-4)


@pytest.mark.slow
def test_two_processes_train_report_and_save_as_one_does(data, cache, tmp_path):
    """Also from no simulated mice at all: the first process makes them for both."""
    one, two = tmp_path / "one", tmp_path / "two"
    runs.run(one, data)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    line = runs.command(two, tmp_path / "data")
    processes = [
        subprocess.Popen(
            line,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=runs.REPOSITORY,
            env=runs.environment(
                cache,
                JAX_COORDINATOR_ADDRESS=address,
                JAX_NUM_PROCESSES="2",
                JAX_PROCESS_ID=str(index),
            ),
        )
        for index in range(2)
    ]
    said = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert "report:" in said[0][0] and "oracle" in said[0][0]
    assert "report:" not in said[1][0] and "oracle" not in said[1][0]

    like = state_like(one, data)
    alone, together = runs.state(one, like), runs.state(two, like)
    for name, value in alone.items():
        np.testing.assert_allclose(
            together[name], value, rtol=CLOSE, atol=CLOSE * np.abs(value).max(), err_msg=name
        )
    told = [runs.history(workdir) for workdir in (one, two)]
    assert [line[:2] for line in told[0]] == [line[:2] for line in told[1]]
    for mine, other in zip(*told, strict=True):
        if mine[0] == "evaluation":
            assert other[2] == pytest.approx(mine[2], abs=1e-5)
    assert (two / "report.html").exists()
    assert not os.path.exists(two / "config.json.partial")
    assert runs.run(two, tmp_path / "data")["oracle"].correlation == pytest.approx(
        json.loads((one / "report.json").read_text())["summary"]["oracle"]["correlation"], abs=1e-5
    )


def state_like(workdir: Path, data: Path):
    """A fresh state of the run's config, for the shapes of its checkpoints."""
    from sensojax.experiments.experiment import Experiment

    placement = mesh.Placement()
    with jax.set_mesh(placement.mesh):
        return Experiment(runs.config(data), placement).state
