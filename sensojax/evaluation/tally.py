"""Adding up while trials stream by: the sums of each mouse, by kind of stimulus and altogether.

In go the steps of `Predictions` and the sums that the device made of each trial; out come `Sums`.
Trials add up on the host in float64. Measures of repeats need every frame: the unfinished video of
each mouse adds up on the device and leaves it as a few numbers per neuron when its last repeat has
passed (repeats follow each other, see `Predictions`). Repeats of a video count as far as the
shortest of them goes.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np

from sensojax.evaluation import measures
from sensojax.evaluation.measures import Sums
from sensojax.evaluation.predictions import Predictions, Step, kinds_of
from sensojax.metrics import Correlation, Mean, PoissonLoss
from sensojax.reliability import Measures, anscombe
from sensojax.repeats import Stimulus, reduced


class Tally:
    """The sums so far. names: the measures that they must give (`measures.wanted`).

    null_means: {mouse: what the null model says, [neuron]}, of recordings of spikes.
    """

    def __init__(
        self,
        predictions: Predictions,
        nan_rule: str,
        names: Iterable[str],
        null_means: Mapping[str, np.ndarray] = MappingProxyType({}),
    ):
        self._predictions, self._names = predictions, tuple(names)
        self._null_means = null_means
        self._kinds = {mouse: kinds_of(store) for mouse, store in predictions.stores.items()}
        self._nan_rule = nan_rule
        self._sums = {mouse: {} for mouse in predictions.stores}
        repeats = measures.need_repeats(self._names)
        stabilized = measures.need_stabilized(self._names)
        self._videos = Videos(predictions, stabilized) if repeats else None

    def add(self, part: Step, sums: Mapping[str, tuple]) -> None:
        """Adds a step; sums: {mouse: (correlation, losses)} of its trials, fields [batch neuron].

        losses: Poisson loss, and that of spikes when there are null means.
        """
        host = jax.device_get(sums)
        for mouse, rows in part.rows.items():
            kinds = self._kinds[mouse][rows]
            for kind in dict.fromkeys(kinds.tolist()):
                chosen = kinds == kind
                self._include(mouse, kind, self._of_trials(mouse, rows, host[mouse], chosen))
        if self._videos is not None:
            for mouse, row, measured in self._videos.finished(part):
                found = dataclasses.replace(self._nothing(mouse), **measured)
                self._include(mouse, self._kinds[mouse][row], found)

    def of(self, mouse: str) -> tuple[Sums, dict[str, Sums]]:
        """All trials of a mouse, and those of each known kind."""
        of_mouse = self._sums[mouse]
        whole = sum(of_mouse.values(), start=self._nothing(mouse))
        return whole, {kind: sums for kind, sums in of_mouse.items() if kind}

    def _include(self, mouse: str, kind: str, more: Sums) -> None:
        of_mouse = self._sums[mouse]
        of_mouse[kind] = of_mouse.get(kind, self._nothing(mouse)) + more

    def _nothing(self, mouse: str) -> Sums:
        return Sums.zero(
            len(self._predictions.stores[mouse].neurons),
            self._nan_rule,
            repeats=self._videos is not None,
            stabilized=self._videos is not None and self._videos.stabilized,
            spikes=mouse in self._null_means,
        )

    def _of_trials(self, mouse: str, rows: np.ndarray, sums: tuple, chosen: np.ndarray) -> Sums:
        """The sums of some trials of a step."""
        correlation, *losses = (
            jax.tree.map(lambda leaf: leaf[: len(rows)][chosen].astype(np.float64), each)
            for each in sums
        )
        seen = correlation.count > 0
        whole = Correlation.merged(correlation)
        found = dict(
            correlation=whole,
            loss=PoissonLoss.merged(losses[0]),
            within_trials=Mean(seen.sum(0), np.where(seen, correlation.value(), 0).sum(0)),
            num_trials=int(chosen.sum()),
            num_frames=sum(self._predictions.num_scored(mouse, row) for row in rows[chosen]),
        )
        if mouse in self._null_means:
            null = Mean(whole.count, whole.count * self._null_means[mouse])
            found |= dict(spikes=PoissonLoss.merged(losses[1]), null=null)
        return dataclasses.replace(self._nothing(mouse), **found)


class Videos:
    """The videos that were shown twice or more: of each mouse, the one under way.

    stabilized: also add up Anscombe's transform of the responses.
    """

    def __init__(self, predictions: Predictions, stabilized: bool):
        self.stabilized = stabilized
        self._predictions = predictions
        self._repeats = {
            mouse: _repeats(predictions, mouse, rows) for mouse, rows in predictions.rows.items()
        }
        self._under_way = {}

    def finished(self, part: Step) -> Iterator[tuple[str, int, dict[str, Measures]]]:
        """Adds a step; yields (mouse, a row, measures by field of `Sums`) of complete videos."""
        for mouse, rows in part.rows.items():
            repeats, start = self._repeats[mouse], 0
            while start < len(rows):
                same = repeats[int(rows[start])]
                stop = start + 1
                while stop < len(rows) and rows[stop] in same:
                    stop += 1
                if len(same) > 1:
                    self._include(part, mouse, slice(start, stop), same)
                    if rows[stop - 1] == same[-1]:
                        done = self._under_way.pop(mouse).items()
                        yield mouse, same[0], {what: _reduced(s).on_host() for what, s in done}
                start = stop

    def _include(self, part: Step, mouse: str, examples: slice, same: tuple[int, ...]) -> None:
        predicted = part.predicted[mouse]
        size, frames = predicted.shape[:2]
        observed = part.observed[mouse].responses
        length = observed.shape[1]
        shortest = min(same, key=lambda row: self._predictions.num_frames[mouse][row])
        counted = np.zeros((size, frames), bool)
        counted[examples] = self._predictions.counts(mouse, shortest, length)[-frames:]
        sums = self._under_way.setdefault(mouse, {})
        before = sums.get("repeats") or _nothing(predicted)
        sums["repeats"] = _including(before, predicted, observed, counted)
        if self.stabilized:
            before = sums.get("stabilized") or _nothing(predicted)
            sums["stabilized"] = _including_stabilized(before, observed, counted)


def _repeats(predictions: Predictions, mouse: str, rows: np.ndarray) -> dict[int, tuple[int, ...]]:
    """{row: all rows of the same video and kind, in the order in which they are predicted}."""
    store = predictions.stores[mouse]
    kinds, videos = kinds_of(store), store.video_ids
    groups = {}
    for row in rows.tolist():
        key = (kinds[row], videos[row]) if videos[row] >= 0 else row
        groups.setdefault(key, []).append(row)
    return {row: tuple(group) for group in groups.values() for row in group}


@jax.jit
def _nothing(predicted):
    return Stimulus.zero(*predicted.shape[1:], jnp)


def _include(sums, predicted, observed, counted):
    observed = observed[:, -counted.shape[1] :]
    return sums.including(predicted, observed, counted, jnp)


def _include_stabilized(sums, observed, counted):
    observed = anscombe(observed[:, -counted.shape[1] :], jnp)
    return sums.including(observed, observed, counted, jnp)


_including = jax.jit(_include, donate_argnums=0)
_including_stabilized = jax.jit(_include_stabilized, donate_argnums=0)
_reduced = jax.jit(lambda sums: reduced(sums, 2, jnp))
