"""Run folders become one table; those that cannot be scored are left out with a sentence."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from sensojax import ablate, build
from sensojax.errors import UserError
from sensojax.evaluation import report
from sensojax.experiments import comparing
from sensojax.experiments.scoring import Scorer
from sensojax.training import journal
from tests import runs
from tests.test_ablate import SHORT

CHANGES = {"base": {}, "fewer": {"data.max_neurons": 3, "data.train_share": 0.5}}
TIERS = ("oracle", "live_test_main")


@pytest.fixture(scope="module")
def made(tmp_path_factory, data, cache):
    """The folder of an ablation of two runs, and what it found and said."""
    folder, said = tmp_path_factory.mktemp("made"), []
    with runs.cached(cache), pytest.MonkeyPatch.context() as patched:
        patched.setattr(report, "_pictures", lambda *about: ())  # half of the time of such runs
        base = runs.config(data, SHORT)
        found = ablate.run(base, CHANGES, folder, say=said.append)
    return SimpleNamespace(folder=folder, base=base, found=found, said=said)


@pytest.fixture(autouse=True)
def compiled_once(cache):
    with runs.cached(cache):
        yield


def test_ablation_ends_in_a_table_of_all_runs(made):
    (table,) = made.found.tables
    assert [row.name for row in table.rows] == ["base", "fewer"]
    assert table.rows[1].changes == {"data.max_neurons": 3, "data.train_share": 0.5}
    told = json.loads((made.folder / "comparison.json").read_text())
    assert told["tables"][0]["rows"][1]["cells"]["oracle"]["own_neurons"] == 6
    for name in ("comparison.html", "comparison.csv", "comparison.png"):
        assert (made.folder / name).stat().st_size > 100
    first, second, text, where = made.said
    assert first == "run 1 of 2, base: the base"
    assert second.startswith("run 2 of 2, fewer, about") and "s left: {'data.max" in second
    assert "per_neuron normalization" in text and where.endswith("comparison.html")


def test_every_cell_is_the_mean_of_what_the_run_itself_reported(made):
    """The smaller runs' own scores, and the base's over the same neurons."""
    (table,) = made.found.tables
    base, fewer = table.rows
    scores = {name: report.read(made.folder / name / "report.json")["oracle"] for name in CHANGES}
    chosen = fewer.runs[0].neurons
    assert table.columns["oracle"] == dict.fromkeys(chosen, 3)
    of_base = [scores["base"].mice[mouse].correlation[which] for mouse, which in chosen.items()]
    assert base.cells["oracle"].mean == pytest.approx(np.mean(of_base))
    assert base.cells["oracle"].own_mean == pytest.approx(scores["base"].correlation)
    assert fewer.cells["oracle"].mean == pytest.approx(scores["fewer"].correlation)
    assert (base.cells["oracle"].own_neurons, fewer.cells["oracle"].own_neurons) == (12, 6)


def test_a_trained_model_of_fewer_neurons_is_the_same_everywhere(made):
    """Statistics, readout, checkpoint and stores agree on which neurons these are."""
    _, weights, about = build.load_encoder(made.folder / "fewer")
    stores = build.stores(about["config"]["data"], about["config"]["simulation"])
    whole = build.stores(made.base["data"], made.base["simulation"])
    for mouse, store in stores.items():
        assert about["mice"][mouse] == dict(neurons=3, fingerprint=store.fingerprint)
        assert weights.params["readouts"][mouse]["features"].shape[0] == 3
        assert set(store.neurons.ids) < set(whole[mouse].neurons.ids)
        assert len(store.truth["center"]) == 3
        positions = weights.fixed["readouts"][mouse]["network"]["cortex"]
        assert positions.shape == (3, 2)


def test_rows_know_parameters_and_time(made):
    (table,) = made.found.tables
    base, fewer = (row.runs[0] for row in table.rows)
    per_neuron = 4 + 3 + 1  # covariance, features, bias
    assert base.parameters - fewer.parameters == 2 * 3 * per_neuron
    assert base.step in (0, 2) and 0 < base.seconds < 600
    assert {"commit", "folder"} < set(base.about)


def test_seconds_are_those_of_every_session_of_a_run(tmp_path):
    """10 s until it was stopped, and 5 s a day later."""
    lines = [
        dict(kind=kind, step=step, time=f"2026-01-0{day}T00:00:{second:02}.000+00:00")
        for kind, step, day, second in (
            ("run", 0, 1, 0),
            ("step", 3, 1, 4),
            ("step", 4, 1, 10),
            ("run", 4, 2, 20),
            ("step", 5, 2, 25),
        )
    ]
    path = tmp_path / journal.NAME
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert comparing.seconds(path) == 15
    assert comparing.seconds(tmp_path / "none") is None


def test_runs_that_cannot_be_scored_are_left_out_with_a_sentence(made, tmp_path):
    shutil.copytree(made.folder / "base", tmp_path / "good")
    shutil.copytree(made.folder / "base", tmp_path / "torn")
    runs.damage(tmp_path / "torn", 2, "cut")
    (tmp_path / "empty").mkdir()
    (tmp_path / "note.txt").write_text("not a folder")
    found = comparing.compare(tmp_path / "*", base="empty")
    assert [row.name for row in found.tables[0].rows] == ["good"]
    empty, torn = found.left_out
    assert empty.startswith("empty is left out: found no checkpoints")
    assert torn.startswith("torn is left out") and "damaged" in torn


def test_an_unfinished_run_is_left_out_unless_it_is_wanted(made, tmp_path, monkeypatch):
    folder = shutil.copytree(made.folder / "base", tmp_path / "going")
    known = comparing.described
    monkeypatch.setattr(comparing, "described", lambda *a: known(*a) | {"finished": False})
    with pytest.raises(UserError, match="going is left out: found step 2"):
        comparing.compare(folder)
    assert comparing.compare(folder, unfinished=True).tables[0].rows[0].name == "going"


def test_a_tier_that_one_run_cannot_be_scored_on_is_a_dash(made, monkeypatch):
    score = Scorer.score

    def without_second(self, path, tiers, **how):
        if path.name == "fewer" and "live_test_main" in tiers:
            raise UserError("found no such tier.")
        return score(self, path, tiers, **how)

    monkeypatch.setattr(Scorer, "score", without_second)
    patterns = [made.folder / "fewer", made.folder / "base*"]
    found = comparing.compare(patterns, TIERS, base="base")
    (table,) = found.tables
    assert [row.name for row in table.rows] == ["fewer", "base"]
    assert table.rows[0].cells["live_test_main"] is None and table.base == "base"
    assert table.rows[0].cells["oracle"].difference is not None
    assert sum(table.columns["live_test_main"].values()) == 12
    assert "fewer has no score on live_test_main: found no such tier." in found.remarks


@pytest.mark.slow
def test_an_ensemble_is_a_row_of_its_own(made, tmp_path):
    """Its members are twins here, so it predicts what each of them does."""
    folder = tmp_path / "both"
    for name in ("one", "two"):
        shutil.copytree(made.folder / "base", folder / name)
    (folder / build.ENSEMBLE).write_text('{"members": ["one", "two"]}')
    (table,) = comparing.compare([made.folder / "base", folder]).tables
    single, both = (row.cells["oracle"] for row in table.rows)
    assert both.mean == pytest.approx(single.mean, abs=1e-6) and both.p > 0
    assert table.rows[1].runs[0].parameters == 2 * table.rows[0].runs[0].parameters
    assert table.rows[1].seeds == (0, 0) and table.rows[1].runs[0].ensemble


@pytest.mark.slow
def test_columns_can_be_kinds_of_stimuli(made):
    (table,) = comparing.compare(made.folder / "base", by_kind=True).tables
    first, *others = table.columns
    assert first.startswith("movie of live_test_main") and others
    assert all(name.endswith("of live_test_bonus+final_test_bonus") for name in others)
    assert len({name.split()[0] for name in table.columns}) == len(table.columns)


def test_runs_can_be_compared_in_another_measure(made):
    (table,) = comparing.compare(made.folder / "base", measure="poisson_loss").tables
    cell = table.rows[0].cells["oracle"]
    expected = report.read(made.folder / "base" / "report.json")["oracle"].poisson_loss
    assert cell.mean == pytest.approx(expected) and cell.ceiling is None
    with pytest.raises(UserError, match="did you mean 'poisson_loss'"):
        comparing.compare(made.folder / "base", measure="poison_loss")


def test_runs_are_named_by_what_their_paths_do_not_share(tmp_path):
    for name in ("a/x", "a/y", "b/x", "b/x[1]"):
        (tmp_path / name).mkdir(parents=True)
    paths = comparing.folders([tmp_path / "a" / "*", tmp_path / "b" / "x", tmp_path / "a" / "x"])
    assert comparing.names(paths) == ["a/x", "a/y", "b/x"]
    assert comparing.names(paths[:2]) == ["x", "y"]
    assert comparing.folders(tmp_path / "b" / "x[1]") == [tmp_path / "b" / "x[1]"]
    with pytest.raises(UserError, match="found no folder"):
        comparing.folders(tmp_path / "c*")
