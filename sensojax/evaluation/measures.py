"""Every score of the field by name: what it is, what it needs, and how to average it over neurons.

In go the sums of one mouse's trials (`Sums`) and the names of measures; out come numbers per
neuron, and, for measures that these trials cannot give, the reason in words. Single-trial
correlation is always there; the others are computed when they are asked for, and those of spikes
(`OF_SPIKES`) always when the responses are counts.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from sensojax.errors import check_name
from sensojax.metrics import Correlation, Mean, PoissonLoss
from sensojax.reliability import FEV_THRESHOLD, Measures

SINGLE_TRIAL = "single_trial_correlation"
ALL = "all"
OF_SPIKES = ("competition_poisson_loss", "null_poisson_loss", "bits_per_spike")
AS_RECORDED = ("counts", "none")  # normalizations that leave responses as they were recorded
SPIKES_EPSILON = 1e-7  # in the logarithm of the Poisson loss of SCML 2017, which is that of Keras


@dataclass(frozen=True)
class Sums:
    """What adds up over one mouse's trials. within_trials: of each trial's own correlation.

    repeats: over the videos shown twice or more, stabilized: the same of Anscombe's transform of
    the responses; None where nobody asked for them. spikes: loss with SPIKES_EPSILON, null: what
    the null model says, each neuron's mean over the training tier; None where responses are not as
    recorded, or nobody knows that mean.
    """

    correlation: Correlation
    loss: PoissonLoss
    within_trials: Mean
    num_trials: int
    num_frames: int
    repeats: Measures | None = None
    stabilized: Measures | None = None
    spikes: PoissonLoss | None = None
    null: Mean | None = None

    @classmethod
    def zero(
        cls,
        num_neurons: int,
        nan_rule: str,
        *,
        repeats: bool,
        stabilized: bool,
        spikes: bool = False,
    ) -> "Sums":
        """The sums of no trials."""
        return cls(
            Correlation.zero(num_neurons, nan_rule),
            PoissonLoss.zero(num_neurons),
            Mean.zero(num_neurons),
            0,
            0,
            Measures.zero(num_neurons) if repeats else None,
            Measures.zero(num_neurons) if stabilized else None,
            PoissonLoss.zero(num_neurons) if spikes else None,
            Mean.zero(num_neurons) if spikes else None,
        )

    def __add__(self, other: "Sums") -> "Sums":
        pairs = ((getattr(self, name), getattr(other, name)) for name in self.__dataclass_fields__)
        return Sums(*(None if one is None else one + two for one, two in pairs))


@dataclass(frozen=True)
class Measure:
    """One score. words: for tables and captions. of: sums -> [neuron]. needs: see `reason`.

    lower_is_better and of_data (not of the model) are for readers of tables.
    """

    words: str
    of: Callable[[Sums], np.ndarray]
    needs: str = "trials"
    lower_is_better: bool = False
    of_data: bool = False


def null_loss(sums: Sums) -> np.ndarray:
    """The Poisson loss of the null model, [neuron]."""
    means = sums.null.value()
    return means - np.log(means + SPIKES_EPSILON) * _observed(sums)


def bits_per_spike(sums: Sums) -> np.ndarray:
    """How much better than by the null model a spike is predicted, [neuron], in bits.

    The difference of the log-likelihoods by the number of spikes and log 2; not-a-number for a
    neuron that is silent in these trials, or was in training, where the null model says "never".
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        bits = (null_loss(sums) - sums.spikes.value()) / (np.log(2) * _observed(sums))
    return np.where((_observed(sums) > 0) & (sums.null.value() > 0), bits, np.nan)


def _observed(sums: Sums) -> np.ndarray:
    """Mean of what was recorded, [neuron]."""
    return sums.correlation.origin_observed + sums.correlation.offset_observed


def _of_repeats(name: str, words: str, needs: str = "repeats", of_data: bool = False) -> Measure:
    return Measure(words, lambda sums: getattr(sums.repeats, name)(), needs, of_data=of_data)


