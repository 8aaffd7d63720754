"""Our modules under the names of the Sensorium kits' PyTorch state dicts, in both directions.

In: a mapping from their names to numpy arrays; out: an encoder that holds them, or the other way
round. Names and shapes are baselines 10; layouts are theirs (convolutions out, in, [time,] height,
width; linear maps out, in), turned into ours here and nowhere else. Because gradients and
optimiser moments have the shape of parameters, they travel the same way.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from flax import nnx

from sensojax.errors import UserError
from sensojax.models.encoder import Encoder


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


def encoder(model: Encoder) -> Iterator[Entry]:
    """Every array of a video encoder with a factorised core."""
    yield from factorized3d(model.core, "core.")
    for mouse in model.mice:
        yield from gaussian2d(model.readouts[mouse], f"readout.{mouse}.")
        if mouse in model.shifters:
            yield from shifter(model.shifters[mouse], f"shifter.{mouse}.")


def factorized3d(core: nnx.Module, prefix: str = "") -> Iterator[Entry]:
    for index, layer in enumerate(core.layers):
        here = f"{prefix}features.layer{index}."
        suffix = f"_{index}" if index else ""
        kh, kw, inputs, outputs = layer.spatial.shape
        frames = layer.temporal.shape[0]
        space, time = f"{here}conv_spatial{suffix}", f"{here}conv_temporal{suffix}"
        yield Entry(f"{space}.weight", layer.spatial, (3, 2, 0, 1), (outputs, inputs, 1, kh, kw))
        yield Entry(f"{time}.weight", layer.temporal, (2, 1, 0), (outputs, outputs, frames, 1, 1))
        if layer.spatial_bias is not None:
            yield _vector(f"{space}.bias", layer.spatial_bias)
            yield _vector(f"{time}.bias", layer.temporal_bias)
        if layer.norm is not None:
            yield from batch_norm(layer.norm, here, spread=(1, outputs, 1, 1, 1))


def batch_norm(norm: nnx.Module, prefix: str, spread: tuple[int, ...]) -> Iterator[Entry]:
    """Gain and offset belong to the norm when it has both, else they are layers of their own."""
    yield _vector(f"{prefix}norm.running_mean", norm.mean)
    yield _vector(f"{prefix}norm.running_var", norm.variance)
    if norm.scale is not None and norm.bias is not None:
        yield _vector(f"{prefix}norm.weight", norm.scale)
        yield _vector(f"{prefix}norm.bias", norm.bias)
    elif norm.bias is not None:
        yield Entry(f"{prefix}bias.bias", norm.bias, (0,), spread)
    elif norm.scale is not None:
        yield Entry(f"{prefix}scale.scale", norm.scale, (0,), spread)


def gaussian2d(readout: nnx.Module, prefix: str = "") -> Iterator[Entry]:
    neurons, channels = readout.features.shape
    sigma = {"full": (2, 2), "uncorrelated": (1, 2), "isotropic": (1, 1)}[readout.gaussian]
    every_axis = tuple(range(len(readout.sigma.shape)))
    yield Entry(f"{prefix}sigma", readout.sigma, every_axis, (1, neurons, *sigma))
    yield Entry(f"{prefix}_features", readout.features, (1, 0), (1, channels, 1, neurons))
    if readout.bias is not None:
        yield _vector(f"{prefix}bias", readout.bias)
    if readout.mu is not None:
        yield Entry(f"{prefix}_mu", readout.mu, (0, 1), (1, neurons, 1, 2))
    else:
        cortex = readout.network.cortex
        yield Entry(f"{prefix}source_grid", cortex, (0, 1), cortex.shape)
        yield from _linears(readout.network.layers, f"{prefix}mu_transform")


def shifter(module: nnx.Module, prefix: str = "") -> Iterator[Entry]:
    if hasattr(module, "linear"):
        yield from _linear(module.linear, prefix)
    else:
        yield from _linears(module.layers, f"{prefix}mlp")


def _linears(modules, prefix):
    for index, module in enumerate(modules):
        yield from _linear(module, f"{prefix}.{2 * index}.")  # odd places are activations


def _linear(module, prefix):
    inputs, outputs = module.weight.shape
    yield Entry(f"{prefix}weight", module.weight, (1, 0), (outputs, inputs))
    yield _vector(f"{prefix}bias", module.bias)


def _vector(name, variable):
    return Entry(name, variable, (0,), variable.shape)
