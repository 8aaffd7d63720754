"""Scoring images by id: no order matters, and other ids are refused."""

import dataclasses

import numpy as np
import pytest

from sensojax import image_scores
from sensojax.errors import UserError
from sensojax.image_scores import ImageResponses


def tables():
    rng = np.random.default_rng(0)
    ids = dict(trial_ids=np.asarray(["t3", "t1", "t2", "t9"]), neuron_ids=np.asarray([7, 3, 5]))
    predicted, observed = rng.gamma(2.0, 1.0, (2, 4, 3))
    images = ["a", "b", "a", "b"]
    return (
        ImageResponses(**ids, responses=predicted),
        ImageResponses(**ids, responses=observed),
        images,
    )


def test_score_depends_on_ids_and_not_on_the_order_of_rows_and_columns():
    predicted, observed, images = tables()
    rows, columns = [2, 0, 3, 1], [1, 2, 0]
    shuffled = ImageResponses(
        predicted.trial_ids[rows],
        predicted.neuron_ids[columns],
        predicted.responses[rows][:, columns],
    )
    found = image_scores.benchmark(shuffled, observed, images)
    plain = image_scores.of_trials(images, predicted.responses, observed.responses)
    ascending = np.argsort(observed.neuron_ids)
    for name in ("single_trial_correlation", "correlation_to_average", "feve"):
        np.testing.assert_allclose(getattr(found, name)(), getattr(plain, name)()[ascending])


def test_other_ids_are_refused_by_name():
    predicted, observed, images = tables()
    other = dataclasses.replace(predicted, trial_ids=np.asarray(["t3", "t1", "t2", "t8"]))
    with pytest.raises(UserError, match="no row or column for trial id t9"):
        image_scores.benchmark(other, observed, images)
    fewer = ImageResponses(observed.trial_ids, observed.neuron_ids[:2], observed.responses[:, :2])
    with pytest.raises(UserError, match="a row or column for neuron id 5"):
        image_scores.benchmark(predicted, fewer, images)


def test_id_that_comes_twice_is_refused():
    predicted, observed, images = tables()
    twice = dataclasses.replace(predicted, neuron_ids=np.asarray([7, 3, 7]))
    with pytest.raises(UserError, match="neuron id 7 2 times"):
        image_scores.benchmark(twice, observed, images)


def test_table_without_a_row_for_each_trial_is_refused():
    predicted, observed, images = tables()
    short = dataclasses.replace(predicted, responses=predicted.responses[:3])
    with pytest.raises(UserError, match=r"shape \(3, 3\)"):
        image_scores.benchmark(short, observed, images)
