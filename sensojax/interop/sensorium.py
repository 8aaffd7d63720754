"""Our modules under the names of the Sensorium kits' PyTorch state dicts, in both directions.

In: a mapping from their names to numpy arrays; out: an encoder that holds them, or the other way
round. Names and shapes are baselines 10; layouts are theirs (convolutions out, in, [time,] height,
width; linear maps out, in), turned into ours here and nowhere else. Because gradients and
optimiser moments have the shape of parameters, they travel the same way.
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from flax import nnx

from sensojax.errors import UserError
from sensojax.interop.cores2d import rotation_equivariant2d, stacked2d
from sensojax.interop.entries import Entry, batch_norm, export, load, vector
from sensojax.models.composed import Core as ComposedCore
from sensojax.models.encoder import Encoder

__all__ = ["Entry", "encoder", "export", "factorized3d", "gaussian2d", "load", "shifter"]

# Arrays of the published modules that are no weights: counters, and filters that never change.
COUNTER, FILTERS = "num_batches_tracked", "laplace.filter"
LAPLACE = np.float32([[0, -1, 0], [-1, 4, -1], [0, -1, 0]])[None, None]
LAPLACE_1D = np.float32([-1, 4, -1])[None, None]


def encoder(model: Encoder, mice: Mapping[str, str] | None = None) -> Iterator[Entry]:
    """Every array of a video encoder; UserError for a part that the kits do not have.

    mice: {mouse: its name there}, the same as here if not given.
    """
    core = model.core
    if isinstance(core, ComposedCore):
        yield from _listed(core.core, "core.")
        yield from _listed(core.recurrence, "gru_module.gru.")
    else:
        yield from _listed(core, "core.")
    for mouse, name in (mice or {mouse: mouse for mouse in model.mice}).items():
        yield from _listed(model.readouts[mouse], f"readout.{name}.")
        if mouse in model.shifters:
            yield from shifter(model.shifters[mouse], f"shifter.{name}.")


def without_counters(names: Iterable[str]) -> list[str]:
    """The names without those of arrays that decide nothing about a model."""
    return [name for name in names if not name.endswith((COUNTER, FILTERS))]


def counters(model: Encoder, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Those arrays, which PyTorch asks for when it loads weights strictly.

    names: of the model's weights, which tell where batch norm is.
    """
    statistics = "running_mean"
    found = {
        name.removesuffix(statistics) + COUNTER: np.int64(0)
        for name in names
        if name.endswith(statistics)
    }
    core = model.core.core if isinstance(model.core, ComposedCore) else model.core
    if type(core).__module__.endswith("2d"):
        return found | {f"core._input_weights_regularizer.{FILTERS}": LAPLACE}
    of_video = {"_input_weight_regularizer": LAPLACE, "temporal_regularizer": LAPLACE_1D}
    return found | {f"core.{name}.{FILTERS}": array for name, array in of_video.items()}


def _listed(module: nnx.Module, prefix: str) -> Iterator[Entry]:
    """The entries of a core, recurrence or readout, which is known by the file of its class."""
    name = type(module).__module__.rpartition(".")[2]
    if name not in KNOWN:
        raise UserError(
            f"found {name!r} in the model, for which the Sensorium kits have no names; only "
            f"{', '.join(KNOWN)} can be exchanged with them."
        )
    return KNOWN[name](module, prefix)


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
            yield vector(f"{space}.bias", layer.spatial_bias)
            yield vector(f"{time}.bias", layer.temporal_bias)
        if layer.norm is not None:
            yield from batch_norm(layer.norm, here, spread=(1, outputs, 1, 1, 1))


def full3d(core: nnx.Module, prefix: str = "") -> Iterator[Entry]:
    for index, layer in enumerate(core.layers):
        here = f"{prefix}features.layer{index}."
        name = f"{here}conv_{index}" if index else f"{here}conv"
        frames, kh, kw, inputs, outputs = layer.kernel.shape
        shape = (outputs, inputs, frames, kh, kw)
        yield Entry(f"{name}.weight", layer.kernel, (4, 3, 0, 1, 2), shape)
        if layer.bias is not None:
            yield vector(f"{name}.bias", layer.bias)
        if layer.norm is not None:
            yield from batch_norm(layer.norm, here, spread=(1, outputs, 1, 1, 1))


def conv_gru(recurrence: nnx.Module, prefix: str = "") -> Iterator[Entry]:
    for gate in ("reset_gate", "update_gate", "out_gate"):
        for side in ("input", "hidden"):
            name = f"{gate}_{side}"
            part = getattr(recurrence, name)
            kh, kw, inputs, outputs = part.kernel.shape
            shape = (outputs, inputs, kh, kw)
            yield Entry(f"{prefix}{name}.weight", part.kernel, (3, 2, 0, 1), shape)
            yield vector(f"{prefix}{name}.bias", part.bias)


def factorized2d(readout: nnx.Module, prefix: str = "") -> Iterator[Entry]:
    yield Entry(f"{prefix}spatial", readout.spatial, (0, 1, 2), readout.spatial.shape)
    yield Entry(f"{prefix}_features", readout.features, (0, 1), readout.features.shape)
    if readout.bias is not None:
        yield vector(f"{prefix}bias", readout.bias)


def gaussian2d(readout: nnx.Module, prefix: str = "") -> Iterator[Entry]:
    neurons, channels = readout.features.shape
    if readout.mu is not None and readout.network is not None:
        raise UserError(
            'found readout.positions "both" in the model, for which there are no published names; '
            'only "cortex" and "learned" ones can be exchanged.'
        )
    sigma = {"full": (2, 2), "uncorrelated": (1, 2), "isotropic": (1, 1)}[readout.gaussian]
    every_axis = tuple(range(len(readout.sigma.shape)))
    yield Entry(f"{prefix}sigma", readout.sigma, every_axis, (1, neurons, *sigma))
    yield Entry(f"{prefix}_features", readout.features, (1, 0), (1, channels, 1, neurons))
    if readout.bias is not None:
        yield vector(f"{prefix}bias", readout.bias)
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
    yield vector(f"{prefix}bias", module.bias)


KNOWN = {
    "factorized3d": factorized3d,
    "full3d": full3d,
    "stacked2d": stacked2d,
    "rotation_equivariant2d": rotation_equivariant2d,
    "conv_gru": conv_gru,
    "gaussian2d": gaussian2d,
    "factorized2d": factorized2d,
}
