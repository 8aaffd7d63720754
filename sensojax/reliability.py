"""Reliability: what repeats of a stimulus say about neurons, and about a model of them.

In go the sums of `Measures`, which `repeats` makes of predicted and observed responses to stimuli
that were shown several times; they add up over stimuli, batches and processes. Out comes one number
per neuron for each measure. Formulas are those of the Sensorium 2022 benchmark and its layer
library (baselines 6.4, 6.5), which see each frame of a video as an image, and those per video of
the closed-loop repository (sota 3.7, 5.8). What is undefined is not-a-number, but 0 for
correlations over all images.
"""

import numpy as np
from flax import struct

from sensojax.metrics import Adds, Correlation, Mean

# The benchmark of 2022 averages FEVE over the neurons of which the stimulus explains this part.
FEV_THRESHOLD = 0.15
EXPLAINABLE_EPSILON = 1e-9  # added to the total variance by the published explainable variance


@struct.dataclass
class Measures(Adds):
    """Sums over images (or frames of videos) from which every measure follows, per neuron.

    trials: moments of predicted and observed over all trials. averages: over images, each the mean
    of its repeats. others: over all trials, of the mean of the image's *other* repeats and the
    response; that mean is 0 where there is no other. noise, noise_biased: sums over images of the
    variance over repeats, with n - 1 and with n. fewest, most: repeats of an image.
    of_averages, normalized, agreement: sums over the videos of two or more repeats, of the
    correlation of averages, of the normalized one, and of the correlation between repeats; they
    need repeats of equal length, else they are not-a-number.
    """

    trials: Correlation
    averages: Correlation
    others: Correlation
    noise: np.ndarray
    noise_biased: np.ndarray
    fewest: np.ndarray
    most: np.ndarray
    of_averages: Mean
    normalized: Mean
    agreement: Mean

    @classmethod
    def zero(cls, num_neurons: int) -> "Measures":
        """The sums of no images."""
        none, no_video = Correlation.zero(num_neurons), Mean.zero(num_neurons)
        nothing = np.zeros(num_neurons)
        fewest, most = np.array(np.inf), np.array(0.0)
        return cls(none, none, none, nothing, nothing, fewest, most, no_video, no_video, no_video)

    @staticmethod
    def merged(stack: "Measures", xp=np) -> "Measures":
        """One of many along the first axis."""
        return Measures(
            trials=Correlation.merged(stack.trials, xp),
            averages=Correlation.merged(stack.averages, xp),
            others=Correlation.merged(stack.others, xp),
            noise=stack.noise.sum(0),
            noise_biased=stack.noise_biased.sum(0),
            fewest=stack.fewest.min(0),
            most=stack.most.max(0),
            of_averages=Mean.merged(stack.of_averages, xp),
            normalized=Mean.merged(stack.normalized, xp),
            agreement=Mean.merged(stack.agreement, xp),
        )

    def single_trial_correlation(self) -> np.ndarray:
        """Correlation of predicted and observed responses over all trials, [neuron]."""
        return self.trials.value()

    def correlation_to_average(self) -> np.ndarray:
        """Correlation over all images after averaging each over its repeats, [neuron].

        As Sensorium 2022 defines it; the frames of all videos count as images of one long row, so
        that differences between videos count too. Predictions are averaged like responses.
        """
        return self.averages.value()

    def correlation_to_average_per_video(self) -> np.ndarray:
        """The same within each video, then the mean over videos, [neuron] (sota 3.7)."""
        return self.of_averages.value()

    def normalized_correlation(self) -> np.ndarray:
        """Correlation to average by what the noise of the average allows, [neuron].

        Schoppe et al. (2016) with unbiased variances, in each video and then averaged over those
        whose signal has more power than `repeats.LEAST_SIGNAL_POWER` (sota 3.7); where it is weak,
        chance may lift it above 1.
        """
        return self.normalized.value()

    def repeat_reliability(self) -> np.ndarray:
        """Mean correlation of two repeats of a video, then over videos, [neuron] (sota 5.8)."""
        return self.agreement.value()

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


def anscombe(responses, xp=np):
    """2 sqrt(x + 3/8): makes the variance of Poisson counts nearly independent of their mean.

    xp: numpy (in float64), or jax.numpy inside jit.
    """
    return 2 * xp.sqrt(xp.asarray(responses, np.float64 if xp is np else None) + 3 / 8)


def gini(values: np.ndarray) -> float:
    """Gini index of values >= 0, of any shape: 0 when all are equal, near 1 when one has it all."""
    ordered = np.sort(np.ravel(np.asarray(values, np.float64)))
    rank = np.arange(1, len(ordered) + 1)
    return float(np.sum((2 * rank - len(ordered) - 1) * ordered) / (len(ordered) * ordered.sum()))
