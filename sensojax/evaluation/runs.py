"""Runs that were scored, and which of them may be compared: those that were counted alike.

In go `Run`s; out come groups that differ in nothing but the seed, and tables of groups that were
scored in the same way (normalisation, protocol, frames, NaN rule) on neurons that all of them have.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sensojax.evaluation import measures
from sensojax.evaluation.results import Score

SEED = "seed"  # the setting by which the runs of one group differ
CEILING = "ceiling"
ABSENT = "absent"  # what stands for a setting that a config does not have
# Fields of a Score that say whose it is; all others say how it was counted.
WHOSE = ("tier", "step", "seeds", "ensemble", "mice", "kinds")


@dataclass(frozen=True, eq=False)
class Run:
    """A scored run.

    config: plain values, nested. scores: by column, that is, tier. recordings: {mouse: fingerprint
    of its store}; neurons: {mouse: [neuron] int}, which of that store's neurons the scores are of.
    parameters: how many the model has. seconds: spent on training, None where nobody knows.
    about: anything else to be said of it, in plain values.
    """

    name: str
    config: Mapping
    scores: Mapping[str, Score]
    recordings: Mapping[str, str]
    neurons: Mapping[str, np.ndarray]
    parameters: int
    seconds: float | None = None
    about: Mapping = dataclasses.field(default_factory=dict)

    @property
    def _score(self) -> Score:
        return next(iter(self.scores.values()))

    @property
    def seeds(self) -> tuple[int, ...]:
        """One, or those of an ensemble's members."""
        return self._score.seeds

    @property
    def ensemble(self) -> bool:
        return self._score.ensemble

    @property
    def step(self) -> int:
        """The training step of the scored weights."""
        return self._score.step

    @property
    def conditions(self) -> dict:
        """How its scores were counted."""
        names = [each.name for each in dataclasses.fields(Score) if each.name not in WHOSE]
        return {name: getattr(self._score, name) for name in names}

    @property
    def counted(self) -> str:
        """The same in words."""
        return self._score.counted

    def has(self, column: str, measure: str) -> bool:
        """Whether any neuron has a measure in a column."""
        return column in self.scores and any(map(len, self.defined(column, measure).values()))

    def defined(self, column: str, measure: str) -> dict[str, np.ndarray]:
        """The store's neurons that have a measure in a column, {mouse: [neuron]}."""
        return {
            mouse: self.neurons[mouse][measures.kept(measure, score.values)]
            for mouse, score in self.scores[column].mice.items()
            if measure in score.values
        }

    def values(self, column: str, what: str, neurons: Mapping[str, np.ndarray]) -> np.ndarray:
        """A measure (or "ceiling") of these neurons, mouse after mouse, [neuron]."""
        parts = []
        for mouse, wanted in neurons.items():
            score = self.scores[column].mice[mouse]
            order = np.argsort(self.neurons[mouse])
            places = order[np.searchsorted(self.neurons[mouse], wanted, sorter=order)]
            parts.append((score.ceiling if what == CEILING else score.values[what])[places])
        return np.concatenate(parts)


def settings(config: Mapping, above: str = "") -> dict[str, object]:
    """Every setting by its dotted name."""
    found = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= settings(value, f"{above}{key}.")
        else:
            found[above + key] = value
    return found


def changes(base: Mapping, config: Mapping, ignored: Iterable[str] = ()) -> dict[str, object]:
    """The settings of a config that differ from those of the base, by dotted name."""
    before, now = settings(base), settings(config)
    return {
        name: now.get(name, ABSENT)
        for name in dict.fromkeys((*now, *before))
        if before.get(name, ABSENT) != now.get(name, ABSENT) and name not in ignored
    }


def grouped(runs: Sequence[Run], ignored: Iterable[str]) -> list[list[Run]]:
    """Runs that differ only in the seed, together; the same run given twice stays apart."""
    groups: list[list[Run]] = []
    for run in runs:
        for group in groups:
            alike = not changes(group[0].config, run.config, {*ignored, SEED})
            other_seed = run.seeds not in [each.seeds for each in group]
            of_a_kind = alike and other_seed and run.ensemble == group[0].ensemble
            if of_a_kind and comparable(group, run):
                group.append(run)
                break
        else:
            groups.append([run])
    return groups


def in_tables(groups: Sequence[list[Run]]) -> list[list[list[Run]]]:
    """Groups that may share a table, in the order of their first ones."""
    tables: list[list[list[Run]]] = []
    for group in groups:
        for table in tables:
            if comparable([run for each in table for run in each], group[0]):
                table.append(group)
                break
        else:
            tables.append([group])
    return tables


def comparable(runs: Sequence[Run], other: Run) -> bool:
    """Whether a run was counted like the others and has a neuron that all of them have."""
    every = [*runs, other]
    alike = runs[0].conditions == other.conditions
    return alike and bool(shared(every, [run.neurons for run in every]))


def shared(
    runs: Sequence[Run], of_runs: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """The neurons that are in all of `of_runs`, {mouse: [neuron]}, ascending.

    Of mice of the same recording in all the runs, and of which any neuron is left.
    """
    found = {}
    for mouse, neurons in of_runs[0].items():
        recordings = {run.recordings.get(mouse) for run in runs}
        if len(recordings) == 1 and all(mouse in each for each in of_runs):
            for each in of_runs[1:]:
                neurons = np.intersect1d(neurons, each[mouse])
            if len(neurons):
                found[mouse] = np.sort(neurons)
    return found
