"""Scores: the numbers they sum up to, the line they carry, and that nothing is lost in JSON."""

import json

import numpy as np
import pytest

from sensojax import metrics
from sensojax.errors import UserError
from sensojax.evaluation.results import NAN_RULES, MouseScore, Score, scored_frames, short_name
from sensojax.writing import plain
from tests.evaluation import made_up


def test_mean_weighs_neurons_and_not_mice():
    few = MouseScore("few", [0.1], 0, 1.0, 1, 100)
    many = MouseScore("many", [0.5, 0.6, 0.7], 0, 2.0, 1, 100)
    score = made_up.score(mice={})
    score.mice.update(few=few, many=many)
    assert score.correlation == pytest.approx((0.1 + 0.5 + 0.6 + 0.7) / 4)
    assert score.correlation_per_mouse == pytest.approx({"few": 0.1, "many": 0.6})
    assert score.poisson_loss == pytest.approx((1 * 1.0 + 3 * 2.0) / 4)
    assert (score.num_neurons, score.num_frames, score.num_trials) == (4, 200, 2)


def test_ceiling_is_unknown_unless_every_mouse_has_one():
    assert made_up.score(ceilings=False).ceiling is None
    assert made_up.score(ceilings=False).fraction_of_ceiling is None
    score = made_up.score()
    assert score.fraction_of_ceiling == pytest.approx(score.correlation / score.ceiling)
    score.mice["one more"] = MouseScore("one more", [0.2], 0, 1.0, 1, 100)
    assert score.ceiling is None and len(score.ceiling_per_mouse) == 2


def test_one_line_says_everything_that_belongs_to_a_score():
    score = made_up.score("live_test_main", step=1234)
    line = score.describe()
    assert "\n" not in line
    for part in (
        f"{score.correlation:.4f}",
        f"{score.ceiling:.4f}",
        "live_test_main",
        "2 mice (29515-10-12, made_up)",
        "65 neurons, 4 undefined",
        "6,000 frames of 24 trials scored",
        "per_neuron normalization",
        "strict protocol",
        "first 50 frames of each trial skipped (frames of kit)",
        "0 for a neuron with not-a-number",
        "seed 7",
        "single model",
        "simulated mice",
        "step 1,234",
    ):
        assert part in line, part
    several = made_up.score(seeds=(1, 2), ensemble=True, simulated=False).describe()
    assert "seeds 1, 2; ensemble of 2; recorded mice" in several


def test_what_differs_in_how_it_was_counted_has_other_conditions():
    reference = made_up.score().conditions
    assert made_up.score("final_test_main", step=5).conditions == reference
    for change in (
        {"normalization": "official"},
        {"protocol": "competition"},
        {"skip_frames": 0},
        {"most_frames": 300},
        {"drop_last": 1},
        {"trained_under": "official"},
        {"nan_rule": "skip"},
        {"seeds": (8,)},
        {"ensemble": True},
        {"simulated": False},
    ):
        assert made_up.score(**change).conditions != reference, change


def test_json_keeps_every_digit_and_what_is_not_a_number():
    score = made_up.score()
    first = next(iter(score.mice))
    score.mice[first].correlation[:2] = np.nan, 1 / 3
    score.mice["plain"] = MouseScore("plain", [0.1], 0, float("inf"), 1, 9)
    text = json.dumps(score.to_json(), allow_nan=False)
    again = Score.from_json(json.loads(text))
    assert again.describe() == score.describe()
    assert again.seeds == score.seeds and again.mice["plain"].ceiling is None
    assert again.mice["plain"].poisson_loss == float("inf")
    for name, mouse in score.mice.items():
        np.testing.assert_array_equal(again.mice[name].correlation, mouse.correlation)
    np.testing.assert_array_equal(again.mice[first].ceiling, score.mice[first].ceiling)


@pytest.mark.parametrize(
    "change",
    [
        {"normalization": "offical"},
        {"trained_under": "per_neurn"},
        {"protocol": "strickt"},
        {"nan_rule": "zeros"},
    ],
)
def test_unknown_way_of_counting_is_refused_with_the_nearest(change):
    with pytest.raises(UserError, match=r"expected one of .*; did you mean"):
        made_up.score(**change)


