"""The plateau schedule against the published stopper and rate, on score sequences. All is exact.

The kits evaluate more often than we do: each of their reloads runs two more full evaluations for
a line in the log, and the end reloads twice. With one evaluation before training and one per
epoch, their number is 1 + epochs / interval + 2 * reloads, the final reload included; ours has
only the first two terms.
"""

import json

import numpy as np
import pytest

from sensojax.training import schedules
from tests.goldens import Golden, golden_files

SEQUENCES = [
    pytest.param(file.values[0], name, id=f"{file.id}-{name}")
    for file in golden_files("13_early_stopping")
    for name in Golden(file.values[0]).config["sequences"]
]


def drive(schedule, scores, weights=0, kept=0, epoch=None):
    """A training loop whose weights are the number of the epoch that made them."""
    rows = []
    if epoch is None:
        decision = schedule.evaluated(scores[0])
        epoch = 0
        assert decision.improved and not decision.reload_best
    stop = False
    while not stop:
        rate = schedule.learning_rate(epoch)
        epoch += schedule.interval
        weights = epoch
        decision = schedule.evaluated(scores[epoch])
        kept = weights if decision.improved else kept
        weights = kept if decision.reload_best else weights
        stop = decision.stop
        rows.append(
            {
                "epochs": epoch,
                "learning_rate": rate,
                "learning_rate_after": schedule.learning_rate(epoch),
                "bad_epochs_of_schedule": schedule.rate_bad,
                "weights_after": weights,
                "reloaded": decision.reload_best,
                "state": json.dumps(schedule.state(), allow_nan=False),
                "kept": kept,
            }
        )
    return rows


def column(rows, name):
    return np.asarray([row[name] for row in rows])


@pytest.mark.parametrize(("path", "name"), SEQUENCES)
def test_every_epoch_is_the_published_one(path, name):
    golden = Golden(path)
    settings, expected = golden.config["sequences"][name], golden.part(f"output/{name}")
    schedule = schedules.Plateau(**settings)
    rows = drive(schedule, golden[f"input/{name}/score"])

    epochs = column(rows, "epochs")  # the golden lists every epoch, also those between evaluations
    np.testing.assert_array_equal(epochs[-1], expected["epochs"][-1])
    last = np.searchsorted(expected["epochs"], epochs)
    np.testing.assert_array_equal(expected["epochs"][last], epochs)
    for key in ("learning_rate", "learning_rate_after", "bad_epochs_of_schedule", "weights_after"):
        np.testing.assert_array_equal(column(rows, key), expected[key][last], err_msg=key)


@pytest.mark.parametrize(("path", "name"), SEQUENCES)
def test_reloads_and_final_weights_are_the_published_ones(path, name):
    golden = Golden(path)
    settings, expected = golden.config["sequences"][name], golden.part(f"output/{name}")
    schedule = schedules.Plateau(**settings)
    rows = drive(schedule, golden[f"input/{name}/score"])
    published = list(zip(expected["reload_after_epoch"], expected["reloaded_weights"], strict=True))

    ours = [(row["epochs"], row["weights_after"]) for row in rows if row["reloaded"]]
    assert list(dict.fromkeys(published)) == ours  # without the second of two equal reloads
    assert rows[-1]["weights_after"] == expected["final_weights"]
    assert schedule.best_epoch == expected["final_weights"]
    assert expected["evaluations"] == 1 + len(rows) + 2 * len(published)


@pytest.mark.parametrize(("path", "name"), SEQUENCES)
def test_killed_after_any_evaluation_it_continues_the_same(path, name):
    golden = Golden(path)
    settings, scores = golden.config["sequences"][name], golden[f"input/{name}/score"]
    rows = drive(schedules.Plateau(**settings), scores)
    for done, row in enumerate(rows[:-1], start=1):
        schedule = schedules.Plateau(**settings)
        schedule.restore(json.loads(row["state"]))
        rest = drive(schedule, scores, row["weights_after"], row["kept"], row["epochs"])
        assert rest == rows[done:]
