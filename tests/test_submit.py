"""A run becomes the files of a track, in order, once, and again after whatever happened."""

import dataclasses
import json
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from sensojax import build, submit
from sensojax.errors import UserError
from sensojax.evaluation import submission
from sensojax.experiments import predicting
from sensojax.experiments.scoring import Scorer
from tests import disasters, runs, untrained

MAIN = [submission.NAMES[tier] for tier in submission.TRACKS["main"]]


@pytest.fixture(autouse=True)
def compiled_once(cache):
    with runs.cached(cache):
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory, data, cache) -> Path:
    """Two simulated mice, in units per neuron."""
    with runs.cached(cache):
        return untrained.run(tmp_path_factory.mktemp("submit") / "run", data)


@pytest.fixture(scope="module")
def submitted(run, tmp_path_factory, cache) -> Path:
    out = tmp_path_factory.mktemp("out")
    with runs.cached(cache):
        submit.submit(run, ["main"], out, frames="run")
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix == ".brotli"}


def test_a_track_is_two_files_and_their_zip_and_nothing_else(submitted):
    names = sorted(path.name for path in submitted.iterdir())
    assert names == sorted([*MAIN, "submission_main.zip"])
    with zipfile.ZipFile(submitted / "submission_main.zip") as archive:
        assert archive.namelist() == MAIN


def test_rows_are_mice_in_order_and_trials_ascending_with_all_neurons(submitted, data):
    opened = build.stores(runs.config(data)["data"], runs.SIMULATION)
    for tier, name in zip(submission.TRACKS["main"], MAIN, strict=True):
        rows = list(submission.read(submitted / name))
        expected = [
            (mouse, int(index))
            for mouse, store in opened.items()
            for index in np.sort(store.trials.index[store.rows(tier)])
        ]
        assert [(row.mouse, row.trial) for row in rows] == expected
        for row in rows:
            np.testing.assert_array_equal(row.neuron_ids, opened[row.mouse].neurons.ids)


@pytest.mark.slow
def test_score_of_the_file_is_that_of_the_model(submitted, run, data):
    """Rescaled from units per neuron, with the ceilings of the simulated mice."""
    found, _ = submit.score([submitted], data / "stores")
    direct = Scorer().score(run, ["live_test_main"], normalization="official")["live_test_main"]
    for mouse, expected in direct.mice.items():
        np.testing.assert_allclose(found.mice[mouse].correlation, expected.correlation, atol=2e-6)
        np.testing.assert_allclose(found.mice[mouse].ceiling, expected.ceiling, atol=2e-6)
        assert found.mice[mouse].num_frames == expected.num_frames
    assert found.conditions == direct.conditions and found.step == direct.step


@pytest.mark.slow
def test_an_ensemble_submits_the_mean_of_its_members(data, tmp_path):
    names = ["seed1", "seed2"]
    for seed, name in enumerate(names, start=1):
        untrained.run(tmp_path / "both" / name, data, {"seed": seed})
    (tmp_path / "both" / build.ENSEMBLE).write_text(json.dumps({"members": names}))
    found = []
    for folder in ("both", *(f"both/{name}" for name in names)):
        out = tmp_path / "out" / folder
        submit.submit(tmp_path / folder, ["main"], out, frames="run")
        found.append([row.prediction for row in submission.read(out / MAIN[0])])
    for mean, *members in zip(*found, strict=True):
        np.testing.assert_allclose(mean, np.mean(members, axis=0), rtol=1e-5)
        assert not np.allclose(*members, rtol=1e-2)
    assert submission.about(tmp_path / "out" / "both" / MAIN[0])["seeds"] == [1, 2]


