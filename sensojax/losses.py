"""Losses: what training makes small. In go predicted and observed responses, out comes a number.

Every public function takes (predicted, observed, valid), two arrays [batch time neuron] and the
frames that count, [batch time] bool, and returns the sum (as published) or the mean over those
frames and all neurons; with `per_neuron=True` one number per neuron, [neuron]. A frame that does
not count adds exactly zero to the value and to every gradient, whatever it holds, not-a-number
included. Arrays of unequal shape are refused with ValueError, never broadcast. A config names the
function: `loss = dict(name="poisson", epsilon=1e-8, full=False, reduction="sum")`.

Formulas are those of the published benchmarks, which add small constants so that a rate of exactly
zero (ELU + 1 reaches it) has a finite loss; the constants are arguments.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln

REDUCTIONS = ("sum", "mean")


def poisson(
    predicted: jax.Array,
    observed: jax.Array,
    valid: jax.Array,
    *,
    epsilon: float = 1e-8,
    shift: float = 0.0,
    full: bool = False,
    reduction: str = "sum",
    per_neuron: bool = False,
) -> jax.Array:
    """Negative Poisson log-likelihood, up to a constant: r - o log(r + epsilon).

    predicted: expected response r, not negative; observed: response o, any real number >= 0.
    epsilon: 1e-8 in the 2023 benchmark, 1e-12 in that of 2022 (at r = 0 the gradient is
    1 - o / epsilon, so the constant matters). shift: added to the response; ViV1T has 1.19e-7 for
    both constants (sota 2.8). full: also the Stirling term log(o!) where o > 1, which no gradient
    sees but which makes values of different recordings comparable.
    """
    predicted, observed, counted = _inputs(predicted, observed, valid)
    observed = observed + shift if shift else observed
    terms = predicted - observed * jnp.log(predicted + epsilon)
    if full:
        large = jnp.where(observed > 1, observed, 1.0)
        stirling = large * jnp.log(large) - large + 0.5 * jnp.log(2 * math.pi * large)
        terms = terms + jnp.where(observed > 1, stirling, 0.0)
    return _reduce(terms, counted, reduction, per_neuron)


def gaussian(
    predicted: jax.Array,
    observed: jax.Array,
    valid: jax.Array,
    *,
    variance: float | jax.Array = 1.0,
    reduction: str = "sum",
    per_neuron: bool = False,
) -> jax.Array:
    """Negative Gaussian log-likelihood with mean `predicted`, constants included.

    variance: one number, or [batch time neuron] where a model predicts it too.
    """
    predicted, observed, counted = _inputs(predicted, observed, valid)
    variance = _parameter(variance, counted, "variance")
    terms = (observed - predicted) ** 2 / (2 * variance) + 0.5 * jnp.log(2 * math.pi * variance)
    return _reduce(terms, counted, reduction, per_neuron)


def gamma(
    predicted: jax.Array,
    observed: jax.Array,
    valid: jax.Array,
    *,
    rate: float | jax.Array = 1.0,
    shift: float = 1e-10,
    epsilon: float = 1e-12,
    reduction: str = "sum",
    per_neuron: bool = False,
) -> jax.Array:
    """Negative log-likelihood of a gamma distribution with concentration `predicted`.

    rate: one number, or [batch time neuron]. The expected response is predicted / rate, so at the
    default rate of 1 `predicted` is the expected response. shift: added to the response, whose
    logarithm is taken, as published; epsilon: added to the concentration, so that zero is allowed.
    """
    predicted, observed, counted = _inputs(predicted, observed, valid)
    rate = _parameter(rate, counted, "rate")
    concentration, response = predicted + epsilon, observed + shift
    terms = (
        gammaln(concentration)
        - concentration * jnp.log(rate)
        - (concentration - 1) * jnp.log(response)
        + rate * response
    )
    return _reduce(terms, counted, reduction, per_neuron)


def exponential(
    predicted: jax.Array,
    observed: jax.Array,
    valid: jax.Array,
    *,
    shift: float = 1e-6,
    epsilon: float = 1e-12,
    reduction: str = "sum",
    per_neuron: bool = False,
) -> jax.Array:
    """Negative log-likelihood of an exponential distribution with mean r = `predicted`.

    (o + shift) / (r + epsilon) + log(r + epsilon), constants as published.
    """
    predicted, observed, counted = _inputs(predicted, observed, valid)
    mean = predicted + epsilon
    terms = (observed + shift) / mean + jnp.log(mean)
    return _reduce(terms, counted, reduction, per_neuron)


def squared(
    predicted: jax.Array,
    observed: jax.Array,
    valid: jax.Array,
    *,
    logarithms: bool = False,
    epsilon: float = 1.1920929e-7,
    reduction: str = "sum",
    per_neuron: bool = False,
) -> jax.Array:
    """Squared error of the responses, or of their logarithms.

    epsilon: added to rate and response before the logarithm is taken. The means of both are among
    the criteria that ViV1T can be trained with (sota 2.8).
    """
    predicted, observed, counted = _inputs(predicted, observed, valid)
    if logarithms:
        predicted, observed = jnp.log(predicted + epsilon), jnp.log(observed + epsilon)
    return _reduce(jnp.square(predicted - observed), counted, reduction, per_neuron)


def anscombe(
    predicted: jax.Array,
    observed: jax.Array,
    valid: jax.Array,
    *,
    epsilon: float = 1e-12,
    reduction: str = "sum",
    per_neuron: bool = False,
) -> jax.Array:
    """Squared error after Anscombe's transform, which makes Poisson noise nearly Gaussian.

    The response becomes 2 sqrt(o + 3/8); a Poisson variable of mean r then has a mean close to
    2 sqrt(r + 3/8) - 1 / (4 sqrt(r)) (Anscombe 1948), with which it is compared. Below r of about
    0.1 that expansion fails and the loss grows without use; epsilon only keeps it finite at zero.
    """
    predicted, observed, counted = _inputs(predicted, observed, valid)
    expected = 2 * jnp.sqrt(predicted + 3 / 8) - 1 / (4 * jnp.sqrt(predicted + epsilon))
    terms = (expected - 2 * jnp.sqrt(observed + 3 / 8)) ** 2
    return _reduce(terms, counted, reduction, per_neuron)


def correlation(
    predicted: jax.Array,
    observed: jax.Array,
    valid: jax.Array,
    *,
    epsilon: float = 1e-12,
    reduction: str = "mean",
    per_neuron: bool = False,
) -> jax.Array:
    """Negative correlation of each neuron over the batch's counted frames, then mean over neurons.

    epsilon is added to both variances. The only loss here that does not add up over batches: the
    correlation of a batch is not a part of the correlation of the whole.
    """
    predicted, observed, counted = _inputs(predicted, observed, valid)
    frames = jnp.maximum(jnp.sum(counted), 1)

    predicted, observed = _centred(predicted, counted), _centred(observed, counted)
    covariance = jnp.sum(predicted * observed, axis=(0, 1)) / frames
    spread = jnp.sqrt(jnp.sum(predicted**2, axis=(0, 1)) / frames + epsilon)
    spread = spread * jnp.sqrt(jnp.sum(observed**2, axis=(0, 1)) / frames + epsilon)
    values = -covariance / spread
    _check_reduction(reduction)
    if per_neuron:
        return values
    return jnp.mean(values) if reduction == "mean" else jnp.sum(values)


def poisson_correlation(
    predicted: jax.Array,
    observed: jax.Array,
    valid: jax.Array,
    *,
    weight: float = 1000.0,
    epsilon: float = 1.1920929e-7,
    reduction: str = "sum",
    per_neuron: bool = False,
) -> jax.Array:
    """The criterion of ViV1T: Poisson loss and, of every neuron, `weight` times 1 - correlation.

    The correlation is that of the neuron over the batch's counted frames, so like `correlation`
    this loss does not add up over batches; 0 of a neuron or a model that is silent there. epsilon:
    the machine's, added to rate and response as published, and to both deviations (sota 2.8).
    reduction: "mean" is that of the sums of all neurons over all counted frames and neurons.
    """
    how = dict(epsilon=epsilon, shift=epsilon, per_neuron=True)
    of_poisson = poisson(predicted, observed, valid, reduction="sum", **how)
    predicted, observed, counted = _inputs(predicted, observed, valid)
    some, frames = jnp.any(counted), jnp.maximum(jnp.sum(counted), 1)
    predicted, observed = _centred(predicted, counted), _centred(observed, counted)
    covariance = jnp.sum(predicted * observed, axis=(0, 1)) / frames
    deviations = [_deviation(values, frames) + epsilon for values in (predicted, observed)]
    correlations = covariance / deviations[0] / deviations[1]
    values = of_poisson + jnp.where(some, weight * (1.0 - correlations), 0.0)
    _check_reduction(reduction)
    if reduction == "mean":
        values = values / frames
        return values if per_neuron else jnp.mean(values)
    return values if per_neuron else jnp.sum(values)


def dataset_scale(num_files: int, batch: int) -> float:
    """sqrt(M / b): the published weight of one mouse's summed loss against the regularisers.

    num_files: M, *all* trials of the mouse's recording, every tier and `none` included, as the
    kits count them; batch: b, samples in this batch, so that a smaller last batch weighs more per
    sample. The objective of a batch is dataset_scale * (summed loss) + regularisers.
    """
    if num_files < 1 or batch < 1:
        raise ValueError(f"found {num_files} files and a batch of {batch}, expected 1 or more each")
    return math.sqrt(num_files / batch)


# How much each mouse's summed loss counts, by the name of `loss.weighting`: from the trials of this
# mouse, the mean over all mice, the number of mice, and the clips of this mouse in a batch.
# "files" and "trials" are `dataset_scale`, the first of all files (the kits), the second of those
# trained on (ViV1T of 2023, sota 2.8). "balanced" gives every mouse the same part of the data's
# weight (ViV1T of 2025, sota 3.5); "equal" is the mean over all clips (DwiseNeuro, sota 1.5).
WEIGHTINGS: dict[str, Callable[[int, float, int, int], float]] = {
    "files": lambda own, mean, mice, batch: dataset_scale(own, batch),
    "trials": lambda own, mean, mice, batch: dataset_scale(own, batch),
    "balanced": lambda own, mean, mice, batch: mean / own / (mice * batch),
    "equal": lambda own, mean, mice, batch: 1.0 / (mice * batch),
}


def _inputs(predicted, observed, valid):
    """Both arrays at float32 or more, with ones where a frame does not count; [batch time 1].

    The replacement happens before any formula (and again on its result), because the gradient of
    a masked not-a-number is 0 * nan = nan.
    """
    predicted, observed, valid = jnp.asarray(predicted), jnp.asarray(observed), jnp.asarray(valid)
    if predicted.shape != observed.shape or predicted.ndim != 3:
        raise ValueError(
            f"found predicted of shape {predicted.shape} and observed of shape {observed.shape}, "
            "expected the same [batch time neuron] for both"
        )
    if valid.shape != predicted.shape[:2] or valid.dtype != bool:
        raise ValueError(
            f"found valid of shape {valid.shape} and type {valid.dtype}, expected "
            f"{predicted.shape[:2]} and bool for responses of shape {predicted.shape}"
        )
    counted = valid[:, :, None]
    return _parameter(predicted, counted), _parameter(observed, counted), counted


def _parameter(values, counted, name="values"):
    """A number, or an array [batch time neuron] with ones where a frame does not count."""
    values = jnp.asarray(values)
    values = values.astype(jnp.promote_types(values.dtype, jnp.float32))
    if values.ndim == 0:
        return values
    if values.ndim != 3 or values.shape[:2] != counted.shape[:2]:
        raise ValueError(
            f"found {name} of shape {values.shape}, expected one number or [batch time neuron] "
            f"with {counted.shape[:2]} frames"
        )
    return jnp.where(counted, values, 1.0)


def _centred(values, counted):
    """Values [batch time neuron] minus each neuron's mean; 0 where a frame does not count."""
    frames = jnp.maximum(jnp.sum(counted), 1)
    mean = jnp.sum(jnp.where(counted, values, 0.0), axis=(0, 1), keepdims=True) / frames
    return jnp.where(counted, values - mean, 0.0)


def _deviation(centred, frames):
    """The standard deviation of each neuron, [neuron], with gradient 0 where it is 0."""
    variance = jnp.sum(centred**2, axis=(0, 1)) / frames
    varies = variance > 0
    return jnp.where(varies, jnp.sqrt(jnp.where(varies, variance, 1.0)), 0.0)


def _check_reduction(reduction):
    if reduction not in REDUCTIONS:
        raise ValueError(f"found reduction {reduction!r}, expected one of {', '.join(REDUCTIONS)}")


def _reduce(terms, counted, reduction, per_neuron):
    """Sum or mean of terms [batch time neuron] over the frames that count."""
    _check_reduction(reduction)
    terms = jnp.where(counted, terms, 0.0)
    total = jnp.sum(terms, axis=(0, 1) if per_neuron else None)
    if reduction == "sum":
        return total
    numbers = jnp.sum(counted) * (1 if per_neuron else terms.shape[2])
    return total / jnp.maximum(numbers, 1)
