"""Whole runs with averages, mixed clips, folds and a teacher: scored right, and continued."""

import json
from pathlib import Path

import numpy as np
import pytest

from sensojax import build, ensemble, main
from sensojax.errors import UserError
from sensojax.experiments.scoring import Scorer
from sensojax.training import checkpoints, journal
from tests import runs
from tests.test_ensemble import interrupt_after

TRICKS = {
    "data.folds": 2,
    "data.fold_rule": "hash",
    "evaluation.validation": "oracle",
    "evaluation.tiers": ("oracle", "held_out"),
    "train.average": 0.7,
    "cutmix.probability": 0.5,
    "loss.weighting": "balanced",
    "schedule": dict(name="cosine", peak_rate=0.005, epochs=1.5, warmup_epochs=0.5),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tricks")
    with runs.cached(folder / "cache"):
        yield folder


@pytest.fixture(scope="module")
def folded(place) -> tuple[Path, dict]:
    """The folder of an ensemble of two folds and its scores."""
    return place / "folds", ensemble.run_folds(runs.config(place / "data", TRICKS), place / "folds")


@pytest.mark.slow
def test_out_of_fold_every_trial_is_scored_once_by_the_member_that_has_not_seen_it(folded):
    folder, scores = folded
    members = [Scorer().score(folder / f"fold{k}", ["held_out"])["held_out"] for k in range(2)]
    for mouse, found in scores["held_out"].mice.items():
        own = [score.mice[mouse] for score in members]
        assert found.num_trials == sum(each.num_trials for each in own)
        assert found.num_frames == sum(each.num_frames for each in own)
        total = sum(each.poisson_loss * each.num_frames for each in own)
        assert found.poisson_loss == pytest.approx(total / found.num_frames, rel=1e-6)
    assert not scores["held_out"].ensemble and scores["held_out"].seeds == (0, 1)


@pytest.mark.slow
def test_on_other_tiers_members_of_folds_are_an_ensemble(folded):
    folder, scores = folded
    assert list(scores) == ["held_out", "oracle"]
    assert scores["oracle"].ensemble
    single = Scorer().score(folder / "fold0", ["oracle"])["oracle"].correlation
    assert scores["oracle"].correlation != single
    (folder / "one").mkdir()
    listing = {"members": ["../fold0", "../fold1", "../fold1"]}
    (folder / "one" / build.ENSEMBLE).write_text(json.dumps(listing))
    with pytest.raises(UserError, match="folds 0, 1, 1, expected one for each of 2"):
        Scorer().score(folder / "one", ["held_out"])


@pytest.mark.slow
def test_a_run_with_an_average_and_mixed_clips_continues_bit_equal(place, folded):
    again, config = place / "again", runs.config(place / "data", {**TRICKS, "data.fold": 0})
    with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, 2)
        ensemble.main.run(config, again)
    ensemble.main.run(config, again)
    assert runs.final(again)[:2] == runs.final(folded[0] / "fold0")[:2]
    with checkpoints.Checkpoints(again, read_only=True) as folder:
        names = folder.about(folder.steps()[0])["shapes"]
    assert any(name.startswith("average/statistics") for name in names)


@pytest.mark.slow
def test_a_student_learns_from_a_run_of_the_same_fold_and_no_other(place, folded):
    student = {
        **TRICKS,
        "data.fold": 0,
        "distillation.run": str(folded[0] / "fold0"),
        "distillation.weights": "newest",
        "core.channels": (2,),
        "train.compute": "bfloat16",
        "evaluation.tiers": ("oracle",),
        "optimizer": dict(name="schedule_free", clip_percentile=10.0),
        "train.average": 0.0,
        "schedule": dict(name="constant", rate=0.005, warmup_steps=1, steps=4, patience=5),
    }
    runs.run(place / "student", place / "data", student)
    steps = [
        line for line in journal.read(place / "student" / journal.NAME) if line["kind"] == "step"
    ]
    assert all(line["parts"]["distilled"] != 0 for line in steps) and len(steps) == 4
    about = build.load_encoder(place / "student", "newest")[2]
    assert about["config"]["optimizer"]["name"] == "schedule_free"
    for changes, said in (
        ({"data.fold": 1}, r"data\.fold 1 here and 0 in the teacher"),
        ({"inputs.behavior_scale": 2.0}, "found inputs"),
        ({"distillation.run": str(place / "nowhere")}, r"distillation\.run: found no checkpoints"),
        ({"distillation.ratio": 1.0}, r"distillation\.ratio 1\.0"),
        ({"train.average": 0.9}, "which keeps an average of its own"),
    ):
        with pytest.raises(UserError, match=said):
            runs.run(place / "refused", place / "data", {**student, **changes})


@pytest.mark.slow
def test_the_page_of_the_student_learns_from_a_run_of_the_page_of_its_teacher(place):
    """configs/distill.py after configs/dynamic_dwiseneuro.py, as they say; the teacher stays."""
    pages = {name: runs.preset("tiny", name) for name in ("dynamic_dwiseneuro", "distill")}
    for name, config in pages.items():
        config["data"]["folder"] = str(place / "distilled_mice")
        config["schedule"]["steps"] = config["train"]["evaluate_every"] = 4
        config["simulation"]["trials"] = 20
        if name == "distill":
            config["distillation"]["run"] = str(place / "dynamic_dwiseneuro")
        scores = main.run(config, place / name)
        if name == "dynamic_dwiseneuro":
            before = runs.final(place / name)
    assert runs.final(place / "dynamic_dwiseneuro") == before
    steps = [line for line in journal.read(place / "distill" / journal.NAME) if "parts" in line]
    assert steps and all(line["parts"]["distilled"] != 0 for line in steps)
    assert all(np.isfinite(each.correlation).all() for each in scores["oracle"].mice.values())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train.average": 1.0}, r"train\.average 1\.0, expected 0 for none"),
        ({"train.compute": "float16"}, r"train\.compute 'float16', .*did you mean 'bfloat16'"),
        ({"cutmix.probability": 0.5, "data.batch_size": 1}, "two clips of each mouse or more"),
        ({"cutmix.probability": 0.5, "transfer.features": "there"}, "features show no video"),
    ],
)
def test_ways_of_training_that_cannot_be_are_refused(tmp_path, changes, said):
    with pytest.raises(UserError, match=said):
        build.check(runs.config(tmp_path, changes))


def test_an_ensemble_of_folds_needs_folds(tmp_path):
    with pytest.raises(UserError, match=r"data\.folds 0, expected two or more"):
        ensemble.run_folds(runs.config(tmp_path), tmp_path)


@pytest.mark.parametrize("rule", ["balnced", ""])
def test_weights_of_mice_that_nobody_knows_are_refused(tmp_path, rule):
    with pytest.raises(UserError, match=r"loss\.weighting"):
        build.mouse_weights(runs.config(tmp_path, {"loss.weighting": rule}), {})
