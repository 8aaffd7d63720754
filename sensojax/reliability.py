"""Reliability: what repeats of a stimulus say about neurons, and about a model of them.

In go repeats: which stimulus was shown, predicted and observed responses [repeat time neuron], and
the frames that count, [repeat time]. `Repeats` adds them up per stimulus and frame (an image is a
stimulus of one frame, and each frame of a video is treated like an image); `measures` reduces that
to `Measures`, a few numbers per neuron that add up over stimuli. So memory holds the stimuli that
are not finished, however many repeats and stimuli there are:

    total = reliability.Measures.zero(num_neurons)
    for stimulus, (predicted, observed, valid) in by_stimulus:
        total += reliability.Repeats.of(stimulus, predicted, observed, valid).measures()
    total.correlation_to_average(), total.feve()

All of it runs on the host in float64. Formulas are those of the Sensorium 2022 benchmark and its
layer library (baselines 6.4, 6.5). What is undefined is not-a-number, but 0 for correlations. An
image with a single repeat has no variance over repeats: it makes the measures of variance
not-a-number for every neuron, unless left out with `at_least=2`.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

import jax
import numpy as np

from sensojax.metrics import Correlation

# The benchmark of 2022 averages FEVE over the neurons of which the stimulus explains this part.
FEV_THRESHOLD = 0.15
EXPLAINABLE_EPSILON = 1e-9  # added to the total variance by the published explainable variance


@dataclass(frozen=True)
class Repeats:
    """Sums over repeats, per stimulus: moments of predicted and observed, fields [time neuron]."""

    stimuli: Mapping[Hashable, Correlation] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        stimulus: Hashable,
        predicted: np.ndarray,
        observed: np.ndarray,
        valid: np.ndarray,
    ) -> "Repeats":
        """Some repeats of one stimulus: [repeat time neuron] twice, and [repeat time] bool."""
        predicted, observed = np.asarray(predicted, np.float64), np.asarray(observed, np.float64)
        valid = np.asarray(valid, bool)
        if predicted.ndim != 3 or predicted.shape != observed.shape:
            raise ValueError(
                f"found predicted of shape {predicted.shape} and observed of shape "
                f"{observed.shape}, expected the same [repeat time neuron] for both"
            )
        if valid.shape != predicted.shape[:2]:
            raise ValueError(f"found valid of shape {valid.shape} for {predicted.shape}")
        keep = np.broadcast_to(valid[:, :, None], predicted.shape)
        predicted, observed = np.where(keep, predicted, 0), np.where(keep, observed, 0)
        return cls({stimulus: Correlation.merged(_single(keep, predicted, observed))})

    def __add__(self, other: "Repeats") -> "Repeats":
        both = dict(self.stimuli)
        for stimulus, sums in other.stimuli.items():
            both[stimulus] = _longest(both[stimulus], sums) if stimulus in both else sums
        return Repeats(both)

    def measures(self, at_least: int = 1) -> "Measures":
        """Reduces stimuli to sums; images (or frames) of fewer repeats than this are left out."""
        parts = [_reduced(sums, at_least) for sums in self.stimuli.values()]
        parts = [part for part in parts if part is not None]
        if not parts:
            raise ValueError(
                f"found no image of at least {at_least} repeats in {len(self)} stimuli"
            )
        return sum(parts[1:], start=parts[0])

    def __len__(self) -> int:
        return len(self.stimuli)


@dataclass(frozen=True)
class Measures:
    """Sums over images (or frames of videos) from which every measure follows, per neuron.

    trials: moments of predicted and observed over all trials. averages: over images, each the mean
    of its repeats. others: over all trials, of the mean of the image's *other* repeats and the
    response; that mean is 0 where there is no other. noise, noise_biased: sums over images of the
    variance over repeats, with n - 1 and with n. fewest, most: repeats of an image.
    """

    trials: Correlation
    averages: Correlation
    others: Correlation
    noise: np.ndarray
    noise_biased: np.ndarray
    fewest: float
    most: float

    @classmethod
    def zero(cls, num_neurons: int) -> "Measures":
        """The sums of no images."""
        none = Correlation.zero(num_neurons)
        nothing = np.zeros(num_neurons)
        return cls(none, none, none, nothing, nothing, np.inf, 0.0)

    def __add__(self, other: "Measures") -> "Measures":
        return Measures(
            self.trials + other.trials,
            self.averages + other.averages,
            self.others + other.others,
            self.noise + other.noise,
            self.noise_biased + other.noise_biased,
            min(self.fewest, other.fewest),
            max(self.most, other.most),
        )

    def single_trial_correlation(self) -> np.ndarray:
        """Correlation of predicted and observed responses over all trials, [neuron]."""
        return self.trials.value()

    def correlation_to_average(self) -> np.ndarray:
        """Correlation over images after averaging each over its repeats, [neuron]."""
        return self.averages.value()

    def fev(self) -> np.ndarray:
        """Fraction of the variance over trials that the stimulus explains, [neuron]."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return (self._total() - self._noise()) / self._total()

    def feve(self) -> np.ndarray:
        """Fraction of the explainable variance that the prediction explains, [neuron].

        1 - (mse - noise) / (total - noise), not clipped: below zero for a bad model, and without
        meaning for a neuron with little explainable variance; see `mean_feve`.
        """
        error = self._squared_error()
        with np.errstate(invalid="ignore", divide="ignore"):
            return 1 - (error - self._noise()) / (self._total() - self._noise())

    def mean_feve(self, threshold: float = FEV_THRESHOLD) -> float:
        """Mean FEVE of neurons with FEV >= threshold; not-a-number when there is none."""
        kept = self.feve()[self.fev() >= threshold]
        return float(kept.mean()) if len(kept) else float("nan")

    def explainable_variance(self) -> np.ndarray:
        """FEV with 1e-9 added to the total variance, [neuron]; ValueError for unequal repeats."""
        self._refuse_unequal("explainable variance")
        return (self._total() - self._noise()) / (self._total() + EXPLAINABLE_EPSILON)

    def oracle_jackknife(self) -> np.ndarray:
        """Correlation of each response with the mean of the other repeats, [neuron].

        What a perfect model would score is more: that mean is noisy.
        """
        return self.others.value()

    def oracle_conservative(self) -> np.ndarray:
        """sqrt(v / (v + n)) of variance v over image means and n over repeats, both biased.

        [neuron]. What a perfect model would score is less: v contains noise.
        """
        signal = self.averages.squares_observed / self.averages.count
        noise = self.noise_biased / self.averages.count
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.sqrt(signal / (signal + noise))

    def signal_to_noise(self) -> np.ndarray:
        """Variance over image means by mean variance over repeats, [neuron].

        ValueError for unequal repeats. The published number is of responses after `anscombe`.
        """
        self._refuse_unequal("signal to noise")
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.averages.squares_observed / self.averages.count / self._noise()

    def _total(self):
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.trials.squares_observed / (self.trials.count - 1)

    def _noise(self):
        return self.noise / self.averages.count

    def _squared_error(self):
        sums = self.trials
        bias = sums.origin_predicted + sums.offset_predicted
        bias = bias - (sums.origin_observed + sums.offset_observed)
        spread = sums.squares_predicted + sums.squares_observed - 2 * sums.products
        return spread / sums.count + bias**2

    def _refuse_unequal(self, what):
        if self.fewest != self.most:
            raise ValueError(
                f"found images with {self.fewest:.0f} to {self.most:.0f} repeats, expected equal "
                f"repeats for {what}; fev and the oracles take unequal ones"
            )


