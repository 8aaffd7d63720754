"""Schedules: when they cut, reload and stop, and that a killed one continues the same."""

import itertools
import json
import math

import pytest

from sensojax.errors import UserError
from sensojax.training import schedules
from sensojax.training.schedules import Decision


def plateau(**settings):
    schedule = schedules.Plateau(**settings)
    schedule.evaluated(0.0)
    return schedule


def follow(schedule, scores):
    """What a training loop sees: the rate before, and the decision after, each interval."""
    seen = []
    for step, score in enumerate(scores):
        seen.append((schedule.learning_rate(step), schedule.evaluated(score)))
        if schedule.stopped:
            break
    return seen


def test_weights_come_back_one_evaluation_before_the_rate_is_cut():
    seen = follow(plateau(patience=3, initial_rate=1.0, factor=0.5), [1.0] + [0.5] * 5)
    reloads = [epoch for epoch, (_, decision) in enumerate(seen, 1) if decision.reload_best]
    rates = [rate for rate, _ in seen]
    assert reloads == [4]  # the best of epoch 1 and three bad ones
    assert rates == [1.0] * 5 + [0.5]  # the cut follows the fourth bad epoch, epoch 5


def test_improvement_right_after_a_reload_cancels_the_cut():
    seen = follow(plateau(patience=3, initial_rate=1.0), [1.0, 0.5, 0.5, 0.5, 2.0, 0.5, 0.5])
    assert seen[3][1].reload_best
    assert {rate for rate, _ in seen} == {1.0}


def test_only_the_stopper_knows_the_score_before_training():
    schedule = schedules.Plateau(patience=9)
    assert schedule.evaluated(5.0) == Decision(improved=True, reload_best=False, stop=False)
    assert not schedule.evaluated(1.0).improved
    assert (schedule.bad, schedule.rate_bad) == (1, 0)


def test_gain_within_the_tolerance_is_no_improvement():
    schedule = plateau(tolerance=0.1)
    assert not schedule.evaluated(0.1).improved
    assert schedule.evaluated(0.11).improved


def test_lower_is_better_when_told_to_minimize():
    scores = [3.0, 2.0, 2.5, 1.0, 1.5, 1.4]
    down = schedules.Plateau(maximize=False, patience=2)
    up = schedules.Plateau(patience=2)
    assert follow(down, scores) == follow(up, [-score for score in scores])
    assert down.best == 1.0


def test_rate_never_falls_below_the_minimal_one():
    seen = follow(
        plateau(patience=1, phases=50, initial_rate=1.0, factor=0.1, minimal_rate=0.05), [0.0] * 40
    )
    assert seen[-1][0] == 0.05
    assert min(rate for rate, _ in seen) == 0.05


def test_training_ends_after_the_last_phase_with_the_best_weights():
    seen = follow(plateau(patience=2, phases=3), [1.0] + [0.0] * 20)
    assert len(seen) == 1 + 3 * 2
    assert seen[-1][1] == Decision(improved=False, reload_best=True, stop=True)
    assert not any(decision.stop for _, decision in seen[:-1])


def test_epoch_limit_can_be_passed_when_evaluations_are_rare():
    schedule = plateau(interval=2, epoch_limit=57)
    seen = follow(schedule, range(1, 100))
    assert (len(seen), schedule.epoch) == (29, 58)
    assert seen[-1][1] == Decision(improved=True, reload_best=True, stop=True)


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_score_that_is_not_finite_stops_with_the_best_weights(score):
    cosine = schedules.Cosine(1.0, 0, 10)
    cosine.evaluated(0.0)
    for schedule in (plateau(), cosine):
        assert schedule.evaluated(1.0).improved
        assert schedule.evaluated(score) == Decision(improved=False, reload_best=True, stop=True)
        assert schedule.best == 1.0


def test_nothing_is_reloaded_when_nothing_was_ever_kept():
    for schedule in (schedules.Plateau(), schedules.Cosine(1.0, 0, 10)):
        assert schedule.evaluated(math.nan) == Decision(False, reload_best=False, stop=True)


def test_best_weights_stay_away_when_not_wanted():
    seen = follow(plateau(patience=2, phases=2, restore_best=False), [1.0] + [0.0] * 9)
    assert seen[-1][1].stop
    assert not any(decision.reload_best for _, decision in seen)


def test_cosine_rises_in_a_line_and_falls_to_its_final_rate():
    schedule = schedules.Cosine(peak_rate=0.8, warmup_steps=4, steps=24, final_rate=0.2)
    rates = [schedule.rate_at(step) for step in range(30)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8])
    assert rates[14] == pytest.approx(0.5)  # half way down
    assert rates[24:] == pytest.approx([0.2] * 6)
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[4:25]))


