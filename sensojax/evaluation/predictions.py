"""Predicting every trial of a tier: weights in, predicted and observed responses out, step by step.

All mice are predicted in one compiled program, whole trials at a time, in the normalised units of
the score; where these are not the units in which the model was trained, its predictions are
rescaled, frame by frame and neuron by neuron. Repeats of a video follow each other. Which frames
count is in `valid`; a mouse that has no more trials goes on with empty ones. Nothing is kept:
whoever wants sums or traces takes them from each step.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import jax
import numpy as np

from sensojax.errors import UserError
from sensojax.pipeline import batches as batching
from sensojax.pipeline import transforms, windows
from sensojax.pipeline.transforms import Statistics
from sensojax.pipeline.windows import ScoredFrames
from sensojax.types import Batch

JOINS = "+"  # between tiers whose trials are scored together


@dataclass(frozen=True)
class Step:
    """Some trials of every mouse. rows: {mouse: rows of its store}, in the order of the examples.

    predicted: {mouse: [batch time' neuron]}, the last time' frames of observed (whose video is
    left out); rates: likewise, the noiseless ones of simulated mice when asked for. All of them on
    the device and normalised.
    """

    rows: Mapping[str, np.ndarray]
    predicted: Mapping[str, jax.Array]
    observed: Mapping[str, Batch]
    rates: Mapping[str, jax.Array]


class Predictions:
    """One tier of all mice, ready to be predicted with any weights; "one+other" is both together.

    program: what `compiled` made. statistics: those that the model was trained with; scored_with:
    those of the score's normalization, None when they are the same. frames: which frames count; at
    least lost_frames are skipped, those the model cannot predict. put: brings a numpy batch to the
    devices. batch_size: trials per mouse and step, over all processes. length: frames of a batch,
    at least (equal lengths share a compiled program). withheld: also trials whose responses were
    withheld, to be predicted but never scored. sharding: of what comes out, for several devices.
    """

    def __init__(
        self,
        program: Callable,
        stores: Mapping[str, object],
        statistics: Mapping[str, Statistics],
        *,
        tier: str,
        frames: ScoredFrames,
        lost_frames: int,
        batch_size: int,
        read_threads: int,
        put: Callable,
        scored_with: Mapping[str, Statistics] | None = None,
        length: int = 0,
        withheld: bool = False,
        sharding: jax.sharding.Sharding | None = None,
    ):
        if frames.skip_frames < lost_frames:
            raise UserError(
                f"found evaluation.skip_frames {frames.skip_frames}, expected at least the "
                f"{lost_frames} frames that the core cannot predict; set it to that or more."
            )
        self.stores, self.tier, self.frames = stores, tier, frames
        self._statistics, self._scored_with = statistics, scored_with
        self._put, self._batch_size = put, batch_size
        used = [each for each in (statistics, scored_with) if each is not None]
        self.num_frames = {
            mouse: shown_frames(
                store, [each[mouse].normalization for each in used], frames.most_frames
            )
            for mouse, store in stores.items()
        }
        chosen = every_row if withheld else scorable
        self.rows = {mouse: by_video(store, chosen(store, tier)) for mouse, store in stores.items()}
        for mouse, rows in self.rows.items():
            self._refuse_short(mouse, int(self.num_frames[mouse][rows].max()))
        longest = max(int(self.num_frames[m][rows].max()) for m, rows in self.rows.items())
        self._read = functools.partial(
            batching.trial_batches,
            batch_size=batch_size,
            length=max(longest, length),
            normalization=next(iter(statistics.values())).normalization,
            skip_frames=frames.skip_frames,
            num_threads=read_threads,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        self._program = program
        self._scale = jax.jit(transforms.scale_responses, out_shardings=sharding)

    @property
    def have_rates(self) -> bool:
        """Whether the noiseless rates of every mouse are known."""
        return all(store.has_rates for store in self.stores.values())

    def steps(
        self, weights, *, rates: bool = False, only: Mapping[str, np.ndarray] | None = None
    ) -> Iterator[Step]:
        """Predicts every trial of the tier once. rates: also give the noiseless rates.

        only: {mouse: rows} to predict these trials alone.
        """
        every = self.rows if only is None else only
        for number, (own_rows, batches) in enumerate(self._batches(every)):
            on_device = {mouse: self._put(batch) for mouse, batch in batches.items()}
            counted = {mouse: self._counted(mouse, own_rows[mouse], batch.valid.shape)
                       for mouse, batch in batches.items()}  # fmt: skip
            predicted, observed = self._program(
                weights, on_device, self._put(counted), self._statistics, self._scored_with
            )
            known = {}
            if rates:
                for mouse, batch in batches.items():
                    # Those frames that are predicted, so that both are scored alike.
                    lost = batch.valid.shape[1] - predicted[mouse].shape[1]
                    recorded = self._rates(mouse, own_rows[mouse], batch.valid.shape)[:, lost:]
                    statistics = (self._scored_with or self._statistics)[mouse]
                    start = on_device[mouse].start + lost
                    known[mouse] = self._scale(self._put(recorded), start, statistics)
            part = slice(number * self._batch_size, (number + 1) * self._batch_size)
            rows = {mouse: of_mouse[part] for mouse, of_mouse in every.items()}
            yield Step(rows, predicted, observed, known)

    def counts(self, mouse: str, row: int, length: int) -> np.ndarray:
        """The frames of a trial that are scored, [length] bool."""
        frames = int(self.num_frames[mouse][row])
        return windows.valid_frames(windows.Window(row, 0, length), frames, *self.frames)

    def num_scored(self, mouse: str, row: int) -> int:
        """How many frames of a trial are scored."""
        skipped = self.frames.skip_frames + self.frames.drop_last
        return max(int(self.num_frames[mouse][row]) - skipped, 0)

    def _batches(self, every) -> Iterator[tuple[dict[str, np.ndarray], dict[str, Batch]]]:
        """The part of each step that this process reads: rows and batches."""
        readers = {
            mouse: self._read(store, every[mouse], num_frames=self.num_frames[mouse])
            for mouse, store in self.stores.items()
        }
        last = {}
        while True:
            rows = {}
            for mouse, reader in readers.items():
                rows[mouse], batch = next(reader, (None, None))
                empty = rows[mouse] is None
                last[mouse] = jax.tree.map(np.zeros_like, last[mouse]) if empty else batch
            if all(own is None for own in rows.values()):
                return
            yield {m: np.array([], int) if own is None else own for m, own in rows.items()}, last

    def _counted(self, mouse, rows, shape):
        """What is scored of these trials, [batch time] bool: the model sees more frames."""
        counted = np.zeros(shape, bool)
        for i, row in enumerate(rows):
            counted[i] = self.counts(mouse, int(row), shape[1])
        return counted

    def _rates(self, mouse, rows, shape):
        """The rates of these trials as recorded, 0 past their ends: [batch time neuron]."""
        rates = np.zeros((*shape, len(self.stores[mouse].neurons)), np.float32)
        for i, row in enumerate(rows):
            frames = int(self.num_frames[mouse][row])
            rates[i, :frames] = self.stores[mouse].read_rates(int(row), 0, frames)
        return rates

    def _refuse_short(self, mouse: str, longest: int) -> None:
        skipped = self.frames.skip_frames + self.frames.drop_last
        if longest <= skipped:
            raise UserError(
                f"found evaluation.skip_frames {self.frames.skip_frames}, expected fewer than the "
                f"{longest - self.frames.drop_last} frames of the longest trial of tier "
                f"{self.tier!r} of mouse {mouse}; skip fewer."
            )


def compiled(predict: Callable, sharding: jax.sharding.Sharding | None = None) -> Callable:
    """The program of a model's predictions, to be shared by the tiers and runs of equal models.

    predict: (weights, raw batches, statistics) -> ({mouse: predicted}, normalised batches).
    """
    return jax.jit(functools.partial(_predict, predict), out_shardings=sharding)


def rescale(
    values: jax.Array, start: jax.Array, trained: Statistics, scored: Statistics
) -> jax.Array:
    """Responses [batch time neuron] in the units of one normalization, in those of another.

    start: [batch], the trial's frame that the first of these frames is. Under `official` the units
    change from frame to frame: this is what submissions of models that were trained in constant
    units must be multiplied with (sota 0.4).
    """
    return transforms.scale_responses(
        transforms.unscale_responses(values, start, trained), start, scored
    )


def _predict(predict, weights, batches, counted, statistics, scored_with):
    predicted, normalized = predict(weights, batches, statistics)
    observed = {}
    for mouse, batch in normalized.items():
        responses = batch.responses
        if scored_with is not None:
            units = statistics[mouse], scored_with[mouse]
            lost = responses.shape[1] - predicted[mouse].shape[1]
            predicted[mouse] = rescale(predicted[mouse], batch.start + lost, *units)
            responses = rescale(responses, batch.start, *units)
        observed[mouse] = batch.replace(video=(), responses=responses, valid=counted[mouse])
    return predicted, observed


def shown_frames(store, normalizations, most_frames: int) -> np.ndarray:
    """Frames of each trial that all of these normalizations can use, at most so many, [trial]."""
    usable = (windows.usable_frames(store.trials, each, most_frames) for each in normalizations)
    return functools.reduce(np.minimum, usable)


def by_video(store, rows: np.ndarray) -> np.ndarray:
    """Rows in the order of their kinds and videos, so that repeats follow each other."""
    kinds, videos = kinds_of(store)[rows], store.video_ids[rows]
    return rows[np.lexsort((rows, videos, kinds))]


def kinds_of(store) -> np.ndarray:
    """The kind of each trial's stimulus, [trial] str; "" where nobody knows it."""
    try:
        return store.stimulus_kinds
    except UserError:
        return np.full(len(store.trials), "")


def every_row(store, tier: str) -> np.ndarray:
    """The rows of a tier, of joined ones of those that this mouse has; UserError for none."""
    return store.rows(*_present(store, tier))


def _present(store, tier: str) -> list[str]:
    named = tier.split(JOINS)
    return [each for each in named if (store.trials.tier == each).any()] or named


def scorable(store, tier: str) -> np.ndarray:
    """The rows of a tier, of several joined tiers of those that this mouse has with responses.

    UserError when there is none, or when the responses were withheld.
    """
    present = _present(store, tier)
    with_responses = [each for each in present if has_responses(store, each)]
    if not with_responses:
        raise UserError(
            f"found withheld responses (zeros) in tier {tier!r} of mouse {store.mouse}, expected "
            "recorded ones; score another tier, or write a submission."
        )
    return store.rows(*with_responses)


def has_responses(store, tier: str) -> bool:
    """Whether every trial of one tier has its responses; UserError when the mouse has no trial."""
    return bool(store.trials.has_responses[store.rows(tier)].all())