def test_the_same_line_again_predicts_nothing_and_changes_no_file(
    submitted, run, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    shutil.copytree(submitted, out)
    (out / "submission_main.zip").unlink()
    monkeypatch.setattr(predicting.Predictor, "trials", None)
    submit.submit(run, ["main"], out, frames="run")
    assert contents(out) == contents(submitted)
    assert (out / "submission_main.zip").is_file()
    with pytest.raises(UserError, match="was written with another bits, expected that of this"):
        submit.submit(run, ["main"], out, frames="run", bits=15)
    assert contents(out) == contents(submitted)


def test_a_stopped_line_goes_on_with_the_mice_that_are_missing(
    submitted, run, data, tmp_path, monkeypatch
):
    """Stopped while the second mouse is predicted; the first is not predicted again."""
    trials, asked = predicting.Predictor.trials, []

    def stopping(self, mouse, tiers):
        asked.append(mouse)
        lengths, predicted = trials(self, mouse, tiers)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return lengths, predicted

    with monkeypatch.context() as patched:
        patched.setattr(predicting.Predictor, "trials", stopping)
        with pytest.raises(KeyboardInterrupt):
            submit.submit(run, ["main"], tmp_path, frames="run", bits=15)
        assert contents(tmp_path) == {}
        submit.submit(run, ["main"], tmp_path, frames="run")
    first, second = build.stores(runs.config(data)["data"], runs.SIMULATION)
    assert asked == [first, second, second, first, second]
    assert contents(tmp_path) == contents(submitted)


def test_only_mice_whose_responses_were_withheld_are_submitted_unless_told(
    submitted, run, data, tmp_path, monkeypatch
):
    """The competition asks for its five mice, whoever else the model was trained on."""
    original, hidden = Scorer.opened, []

    def opened(self, about, stores=""):
        found = original(self, about, stores)
        mouse, store = list(found.items())[1]
        hidden.append(mouse)
        trials = dataclasses.replace(
            store.trials, has_responses=store.trials.tier != "live_test_main"
        )
        store.__dict__["trials"] = trials
        return found

    monkeypatch.setattr(Scorer, "opened", opened)
    submit.submit(run, ["main"], tmp_path, frames="run")
    found = list(submission.read(tmp_path / MAIN[0]))
    assert {row.mouse for row in found} == set(hidden)
    expected = [row for row in submission.read(submitted / MAIN[0]) if row.mouse in hidden]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours.prediction, theirs.prediction)
    assert len({row.mouse for row in submission.read(tmp_path / MAIN[1])}) == 2


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (dict(tracks=["mian"]), "found track 'mian', .*did you mean 'main'"),
        (dict(mice=["dynamic9"]), "found mouse 'dynamic9', expected one of dynamic91001"),
        (dict(frames="kitt"), "found frames 'kitt', .*did you mean 'kit'"),
        (dict(frames="kit"), "expected fewer than the .* frames of the longest trial"),
        (dict(bits=0), "found bits 0, expected 1 to 23"),
        (dict(workdir="nowhere"), "no checkpoints in nowhere"),
    ],
)
def test_what_cannot_be_submitted_is_refused_in_one_sentence(run, tmp_path, changes, sentence):
    line = dict(workdir=run, tracks=["main"], out=tmp_path, frames="run") | changes
    with pytest.raises(UserError, match=sentence) as refused:
        submit.submit(**line)
    assert "\n" not in str(refused.value)
    assert contents(tmp_path) == {}


def test_a_run_on_some_neurons_or_with_too_short_trials_is_refused(run, tmp_path, monkeypatch):
    predictor = predicting.Predictor(run, frames="run", units="official")
    mouse, store = next(iter(predictor.stores.items()))
    some = dataclasses.replace(store.neurons, ids=store.neurons.ids[:4])
    with monkeypatch.context() as patched:
        patched.setitem(store.__dict__, "neurons", some)
        with pytest.raises(UserError, match=r"trained on 4 of the 6 neurons .* a submission needs"):
            submit._part(tmp_path / "part", predictor, "live_test_main", mouse, {})
    none = ({int(store.rows("live_test_main")[0]): 0}, iter(()))
    monkeypatch.setattr(predictor, "trials", lambda *_: none)
    with pytest.raises(UserError, match="none is left when the first 8 are skipped"):
        submit._part(tmp_path / "part", predictor, "live_test_main", mouse, {})


# Full disks and kills: another process -----------------------------------------------------------


@pytest.mark.slow
def test_a_full_disk_and_kill_9_leave_no_half_file_and_the_same_line_completes(
    submitted, run, tmp_path, cache
):
    def line(out: Path) -> list[str]:
        module = [sys.executable, "-m", "sensojax.submit", "--frames", "run"]
        return [*module, "--workdir", str(run), "--out", str(out)]

    for kib in (0, 4):  # the first mouse's predictions; the file of the tier
        out = tmp_path / f"full{kib}"
        disasters.on_a_full_disk(line(out), kib)
        assert contents(out) == {}
        submit.submit(run, ["main"], out, frames="run")
        assert contents(out) == contents(submitted)

    out = tmp_path / "killed"
    begun = out / f"{MAIN[0]}.parts"
    assert disasters.killed_when(line(out), lambda: any(begun.glob("*.parquet")), cache)
    assert runs.finish(line(out), cache).returncode == 0
    assert contents(out) == contents(submitted)
    assert sorted(path.name for path in out.iterdir()) == sorted(
        path.name for path in submitted.iterdir()
    )
    scored = runs.finish([*line(out), "--score", str(out / MAIN[1]), "--stores", str(run)], cache)
    assert scored.returncode == 1 and "found no stores in" in scored.stderr