MEASURES = {
    SINGLE_TRIAL: Measure("single-trial correlation", lambda sums: sums.correlation.value()),
    "per_trial_correlation": Measure(
        "correlation within a trial", lambda sums: sums.within_trials.value()
    ),
    "poisson_loss": Measure("Poisson loss", lambda sums: sums.loss.value(), lower_is_better=True),
    "competition_poisson_loss": Measure(
        "Poisson loss of SCML 2017", lambda sums: sums.spikes.value(), "spikes", True
    ),
    "null_poisson_loss": Measure("Poisson loss of the null model", null_loss, "spikes", True, True),
    "bits_per_spike": Measure("bits per spike over the null model", bits_per_spike, "spikes"),
    **{
        name: _of_repeats(name, *about)
        for name, about in {
            "correlation_to_average": ("correlation to average, all videos joined",),
            "correlation_to_average_per_video": ("correlation to average within a video",),
            "normalized_correlation": ("normalized correlation (Schoppe)",),
            "feve": ("fraction of explainable variance explained",),
            "fev": ("fraction of explainable variance", "repeats", True),
            "explainable_variance": ("explainable variance", "equal repeats", True),
            "oracle_jackknife": ("jackknife oracle", "repeats", True),
            "oracle_conservative": ("conservative oracle", "repeats", True),
            "repeat_reliability": ("correlation between repeats", "repeats", True),
        }.items()
    },
    "signal_to_noise": Measure(
        "signal-to-noise ratio after Anscombe's transform",
        lambda sums: sums.stabilized.signal_to_noise(),
        "equal repeats",
        of_data=True,
    ),
}


def wanted(names: Iterable[str]) -> tuple[str, ...]:
    """These measures in the order of `MEASURES`, with what they need.

    "all" is every one but those of spikes. UserError for a name that nobody knows.
    """
    names = set(names)
    for name in sorted(names):
        check_name(name, (*MEASURES, ALL), "evaluation.measures")
    if "feve" in names:
        names.add("fev")  # decides over which neurons it is averaged
    names |= {SINGLE_TRIAL} | (set(MEASURES) - set(OF_SPIKES) if ALL in names else set())
    return tuple(name for name in MEASURES if name in names)


def need_repeats(names: Iterable[str]) -> bool:
    """Whether one of these measures is one of repeats."""
    return any(MEASURES[name].needs.endswith("repeats") for name in names)


def need_stabilized(names: Iterable[str]) -> bool:
    """Whether one of these measures is one of Anscombe's transform."""
    return "signal_to_noise" in names


def reason(name: str, sums: Sums) -> str:
    """Why these trials do not give a measure, in words; "" when they do."""
    needs = MEASURES[name].needs
    if needs == "trials":
        return ""
    if needs == "spikes":
        lacking = "responses are not as recorded, or there is no tier train for their means"
        return lacking if sums.null is None else ""
    if not sums.repeats.averages.count.any():
        return "no video was shown twice"
    fewest, most = int(sums.repeats.fewest), int(sums.repeats.most)
    if needs == "equal repeats" and fewest != most:
        return f"videos were shown {fewest} to {most} times, and it needs equally many"
    return ""


def values(names: Iterable[str], sums: Sums) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """({measure: [neuron]}, {measure: why it is not there}) of the measures beside the first."""
    found, left_out = {}, {}
    for name in names:
        why = reason(name, sums)
        if why:
            left_out[name] = why
        elif name != SINGLE_TRIAL:
            found[name] = MEASURES[name].of(sums)
    return found, left_out


def kept(name: str, of_neurons: Mapping[str, np.ndarray]) -> np.ndarray:
    """Which neurons a measure is averaged over, [neuron] bool: those for which it is a number.

    For FEVE those, too, of which the stimulus explains at least `reliability.FEV_THRESHOLD`.
    of_neurons: {measure: [neuron]}.
    """
    numbers = np.isfinite(of_neurons[name])
    return numbers & (of_neurons["fev"] >= FEV_THRESHOLD) if name == "feve" else numbers
