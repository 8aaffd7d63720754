"""Scores and pictures' data: what an evaluation found, with everything needed to compare it.

A `Score` holds the correlations of every neuron of every mouse on one tier and says how they were
counted (normalisation, protocol, frames, NaN rule, seeds); it never gives a number without that
line. `Traces` and `Fields` are what the report draws besides. Nothing here computes a correlation;
`evaluators` does. `to_json` and `from_json` keep every digit; numbers that JSON does not know are
written as "NaN", "Infinity" and "-Infinity" (which `float` reads), and null means not known.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import numpy as np

from sensojax import metrics
from sensojax.errors import UserError, nearest
from sensojax.writing import plain

NORMALIZATIONS = ("official", "per_neuron")
PROTOCOLS = ("strict", "competition")
NAN_RULES = {  # those of metrics.py, in words
    "zero": "0 for a neuron with not-a-number",
    "skip": "frames with not-a-number skipped, 0 where none is left",
}


@dataclass(frozen=True, eq=False)
class MouseScore:
    """One mouse on one tier.

    correlation: [neuron] float64, after the NaN rule. undefined: how many neurons had none before
    it. ceiling: [neuron], the same score of the noiseless rates, None where they are not known.
    poisson_loss: mean per frame and neuron. num_trials, num_frames: what was scored, frames summed
    over trials.
    """

    mouse: str
    correlation: np.ndarray
    undefined: int
    poisson_loss: float
    num_trials: int
    num_frames: int
    ceiling: np.ndarray | None = None

    def __post_init__(self):
        object.__setattr__(self, "correlation", np.asarray(self.correlation, np.float64))
        if self.ceiling is not None:
            object.__setattr__(self, "ceiling", np.asarray(self.ceiling, np.float64))
            if self.ceiling.shape != self.correlation.shape:
                raise ValueError(
                    f"mouse {self.mouse}: {self.correlation.shape} correlations, "
                    f"but {self.ceiling.shape} ceilings"
                )

    @property
    def num_neurons(self) -> int:
        return len(self.correlation)

    def neurons_near(self, quantile: float, count: int) -> np.ndarray:
        """The `count` neurons whose correlation is nearest to a quantile (0..1), best first."""
        distance = np.abs(self.correlation - np.quantile(self.correlation, quantile))
        chosen = np.argsort(distance, kind="stable")[:count]
        return chosen[np.argsort(-self.correlation[chosen], kind="stable")]


@dataclass(frozen=True, eq=False)
class Score:
    """One tier, all mice, with the whole provenance of the number.

    skip_frames: how many frames at the start of each trial are not scored. step: the training step
    of the scored parameters (of the last member of an ensemble). Raises UserError for a
    normalization, protocol or NaN rule that nobody knows.
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

    def __post_init__(self):
        for what, found, known in (
            ("normalization", self.normalization, NORMALIZATIONS),
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
        return _over_neurons({name: mouse.correlation for name, mouse in self.mice.items()})

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
        return _over_neurons(ceilings) if ceilings and len(ceilings) == len(self.mice) else None

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
    def conditions(self) -> str:
        """How the number was counted; scores that differ in it must not share a column."""
        seeds = ", ".join(str(seed) for seed in self.seeds)
        return "; ".join(
            (
                f"{self.normalization} normalization",
                f"{self.protocol} protocol",
                f"first {self.skip_frames} frames of each trial skipped",
                NAN_RULES[self.nan_rule],
                f"seed{'s' if len(self.seeds) != 1 else ''} {seeds}",
                f"ensemble of {len(self.seeds)}" if self.ensemble else "single model",
                "simulated mice" if self.simulated else "recorded mice",
            )
        )

    def describe(self) -> str:
        """One line: the number and everything that has to be said with it."""
        names = ", ".join(short_name(mouse) for mouse in self.mice)
        ceiling = ""
        if self.fraction_of_ceiling is not None:
            ceiling = f" ({self.fraction_of_ceiling:.3f} of the ceiling {self.ceiling:.4f})"
        return (
            f"{self.tier}: correlation {self.correlation:.4f}{ceiling}, "
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
            "description": self.describe(),
        }

    def to_json(self) -> dict:
        """Everything, as plain values that `json.dumps` takes and `from_json` reads back."""
        return plain(asdict(self))

    @classmethod
    def from_json(cls, found: Mapping) -> "Score":
        """The score that `to_json` wrote."""
        mice = {name: _mouse_from_json(mouse) for name, mouse in found["mice"].items()}
        return cls(**{**found, "seeds": tuple(found["seeds"]), "mice": mice})


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


def short_name(mouse: str) -> str:
    """`29515-10-12` of a published folder name `dynamic29515-10-12-Video-...`, else the name."""
    found = re.fullmatch(r"(?:dynamic|static)(\d+-\d+-\d+).*", mouse)
    return found.group(1) if found else mouse


def _mouse_from_json(found: Mapping) -> MouseScore:
    ceiling = found["ceiling"]
    return MouseScore(
        **{
            **found,
            "correlation": _numbers(found["correlation"]),
            "ceiling": None if ceiling is None else _numbers(ceiling),
            "poisson_loss": float(found["poisson_loss"]),
        }
    )


def _numbers(found: list) -> np.ndarray:
    return np.array([float(number) for number in found], np.float64)


def _over_neurons(values: Mapping[str, np.ndarray]) -> float:
    return metrics.mean_over_neurons(values) if values else math.nan


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
