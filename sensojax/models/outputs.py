"""The last nonlinearity: what a readout says of a neuron goes in, a positive response comes out.

Every mouse has its own in an encoder. Each knows its `inverse`, with which biases can start so that
the first prediction of a neuron is its mean response. A config names them in its section `output`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from sensojax.models import layers

LEAST = 0.01  # a rate below this is taken for this in `inverse`, where 0 would give -infinity


class Elu(nnx.Module):
    """ELU(x + offset) + 1, the output of the published baselines; their offset is 0."""

    def __init__(self, *, offset: float = 0.0):
        self.offset = offset

    def __call__(self, x: jax.Array) -> jax.Array:
        return layers.elu_plus_one(x + self.offset)

    def inverse(self, rates: np.ndarray) -> np.ndarray:
        below = np.log(np.clip(rates, LEAST, None))
        return np.where(rates < 1, below, rates - 1) - self.offset


class Exponential(nnx.Module):
    """e^x."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.exp(x)

    def inverse(self, rates: np.ndarray) -> np.ndarray:
        return np.log(np.clip(rates, LEAST, None))


class Sigmoid(nnx.Module):
    """1 / (1 + e^-x), for responses between 0 and 1: those of data.normalization "min_max", with
    which ViV1T of 2025 takes it (sota 3.4)."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(x)

    def inverse(self, rates: np.ndarray) -> np.ndarray:
        rates = np.clip(rates, LEAST, 1 - LEAST)
        return np.log(rates) - np.log1p(-rates)


class Softplus(nnx.Module):
    """log(1 + e^(beta x)) / beta: it bends around responses of 1 / beta and is a line above them.

    So beta belongs to the unit of the responses: 0.07 is for responses as recorded, whose spread is
    about 16 (sota 1.2). learned: beta is trained, through its logarithm.
    """

    def __init__(self, *, beta: float = 1.0, learned: bool = False):
        self.fixed_beta = beta
        self.log_beta = nnx.Param(jnp.log(jnp.float32(beta))) if learned else None

    @property
    def beta(self) -> float | jax.Array:
        return self.fixed_beta if self.log_beta is None else jnp.exp(self.log_beta[...])

    def __call__(self, x: jax.Array) -> jax.Array:
        # Published code is linear above beta x = 20, where this is too, to 1e-10.
        return jax.nn.softplus(self.beta * x) / self.beta

    def inverse(self, rates: np.ndarray) -> np.ndarray:
        """For the first beta, also when it is learned."""
        rates = np.clip(rates, LEAST / self.fixed_beta, None)
        return rates + np.log(-np.expm1(-self.fixed_beta * rates)) / self.fixed_beta


OUTPUTS = {"elu": Elu, "exponential": Exponential, "sigmoid": Sigmoid, "softplus": Softplus}
