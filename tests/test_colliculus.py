"""The superior colliculus, from the simulated file to its report and to answers to a new film."""

import functools
import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from sensojax import build, evaluate, main, predict
from sensojax.errors import UserError
from sensojax.evaluation import report
from sensojax.experiments import new_films
from sensojax.experiments.predicting import Predictor
from sensojax.models.encoder import separate
from sensojax.store import TrialStore, stores_in
from sensojax.types import Neurons
from tests import runs

SIMULATION = dict(neurons=5, types=0, trials=24, frames=20, height=12, width=16)
MOUSE = "colliculus91001-simulated"


def small(folder, **sections):
    """The tiny preset with an entrant's network, of which there is little to compile."""
    config = runs.preset("tiny", "colliculus")
    config["simulation"] |= SIMULATION
    config["data"] |= {"folder": str(folder), "window_frames": 10, "read_threads": 1}
    config["inputs"] |= {"rows": (2, 10)}
    config["core"] = dict(name="mlp", hidden=(3,))
    config["readout"] = dict(name="dense")
    config["schedule"] |= {"steps": 6}
    config["train"] |= {"log_every": 3}
    return config | sections


@pytest.fixture(scope="module")
def run(tmp_path_factory, cache):
    folder = tmp_path_factory.mktemp("colliculus")
    with pytest.MonkeyPatch.context() as patch, runs.cached(cache):
        patch.setattr(report, "_pictures", lambda *about: ())
        scores = main.run(small(folder / "data"), folder / "run")
    return folder / "run", scores


def test_every_report_has_the_null_model_the_repeats_and_the_cost(run):
    workdir, scores = run
    found = json.loads((workdir / "report.json").read_text())
    of_mouse = found["scores"]["validation"]["mice"][MOUSE]["measures"]
    assert {"competition_poisson_loss", "null_poisson_loss", "bits_per_spike"} <= set(of_mouse)
    assert {"oracle_jackknife", "correlation_to_average"} <= set(of_mouse)
    assert found["used"]["parameters"] == 8 * 16 * 3 + 3 + 3 * 5 + 5
    assert found["used"]["seconds"] > 0 and found["used"]["peak_memory_bytes"] > 1e8
    text = (workdir / "report.html").read_text()
    assert "null model" in text and "What it cost" in text
    said = scores["validation"].describe()
    assert "Poisson loss of the null model" in said and "counts normalization" in said


def test_evaluate_scores_what_the_report_does(run, cache):
    workdir, scores = run
    with runs.cached(cache):
        found = evaluate.evaluate(workdir, ["validation"]).scores["validation"]
    assert found.measures == scores["validation"].measures
    for name in found.measures:
        assert found.mean(name) == pytest.approx(scores["validation"].mean(name), nan_ok=True)


def test_answers_to_a_film_are_those_to_the_trials_that_showed_it(run, tmp_path, cache):
    workdir, _ = run
    store = TrialStore.open(workdir.parent / "data" / "stores" / MOUSE)
    rows = store.rows("validation")
    films = np.stack([store.read(int(row))["video"] for row in rows])
    np.save(tmp_path / "films.npy", films)
    with runs.cached(cache):
        predictor = Predictor(workdir, frames="run", units="as recorded")
        _, trials = predictor.trials(MOUSE, ["validation"])
        expected = dict(trials)
        told = new_films.predict(workdir, tmp_path / "films.npy")
    assert told.lost_frames == 0 and told.simulated
    first = small(workdir)["evaluation"]["skip_frames"]
    for row, answers in zip(rows.tolist(), told.responses[MOUSE], strict=True):
        np.testing.assert_allclose(answers[first:], expected[row], rtol=1e-5)
    assert (told.responses[MOUSE] > 0).all()
    line = predict.write(tmp_path / "answers.npy", told)
    np.testing.assert_array_equal(np.load(tmp_path / "answers.npy"), told.responses[MOUSE])
    assert MOUSE in line and "(simulated)" in line and "gray levels 0 to" in line


def told(clips=1, mice=("a",), lost=0):
    arrays = {mouse: np.full((clips, 4, 2), i) for i, mouse in enumerate(mice)}
    return new_films.Told(arrays, lost, (0.0, 255.0), False)


def test_one_clip_has_no_axis_of_clips_and_several_mice_have_their_names(tmp_path):
    predict.write(tmp_path / "one.npy", told())
    assert np.load(tmp_path / "one.npy").shape == (4, 2)
    line = predict.write(tmp_path / "two.npz", told(3, ("a", "b"), lost=2))
    with np.load(tmp_path / "two.npz") as found:
        assert {name: found[name].shape for name in found} == {"a": (3, 4, 2), "b": (3, 4, 2)}
        assert (found["b"] == 1).all()
    assert "its first 2 frames are NaN" in line
    for name, mice in (("two.npy", ("a", "b")), ("one.csv", ("a",))):
        with pytest.raises(UserError, match=rf"found --out .*{name} for {len(mice)} mice"):
            predict.write(tmp_path / name, told(mice=mice))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.npy", "two.npz"]