def test_cosine_reloads_nothing_before_its_last_step():
    schedule = schedules.Cosine(peak_rate=1.0, warmup_steps=0, steps=4)
    schedule.evaluated(0.0)
    seen = follow(schedule, [1.0, 0.5, 0.4, 0.3, 0.2])
    assert [decision.reload_best for _, decision in seen] == [False, False, False, True]
    assert [decision.stop for _, decision in seen] == [False, False, False, True]
    assert schedule.best == 1.0


def test_looking_at_the_curve_of_a_cosine_takes_no_step():
    schedule = schedules.Cosine(peak_rate=1.0, warmup_steps=0, steps=4)
    before = schedule.state()
    [schedule.rate_at(step) for step in range(10)]
    assert schedule.state() == before


@pytest.mark.parametrize(
    "make", [lambda: schedules.Plateau(patience=2, phases=3), lambda: schedules.Cosine(1.0, 2, 9)]
)
def test_schedule_restored_from_json_continues_the_same(make):
    scores = [0.0, 0.3, 0.2, 0.5, 0.4, 0.4, 0.4, 0.6, 0.1, 0.1, 0.1, 0.1, 0.1]
    whole = follow(make(), scores)
    for cut in range(len(whole)):
        first, second = make(), make()
        follow(first, scores[:cut])
        second.restore(json.loads(json.dumps(first.state(), allow_nan=False)))
        steps = list(enumerate(scores))[cut : len(whole)]
        rest = [(second.learning_rate(step), second.evaluated(score)) for step, score in steps]
        assert rest == whole[cut:]


def test_state_of_another_schedule_is_refused():
    with pytest.raises(UserError, match=r"expected .*rate_bad.* of Plateau"):
        schedules.Plateau().restore(schedules.Cosine(1.0, 0, 10).state())


def test_schedule_that_has_said_stop_takes_no_more_scores():
    schedule = plateau(epoch_limit=1)
    assert schedule.evaluated(1.0).stop
    with pytest.raises(RuntimeError, match="said stop"):
        schedule.evaluated(2.0)


@pytest.mark.parametrize("settings", [{"patience": 0}, {"phases": 0}, {"factor": 1.5}])
def test_impossible_plateau_is_refused(settings):
    with pytest.raises(UserError, match=f"schedule.{next(iter(settings))}"):
        schedules.Plateau(**settings)


def test_warm_up_longer_than_training_is_refused():
    with pytest.raises(UserError, match=r"warmup_steps 10 and schedule.steps 10"):
        schedules.Cosine(1.0, warmup_steps=10, steps=10)


def test_a_cosine_counted_in_epochs_is_the_one_counted_in_steps():
    in_epochs = schedules.Cosine(1.0, epochs=20, warmup_epochs=2.5)
    in_epochs.count_epochs(8)
    in_steps = schedules.Cosine(1.0, warmup_steps=20, steps=160)
    in_steps.count_epochs(8)
    assert in_epochs.total_steps(3) == in_steps.total_steps(3) == 160
    assert [in_epochs.rate_at(s) for s in range(170)] == [in_steps.rate_at(s) for s in range(170)]


def test_a_warm_up_from_zero_is_one_step_behind():
    settings = dict(peak_rate=1.0, warmup_steps=4, steps=10)
    late, early = schedules.Cosine(**settings, from_zero=True), schedules.Cosine(**settings)
    assert [late.rate_at(s) for s in range(5)] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert [early.rate_at(s) for s in range(4)] == [late.rate_at(s + 1) for s in range(4)]
    assert late.rate_at(7) == early.rate_at(7)


def test_a_constant_rate_stays_after_its_warm_up():
    schedule = schedules.Constant(0.5, warmup_steps=2, steps=100)
    assert [schedule.rate_at(s) for s in range(5)] == [0.25, 0.5, 0.5, 0.5, 0.5]
    assert schedule.rate_at(99) == 0.5


def test_a_constant_schedule_stops_after_too_many_bad_evaluations_in_a_row():
    schedule = schedules.Constant(0.5, steps=100, patience=3)
    decisions = [schedule.evaluated(score) for score in (0.1, 0.0, 0.0, 0.2, 0.1, 0.1)]
    assert not any(decision.stop for decision in decisions)
    saved = json.loads(json.dumps(schedule.state()))
    again = schedules.Constant(0.5, steps=100, patience=3)
    again.restore(saved)
    for each in (schedule, again):
        assert each.evaluated(0.2) == Decision(improved=False, reload_best=True, stop=True)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (dict(steps=10, epochs=2), "expected steps or epochs"),
        (dict(steps=10, warmup_epochs=2), "expected steps or epochs"),
        (dict(epochs=2, warmup_epochs=2), r"schedule\.warmup_epochs 2 and schedule\.epochs 2"),
        (dict(), r"schedule\.warmup_steps 0 and schedule\.steps 0"),
    ],
)
def test_schedules_of_no_length_or_of_two_are_refused(settings, said):
    with pytest.raises(UserError, match=said):
        schedules.Cosine(1.0, **settings)
