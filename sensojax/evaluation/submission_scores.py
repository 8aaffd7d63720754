"""Scoring a submission file as the competition's server does, where the responses are known.

In go a submission file, ours or another's, and the stores of its mice; out comes the `Score` that
the model would have got directly. Mice, trials and neurons are matched by their numbers, in any
order; a file that lacks one of them, or has other frames, is refused in a sentence.
"""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from sensojax.errors import UserError
from sensojax.evaluation import submission
from sensojax.evaluation.evaluators import Evaluator
from sensojax.evaluation.predictions import Predictions, Step, has_responses
from sensojax.evaluation.results import Score
from sensojax.pipeline.transforms import Statistics
from sensojax.pipeline.windows import SCORED_FRAMES, ScoredFrames
from sensojax.types import Batch


def score(
    path: str | Path,
    stores: Mapping[str, object],
    *,
    frames: ScoredFrames | None = None,
    nan_rule: str = "zero",
) -> Score:
    """The score of a submission file, under the normalization `official`.

    stores: of its mice; those whose responses of the tier were withheld are passed over. frames:
    which frames it has; None for what the file itself says, or those of the published code. Raises
    UserError when the file does not fit the stores.
    """
    about = submission.about(path)
    if frames is None:
        told = [about.get(name) for name in ScoredFrames._fields]
        frames = SCORED_FRAMES["kit"] if None in told else ScoredFrames(*told)
    rows = submission.read(path)
    first = next(rows, None)
    if first is None:
        raise UserError(f"{path} has no trials, expected those of a tier; write it again.")
    tier = _tier(path, first, stores)
    scored = {mouse: store for mouse, store in stores.items() if _known(store, tier)}
    if not scored:
        raise UserError(
            f"the responses of tier {tier!r} were withheld for all of {', '.join(stores)}, "
            "expected recorded ones; only the competition's server can score this file."
        )
    unknown = stores.keys() - scored.keys()
    submitted = Submitted(path, scored, tier=tier, frames=frames, passed_over=unknown)
    evaluator = Evaluator(
        submitted,
        normalization="official",
        trained_under=about.get("trained_under", ""),
        protocol=about.get("protocol", "competition"),  # else nobody knows what it was trained on
        nan_rule=nan_rule,
    )
    whose = dict(seeds=tuple(about.get("seeds", ())), ensemble=about.get("ensemble", False))
    return evaluator.run(None, step=about.get("step", 0), **whose)


