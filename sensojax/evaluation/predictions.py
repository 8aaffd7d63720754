"""Predicting every trial of a tier: weights in, predicted and observed responses out, step by step.

All mice are predicted in one compiled program, whole trials at a time, in the normalised units of
the score. What counts (warm-up frames, padding) is in `valid`; a mouse that has no more trials goes
on with empty ones. Nothing is kept: whoever wants sums or traces takes them from each step.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import jax
import numpy as np

from sensojax.errors import UserError
from sensojax.pipeline import batches as batching
from sensojax.pipeline import transforms, windows
from sensojax.types import Batch


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
    """One tier of all mice, ready to be predicted with any weights.

    predict: (weights, raw batches, statistics) -> ({mouse: predicted}, normalised batches).
    skip_frames: frames at the start of each trial that do not count; at least lost_frames, those
    the model cannot predict. put: brings a numpy batch to the devices. batch_size: trials per
    mouse and step, over all processes. sharding: of what comes out, for several devices.
    """

    def __init__(
        self,
        predict: Callable,
        stores: Mapping[str, object],
        statistics: Mapping[str, transforms.Statistics],
        *,
        tier: str,
        normalization: str,
        skip_frames: int,
        lost_frames: int,
        batch_size: int,
        read_threads: int,
        put: Callable,
        sharding: jax.sharding.Sharding | None = None,
    ):
        if skip_frames < lost_frames:
            raise UserError(
                f"found evaluation.skip_frames {skip_frames}, expected at least the {lost_frames} "
                "frames that the core cannot predict; set it to that or more."
            )
        self.stores, self.tier, self.skip_frames = stores, tier, skip_frames
        self.rows = {mouse: _scorable(store, tier) for mouse, store in stores.items()}
        self.num_frames = {
            mouse: windows.usable_frames(store.trials, normalization)
            for mouse, store in stores.items()
        }
        for mouse, rows in self.rows.items():
            longest = int(self.num_frames[mouse][rows].max())
            if longest <= skip_frames:
                raise UserError(
                    f"found evaluation.skip_frames {skip_frames}, expected fewer than the "
                    f"{longest} frames of the longest trial of tier {tier!r} of mouse {mouse}; "
                    "skip fewer."
                )
        self._statistics, self._put, self._batch_size = statistics, put, batch_size
        self._read = functools.partial(
            batching.trial_batches,
            batch_size=batch_size,
            length=max(int(self.num_frames[m][rows].max()) for m, rows in self.rows.items()),
            normalization=normalization,
            skip_frames=skip_frames,
            num_threads=read_threads,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        self._predict = jax.jit(functools.partial(_predict, predict), out_shardings=sharding)
        self._scale = jax.jit(transforms.scale_responses, out_shardings=sharding)

    @property
    def have_rates(self) -> bool:
        """Whether the noiseless rates of every mouse are known."""
        return all(store.has_rates for store in self.stores.values())

    def steps(self, weights, *, rates: bool = False) -> Iterator[Step]:
        """Predicts every trial of the tier once. rates: also give the noiseless rates."""
        for number, (own_rows, batches) in enumerate(self._batches()):
            on_device = {mouse: self._put(batch) for mouse, batch in batches.items()}
            predicted, observed = self._predict(weights, on_device, self._statistics)
            known = {}
            if rates:
                for mouse, batch in batches.items():
                    # Those frames that are predicted, so that both are scored alike.
                    lost = batch.valid.shape[1] - predicted[mouse].shape[1]
                    recorded = self._rates(mouse, own_rows[mouse], batch.valid.shape)[:, lost:]
                    start, statistics = on_device[mouse].start + lost, self._statistics[mouse]
                    known[mouse] = self._scale(self._put(recorded), start, statistics)
            part = slice(number * self._batch_size, (number + 1) * self._batch_size)
            rows = {mouse: of_mouse[part] for mouse, of_mouse in self.rows.items()}
            yield Step(rows, predicted, observed, known)

    def _batches(self) -> Iterator[tuple[dict[str, np.ndarray], dict[str, Batch]]]:
        """The part of each step that this process reads: rows and batches."""
        readers = {m: self._read(store, self.rows[m]) for m, store in self.stores.items()}
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

    def _rates(self, mouse, rows, shape):
        """The rates of these trials as recorded, 0 past their ends: [batch time neuron]."""
        rates = np.zeros((*shape, len(self.stores[mouse].neurons)), np.float32)
        for i, row in enumerate(rows):
            frames = int(self.num_frames[mouse][row])
            rates[i, :frames] = self.stores[mouse].read_rates(int(row), 0, frames)
        return rates


def _predict(predict, weights, batches, statistics):
    predicted, observed = predict(weights, batches, statistics)
    return predicted, {mouse: batch.replace(video=()) for mouse, batch in observed.items()}


def _scorable(store, tier: str) -> np.ndarray:
    """The rows of a tier; UserError when its responses were withheld."""
    rows = store.rows(tier)
    if not store.trials.has_responses[rows].all():
        raise UserError(
            f"found withheld responses (zeros) in tier {tier!r} of mouse {store.mouse}, expected "
            "recorded ones; score another tier, or write a submission."
        )
    return rows
