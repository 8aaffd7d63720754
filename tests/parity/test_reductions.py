"""ViV1T's schedule against the published tables of events, epoch by epoch. All is exact."""

import json

import numpy as np
import pytest

from sensojax.training import schedules
from tests.goldens import Golden, golden_files

SEQUENCES = [
    pytest.param(file.values[0], name.removeprefix("scheduler_events"), id=f"{file.id}-{name}")
    for case in ("viv1t2023_training", "viv1t_training")
    for file in golden_files(case)
    for name in Golden(file.values[0]).part("output64")
    if name.startswith("scheduler_events")
]
NOT_A_NUMBER = -99


def schedule_of(config) -> schedules.Reductions:
    """As the file's config describes it; only the model of 2023 looks for a collapse."""
    said = config["scheduler"]
    more = dict(cuts=said.get("maximum_reductions"), collapse="collapse" in said)
    if more["collapse"]:  # there the last reduction is the one that ends training
        more["cuts"] = said["maximum_reductions_before_stop"] - 1
    rate = said.get("initial_default_rate", 1.0)
    return schedules.Reductions(rate, said["patience"], said["factor"], epoch_limit=10**6, **more)


@pytest.mark.parametrize(("path", "number"), SEQUENCES)
def test_every_epoch_is_the_published_one_also_after_a_restart(path, number):
    golden = Golden(path)
    names = [name.split(" (")[0] for name in golden.config["scheduler_event_columns"]]
    events = golden[f"output64/scheduler_events{number}"]
    table = dict(zip(names, events.T, strict=True))
    table["stop"] = table.get("stop", table.get("exit code"))
    schedule = schedule_of(golden.config)
    first = schedule.evaluated(-0.3)  # before training, which is not published
    assert (first.reload_best, first.stop) == (False, False)
    rates = table["default rate"] / table["default rate"][0]
    loaded = kept = 0
    scores = np.where(table["score"] == NOT_A_NUMBER, np.nan, table["score"])
    for row, score in enumerate(scores):
        again = schedule_of(golden.config)
        again.restore(json.loads(json.dumps(schedule.state(), allow_nan=False)))
        schedule = again
        decision = schedule.evaluated(score)
        epoch = loaded = row + 1
        if decision.improved:
            kept = epoch
        if decision.reload_best:
            loaded = kept
        assert decision.stop == bool(table["stop"][row]), epoch
        if np.isfinite(score):
            assert schedule.bad == table["wait counter"][row], epoch
        assert schedule.cut == table["reduction counter"][row], epoch
        assert np.float32(schedule.best or 0) == np.float32(table["best"][row]), epoch
        start = schedule_of(golden.config).rate
        np.testing.assert_allclose(schedule.rate / start, rates[row], rtol=1e-12)
        if "saved" in table:
            assert decision.improved == bool(table["saved"][row]), epoch
        if not decision.stop:  # at the end the best weights come back, there and here
            known = schedule.best is not None  # published code says so also when there are none
            assert decision.reload_best == (bool(table["weights restored"][row]) and known), epoch
            if "epoch whose weights are loaded afterwards" in table:
                assert loaded == table["epoch whose weights are loaded afterwards"][row]
    assert decision.stop == bool(table["stop"][-1])


def test_training_ends_at_the_epoch_limit_with_the_best_weights():
    schedule = schedules.Reductions(1.0, patience=9, epoch_limit=2)
    assert schedule.total_steps(7) == 14 and schedule.learning_rate(3) == 1.0
    schedule.evaluated(0.0)
    assert schedule.evaluated(0.2) == schedules.Decision(True, False, False)
    assert schedule.evaluated(0.1) == schedules.Decision(False, True, True)


def test_a_loss_needs_no_least_score():
    schedule = schedules.Reductions(1.0, patience=1, cuts=1, maximize=False)
    schedule.evaluated(9.0)
    assert schedule.evaluated(8.0).improved
    assert schedule.evaluated(8.5) == schedules.Decision(False, True, False)
    assert schedule.rate == 0.3
