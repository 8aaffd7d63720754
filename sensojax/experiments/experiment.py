"""One experiment: everything a run is made of, built in the order of the data, and its few acts.

`main.run` is the story (restore, train, evaluate, save, report); here is what each of these words
does with stores, batches, encoder, optimizer and schedule. In: a config and a placement on devices;
out: a trained state, scores, and the files of the run folder.
"""

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import jax

from sensojax import build
from sensojax.errors import UserError
from sensojax.evaluation import report
from sensojax.evaluation.evaluators import Evaluator
from sensojax.evaluation.results import Fields, Score
from sensojax.experiments import distilling, transfer
from sensojax.models.encoder import assemble
from sensojax.pipeline.batches import to_device
from sensojax.training import checkpoints, journal, mesh, provenance, step
from sensojax.writing import plain


class Experiment:
    """Stores, batches, model, optimizer and schedule of one config, and the state of its run.

    like: an experiment of the same config but for the seed, whose evaluators serve this one too.
    """

    def __init__(
        self, config: Mapping, placement: mesh.Placement, like: "Experiment | None" = None
    ):
        build.check(config)
        other_run = transfer.source(config)
        config = transfer.resolved(config, other_run)
        data = config["data"]
        placement.check(data["batch_size"], "data.batch_size")
        self.config, self.placement = config, placement
        self.stores = build.stores(data, config["simulation"])
        build.check_recorded(config, self.stores)
        self.batches = build.batches(data, self.stores, config["seed"])
        self.statistics = placement.everywhere(build.statistics(data, self.stores))
        first = placement.batch(self.batches[0])
        columns = next(iter(first.values())).behavior.shape[-1]
        neurons = {mouse: store.neurons for mouse, store in self.stores.items()}
        means = build.mean_responses(first, config, self.statistics)
        size = build.frame_size(next(iter(self.stores.values())), config["inputs"])
        model = build.new_encoder(config, neurons, columns, means, size)
        transfer.take_core(model, config, other_run)
        given_features = transfer.gives_features(config)
        if given_features:
            self.batches = transfer.feature_batches(config, self.batches, model, self.statistics)
        self.schedule = build.schedule(config["schedule"])
        self.schedule.count_epochs(self.batches.epoch_steps)
        self.graph, state = build.initial_state(model, config)
        self.state = placement.everywhere(state)
        teacher = distilling.teacher(config, build.described(self.stores), placement)
        prepare = transfer.prepare_features if given_features else build.prepare(config["inputs"])
        self.make_train_step = functools.partial(
            step.make_train_step,
            self.graph,
            build.optimizer(config),
            build.loss(config["loss"]),
            prepare,
            num_files={mouse: len(store.trials) for mouse, store in self.stores.items()},
            given_features=given_features,
            sharding=placement.copied,
            mouse_weights=build.mouse_weights(config, self.stores),
            augment=build.augment(config),
            teacher=teacher,
            average=config["train"]["average"],
            compute=config["train"]["compute"],
            recompute=config["train"]["recompute"],
            mice_at_once=config["train"]["mice_at_once"],
        )
        self.train_step = self.make_train_step(seed=config["seed"])
        self.interval = config["train"]["evaluate_every"] or self.batches.epoch_steps
        self.total_steps = self.schedule.total_steps(self.interval)
        self.lost_frames = build.lost_frames(model.core, config["inputs"])
        if data["window_frames"] <= self.lost_frames:
            raise UserError(
                f"found data.window_frames {data['window_frames']}, expected more than the "
                f"{self.lost_frames} frames that the core cannot predict; lengthen the window."
            )
        # All of them now, so that a tier that cannot be scored is not found out after training.
        how = config["evaluation"]
        tiers = dict.fromkeys((how["validation"], *how["tiers"]))
        self.evaluators = (
            like.evaluators if like else {tier: self.evaluator(tier) for tier in tiers}
        )
        self.validator = self.evaluators[how["validation"]]
        self.about = dict(
            config=plain(config),
            mice=build.described(self.stores),
            behavior_columns=columns,
            frame_size=size,
            **provenance.circumstances(),
        )

    @property
    def step(self) -> int:
        """Training steps taken."""
        return int(self.state.step)

    @property
    def described(self) -> dict:
        """What the journal says of this run."""
        return dict(
            config=self.about["config"],
            stores={mouse: store.fingerprint for mouse, store in self.stores.items()},
            simulated=any(store.simulated for store in self.stores.values()),
            total_steps=self.total_steps,
        )

    def evaluator(self, tier: str) -> Evaluator:
        return build.evaluator(
            tier,
            self.config,
            self.stores,
            self.statistics,
            self.graph,
            self.lost_frames,
            self.placement,
        )

    def restore(self, saved: checkpoints.Checkpoints) -> bool:
        """Goes on from the newest readable checkpoint; returns whether training was finished."""

        def like(about):
            checkpoints.check_mice(about["mice"], self.about["mice"])
            return self.state

        found = saved.restore_newest(like)
        if found is None:
            return False
        state, about = found
        saved.drop_after(about["step"])
        self.state = self.placement.everywhere(state)
        self.schedule.restore(about["schedule"])
        return about["finished"]

    def save(self, saved: checkpoints.Checkpoints, finished: bool = False) -> None:
        """Writes a checkpoint in the background."""
        about = dict(
            step=self.step,
            best_step=int(self.state.best["step"]),
            schedule=self.schedule.state(),
            finished=finished,
        )
        saved.save(self.step, self.state, self.about | about)

    def ahead(self) -> tuple[int, int]:
        """The step reached and the one of the next evaluation."""
        start = self.step
        return start, min(start - start % self.interval + self.interval, self.total_steps)

    def stream(self, start: int, stop: int) -> Iterator[tuple[int, dict]]:
        """The batches of these steps, read ahead."""
        data = self.config["data"]
        return self.batches.iterate(
            start, stop, num_threads=data["read_threads"], prefetch_steps=data["prefetch_steps"]
        )

    def due(self, done: int, stop: int) -> tuple[bool, bool]:
        """Whether to save a checkpoint after so many steps, and whether to note measurements."""
        train = self.config["train"]
        save = done % train["checkpoint_every"] == 0 and done < stop
        return save, save or done % train["log_every"] == 0 or done == stop

    def train_to_next_evaluation(
        self, notes: journal.Journal, saved: checkpoints.Checkpoints, until: int | None = None
    ) -> None:
        """Takes steps up to the next multiple of the interval, to the last step, or `until`."""
        start, stop = self.ahead()
        stop = stop if until is None else min(stop, until)
        pace, trailing = journal.Pace(), journal.Trailing()
        with to_device(self.stream(start, stop), self.placement.batch) as ready:
            for index, batches in ready:
                rate = self.schedule.learning_rate(index)
                self.state, measured = self.train_step(self.state, batches, self.statistics, rate)
                done = index + 1
                clips = sum(len(batch.valid) for batch in batches.values())
                save, note = self.due(done, stop)

                def finished(measured, done=done, rate=rate, clips=clips, note=note):
                    pace.count(clips)
                    if note:
                        self.note(notes, done, measured, rate, pace.ask(ready.waited_seconds))

                trailing.add(measured, finished)
                if save:
                    trailing.finish()  # a diverged state is not saved
                    self.save(saved)
            trailing.finish()

    def note(
        self, notes: journal.Journal, done: int, measured: Mapping, rate: float, pace: Mapping
    ) -> None:
        """Writes a step into the journal; UserError when training has diverged."""
        # The loss is that of the weights before the step, the gradient decides those after it.
        for name in ("loss", "gradient_norm"):
            if not math.isfinite(measured[name]):
                raise UserError(
                    f"the {name} at step {done} is {measured[name]}, expected a number; the newest "
                    "checkpoint is from before. Lower schedule's learning rate or set "
                    "optimizer.clip_norm, and use another --workdir."
                )
        notes.step(
            done,
            epoch=done / self.batches.epoch_steps,
            loss=measured["loss_per_response"],
            parts=measured["parts"],
            gradient_norm=measured["gradient_norm"],
            learning_rate=rate,
            **pace,
        )

    def evaluate(self, notes: journal.Journal) -> bool:
        """Scores the validation tier and does what the schedule decides; returns whether it ends.

        Improved weights are kept, and when a phase ends the best ones come back.
        """
        weights = step.scored_weights(self.state)
        score = self.validator.run(weights, step=self.step, seeds=self.seeds)
        used = {"peak_memory_bytes": provenance.peak_memory_bytes()}
        notes.evaluation(self.step, score.summary() | used)
        rate = self.schedule.rate_at(self.step)
        worth = score.worth(self.config["evaluation"]["criterion"])
        decision = self.schedule.evaluated(worth)
        if decision.improved:
            self.state = step.keep_best(self.state)
        if decision.reload_best:
            self.state = step.reload_best(self.state)
            notes.note(self.step, "back to the best weights", event="restore")
        new_rate = self.schedule.rate_at(self.step)
        if new_rate != rate:
            text = f"learning rate {rate:.2e} -> {new_rate:.2e}"
            notes.note(self.step, text, event="learning_rate_cut")
        return decision.stop

    @property
    def seeds(self) -> tuple[int, ...]:
        return (self.config["seed"],)

    def report(self, workdir: str | Path, *, writes: bool) -> dict[str, Score]:
        """Scores the best weights on every tier that the config asks for, and writes the report.

        writes: False on all but one process of a run; all of them must take part in predicting.
        """
        weights, best_step = step.best_weights(self.state), int(self.state.best["step"])
        scores = {}
        for tier in self.config["evaluation"]["tiers"]:
            evaluator = self.evaluators[tier]
            scores[tier] = evaluator.run(
                weights,
                step=best_step,
                seeds=self.seeds,
                names=self.config["evaluation"]["measures"],
            )
            if len(scores) == 1:
                traces = evaluator.traces(weights, scores[tier])
        fields = self.fields()
        if writes:
            lines = journal.read(Path(workdir) / journal.NAME)
            config, used = self.about["config"], self.used(lines)
            report.write(workdir, config, scores, lines, traces, fields, used)
        return scores

    def used(self, lines: Sequence[Mapping]) -> dict[str, float]:
        """What the run cost: parameters, seconds at work, and the most memory; lines: the journal.

        Parameters include the running statistics of batch norm, as Keras counts them.
        """
        arrays = jax.tree.leaves((self.state.weights.params, self.state.weights.statistics))
        return dict(
            parameters=sum(array.size for array in arrays),
            seconds=journal.seconds(lines),
            peak_memory_bytes=max((line.get("peak_memory_bytes", 0) for line in lines), default=0),
        )

    def fields(self) -> list[Fields]:
        """Where every mouse's neurons lie in cortex and where their readouts look."""
        model = assemble(self.graph, step.best_weights(self.state))
        inputs = self.config["inputs"]
        return [build.fields(mouse, model, each, inputs) for mouse, each in self.stores.items()]
