"""Predicting single trials with a trained model: a run folder in, responses of every trial out.

What `submit`, `predict` and `save_responses` share: the model of a run or ensemble with the
recordings of its mice (`Predictor`), asked mouse by mouse for the trials of some tiers, or for new
clips, in the units that are wanted. Responses need not be known. One trial at a time is on the
host, in the order of the files.
"""

from collections.abc import Iterable, Iterator, Sequence

import jax
import numpy as np

from sensojax import build
from sensojax.errors import UserError, check_name
from sensojax.evaluation import ensembles, predictions
from sensojax.experiments.scoring import Scorer, lost_by, predicted_by
from sensojax.pipeline import transforms
from sensojax.pipeline.windows import NORMALIZATIONS, SCORED_FRAMES, ScoredFrames
from sensojax.training import checkpoints
from sensojax.types import Batch

AS_RECORDED = "as recorded"  # beside the names of the normalizations
OF_THE_RUN = "run"  # beside the names of the scored frames: what the run's config says


class Predictor:
    """A model ready to predict.

    weights: "best" or "newest". stores: folder, "" for that of the run's config. frames: a name of
    `windows.SCORED_FRAMES`, or "run" for those of the run's config; units: "official",
    "per_neuron" or "as recorded". Raises UserError when run, stores or frames do not fit, and for
    several processes.
    """

    def __init__(
        self, workdir: str, weights: str = "best", stores: str = "", *, frames: str, units: str
    ):
        if jax.process_count() > 1:
            raise UserError(
                f"found {jax.process_count()} processes, expected one, which writes the files; "
                "start it without a launcher, it uses all devices of its machine."
            )
        scorer = Scorer()
        self.placement = scorer.placement
        members = build.load_members(workdir, weights)
        about = members[0][2]
        self.config, self.frames = about["config"], scored_frames(frames, about["config"])
        self.placement.check(self._batch_size, "evaluation.batch_size")
        self.stores = scorer.opened(about, stores)
        check_name(units, (*NORMALIZATIONS, AS_RECORDED), "units")
        self.units = units
        models, several = [(graph, arrays) for graph, arrays, _ in members], len(members) > 1
        groups, inputs = ensembles.grouped(models) if several else {}, self.config["inputs"]
        self._weights = self.placement.everywhere(tuple(groups.values()) or models[0][1])
        predict = predicted_by([graph for graph, _ in models], inputs, self.config["evaluation"])
        self._program = predictions.compiled(predict, self.placement.copied)
        self._unscale = jax.jit(transforms.unscale_responses, out_shardings=self.placement.copied)
        self._lost_frames = lost_by(models, inputs)
        steps = [each["best_step" if weights == "best" else "step"] for _, _, each in members]
        self.about = dict(
            weights=checkpoints.digest(checkpoints.flatten([arrays for _, arrays in models])),
            seeds=[each["config"]["seed"] for _, _, each in members],
            ensemble=several,
            step=int(steps[-1]),
            protocol=build.protocol(self.config["data"]),
            trained_under=self.config["data"]["normalization"],
            units=units,
            **self.frames._asdict(),
        )

    @property
    def _batch_size(self) -> int:
        return self.config["evaluation"]["batch_size"]

    def trials(
        self, mouse: str, tiers: Sequence[str]
    ) -> tuple[dict[int, int], Iterator[tuple[int, np.ndarray]]]:
        """({row: scored frames}, (row, predicted [time neuron] of these frames), row by row).

        All trials of these tiers in the order of the files; nothing is predicted before the second
        is asked.
        """
        store = self.stores[mouse]
        alone = {mouse: store}
        put = self.placement.everywhere
        trained = self._statistics(alone, self.config["data"]["normalization"])
        others = {AS_RECORDED, self.config["data"]["normalization"]}
        made = predictions.Predictions(
            self._program,
            alone,
            put(trained),
            tier=predictions.JOINS.join(tiers),
            frames=self.frames,
            lost_frames=self._lost_frames,
            batch_size=self._batch_size,
            read_threads=self.config["data"]["read_threads"],
            put=self.placement.batch,
            scored_with=None if self.units in others else put(self._statistics(alone, self.units)),
            length=int(self.shown_frames(store).max()),  # of all tiers: one program for each mouse
            withheld=True,
            sharding=self.placement.copied,
        )
        rows = made.rows[mouse]
        rows = rows[np.argsort(store.trials.index[rows])]
        lengths = {int(row): made.num_scored(mouse, row) for row in rows}
        return lengths, self._each(made, mouse, rows, trained[mouse])

    def together(self, clips: int) -> int:
        """How many of so many clips to show at once: as many as are scored at once, or fewer."""
        devices = self.placement.mesh.size
        return min(self._batch_size, -(-clips // devices) * devices)

    def clips(self, mouse: str, batches: Iterable[Batch]) -> Iterator[np.ndarray]:
        """Responses to new clips, [batch time neuron] as recorded; NaN where there is none.

        batches: raw; their responses are not looked at.
        """
        normalization = self.config["data"]["normalization"]
        trained = self._statistics({mouse: self.stores[mouse]}, normalization)
        trained = self.placement.everywhere(trained)
        for batch in batches:
            time = batch.valid.shape[1]
            if time <= self._lost_frames:
                raise UserError(
                    f"found a film of {time} frames, expected more than the {self._lost_frames} "
                    "that the model needs before the first it can predict; give a longer one."
                )
            shown = self.placement.batch({mouse: batch})
            counted = {mouse: shown[mouse].valid}
            predicted, _ = self._program(self._weights, shown, counted, trained, None)
            lost = time - predicted[mouse].shape[1]
            start = shown[mouse].start + lost
            found = np.asarray(self._unscale(predicted[mouse], start, trained[mouse]))
            yield np.pad(found, ((0, 0), (lost, 0), (0, 0)), constant_values=np.nan)

    def shown_frames(self, store) -> np.ndarray:
        """Frames of each trial that the model sees, [trial]."""
        trained = self.config["data"]["normalization"]
        both = {trained} | {self.units} - {AS_RECORDED}
        return predictions.shown_frames(store, both, self.frames.most_frames)

    def _statistics(self, alone, normalization):
        return build.statistics({**self.config["data"], "normalization": normalization}, alone)

    def _each(self, made, mouse, rows, trained) -> Iterator[tuple[int, np.ndarray]]:
        for step in made.steps(self._weights, only={mouse: rows}):
            predicted, observed = step.predicted[mouse], step.observed[mouse]
            lost = observed.valid.shape[1] - predicted.shape[1]
            if self.units == AS_RECORDED:
                predicted = self._unscale(predicted, observed.start + lost, trained)
            for i, row in enumerate(step.rows[mouse]):
                counted = made.counts(mouse, int(row), observed.valid.shape[1])[lost:]
                yield int(row), np.asarray(predicted[i])[counted]


def scored_frames(name: str, config) -> ScoredFrames:
    """The frames of a named convention, or of a run's config."""
    check_name(name, (*SCORED_FRAMES, OF_THE_RUN), "frames")
    if name != OF_THE_RUN:
        return SCORED_FRAMES[name]
    return ScoredFrames(*(config["evaluation"][each] for each in ScoredFrames._fields))
