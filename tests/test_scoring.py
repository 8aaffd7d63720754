"""Many runs scored in one process: the same numbers as one by one, with less work."""

import dataclasses
import json
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from sensojax import build, conversion, evaluate
from sensojax.errors import UserError
from sensojax.evaluation import measures
from sensojax.evaluation.results import Score
from sensojax.experiments import scoring
from sensojax.experiments.scoring import Scorer
from sensojax.models.encoder import assemble
from sensojax.store import TrialStore
from sensojax.training import journal, mesh
from tests import handmade, runs, untrained

CHANGES = {"first": {}, "second": {"seed": 1}}
TIERS = ("oracle", "live_test_main+final_test_main")


@pytest.fixture(autouse=True)
def compiled_once(cache):
    with runs.cached(cache):
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory, data, cache):
    """Two runs, how often programs were compiled to score each, their scores, and the scorer."""
    folder, scorer = tmp_path_factory.mktemp("scoring"), Scorer()
    found = SimpleNamespace(folder=folder, scorer=scorer, scores={}, compiled={})
    with runs.cached(cache):
        for name, changes in CHANGES.items():
            untrained.run(folder / name, data, changes)
            with runs.compilations() as compiled:
                found.scores[name] = scorer.score(folder / name, TIERS)
            found.compiled[name] = compiled
    return found


def test_each_architecture_is_compiled_once_for_all_its_tiers_and_runs(made):
    assert made.compiled["first"]["_predict"] == made.compiled["first"]["_sums"] == 1
    assert made.compiled["second"]["_predict"] == made.compiled["second"]["_sums"] == 0


@pytest.mark.slow
def test_another_architecture_is_compiled_again_and_no_sums_are(made, data):
    untrained.run(made.folder / "wider", data, {"core.channels": (4,)})
    with runs.compilations() as compiled:
        made.scorer.score(made.folder / "wider", TIERS)
    assert compiled["_predict"] == 1 and compiled["_sums"] == 0


def test_scores_are_those_of_an_evaluator_of_that_run_alone(made, data):
    for name, scores in made.scores.items():
        graph, weights, about = build.load_encoder(made.folder / name)
        opened = build.stores(about["config"]["data"], runs.SIMULATION)
        known = build.statistics(about["config"]["data"], opened)
        lost = assemble(graph, weights).core.lost_frames
        placement = mesh.Placement(jax.local_devices()[:1])
        alone = build.evaluator("oracle", about["config"], opened, known, graph, lost, placement)
        expected = alone.run(weights, step=0, seeds=(about["config"]["seed"],))
        assert scores["oracle"].conditions == expected.conditions
        for mouse, score in expected.mice.items():
            found = scores["oracle"].mice[mouse]  # in steps as long as the longest trial of all
            np.testing.assert_allclose(found.correlation, score.correlation, atol=2e-6)
            np.testing.assert_allclose(found.ceiling, score.ceiling, atol=2e-6)
    assert made.scores["first"]["oracle"].seeds != made.scores["second"]["oracle"].seeds


def test_stores_are_opened_once_for_equal_data(made):
    abouts = [made.scorer.members(made.folder / name)[0][2] for name in CHANGES]
    opened = [made.scorer.opened(about) for about in abouts]
    assert opened[0] is opened[1]


def test_choices_are_said_of_the_score(made):
    chosen = dict(measures=["per_trial_correlation"], normalization="official")
    score = made.scorer.score(made.folder / "first", ["oracle"], "newest", **chosen)["oracle"]
    assert score.measures == ("single_trial_correlation", "per_trial_correlation")
    assert "official normalization (predictions rescaled from per_neuron)" in score.conditions
    assert score.correlation != made.scores["first"]["oracle"].correlation


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"measures": ["fve"]}, r"evaluation\.measures 'fve', .*did you mean 'feve'"),
        ({"frames": "vivit"}, "frames 'vivit', expected one of kit, .*'viv1t'"),
        ({"frames": "kit"}, "skip_frames 50, expected fewer than the 40 frames"),
        ({"normalization": "offical"}, "did you mean 'official'"),
        ({"tiers": ["oracl"]}, "did you mean 'oracle'"),
        ({"weights": "bst"}, "did you mean 'best'"),
    ],
)
def test_unknown_choice_is_refused(made, choice, said):
    with pytest.raises(UserError, match=said):
        made.scorer.score(made.folder / "first", **{"tiers": ["oracle"], **choice})


def test_every_tier_with_responses_is_found(made):
    opened = made.scorer.opened(made.scorer.members(made.folder / "first")[0][2])
    found = scoring.every_tier(opened)
    assert {"train", "oracle", "live_test_main", "final_test_bonus"} <= set(found)


@pytest.fixture(scope="module")
def withheld(tmp_path_factory):
    """A mouse whose live_test_main was withheld, which lacks the bonus tiers and all kinds."""
    folder = tmp_path_factory.mktemp("withheld")
    conversion.write(folder, handmade.recording())
    return TrialStore.open(folder / handmade.recording().mouse)


def test_mice_without_responses_are_left_out_and_none_is_refused(made, withheld):
    opened = made.scorer.opened(made.scorer.members(made.folder / "first")[0][2])
    both = {**opened, "other": withheld}
    assert list(scoring.with_responses(both, "live_test_main")) == list(opened)
    assert list(scoring.with_responses(both, "oracle")) == list(both)
    with pytest.raises(UserError, match="withheld responses"):
        scoring.with_responses({"other": withheld}, "live_test_main")
    assert scoring.every_tier({"other": withheld}) == ("train", "oracle", "none")