def anscombe(responses: np.ndarray) -> np.ndarray:
    """2 sqrt(x + 3/8): makes the variance of Poisson counts nearly independent of their mean."""
    return 2 * np.sqrt(np.asarray(responses, np.float64) + 3 / 8)


def gini(values: np.ndarray) -> float:
    """Gini index of values >= 0, of any shape: 0 when all are equal, near 1 when one has it all."""
    ordered = np.sort(np.ravel(np.asarray(values, np.float64)))
    rank = np.arange(1, len(ordered) + 1)
    return float(np.sum((2 * rank - len(ordered) - 1) * ordered) / (len(ordered) * ordered.sum()))


def _single(count, predicted, observed):
    """Every value as the sums of one frame: fields in the shape of the values."""
    none = np.zeros(predicted.shape)
    return Correlation(
        np.asarray(count, np.float64), predicted, observed, *(none for _ in range(5))
    )


def _longest(one, two):
    """The sum of two, the shorter with frames that nobody counted at its end."""
    frames = max(len(one.count), len(two.count))

    def padded(sums):
        return jax.tree.map(lambda leaf: np.pad(leaf, ((0, frames - len(leaf)), (0, 0))), sums)

    return padded(one) + padded(two)


def _reduced(sums, at_least):
    """One stimulus as sums over its images, or None when none has repeats enough."""
    enough = sums.count[:, 0] >= max(at_least, 1)
    if not enough.any():
        return None
    sums = jax.tree.map(lambda leaf: leaf[enough], sums)
    count, squares = sums.count, sums.squares_observed
    mean_predicted = sums.origin_predicted + sums.offset_predicted
    mean_observed = sums.origin_observed + sums.offset_observed
    # The mean of the other repeats is (n mean - x) / (n - 1): it varies against x, 1 / (n - 1) as
    # much, about the same mean. A repeat without others gets 0, as published.
    alone = count == 1
    others = np.maximum(count - 1, 1)
    jackknife = sums.replace(
        origin_predicted=np.where(alone, 0, sums.origin_observed),
        offset_predicted=np.where(alone, 0, sums.offset_observed),
        squares_predicted=squares / others**2,
        products=-squares / others,
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        noise = (squares / (count - 1)).sum(0)
    return Measures(
        trials=Correlation.merged(sums),
        averages=Correlation.merged(_single(np.ones(count.shape), mean_predicted, mean_observed)),
        others=Correlation.merged(jackknife),
        noise=noise,
        noise_biased=(squares / count).sum(0),
        fewest=float(count.min()),
        most=float(count.max()),
    )
