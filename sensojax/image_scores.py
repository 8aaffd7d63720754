"""Scores of responses to images, as the Sensorium 2022 benchmark takes them: one row per trial.

In go predicted and observed responses [trial neuron] and which image each trial showed; out come
`reliability.Measures`. `benchmark` first puts a submission and its reference in one order, by the
ids of trials and neurons that each carries, so that no score depends on the order of a file.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import numpy as np

from sensojax import reliability
from sensojax.errors import UserError
from sensojax.repeats import Repeats


@dataclass(frozen=True)
class ImageResponses:
    """Responses [trial neuron] with the ids of their rows, [trial], and columns, [neuron]."""

    trial_ids: np.ndarray
    neuron_ids: np.ndarray
    responses: np.ndarray

    def ordered(self) -> "ImageResponses":
        """Rows and columns in ascending order of their ids; UserError when an id comes twice."""
        for what, ids in (("trial", self.trial_ids), ("neuron", self.neuron_ids)):
            values, counts = np.unique(ids, return_counts=True)
            if (counts > 1).any():
                raise UserError(
                    f"found {what} id {values[counts > 1][0]} {counts.max()} times, expected once; "
                    "every trial needs one row and every neuron one column."
                )
        if np.shape(self.responses) != (len(self.trial_ids), len(self.neuron_ids)):
            raise UserError(
                f"found responses of shape {np.shape(self.responses)}, expected one row for each "
                f"of {len(self.trial_ids)} trials and one column for each of "
                f"{len(self.neuron_ids)} neurons; export them again."
            )
        rows, columns = np.argsort(self.trial_ids), np.argsort(self.neuron_ids)
        return ImageResponses(
            np.asarray(self.trial_ids)[rows],
            np.asarray(self.neuron_ids)[columns],
            np.asarray(self.responses)[rows][:, columns],
        )


def benchmark(
    predicted: ImageResponses,
    observed: ImageResponses,
    image_ids: Iterable[Hashable],
    at_least: int = 1,
) -> reliability.Measures:
    """Measures of a submission, neurons in ascending order of their ids.

    image_ids: [trial], in the rows' order of `observed`. at_least: images of fewer repeats are left
    out. UserError when the two do not hold the same trials and neurons.
    """
    image_ids = np.asarray(image_ids)[np.argsort(observed.trial_ids)]
    predicted, observed = predicted.ordered(), observed.ordered()
    _refuse_other_ids("trial", predicted.trial_ids, observed.trial_ids)
    _refuse_other_ids("neuron", predicted.neuron_ids, observed.neuron_ids)
    return of_trials(image_ids, predicted.responses, observed.responses, at_least)


def of_trials(
    image_ids: Iterable[Hashable],
    predicted: np.ndarray,
    observed: np.ndarray,
    at_least: int = 1,
) -> reliability.Measures:
    """Measures of images in any order: ids [trial], responses [trial neuron] twice."""
    rows: dict[Hashable, list[int]] = {}
    for row, image in enumerate(np.asarray(image_ids).tolist()):
        rows.setdefault(image, []).append(row)
    predicted, observed = np.asarray(predicted), np.asarray(observed)
    stimuli = {}
    for image, own in rows.items():
        one = Repeats.of(
            image, predicted[own][:, None], observed[own][:, None], np.ones((len(own), 1), bool)
        )
        stimuli.update(one.stimuli)
    return Repeats(stimuli).measures(at_least)


def of_repeats(predicted: np.ndarray, observed: np.ndarray) -> reliability.Measures:
    """Measures of images that were repeated equally often: [image repeat neuron] twice."""
    images, repeats, neurons = np.shape(observed)
    ids = np.repeat(np.arange(images), repeats)
    flat = (-1, neurons)
    return of_trials(ids, np.reshape(predicted, flat), np.reshape(observed, flat))


def _refuse_other_ids(what, found, expected):
    missing, extra = np.setdiff1d(expected, found), np.setdiff1d(found, expected)
    for ids, verb in ((missing, "no row or column"), (extra, "a row or column")):
        if len(ids):
            raise UserError(
                f"found {verb} for {what} id {ids[0]} (and {len(ids) - 1} more such), expected the "
                f"{len(expected)} {what} ids of the reference; was it made for another recording?"
            )
