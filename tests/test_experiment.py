"""Whole runs at the smallest size: what they write, and that stopping them changes nothing."""

import json
import random
import signal
import subprocess
import time
import types

import jax
import pytest

from sensojax import build
from sensojax.experiments.experiment import Experiment
from sensojax.training import journal
from tests import runs

SMALL_DISK = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.fixture(autouse=True)
def compiled_once(cache):
    with runs.cached(cache):
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data, cache):
    """A run that nobody disturbed, and how many programs it compiled."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    with runs.cached(cache), runs.compilations() as compiled:
        scores = runs.run(workdir, data)
    return workdir, scores, compiled


def stop_after(monkeypatch, step):
    """Every run ends with Ctrl-C as soon as it has noted a step."""
    noted = journal.Journal.step

    def note(self, done, **measured):
        noted(self, done, **measured)
        if done == step:
            raise KeyboardInterrupt

    monkeypatch.setattr(journal.Journal, "step", note)


def test_run_writes_journal_checkpoint_and_report(whole, data):
    workdir, scores, _ = whole
    assert runs.final(workdir)[0] == 8
    assert [line[1] for line in runs.history(workdir) if line[0] == "step"] == list(range(1, 9))
    assert [line[1] for line in runs.history(workdir) if line[0] == "evaluation"] == [0, 4, 8]
    assert json.loads((workdir / "config.json").read_text())["data"]["folder"] == str(data)
    written = json.loads((workdir / "report.json").read_text())
    assert written["scores"]["oracle"]["mice"].keys() == scores["oracle"].mice.keys()
    assert "imulated" in (workdir / "report.html").read_text()
    assert not list(workdir.rglob("*.partial"))


def test_reported_weights_are_the_best_ones(whole):
    workdir, scores, _ = whole
    evaluations = {line[1]: line[2] for line in runs.history(workdir) if line[0] == "evaluation"}
    best = max(evaluations, key=evaluations.get)
    assert scores["oracle"].step == best
    assert scores["oracle"].correlation == pytest.approx(evaluations[best], rel=1e-12)


def test_run_compiles_one_program_for_each_purpose(whole):
    """One training step, one prediction and one sum; all else is small and made once."""
    _, _, compiled = whole
    assert compiled["step"] == 1
    assert compiled["_predict"] == 1  # the only tier
    assert compiled["_sums"] == 1  # of the predictions as of the noiseless rates
    assert sum(compiled.values()) < 150


def test_finished_run_given_again_only_reports_again(whole, data, monkeypatch):
    workdir, scores, _ = whole
    before, told = runs.final(workdir), runs.history(workdir)
    monkeypatch.setattr(Experiment, "train_to_next_evaluation", None)
    (workdir / "report.html").unlink()
    again = runs.run(workdir, data)
    assert again["oracle"].correlation == scores["oracle"].correlation
    assert runs.final(workdir) == before
    assert runs.history(workdir) == told
    assert (workdir / "report.html").exists()


@pytest.mark.parametrize("stop", [1, 6])
def test_interrupted_run_continues_to_the_same_end(whole, data, tmp_path, monkeypatch, stop):
    """Before the first checkpoint, and between two of the second half."""
    with monkeypatch.context() as patched:
        stop_after(patched, stop)
        with pytest.raises(KeyboardInterrupt):
            runs.run(tmp_path / "run", data)
    runs.run(tmp_path / "run", data)
    assert runs.final(tmp_path / "run") == runs.final(whole[0])
    assert runs.history(tmp_path / "run") == runs.history(whole[0])


def test_damaged_newest_checkpoint_changes_nothing_but_the_way(whole, data, tmp_path, capsys):
    workdir = tmp_path / "run"
    runs.run(workdir, data)
    runs.damage(workdir, 8, "altered")
    capsys.readouterr()
    runs.run(workdir, data)
    said = capsys.readouterr().out
    assert f"{workdir}/checkpoints/8 is damaged" in said
    assert "using the one before" in said
    assert runs.final(workdir) == runs.final(whole[0])
    assert runs.history(workdir) == runs.history(whole[0])


def test_batches_of_a_step_reach_the_device_with_explicit_transfers_only(data, tmp_path):
    from sensojax.training import mesh

    placement = mesh.Placement()
    with jax.set_mesh(placement.mesh):
        made = Experiment(runs.config(data), placement)
        first = placement.batch(made.batches[0])
        rate = placement.everywhere(0.01)
        made.train_step(jax.tree.map(lambda x: x.copy(), made.state), first, made.statistics, rate)
        with jax.transfer_guard("disallow"):
            batches = placement.batch(made.batches[1])
            state, measured = made.train_step(made.state, batches, made.statistics, rate)
            assert jax.device_get(state.step) == 1
            assert jax.device_get(measured["loss"]) > 0


@pytest.mark.slow
def test_run_scores_every_tier_it_is_asked_for(whole, data, tmp_path):
    """Also when more tiers are asked for after training."""
    tiers = ("oracle", "final_test_main")
    scores = runs.run(whole[0], data, {"evaluation.tiers": tiers})
    assert tuple(scores) == tiers
    runs.run(whole[0], data)  # as it was


def test_trained_model_needs_its_folder_only(whole):
    workdir, scores, _ = whole
    _, weights, about = build.load_encoder(workdir)
    assert about["best_step"] == scores["oracle"].step
    assert set(about["mice"]) == set(scores["oracle"].mice)
    assert jax.tree.all(jax.tree.map(lambda x: bool(jax.numpy.isfinite(x).all()), weights))


# --- killed commands ------------------------------------------------------------------------------


def killed_and_continued(workdir, data, cache, moments, changes=types.MappingProxyType({})):
    """Starts the same line again and again, each time killed; moments: journal steps or seconds."""
    line = runs.command(workdir, data, changes)
    for number, moment in enumerate(moments):
        process = runs.start(line, cache, workdir.with_name(f"{workdir.name}_{number}.log"))
        if isinstance(moment, int):
            runs.wait_for_step(workdir, moment, process)
        else:
            time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = runs.finish(line, cache)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_run_killed_twice_ends_bit_equal(whole, data, cache, tmp_path):
    killed_and_continued(tmp_path / "run", data, cache, [3, 6])
    assert runs.final(tmp_path / "run") == runs.final(whole[0])
    assert runs.history(tmp_path / "run") == runs.history(whole[0])


@pytest.mark.slow
def test_run_killed_at_ten_random_moments_ends_bit_equal(data, cache, tmp_path):
    """Of a longer run, and of a process's whole life: starting, restoring, training, saving."""
    longer = {
        "schedule.steps": 60,
        "train.evaluate_every": 6,
        "train.log_every": 1,
        "train.checkpoint_every": 2,
    }
    runs.run(tmp_path / "whole", data, longer)
    chance = random.Random(0)
    steps = sorted(chance.sample(range(1, 59), 6))
    moments = [*steps[:3], *(chance.uniform(3.0, 8.0) for _ in range(4)), *steps[3:]]
    killed_and_continued(tmp_path / "run", data, cache, moments, longer)
    assert runs.final(tmp_path / "run") == runs.final(tmp_path / "whole")
    assert runs.history(tmp_path / "run") == runs.history(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("stops", [(5, 13), (8, 19)])
def test_plateau_that_goes_back_to_its_best_weights_survives_a_stop(
    data, tmp_path, monkeypatch, stops
):
    """The best weights, both counters and the reduced rate come back with the checkpoint."""
    changes = {
        "schedule": runs.PLATEAU,
        "train.evaluate_every": 3,
        "train.log_every": 1,
        "train.checkpoint_every": 2,
    }
    runs.run(tmp_path / "whole", data, changes)
    told = runs.history(tmp_path / "whole")
    returns = [line[1] for line in told if line[0] == "note" and "best weights" in line[2]]
    assert len(returns) >= 2 and max(stops) < told[-1][1]
    for stop in stops:
        with monkeypatch.context() as patched:
            stop_after(patched, stop)
            with pytest.raises(KeyboardInterrupt):
                runs.run(tmp_path / "run", data, changes)
    runs.run(tmp_path / "run", data, changes)
    assert runs.final(tmp_path / "run") == runs.final(tmp_path / "whole")
    assert runs.history(tmp_path / "run") == told


@pytest.mark.slow
def test_result_does_not_depend_on_the_compilation_cache(whole, data, tmp_path):
    done = runs.finish(runs.command(tmp_path / "run", data), None)
    assert done.returncode == 0, done.stderr
    assert runs.final(tmp_path / "run") == runs.final(whole[0])


@pytest.mark.slow
@pytest.mark.parametrize(("limit", "what"), [(2_500, "journal"), (12_000, "checkpoint")])
def test_full_disk_ends_in_a_sentence_and_loses_nothing(whole, data, cache, tmp_path, limit, what):
    """A limit on the size of files stands for a full disk: the same failure, for one process."""
    line = runs.command(tmp_path / "run", data)
    stopped = runs.finish([line[0], "-c", SMALL_DISK, str(limit), *line], cache)
    assert stopped.returncode == 1
    assert stopped.stderr.splitlines()[-1].startswith("error: the disk is full")
    assert "Traceback" not in stopped.stderr
    journal_lines = len(runs.history(tmp_path / "run")) if what == "checkpoint" else 0
    assert (journal_lines > 1) == (what == "checkpoint")
    continued = runs.finish(line, cache)
    assert continued.returncode == 0, continued.stderr
    assert runs.final(tmp_path / "run") == runs.final(whole[0])
    assert runs.history(tmp_path / "run") == runs.history(whole[0])


@pytest.mark.slow
def test_interrupt_ends_soon_and_says_how_to_go_on(data, cache, tmp_path):
    workdir, log = tmp_path / "run", tmp_path / "log.txt"
    process = runs.start(runs.command(workdir, data, {"schedule.steps": 100_000}), cache, log)
    runs.wait_for_step(workdir, 5, process)
    process.send_signal(signal.SIGINT)
    try:
        code = process.wait(timeout=20)  # a few seconds, on a busy machine
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert code == 1
    assert log.read_text().splitlines()[-1].startswith("interrupted: the same command again")
    assert "Traceback" not in log.read_text()
