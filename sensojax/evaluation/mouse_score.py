"""One mouse's score: every measure of every neuron, and what it was counted from.

A `MouseScore` is of one tier, or of its trials of one kind of stimulus; `results.Score` holds those
of all mice. Nothing here computes a measure; `evaluators` does. `from_json` reads what
`writing.plain` made of one, every digit of it.
"""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from sensojax.evaluation.measures import SINGLE_TRIAL, kept

GROUPS = ("area", "layer")  # columns of the neuron table that scores are broken down by


@dataclass(frozen=True, eq=False)
class MouseScore:
    """One mouse on one tier, or on its trials of one kind of stimulus.

    correlation: [neuron] float64, single-trial, after the NaN rule. undefined: how many neurons had
    none before it. ceiling: [neuron], the same score of the noiseless rates, None where they are
    not known; ceilings: other measures of these rates, by name. poisson_loss: mean per frame and
    neuron. num_trials, num_frames: what was scored, frames summed over trials. measures: others by
    name (`evaluation.measures`), [neuron], NaN where undefined. left_out: why a measure that was
    asked for is not among them. depth_um: [neuron], None where nobody knows it. groups: of
    `GROUPS`, as far as known, [neuron] str.
    """

    mouse: str
    correlation: np.ndarray
    undefined: int
    poisson_loss: float
    num_trials: int
    num_frames: int
    ceiling: np.ndarray | None = None
    measures: Mapping[str, np.ndarray] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    depth_um: np.ndarray | None = None
    groups: Mapping[str, np.ndarray] = field(default_factory=dict)
    ceilings: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self):
        object.__setattr__(self, "correlation", np.asarray(self.correlation, np.float64))
        for name in ("ceiling", "depth_um"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, np.asarray(getattr(self, name), np.float64))
        of_groups = {name: np.asarray(of, np.str_) for name, of in self.groups.items()}
        object.__setattr__(self, "groups", of_groups)
        others = {"ceilings": self.ceiling, "depths": self.depth_um, **self.measures, **of_groups}
        for name, values in others.items():
            if values is not None and np.shape(values) != self.correlation.shape:
                raise ValueError(
                    f"mouse {self.mouse}: {self.correlation.shape} correlations, "
                    f"but {np.shape(values)} {name}"
                )

    @property
    def num_neurons(self) -> int:
        return len(self.correlation)

    @property
    def values(self) -> dict[str, np.ndarray]:
        """Every measure by name, [neuron]; the single-trial correlation is the first."""
        return {SINGLE_TRIAL: self.correlation, **self.measures}

    def defined(self, measure: str) -> np.ndarray:
        """A measure of the neurons that it is averaged over; of none when it was left out."""
        values = self.values
        return values[measure][kept(measure, values)] if measure in values else np.empty(0)

    def ceiling_of(self, measure: str) -> np.ndarray | None:
        """A measure of the noiseless rates, [neuron]; None where it is not known."""
        return self.ceiling if measure == SINGLE_TRIAL else self.ceilings.get(measure)

    def at(self, neurons: np.ndarray) -> "MouseScore":
        """The same of some neurons, [neuron] bool; counts of trials and frames stay."""
        chosen = {name: values[neurons] for name, values in self.measures.items()}
        return dataclasses.replace(
            self,
            correlation=self.correlation[neurons],
            ceiling=None if self.ceiling is None else self.ceiling[neurons],
            depth_um=None if self.depth_um is None else self.depth_um[neurons],
            measures=chosen,
            ceilings={name: values[neurons] for name, values in self.ceilings.items()},
            groups={name: values[neurons] for name, values in self.groups.items()},
        )

    def neurons_near(self, quantile: float, count: int) -> np.ndarray:
        """The `count` neurons whose correlation is nearest to a quantile (0..1), best first."""
        distance = np.abs(self.correlation - np.quantile(self.correlation, quantile))
        chosen = np.argsort(distance, kind="stable")[:count]
        return chosen[np.argsort(-self.correlation[chosen], kind="stable")]

    @classmethod
    def from_json(cls, found: Mapping) -> "MouseScore":
        """The score that `plain(vars(score))` wrote."""
        optional = {name: found[name] for name in ("ceiling", "depth_um")}
        return cls(
            **{
                **found,
                "correlation": _numbers(found["correlation"]),
                **{name: None if of is None else _numbers(of) for name, of in optional.items()},
                **{
                    # Files of other times have no ceilings.
                    each: {name: _numbers(of) for name, of in found.get(each, {}).items()}
                    for each in ("measures", "ceilings")
                },
                "poisson_loss": float(found["poisson_loss"]),
            }
        )


def short_name(mouse: str) -> str:
    """`29515-10-12` of a published folder name `dynamic29515-10-12-Video-...`, else the name."""
    found = re.fullmatch(r"(?:dynamic|static)(\d+-\d+-\d+).*", mouse)
    return found.group(1) if found else mouse


def _numbers(found: list) -> np.ndarray:
    return np.array([float(number) for number in found], np.float64)