class Submitted(Predictions):
    """The predictions in a submission file, as an `Evaluator` asks for them: weights are None.

    passed_over: mice that the file may hold and that are not scored.
    """

    def __init__(
        self,
        path: str | Path,
        stores: Mapping[str, object],
        *,
        tier: str,
        frames: ScoredFrames,
        passed_over: Collection[str] = (),
    ):
        statistics = {mouse: Statistics.of(store, "official") for mouse, store in stores.items()}
        super().__init__(
            None,
            stores,
            statistics,
            tier=tier,
            frames=frames,
            lost_frames=0,
            batch_size=1,
            read_threads=1,
            put=jax.device_put,
        )
        self.path, self._passed_over = path, passed_over
        self._row_of = {
            mouse: {int(stores[mouse].trials.index[row]): int(row) for row in rows}
            for mouse, rows in self.rows.items()
        }
        self._length = {
            mouse: int(self.num_frames[mouse][rows].max()) for mouse, rows in self.rows.items()
        }

    def steps(self, weights, *, rates: bool = False, only=None) -> Iterator[Step]:
        """One trial per step, in the order of the file. rates: also the noiseless rates."""
        del weights, only
        missing = {mouse: dict(rows) for mouse, rows in self._row_of.items()}
        for found in submission.read(self.path):
            if found.mouse in self._passed_over:
                continue
            _refuse_unknown(self.path, found.mouse, self.stores)
            row = missing[found.mouse].pop(found.trial, None)
            if row is None:
                raise UserError(
                    f"trial {found.trial} of mouse {found.mouse} is twice in {self.path} or not of "
                    f"tier {self.tier!r}, expected each trial of that tier once; write it again."
                )
            yield self._step(found, row, rates)
        for mouse, rows in missing.items():
            if rows:
                raise UserError(
                    f"{self.path} lacks {len(rows)} of the {len(self._row_of[mouse])} trials of "
                    f"tier {self.tier!r} of mouse {mouse}, as trial {min(rows)}; write the file "
                    "again."
                )

    def _step(self, found: submission.Row, row: int, rates: bool) -> Step:
        mouse, frames = found.mouse, int(self.num_frames[found.mouse][row])
        counted = self.counts(mouse, row, self._length[mouse])
        prediction = found.prediction[self._columns(found)]
        if prediction.shape[1] != counted.sum():
            raise UserError(
                f"trial {found.trial} of mouse {mouse} in {self.path} has {prediction.shape[1]} "
                f"frames, expected the {counted.sum()} that are left of {frames} when the first "
                f"{self.frames.skip_frames} are skipped; which frames it has is said with --frames."
            )
        predicted = np.zeros((len(counted), len(prediction)), np.float32)
        predicted[counted] = prediction.T
        recorded = self.stores[mouse].read(row, 0, frames)["responses"]
        batch = Batch(
            video=(),
            responses=self._scaled(mouse, recorded),
            behavior=(),
            pupil_center=(),
            valid=jnp.asarray(counted)[None],
            start=jnp.zeros(1, jnp.int32),
        )
        known = {}
        if rates:
            known[mouse] = self._scaled(mouse, self.stores[mouse].read_rates(row, 0, frames))
        predictions = {mouse: jnp.asarray(predicted)[None]}
        return Step({mouse: np.array([row])}, predictions, {mouse: batch}, known)

    def _scaled(self, mouse: str, recorded: np.ndarray) -> jax.Array:
        """[1 time neuron] in normalised units, padded to the mouse's longest trial."""
        padded = np.zeros((1, self._length[mouse], recorded.shape[1]), np.float32)
        padded[0, : len(recorded)] = recorded
        return self._scale(padded, np.zeros(1, np.int32), self._statistics[mouse])

    def _columns(self, found: submission.Row) -> np.ndarray:
        """Where each neuron of the store is in the row."""
        ids = self.stores[found.mouse].neurons.ids
        theirs, ours = np.argsort(found.neuron_ids), np.argsort(ids)
        if not np.array_equal(found.neuron_ids[theirs], ids[ours]):
            others = np.setxor1d(found.neuron_ids, ids)
            named = f", as {others[0]}" if others.size else ""
            raise UserError(
                f"trial {found.trial} of mouse {found.mouse} in {self.path} has "
                f"{len(found.neuron_ids)} neurons and the store has {len(ids)}; {len(others)} ids "
                f"are only in one of them{named}: expected each neuron of the recording once."
            )
        columns = np.empty(len(ids), int)
        columns[ours] = theirs
        return columns


def _tier(path, first: submission.Row, stores: Mapping) -> str:
    """The tier of the file: that of its first trial."""
    _refuse_unknown(path, first.mouse, stores)
    trials = stores[first.mouse].trials
    row = np.flatnonzero(trials.index == first.trial)
    if not row.size:
        raise UserError(
            f"{path} has a trial {first.trial} of mouse {first.mouse}, which its store does not "
            "have; was it written from another recording?"
        )
    return str(trials.tier[row[0]])


def _refuse_unknown(path, mouse: str, stores: Mapping) -> None:
    if mouse not in stores:
        raise UserError(
            f"{path} has mouse {mouse}, expected one of the stores: {', '.join(stores)}; give the "
            "folder that has its store."
        )


def _known(store, tier: str) -> bool:
    return bool((store.trials.tier == tier).any()) and has_responses(store, tier)
