"""DwiseNeuro under the names of its published PyTorch state dict, in both directions.

In: a mapping from their names to numpy arrays; out: an encoder that holds them, or the other way
round, with `entries.load` and `entries.export`. Names and shapes are sota 1.2. Their readouts are
numbered, ours belong to mice: `heads` says which is which, `HEADS` how it was in the competition.
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from flax import nnx

from sensojax.errors import UserError
from sensojax.interop.entries import Entry, vector
from sensojax.models import position_code
from sensojax.models.cores import dwiseneuro
from sensojax.models.encoder import Encoder

NEW, OLD = "9b4f6a1a067fe51e15306b9628efea20", "8744edeac3b4d1ce16b680916b5267ce"
# The mice of the published heads 0 to 9: the newer ones come first (sota 0.1).
HEADS = (
    f"dynamic29515-10-12-Video-{NEW}",
    f"dynamic29623-4-9-Video-{NEW}",
    f"dynamic29647-19-8-Video-{NEW}",
    f"dynamic29712-5-9-Video-{NEW}",
    f"dynamic29755-2-8-Video-{NEW}",
    f"dynamic29156-11-10-Video-{OLD}",
    f"dynamic29228-2-10-Video-{OLD}",
    f"dynamic29234-6-9-Video-{OLD}",
    f"dynamic29513-3-5-Video-{OLD}",
    f"dynamic29514-2-9-Video-{OLD}",
)
# Arrays of theirs that are no weights: counters, and frequencies of the position code.
COUNTER, FREQUENCIES = "num_batches_tracked", "inv_freq"


def encoder(model: Encoder, heads: Mapping[str, int] | None = None) -> Iterator[Entry]:
    """Every array of a model; heads: {mouse: number}, in the order of the mice if not given.

    Raises UserError for a model that is no DwiseNeuro.
    """
    parts = {"core": model.core, "readout": next(iter(model.readouts.values()))}
    for part, module in parts.items():
        name = type(module).__module__.rpartition(".")[2]
        if name not in ("dwiseneuro", "grouped"):
            raise UserError(
                f"found the {part} {name!r} in the model, expected that of DwiseNeuro; build it "
                "with configs/dynamic_dwiseneuro.py."
            )
    yield from core(model.core)
    heads = heads or {mouse: number for number, mouse in enumerate(model.mice)}
    for mouse, number in heads.items():
        readout = model.readouts[mouse]
        yield _pointwise(f"readouts.{number}.layer.1.weight", readout.weight, (0, 1), axes=1)
        yield vector(f"readouts.{number}.layer.1.bias", readout.bias)


def core(made: dwiseneuro.Core) -> Iterator[Entry]:
    """The stem, the blocks (which share their list with the position codes) and the cortex."""
    yield _pointwise("core.stem.0.weight", made.stem)
    yield from _norm("core.stem.1", made.stem_norm)
    for index, block in enumerate(made.blocks):
        yield from _block(f"core.blocks.{2 * index + 1}.", block)
    for index, layer in enumerate(made.cortex.layers):
        here = f"cortex.layers.{index}."
        yield _pointwise(f"{here}conv.weight", layer.weight, (0, 1), axes=1)
        yield from _norm(f"{here}bn", layer.norm)
        yield from _norm(f"{here}bn_sc", layer.shortcut_norm)


def without_constants(names: Iterable[str]) -> list[str]:
    """The names without those of arrays that decide nothing about a model."""
    return [name for name in names if not name.endswith((COUNTER, FREQUENCIES))]


def constants(made: dwiseneuro.Core, names: Iterable[str]) -> dict[str, np.ndarray]:
    """The arrays that PyTorch asks for beside these names, when it loads weights strictly."""
    statistics = "running_mean"
    found = {
        name.removesuffix(statistics) + COUNTER: np.int64(0)
        for name in names
        if name.endswith(statistics)
    }
    for index, block in enumerate(made.blocks):
        rates = position_code.frequencies(block.widen.shape[0])
        found[f"core.blocks.{2 * index}.{FREQUENCIES}"] = rates
    return found


def _block(here: str, block: dwiseneuro.Block) -> Iterator[Entry]:
    yield _pointwise(f"{here}conv_pw.0.weight", block.widen)
    yield from _norm(f"{here}conv_pw.1", block.widen_norm)
    height, width, hidden = block.space.shape
    # Their names are spelled so.
    space, time = f"{here}spat_covn_dw", f"{here}temp_covn_dw"
    yield Entry(f"{space}.0.weight", block.space, (2, 0, 1), (hidden, 1, 1, height, width))
    yield from _norm(f"{space}.1", block.space_norm)
    frames = block.time.shape[0]
    yield Entry(f"{time}.0.weight", block.time, (1, 0), (hidden, 1, frames, 1, 1))
    yield from _norm(f"{time}.1", block.time_norm)
    gates = block.gates
    yield _pointwise(f"{here}se.conv_reduce.weight", gates.squeeze)
    yield vector(f"{here}se.conv_reduce.bias", gates.squeeze_bias)
    yield _pointwise(f"{here}se.conv_expand.weight", gates.excite)
    yield vector(f"{here}se.conv_expand.bias", gates.excite_bias)
    yield _pointwise(f"{here}conv_pwl.0.weight", block.narrow)
    yield from _norm(f"{here}conv_pwl.1", block.narrow_norm)
    yield from _norm(f"{here}bn_sc", block.shortcut_norm)


def _pointwise(name: str, weight: nnx.Variable, order=(1, 0), axes: int = 3) -> Entry:
    """A convolution that sees single points: ours in the order (out, in), with axes of length 1."""
    shape = tuple(weight.shape[axis] for axis in order)
    return Entry(name, weight, order, (*shape, *(1,) * axes))


def _norm(prefix: str, norm: nnx.Module) -> Iterator[Entry]:
    yield vector(f"{prefix}.bn.weight", norm.scale)
    yield vector(f"{prefix}.bn.bias", norm.bias)
    yield vector(f"{prefix}.bn.running_mean", norm.mean)
    yield vector(f"{prefix}.bn.running_var", norm.variance)
