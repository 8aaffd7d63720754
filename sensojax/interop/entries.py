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

    def check(self, theirs) -> None:
        """UserError for an array that has another shape than ours turned into theirs.

        theirs: anything with a shape and a dtype.
        """
        if theirs.shape != self.shape:
            raise UserError(
                f"{self.name} has shape {theirs.shape} in the file and {self.shape} in the model; "
                "build the model with the settings that the file was trained with."
            )
        if np.issubdtype(theirs.dtype, np.complexfloating):
            raise UserError(f"{self.name} holds complex numbers in the file, expected real ones.")

    def ours(self, theirs: np.ndarray) -> np.ndarray:
        transposed = tuple(self.variable.shape[axis] for axis in self.axes)
        return theirs.reshape(transposed).transpose(np.argsort(self.axes))

    def theirs(self) -> np.ndarray:
        return np.asarray(self.variable[...]).transpose(self.axes).reshape(self.shape)


def load(entries: Iterator[Entry], weights: Mapping[str, np.ndarray]) -> list[str]:
    """Puts `weights` into the model the entries belong to; returns the names nobody asked for.

    Raises UserError, before anything is put, for names that are missing or of another shape.
    """
    listed = list(entries)
    missing = [entry.name for entry in listed if entry.name not in weights]
    if missing:
        few = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if missing[5:] else "")
        raise UserError(f"the file has no {few}, which the model needs.")
    for entry in listed:
        entry.check(weights[entry.name])
    for entry in listed:
        ours = entry.ours(np.asarray(weights[entry.name]))
        entry.variable[...] = jnp.asarray(ours, entry.variable.dtype)
    return sorted(set(weights) - {entry.name for entry in listed})


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
