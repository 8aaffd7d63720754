"""Scores and pictures' data: what an evaluation found, with everything needed to compare it.

A `Score` holds the correlations of every neuron of every mouse on one tier, other measures where
they were asked for, and the same for each kind of stimulus; and it says how they were counted
(normalisation, protocol, frames, NaN rule, seeds): it never gives a number without that line.
`Traces` and `Fields` are what the report draws besides. Nothing here computes a correlation;
`evaluators` does. `to_json` and `from_json` keep every digit; numbers that JSON does not know are
written as "NaN", "Infinity" and "-Infinity" (which `float` reads), and null means not known.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from sensojax.errors import UserError, nearest
from sensojax.evaluation import measures
from sensojax.evaluation.measures import SINGLE_TRIAL
from sensojax.evaluation.mouse_score import MouseScore, short_name
from sensojax.metrics import mean_over_neurons
from sensojax.pipeline.windows import NORMALIZATIONS, SCORED_FRAMES
from sensojax.writing import plain

PROTOCOLS = ("strict", "competition")
CRITERIA = ("correlation", "poisson_loss")  # by which training keeps weights and stops
NAN_RULES = {  # those of metrics.py, in words
    "zero": "0 for a neuron with not-a-number",
    "skip": "frames with not-a-number skipped, 0 where none is left",
}


@dataclass(frozen=True, eq=False)
class Score:
    """One tier, all mice, with the whole provenance of the number.

    skip_frames, most_frames, drop_last: see `windows.ScoredFrames`. step: the training step of the
    scored parameters (of the last member of an ensemble). trained_under: the normalization of the
    training, when predictions were rescaled. kinds: by kind of stimulus, then mouse; empty where
    nobody knows the kinds. Raises UserError for a normalization, protocol or NaN rule that nobody
    knows.
    """

    tier: str
    step: int
    normalization: str
    protocol: str
    skip_frames: int
    nan_rule: str
    seeds: tuple[int, ...]
    ensemble: bool
    simulated: bool
    mice: Mapping[str, MouseScore] = field(default_factory=dict)
    most_frames: int = 0
    drop_last: int = 0
    trained_under: str = ""
    kinds: Mapping[str, Mapping[str, MouseScore]] = field(default_factory=dict)

    def __post_init__(self):
        object.__setattr__(self, "trained_under", self.trained_under or self.normalization)
        for what, found, known in (
            ("normalization", self.normalization, NORMALIZATIONS),
            ("normalization", self.trained_under, NORMALIZATIONS),
            ("protocol", self.protocol, PROTOCOLS),
            ("NaN rule", self.nan_rule, tuple(NAN_RULES)),
        ):
            if found not in known:
                raise UserError(
                    f"found {what} {found!r}, expected one of {', '.join(known)}"
                    f"{nearest(found, known)}."
                )

    @property
    def correlation(self) -> float:
        """Mean over all neurons of all mice, as the 2023 kit counts (baselines 6.3)."""
        return self.mean(SINGLE_TRIAL)

    @property
    def measures(self) -> tuple[str, ...]:
        """The measures that at least one mouse has, single-trial correlation first."""
        found = {SINGLE_TRIAL}.union(*(mouse.measures for mouse in self.mice.values()))
        return tuple(name for name in measures.MEASURES if name in found)

    @property
    def left_out(self) -> dict[str, str]:
        """Why a measure that was asked for is not there, by its name."""
        said = {}
        for name, mouse in self.mice.items():
            for measure, why in mouse.left_out.items():
                said.setdefault((measure, why), []).append(short_name(name))
        return {measure: f"{why} ({', '.join(names)})" for (measure, why), names in said.items()}

    def mean(self, measure: str) -> float:
        """Mean of a measure over the neurons of all mice for which it is defined, else NaN."""
        return mean_over_neurons(each.defined(measure) for each in self.mice.values())

    def ceiling_of(self, measure: str) -> float:
        """The same of the noiseless rates; NaN unless it is known for every mouse."""
        known = [each.ceiling_of(measure) for each in self.mice.values()]
        if any(each is None for each in known):
            return math.nan
        return mean_over_neurons(each[np.isfinite(each)] for each in known)

    def worth(self, criterion: str) -> float:
        """What training is to make large: one of `CRITERIA`, a loss with its sign changed."""
        return -self.poisson_loss if criterion == "poisson_loss" else self.correlation

    def of_kind(self, kind: str) -> "Score":
        """The same of the trials of one kind of stimulus alone."""
        return dataclasses.replace(self, mice=self.kinds[kind], kinds={})

    @property
    def correlation_per_mouse(self) -> dict[str, float]:
        return {name: float(np.mean(mouse.correlation)) for name, mouse in self.mice.items()}

    @property
    def ceiling_per_mouse(self) -> dict[str, float]:
        """For the mice of which it is known."""
        return {name: float(np.mean(ceiling)) for name, ceiling in self._ceilings().items()}

    @property
    def ceiling(self) -> float | None:
        """The same mean of the noiseless rates; None unless it is known for every mouse."""
        ceilings = self._ceilings()
        known = ceilings and len(ceilings) == len(self.mice)
        return mean_over_neurons(ceilings.values()) if known else None

    @property
    def fraction_of_ceiling(self) -> float | None:
        ceiling = self.ceiling
        return None if ceiling is None or not ceiling > 0 else self.correlation / ceiling

    @property
    def num_neurons(self) -> int:
        return self._total("num_neurons")

    @property
    def num_trials(self) -> int:
        return self._total("num_trials")

    @property
    def num_frames(self) -> int:
        return self._total("num_frames")

    @property
    def undefined(self) -> int:
        return self._total("undefined")

    @property
    def poisson_loss(self) -> float:
        """Mean over every scored (frame, neuron) pair of all mice."""
        counts = [mouse.num_frames * mouse.num_neurons for mouse in self.mice.values()]
        losses = [mouse.poisson_loss for mouse in self.mice.values()]
        return float(np.dot(counts, losses) / sum(counts)) if sum(counts) else math.nan

    def _ceilings(self) -> dict[str, np.ndarray]:
        known = {name: mouse.ceiling for name, mouse in self.mice.items()}
        return {name: ceiling for name, ceiling in known.items() if ceiling is not None}

    def _total(self, count: str) -> int:
        return sum(getattr(mouse, count) for mouse in self.mice.values())

    @property
    def counted(self) -> str:
        """How the number was counted; scores that differ in it must not share a column."""
        return "; ".join(self._said())

    @property
    def conditions(self) -> str:
        """How it was counted, and whose it is: seeds, single model or ensemble."""
        seeds = ", ".join(str(seed) for seed in self.seeds)
        return "; ".join(
            self._said(
                f"seed{'s' if len(self.seeds) != 1 else ''} {seeds}",
                f"ensemble of {len(self.seeds)}" if self.ensemble else "single model",
            )
        )

    def _said(self, *whose: str) -> tuple[str, ...]:
        rescaled = f" (predictions rescaled from {self.trained_under})"
        return (
            f"{self.normalization} normalization"
            + (rescaled if self.trained_under != self.normalization else ""),
            f"{self.protocol} protocol",
            scored_frames(self.skip_frames, self.most_frames, self.drop_last),
            NAN_RULES[self.nan_rule],
            *whose,
            "simulated mice" if self.simulated else "recorded mice",
        )

    def describe(self) -> str:
        """One line: the number and everything that has to be said with it."""
        names = ", ".join(short_name(mouse) for mouse in self.mice)
        others = "".join(
            f"{measures.MEASURES[name].words} {self.mean(name):.4f}, "
            for name in self.measures
            if name not in (SINGLE_TRIAL, "poisson_loss")
        )
        ceiling = ""
        if self.fraction_of_ceiling is not None:
            ceiling = f" ({self.fraction_of_ceiling:.3f} of the ceiling {self.ceiling:.4f})"
        return (
            f"{self.tier}: correlation {self.correlation:.4f}{ceiling}, {others}"
            f"Poisson loss {self.poisson_loss:.4f}; {_count(len(self.mice), 'mouse', 'mice')} "
            f"({names}); {_count(self.num_neurons, 'neuron')}, {self.undefined:,} undefined; "
            f"{_count(self.num_frames, 'frame')} of {_count(self.num_trials, 'trial')} scored; "
            f"{self.conditions}; step {self.step:,}"
        )

    def summary(self) -> dict:
        """The numbers without the neurons, in plain values: a line of the journal."""
        return {
            "tier": self.tier,
            "correlation": self.correlation,
            "correlation_per_mouse": self.correlation_per_mouse,
            "ceiling": self.ceiling,
            "fraction_of_ceiling": self.fraction_of_ceiling,
            "poisson_loss": self.poisson_loss,
            "measures": {name: self.mean(name) for name in self.measures},
            "kinds": {kind: self.of_kind(kind).correlation for kind in self.kinds},
            "description": self.describe(),
        }

    def to_json(self) -> dict:
        """Everything, as plain values that `json.dumps` takes and `from_json` reads back.

        A kind that is all that a mouse saw is written as null, since it is the whole.
        """
        names = [each.name for each in dataclasses.fields(self)]
        written = {name: plain(getattr(self, name)) for name in names if name != "mice"}
        written["mice"] = {name: plain(vars(mouse)) for name, mouse in self.mice.items()}
        written["kinds"] = {
            kind: {m: None if s is self.mice[m] else plain(vars(s)) for m, s in of_kind.items()}
            for kind, of_kind in self.kinds.items()
        }
        return written

    @classmethod
    def from_json(cls, found: Mapping) -> "Score":
        """The score that `to_json` wrote."""
        mice = {name: MouseScore.from_json(mouse) for name, mouse in found["mice"].items()}
        kinds = {
            kind: {m: mice[m] if s is None else MouseScore.from_json(s) for m, s in of_kind.items()}
            for kind, of_kind in found["kinds"].items()
        }
        return cls(**{**found, "seeds": tuple(found["seeds"]), "mice": mice, "kinds": kinds})


@dataclass(frozen=True, eq=False)
class Traces:
    """One neuron's predicted and recorded responses over a few trials, joined along time.

    label: why this neuron is shown ("95th percentile", "median"). predicted, observed, rates:
    [time], normalised like the score's; NaN frames are gaps. boundaries: frames at which a further
    trial starts. correlation: the neuron's, over the whole tier.
    """

    mouse: str
    neuron: int
    label: str
    tier: str
    correlation: float
    frame_rate_hz: float
    predicted: np.ndarray
    observed: np.ndarray
    rates: np.ndarray | None = None
    boundaries: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Fields:
    """Where one mouse's neurons are in cortex, and where in the image their readouts look.

    cortex_um: [neuron 2] x and y, NaN where unknown. learned, true: [neuron 2] x and y in -1..1
    (left to right, top to bottom of the image), None where there is no such thing.
    """

    mouse: str
    cortex_um: np.ndarray
    learned: np.ndarray | None = None
    true: np.ndarray | None = None


def scored_frames(skip_frames: int, most_frames: int, drop_last: int) -> str:
    """Which frames of a trial are scored, in words, with the name of that convention."""
    if not (skip_frames or most_frames or drop_last):
        return "every frame of each trial"
    said = [f"first {skip_frames} frames of each trial skipped"]
    if most_frames:
        said.append(f"none after its first {most_frames}")
    if drop_last:
        said.append(f"its last {'frame' if drop_last == 1 else f'{drop_last} frames'} dropped")
    named = [name for name, each in SCORED_FRAMES.items()
             if each == (skip_frames, most_frames, drop_last)]  # fmt: skip
    return ", ".join(said) + "".join(f" (frames of {name})" for name in named)


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
