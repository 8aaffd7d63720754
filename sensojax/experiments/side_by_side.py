"""Several seeds of one config trained side by side, in one compiled program on one device.

In: a config, seeds, and a run folder for each; out: those folders as `main.run` writes them. A step
is `vmap`ped over the members, each with its own batches, noise, schedule and journal, so a small
model fills an accelerator that one of it leaves idle; memory is that of all members. Sums are
formed in another order than by one run alone, so numbers agree with it to float32 rounding.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from sensojax.errors import UserError
from sensojax.evaluation import ensembles
from sensojax.experiments.experiment import Experiment
from sensojax.pipeline.batches import to_device
from sensojax.training import checkpoints, folder, journal, mesh


@dataclass
class Member:
    """One seed: what `main.run` holds of a run."""

    experiment: Experiment
    saved: checkpoints.Checkpoints
    notes: journal.Journal
    finished: bool

    def evaluate(self) -> None:
        self.finished = self.experiment.evaluate(self.notes)
        if self.experiment.step:
            self.experiment.save(self.saved, self.finished)


def run(config: Mapping, seeds: Sequence[int], workdirs: Sequence[Path]) -> None:
    """Trains every seed until its schedule says stop, and writes every report."""
    placement = mesh.Placement()
    if placement.mesh.size > 1:
        raise UserError(
            f"found {placement.mesh.size} devices, expected one for seeds side by side; make one "
            "visible (CUDA_VISIBLE_DEVICES=0), or train one seed after another."
        )
    with jax.set_mesh(placement.mesh), contextlib.ExitStack() as until_the_end:
        members = []
        for seed, workdir in zip(seeds, workdirs, strict=True):
            own = {**config, "seed": seed}
            until_the_end.enter_context(folder.claimed(workdir, own))
            like = members[0].experiment if members else None
            experiment = Experiment(own, placement, like)
            members.append(_member(experiment, workdir, until_the_end))
        _catch_up(members)
        first = members[0].experiment
        make_step = functools.cache(lambda of: first.make_train_step(seed=of))
        while active := [member for member in members if not member.finished]:
            _train_to_next_evaluation(active, make_step)
            for member in active:
                member.evaluate()
        for member, workdir in zip(members, workdirs, strict=True):
            member.experiment.report(workdir, writes=True)


def _member(experiment: Experiment, workdir: Path, until_the_end) -> Member:
    saved = until_the_end.enter_context(checkpoints.Checkpoints(workdir))
    finished = experiment.restore(saved)
    notes = journal.Journal(Path(workdir), **experiment.described, step=experiment.step)
    member = Member(experiment, saved, until_the_end.enter_context(notes), finished)
    if experiment.step == 0:
        member.evaluate()
    return member


def _catch_up(members: Sequence[Member]) -> None:
    """Brings all members to the same step, when they were stopped at different ones."""
    furthest = max(member.experiment.step for member in members)
    for member in members:
        while not member.finished and member.experiment.step < furthest:
            experiment = member.experiment
            experiment.train_to_next_evaluation(member.notes, member.saved, until=furthest)
            if experiment.step % experiment.interval == 0:
                member.evaluate()


def _train_to_next_evaluation(active: Sequence[Member], make_step: Callable) -> None:
    experiments = [member.experiment for member in active]
    first = experiments[0]
    start, stop = first.ahead()
    step = make_step(tuple(e.config["seed"] for e in experiments))
    state = ensembles.stacked([e.state for e in experiments])
    pace, trailing = journal.Pace(), journal.Trailing()
    with to_device(_stacked(experiments, start, stop), jax.device_put) as ready:
        for index, batches in ready:
            rates = np.array([e.schedule.learning_rate(index) for e in experiments], np.float32)
            state, measured = step(state, batches, first.statistics, rates)
            done = index + 1
            clips = sum(batch.valid[..., 0].size for batch in batches.values())
            save, note = first.due(done, stop)

            def finished(measured, done=done, rates=rates, clips=clips, note=note):
                pace.count(clips)
                if note:
                    paced = pace.ask(ready.waited_seconds)
                    for i, member in enumerate(active):
                        own = jax.tree.map(lambda x, i=i: x[i], measured)
                        member.experiment.note(member.notes, done, own, float(rates[i]), paced)

            trailing.add(measured, finished)
            if save or done == stop:
                trailing.finish()  # a diverged state is not saved
                for i, member in enumerate(active):
                    member.experiment.state = jax.tree.map(lambda x, i=i: x[i], state)
                    if save:
                        member.experiment.save(member.saved)


def _stacked(experiments: Sequence[Experiment], start: int, stop: int) -> Iterator:
    """(step, batches of all members with a leading axis [member]) for these steps."""
    with contextlib.ExitStack() as streams:
        own = [
            streams.enter_context(contextlib.closing(e.stream(start, stop))) for e in experiments
        ]
        for parts in zip(*own, strict=True):
            batches = [batches for _, batches in parts]
            yield parts[0][0], jax.tree.map(lambda *leaves: np.stack(leaves), *batches)