def test_a_film_of_another_size_is_refused_before_anything_is_written(run, tmp_path):
    np.save(tmp_path / "film.npy", np.zeros((20, 8, 16), np.uint8))  # the rows that the model sees
    with pytest.raises(UserError, match=r"expected frames of 12 x 16 pixels, .*nothing is resized"):
        new_films.predict(run[0], tmp_path / "film.npy")
    with pytest.raises(UserError, match="mouse 'collculus'"):
        new_films.predict(run[0], tmp_path / "film.npy", mice=["collculus"])
    np.save(tmp_path / "film.npy", np.zeros((20, 12, 16), np.uint8))
    with pytest.raises(UserError, match=r"expected behavior for 1 clips of 20 frames, with 0 col"):
        np.save(tmp_path / "wrong.npy", np.zeros((20, 2)))
        behavior = tmp_path / "wrong.npy"
        new_films.predict(run[0], tmp_path / "film.npy", behavior=behavior)


@pytest.mark.parametrize(
    "asking", [dict(shifter=dict(name="mlp")), dict(inputs=dict(behavior=True, pupil=True))]
)
def test_a_model_that_asks_for_the_pupil_is_refused_where_there_is_none(run, asking):
    config = small(run[0].parent / "data")
    config = {**config, **{name: config[name] | more for name, more in asking.items()}}
    opened = build.stores(config["data"], config["simulation"])
    with pytest.raises(UserError, match=rf"set for mouse {MOUSE}, of which nobody recorded"):
        build.check_recorded(config, opened)
    build.check_recorded(small(run[0]), opened)


def test_training_may_be_judged_by_the_loss_and_by_nothing_unheard_of(run):
    config = small(run[0])
    assert config["evaluation"]["criterion"] == "poisson_loss"
    config["evaluation"]["criterion"] = "poison_loss"
    with pytest.raises(UserError, match=r"evaluation.criterion 'poison_loss'.*'poisson_loss'"):
        build.check(config)


def test_positions_in_the_picture_are_places_in_the_whole_frame():
    inputs = {**runs.preset("scml", "colliculus")["inputs"], "pool": 2}
    opened = SimpleNamespace(
        height=96,
        width=128,
        truth={},
        neurons=Neurons(np.arange(2), np.zeros((2, 3))),
    )
    learned = np.array([[-1.0, -1.0], [1.0, 1.0]])
    model = SimpleNamespace(
        readouts={"a": SimpleNamespace(positions=lambda: learned)},
        core=SimpleNamespace(map_to_image=lambda points, height, width: points),
    )
    found = build.fields("a", model, opened, inputs).learned
    pixels = (found + 1) / 2 * np.array([127, 95])
    # The first square of the picture covers rows 16 and 17, its last one rows 78 and 79.
    np.testing.assert_allclose(pixels, [[0.5, 16.5], [126.5, 78.5]])


# As Keras counts them, with the running statistics of batch norm (data_systems 2.2, 2.4).
PUBLISHED = {"lstm": 5_123_054, "mlp": 806_639, "conv_lstm": 568_294}


@pytest.mark.parametrize("preset", PUBLISHED)
def test_published_models_have_the_published_numbers_of_parameters(preset):
    config = runs.preset(preset, "colliculus")
    mice = {"a": Neurons(np.arange(54), np.full((54, 3), np.nan))}
    size = build.frame_size(SimpleNamespace(height=96, width=128), config["inputs"])
    make = functools.partial(build.new_encoder, config, mice, 0, frame_size=size)
    weights = jax.eval_shape(lambda: separate(make())[1])
    arrays = jax.tree.leaves((weights.params, weights.statistics))
    assert sum(array.size for array in arrays) == PUBLISHED[preset]


# --- the whole, at sizes that say something -------------------------------------------------------


@pytest.mark.slow
def test_the_simulated_preset_beats_the_null_model_clearly(tmp_path):
    config = runs.preset("simulated", "colliculus")
    config["data"]["folder"] = str(tmp_path / "data")
    config["schedule"]["steps"] = 200
    score = main.run(config, tmp_path / "run")["validation"]
    loss, null = (score.mean(f"{which}_poisson_loss") for which in ("competition", "null"))
    assert loss < null - 0.04 and score.mean("bits_per_spike") > 0.4
    assert score.correlation > 0.55 * score.ceiling
    film = tmp_path / "film.npy"
    np.save(film, np.zeros((40, 48, 64), np.uint8))
    answers = new_films.predict(tmp_path / "run", film).responses[MOUSE][0]
    assert np.isnan(answers[:12]).all() and (answers[12:] > 0).all()


@pytest.mark.slow
def test_mice_with_behaviour_answer_with_its_mean_or_with_what_is_given(data, cache, tmp_path):
    with runs.cached(cache):
        runs.run(tmp_path / "run", data)
        mice = stores_in(data / "stores")
        np.save(tmp_path / "film.npy", np.full((20, 12, 14), 90, np.uint8))
        usual = new_films.predict(tmp_path / "run", tmp_path / "film.npy")
        store = TrialStore.open(data / "stores" / mice[0])
        mean = store.statistics.per_neuron["behavior"]["mean"]
        for name, factor in (("same", 1.0), ("other", 3.0)):
            np.save(tmp_path / f"{name}.npy", np.tile(mean * factor, (20, 1)))
        how = dict(mice=mice[:1])
        same, other = (
            new_films.predict(
                tmp_path / "run", tmp_path / "film.npy", behavior=tmp_path / f"{name}.npy", **how
            )
            for name in ("same", "other")
        )
    assert list(usual.responses) == mice and usual.lost_frames == 2
    np.testing.assert_allclose(
        same.responses[mice[0]][0, 2:], usual.responses[mice[0]][0, 2:], rtol=1e-5
    )
    assert not np.allclose(other.responses[mice[0]][0, 2:], usual.responses[mice[0]][0, 2:])
