"""An ensemble predicts the mean of its members, however they were trained."""

from pathlib import Path

import jax
import numpy as np
import pytest

from sensojax import build, ensemble
from sensojax.errors import UserError
from sensojax.evaluation import ensembles
from sensojax.experiments.predicting import Predictor
from sensojax.experiments.scoring import Scorer
from sensojax.training import journal
from tests import runs

SEEDS = (0, 1)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ensemble")
    with runs.cached(folder / "cache"):
        yield folder


@pytest.fixture(scope="module")
def one_by_one(place) -> tuple[Path, dict]:
    """The folder of an ensemble and its scores."""
    folder = place / "one by one"
    return folder, ensemble.run(runs.config(place / "data"), SEEDS, folder)


@pytest.fixture(scope="module")
def together(place, one_by_one) -> Path:
    folder = place / "together"
    ensemble.run(runs.config(place / "data"), SEEDS, folder, together=True)
    return folder


def test_mean_prediction_is_that_of_all_members_in_the_frames_that_all_predict():
    """Also where architectures differ, and one of them loses more of the first frames."""
    rng = np.random.default_rng(0)
    short = [("short", {"a": rng.normal(size=(1, 3, 1))}) for _ in range(3)]
    long = [("long", {"b": rng.normal(size=(1, 5, 1)), "c": rng.normal()}) for _ in range(2)]
    predicts = {
        "short": lambda weights, raw, known: ({"mouse": weights["a"] * raw}, {"mouse": raw}),
        "long": lambda weights, raw, known: ({"mouse": weights["b"] + weights["c"] * known}, {}),
    }
    members = [short[0], *long, *short[1:]]
    groups = ensembles.grouped(members)
    assert list(groups) == ["short", "long"]
    all_of_them = jax.jit(ensembles.mean_prediction([predicts[name] for name in groups]))
    found, observed = all_of_them(tuple(groups.values()), 2.0, 3.0)
    each = [predicts[name](weights, 2.0, 3.0)[0]["mouse"][:, -3:] for name, weights in members]
    np.testing.assert_allclose(found["mouse"], np.mean(each, axis=0), rtol=1e-6)
    assert observed["mouse"] == 2.0


@pytest.mark.slow
def test_an_ensemble_says_that_it_is_one_and_of_which_seeds(one_by_one):
    folder, scores = one_by_one
    (score,) = scores.values()
    assert score.ensemble and score.seeds == SEEDS
    assert "ensemble of 2" in score.describe() and "seeds 0, 1" in score.describe()
    assert Scorer().score(folder, ["oracle"])["oracle"].correlation == score.correlation


@pytest.mark.slow
def test_an_ensemble_scores_unlike_each_of_its_members(one_by_one):
    folder, scores = one_by_one
    single = [
        Scorer().score(folder / ensemble.member(seed), ["oracle"])["oracle"] for seed in SEEDS
    ]
    assert not any(score.ensemble for score in single)
    found = scores["oracle"].correlation
    assert len({found, *(score.correlation for score in single)}) == 3
    assert found > min(score.correlation for score in single)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_seeds_side_by_side_learn_what_each_learns_alone(one_by_one, together, seed):
    alone, beside = (
        list(journal.read(folder / ensemble.member(seed) / journal.NAME))
        for folder in (one_by_one[0], together)
    )
    for kind, value in (("step", "loss"), ("evaluation", "correlation")):
        found, expected = (
            {line["step"]: line[value] for line in lines if line["kind"] == kind}
            for lines in (beside, alone)
        )
        assert found.keys() == expected.keys() and len(found) > 2
        for step, number in expected.items():
            assert found[step] == pytest.approx(number, rel=2e-4, abs=2e-4), (kind, step)


@pytest.mark.slow
def test_members_stopped_at_different_steps_go_on_together(place, together):
    """One member has reached step 4 and the other none; both end as if never stopped."""
    folder = place / "stopped"
    stopped = {"schedule.steps": 8, "train.evaluate_every": 4}
    config = runs.config(place / "data", stopped)
    with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, 4)
        ensemble.run(config, SEEDS, folder)
    ensemble.run(config, SEEDS, folder, together=True)
    for seed in SEEDS:
        *_, (_, _, expected) = told(together / ensemble.member(seed))
        *_, (_, _, found) = told(folder / ensemble.member(seed))
        assert found == pytest.approx(expected, abs=2e-4)


def told(workdir: Path) -> list[tuple]:
    return [line for line in runs.history(workdir) if line[0] == "evaluation"]


def interrupt_after(patch, step: int) -> None:
    """Makes the first run stop, as by Ctrl-C, once it has saved this step."""
    from sensojax.experiments.experiment import Experiment

    save = Experiment.save

    def save_and_stop(self, saved, finished=False):
        save(self, saved, finished)
        if self.step >= step:
            saved.wait()
            raise KeyboardInterrupt

    patch.setattr(Experiment, "save", save_and_stop)


@pytest.fixture(scope="module")
def other(place, one_by_one) -> Path:
    """A run of another architecture, which loses other frames."""
    changes = {
        "core.channels": (2,),
        "core.temporal_kernels": (5,),
        "optimizer": dict(name="adam"),
    }
    runs.run(place / "other", place / "data", changes)
    return place / "other"


@pytest.mark.slow
def test_runs_that_are_there_predict_together_whatever_their_architecture(place, one_by_one, other):
    folder, _ = one_by_one
    every = [folder / "seed0", other, folder / "seed1"]
    ensemble.gather(every, place / "gathered")
    (score,) = Scorer().score(place / "gathered", ["oracle"]).values()
    assert score.ensemble and score.seeds == (0, 0, 1)

    def predicted(workdir):
        made = Predictor(str(workdir), frames="run", units="per_neuron")
        with jax.set_mesh(made.placement.mesh):
            mouse = next(iter(made.stores))
            return dict(made.trials(mouse, ["oracle"])[1])

    single, together = [predicted(each) for each in every], predicted(place / "gathered")
    assert together.keys() == single[0].keys()
    for row, found in together.items():
        expected = np.mean([each[row] for each in single], axis=0)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_runs_that_see_something_else_are_no_members(place, one_by_one):
    runs.run(place / "odd", place / "data", {"inputs.behavior_scale": 0.5})
    with pytest.raises(UserError, match=r"odd with other inputs than .*seed0"):
        ensemble.gather([one_by_one[0] / "seed0", place / "odd"], place / "refused")
    assert not (place / "refused" / build.ENSEMBLE).exists()


@pytest.mark.parametrize("folders", [(), ("one",), ("one", "one")])
def test_one_run_is_no_ensemble(tmp_path, folders):
    with pytest.raises(UserError, match="expected two or more different run folders"):
        ensemble.gather(folders, tmp_path)


@pytest.mark.parametrize("seeds", [(), (1,), (1, 1), (0, -1)])
def test_seeds_that_make_no_ensemble_are_refused(tmp_path, seeds):
    with pytest.raises(UserError, match="two or more different"):
        ensemble.run({}, seeds, tmp_path)