def test_json_keeps_measures_kinds_and_reasons_and_the_whole_once():
    measured = ("normalized_correlation", "signal_to_noise")
    score = made_up.score(kinds=("pink_noise", "random_dots"), depths=True, measures=measured)
    first = next(iter(score.mice))
    score.mice[first].measures["normalized_correlation"][:2] = np.nan, 1 / 3
    score.mice[first].left_out["fev"] = "no video was shown twice"
    score.kinds["random_dots"][first] = score.mice[first]
    written = score.to_json()
    assert written["kinds"]["random_dots"][first] is None
    again = Score.from_json(json.loads(json.dumps(written, allow_nan=False)))
    assert again.kinds["random_dots"][first] is again.mice[first]
    assert again.describe() == score.describe() and again.left_out == score.left_out
    for kind, of_kind in score.kinds.items():
        for mouse, each in of_kind.items():
            found = again.kinds[kind][mouse]
            np.testing.assert_array_equal(found.depth_um, each.depth_um)
            assert found.values.keys() == each.values.keys()
            for name, values in each.values.items():
                np.testing.assert_array_equal(found.values[name], values)


def test_measures_are_averaged_over_the_neurons_for_which_they_are_defined():
    score = made_up.score(mice={"one": 4, "two": 2}, measures=("feve", "fev", "signal_to_noise"))
    one, two = score.mice.values()
    one.measures["signal_to_noise"][:] = 1.0, np.nan, np.inf, 4.0
    two.measures["signal_to_noise"][:] = np.nan, 4.0
    assert score.mean("signal_to_noise") == pytest.approx(9 / 3)
    # FEVE over the neurons of which at least 0.15 is explainable, as the 2022 benchmark does it.
    one.measures["fev"][:] = 0.149, 0.15, np.nan, 0.9
    two.measures["fev"][:] = 0.0, 0.1
    one.measures["feve"][:] = 100.0, 0.2, 100.0, 0.4
    assert score.mean("feve") == pytest.approx(0.3)
    assert np.isnan(score.mean("oracle_jackknife"))


def test_part_of_the_neurons_keeps_what_belongs_to_them():
    (score, *_) = made_up.score(depths=True, measures=("fev",)).mice.values()
    part = score.at(np.arange(score.num_neurons) % 2 == 0)
    assert part.num_neurons == 20 and part.num_trials == score.num_trials
    for name in ("correlation", "ceiling", "depth_um"):
        np.testing.assert_array_equal(getattr(part, name), getattr(score, name)[::2])
    np.testing.assert_array_equal(part.measures["fev"], score.measures["fev"][::2])


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ((50, 0, 0), "first 50 frames of each trial skipped (frames of kit)"),
        ((50, 300, 1), "none after its first 300, its last frame dropped (frames of dwiseneuro)"),
        ((51, 300, 0), "none after its first 300 (frames of viv1t)"),
        ((50, 300, 2), "its last 2 frames dropped"),
        ((10, 0, 0), "first 10 frames of each trial skipped"),
    ],
)
def test_scored_frames_are_said_in_words_with_the_name_of_the_convention(frames, words):
    assert scored_frames(*frames).endswith(words)


def test_nan_rules_are_those_of_the_metrics():
    assert tuple(NAN_RULES) == metrics.NAN_RULES


def test_neurons_near_a_quantile_come_best_first():
    mouse = MouseScore("m", np.arange(101) / 100, 0, 1.0, 1, 1)
    assert mouse.neurons_near(0.95, 3).tolist() == [96, 95, 94]
    assert mouse.neurons_near(0.5, 1).tolist() == [50]
    assert len(mouse.neurons_near(0.5, 1000)) == 101


def test_ceilings_of_another_number_of_neurons_are_refused():
    with pytest.raises(ValueError, match="mouse m"):
        MouseScore("m", [0.1, 0.2], 0, 1.0, 1, 1, ceiling=[0.5])


def test_plain_values_are_what_json_knows():
    found = plain({"a": (1, np.float32(0.5)), 2: np.array([np.nan, -np.inf]), "p": None})
    assert found == {"a": [1, 0.5], "2": ["NaN", "-Infinity"], "p": None}


def test_only_published_folder_names_are_shortened():
    assert short_name("dynamic29515-10-12-Video-9b4f6a1a067fe51e15306b9628efea20") == "29515-10-12"
    assert short_name("mouse_1") == "mouse_1"
