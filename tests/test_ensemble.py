"""An ensemble predicts the mean of its members, however they were trained."""

from pathlib import Path

import jax
import numpy as np
import pytest

from sensojax import build, ensemble
from sensojax.errors import UserError
from sensojax.evaluation import ensembles
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


def test_mean_prediction_is_the_mean_of_the_members_predictions():
    rng = np.random.default_rng(0)
    members = [{"a": rng.normal(size=3), "b": rng.normal(size=())} for _ in range(4)]

    def predict(weights, raw, statistics):
        return {"mouse": weights["a"] * raw + weights["b"] * statistics}, {"mouse": raw}

    all_of_them = jax.jit(ensembles.mean_prediction(predict))
    found, observed = all_of_them(ensembles.stacked(members), 2.0, 3.0)
    expected = np.mean([predict(member, 2.0, 3.0)[0]["mouse"] for member in members], axis=0)
    np.testing.assert_allclose(found["mouse"], expected, rtol=1e-6)
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


@pytest.mark.slow
def test_members_of_different_configs_are_refused(place, one_by_one):
    folder, _ = one_by_one
    odd = place / "odd"
    runs.run(odd / "other", place / "data", {"core.channels": (2,)})
    (odd / "seed0").symlink_to(folder / "seed0")
    (odd / build.ENSEMBLE).write_text('{"members": ["seed0", "other"]}')
    with pytest.raises(UserError, match="member other of another config than seed0"):
        build.load_members(odd)


@pytest.mark.parametrize("seeds", [(), (1,), (1, 1), (0, -1)])
def test_seeds_that_make_no_ensemble_are_refused(tmp_path, seeds):
    with pytest.raises(UserError, match="two or more different"):
        ensemble.run({}, seeds, tmp_path)
