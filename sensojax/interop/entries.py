"""One array under two names: how weights travel between our modules and other people's files.

An `Entry` ties a variable of ours to the name and layout that others have for it. Modules beside
this one list the entries of a model; `load` and `export` move the arrays. Gradients and optimiser
moments have the shape of parameters, so they travel the same way.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from flax import nnx

from sensojax.errors import UserError


@dataclass(frozen=True)
class Entry:
    """One array of ours under their name: theirs = ours.transpose(axes).reshape(shape)."""

    name: str
    variable: nnx.Variable
    axes: tuple[int, ...]
    shape: tuple[int, ...]

    def ours(self, theirs: np.ndarray) -> np.ndarray:
        if theirs.shape != self.shape:
            raise UserError(
                f"{self.name} has shape {theirs.shape} in the file and {self.shape} in the model; "
                "build the model with the settings that the file was trained with."
            )
        transposed = tuple(self.variable.shape[axis] for axis in self.axes)
        return theirs.reshape(transposed).transpose(np.argsort(self.axes))

    def theirs(self) -> np.ndarray:
        return np.asarray(self.variable[...]).transpose(self.axes).reshape(self.shape)


def load(entries: Iterator[Entry], weights: Mapping[str, np.ndarray]) -> list[str]:
    """Puts `weights` into the model the entries belong to; returns the names nobody asked for."""
    used = set()
    for entry in entries:
        if entry.name not in weights:
            raise UserError(f"the file has no {entry.name}, which the model needs.")
        entry.variable[...] = jnp.asarray(entry.ours(np.asarray(weights[entry.name])))
        used.add(entry.name)
    return sorted(set(weights) - used)


def export(entries: Iterator[Entry]) -> dict[str, np.ndarray]:
    """The model's arrays under their names, in their layout."""
    return {entry.name: entry.theirs() for entry in entries}


def vector(name: str, variable: nnx.Variable) -> Entry:
    return Entry(name, variable, (0,), variable.shape)


def batch_norm(
    norm: nnx.Module, prefix: str, spread: tuple[int, ...], statistics: str = "norm."
) -> Iterator[Entry]:
    """Gain and offset belong to the norm when it has both, else they are layers of their own.

    spread: shape of gain and offset as layers; statistics: the norm's own name under `prefix`.
    """
    yield vector(f"{prefix}{statistics}running_mean", norm.mean)
    yield vector(f"{prefix}{statistics}running_var", norm.variance)
    if norm.scale is not None and norm.bias is not None:
        yield vector(f"{prefix}{statistics}weight", norm.scale)
        yield vector(f"{prefix}{statistics}bias", norm.bias)
    elif norm.bias is not None:
        yield Entry(f"{prefix}bias.bias", norm.bias, (0,), spread)
    elif norm.scale is not None:
        yield Entry(f"{prefix}scale.scale", norm.scale, (0,), spread)
