"""Mice that looked at images, from simulation to submission: every command that videos have."""

import json

import numpy as np
import pytest

from sensojax import evaluate, main, submit
from sensojax.errors import UserError
from sensojax.evaluation import image_submission as files
from sensojax.evaluation.mouse_score import MouseScore
from sensojax.experiments import submitting_images
from sensojax.store import stores_in
from tests import runs

SMALL = dict(kind="static", mice=2, neurons=8, trials=60, height=12, width=14, seed=0, noise=1.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory, cache):
    """The folder of a finished run, and its config."""
    folder = tmp_path_factory.mktemp("static")
    config = runs.preset("tiny", "static")
    config["simulation"] = SMALL
    config["data"] |= {"folder": str(folder / "data"), "read_threads": 1}
    config["core"] |= {"channels": (3, 3), "kernels": (3, 3)}
    config["evaluation"] |= {"batch_size": 8, "tiers": ("test",)}
    with runs.cached(cache):
        main.run(config, folder / "run")
    return folder / "run", config


@pytest.fixture(scope="module")
def scored(run, cache):
    with runs.cached(cache):
        return evaluate.evaluate(
            run[0], ["test"], by="area", measures=["feve", "correlation_to_average"]
        )


def test_an_image_is_one_scored_frame(run, scored):
    score = scored.scores["test"]
    for each in score.mice.values():
        assert each.num_frames == each.num_trials > 0
    assert score.correlation == pytest.approx(
        np.mean([value for each in score.mice.values() for value in each.correlation])
    )
    assert all(np.isfinite(each.ceiling).all() for each in score.mice.values())


def test_scores_are_broken_down_by_area_and_survive_their_file(run, scored, capsys):
    table = scored.tables[0]
    assert table.by == "area" and len(table.columns) >= 2
    evaluate.say(run[0], scored, "area")
    assert (run[0] / "scores" / "by_area.html").is_file()
    kept = json.loads((run[0] / "scores" / "test.json").read_text())["mice"]
    for mouse, each in scored.scores["test"].mice.items():
        again = MouseScore.from_json(kept[mouse])
        np.testing.assert_array_equal(again.groups["area"], each.groups["area"])
        np.testing.assert_array_equal(again.correlation, each.correlation)
    said = capsys.readouterr().out
    assert "test: no fraction of explainable variance explained: the model sees the animal" in said


def test_feve_is_refused_of_a_model_that_sees_behaviour_alone(scored):
    for each in scored.scores["test"].mice.values():
        assert "feve" not in each.measures and "SENSORIUM+" in each.left_out["feve"]
        assert {"fev", "correlation_to_average"} <= set(each.measures)


@pytest.fixture(scope="module")
def submitted(run, tmp_path_factory, cache):
    out = tmp_path_factory.mktemp("out")
    with runs.cached(cache):
        return submitting_images.submit(run[0], out, truth=True), out


def test_submission_scores_what_the_model_scores(scored, submitted):
    """Single trials; other units scale a neuron and change no correlation."""
    paths, out = submitted
    assert len(paths) == 8  # two tiers, with their truth, of two mice
    for each in scored.scores["test"].mice.values():
        folder = out / each.mouse.split("-GrayImageNet")[0].removeprefix("static")
        predicted, truth = (folder / f"{n['test']}.csv" for n in (files.NAMES, files.TRUTH_NAMES))
        found = files.score(predicted, truth)
        assert found["single_trial_correlation"] == pytest.approx(each.correlation.mean(), abs=1e-5)
        to_average = each.measures["correlation_to_average"].mean()
        assert found["correlation_to_average"] == pytest.approx(to_average, abs=1e-5)


def test_parquet_holds_what_csv_does(run, submitted, tmp_path, cache):
    mouse = sorted(path.name for path in submitted[1].iterdir())[0]
    (name,) = [each for each in stores_in(run[0].parent / "data" / "stores") if mouse in each]
    with runs.cached(cache):
        made = submitting_images.submit(run[0], tmp_path, mice=[name], parquet=True)
    assert [path.name for path in made] == [f"{n}.parquet.brotli" for n in files.NAMES.values()]
    for path in made:
        found = files.read(path).responses
        expected = files.read(submitted[1] / mouse / f"{path.name.split('.')[0]}.csv").responses
        np.testing.assert_array_equal(found.trial_ids, expected.trial_ids)
        np.testing.assert_allclose(found.responses, expected.responses, rtol=1e-5)


def test_tracks_of_videos_and_of_images_are_told_apart(run, tmp_path):
    with pytest.raises(UserError, match="submit images by itself"):
        submit.submit(run[0], ["images", "main"], tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_cnn_nears_the_ceiling_and_the_linear_model_stays_clearly_below(tmp_path):
    """The README's presets, as they are: what simulated neurons do beyond a linear filter."""
    reached = {}
    for preset in ("simulated", "ln"):
        config = runs.preset(preset, "static")
        config["data"]["folder"] = str(tmp_path / "data")
        score = main.run(config, tmp_path / preset)["test"]
        reached[preset] = score.correlation / score.ceiling
    assert reached["simulated"] >= 0.8
    assert reached["ln"] <= reached["simulated"] - 0.1