def test_table_by_kind_takes_tiers_with_responses_that_nobody_trained_on(made, withheld):
    opened = made.scorer.opened(made.scorer.members(made.folder / "first")[0][2])
    main, bonus = scoring.IN_DOMAIN[0], scoring.OUT_OF_DOMAIN
    assert scoring.tiers_by_kind(opened, ("train",)) == (main, bonus)
    assert scoring.tiers_by_kind(opened, ("train", "final_test_main")) == ("oracle", bonus)
    everything = ("train", "oracle", "live_test_main")
    assert scoring.tiers_by_kind(opened, everything) == (main, bonus)
    with pytest.raises(UserError, match=r"kinds of the stimuli .*assign_stimulus_ids\.py"):
        scoring.tiers_by_kind({"other": withheld}, ("train",))


def test_scores_by_kind_are_printed_and_written(made, capsys):
    folder = made.folder / "second"
    found = evaluate.evaluate(folder, by="kind", measures=["correlation_to_average"])
    evaluate.say(folder, found, "kind")
    scores, tables, remarks = found
    assert not remarks
    said = capsys.readouterr().out
    assert tuple(scores) == (scoring.IN_DOMAIN[0], scoring.OUT_OF_DOMAIN)
    assert [table.title for table in tables] == [
        "Mean single-trial correlation over neurons",
        "Mean correlation to average, all videos joined over neurons",
    ]
    movies = scores[scoring.IN_DOMAIN[0]]
    cell = tables[0].cells["all mice", "in-domain"]
    assert cell.value == movies.correlation and cell.ceiling == movies.ceiling
    for kind, of_kind in scores[scoring.OUT_OF_DOMAIN].kinds.items():
        cell = tables[0].cells["all mice", kind.replace("_", " ")]
        assert (cell.num_mice, f"{cell.value:.3f}" in said) == (len(of_kind), True)
    for score in scores.values():
        assert score.describe() in said
        read = json.loads((folder / "scores" / f"{score.tier}.json").read_text())
        assert Score.from_json(read).describe() == score.describe()
    for name in ("scores/by_kind.csv", "scores/by_kind.html", "figures/by_kind.png"):
        assert (folder / name).stat().st_size > 100


@pytest.mark.parametrize("by", ["depth", "mouse"])
def test_other_tables_are_of_the_asked_tier(made, by):
    _, (table, *others), _ = evaluate.evaluate(made.folder / "first", ["oracle"], by=by)
    assert table.by == by and table.cells and not others
    assert {cell.tier for cell in table.cells.values()} == {"oracle"}


def test_mice_that_are_left_out_are_named(made):
    scores = made.scores["first"]
    first, *_ = scores["oracle"].mice
    fewer = dataclasses.replace(scores["oracle"], mice={first: scores["oracle"].mice[first]})
    said = evaluate.left_out({**scores, "oracle": fewer}, scores["oracle"].mice)
    assert said == ["Without responses in tier oracle, and left out: 91002-1-1."]


@pytest.mark.slow
def test_command_scores_breaks_down_and_refuses(made, cache):
    line = [sys.executable, "-m", "sensojax.evaluate", "--workdir", str(made.folder / "first")]
    done = runs.finish([*line, "--by", "tier", "--measures", "all"], cache)
    assert done.returncode == 0, done.stderr
    tiers = scoring.every_tier(made.scorer.opened(made.scorer.members(made.folder / "first")[0][2]))
    for tier in tiers:
        assert f"\n{tier}: correlation" in f"\n{done.stdout}"
    assert "no normalized correlation (Schoppe): no video was shown twice" in done.stdout
    written = json.loads((made.folder / "first" / "scores" / "by_tier.json").read_text())
    assert {cell["measure"] for table in written["tables"] for cell in table["cells"]} <= set(
        measures.MEASURES
    )
    refused = runs.finish([*line, "--by=kinds"], cache)
    assert refused.returncode == 1 and refused.stderr.count("\n") == 1, refused.stderr
    assert refused.stderr.startswith("error: found a wrong argument: flag --by=kinds")


@pytest.mark.slow
def test_report_of_a_run_has_what_its_config_asks_for_and_training_only_what_it_needs(
    data, tmp_path
):
    tiers = ("oracle", scoring.OUT_OF_DOMAIN)
    changes = {"evaluation.tiers": tiers, "evaluation.measures": ("normalized_correlation",)}
    scores = runs.run(tmp_path / "run", data, changes)
    assert tuple(scores) == tiers
    assert all("normalized_correlation" in score.measures for score in scores.values())
    text = (tmp_path / "run" / "report.html").read_text()
    assert "Scores by kind of stimulus" in text and "Correlation by depth" in text
    again = Scorer().score(tmp_path / "run", tiers, measures=["normalized_correlation"])
    for tier, score in scores.items():
        assert again[tier].conditions == score.conditions
        assert again[tier].mean("normalized_correlation") == pytest.approx(
            score.mean("normalized_correlation"), abs=1e-4
        )
    told = journal.read(tmp_path / "run" / journal.NAME)
    noted = [line["measures"] for line in told if line["kind"] == "evaluation"]
    assert noted and all(set(each) == {"single_trial_correlation"} for each in noted)
