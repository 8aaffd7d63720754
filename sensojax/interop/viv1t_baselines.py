"""The models that ViV1T's authors compare it with, under the names of their state dicts.

In: a mapping from their names to numpy arrays; out: an encoder that holds them, or the other way
round, with `entries.load` and `entries.export`. These are the factorised and the recurrent model of
the Sensorium kits with other prefixes, V1T, and a linear core; readouts are Gaussian, factorised or
dense ones ("linear" there), or a grouped one ("conv" there; sota 2.7, 3.1).
"""

from collections.abc import Iterator, Mapping

from flax import nnx

from sensojax.interop import sensorium, viv1t
from sensojax.interop.cores2d import rotation_equivariant2d
from sensojax.interop.entries import Entry, vector
from sensojax.models.composed import Core as ComposedCore
from sensojax.models.cores import factorized3d, linear, v1t
from sensojax.models.encoder import Encoder
from sensojax.models.readouts import dense, factorized2d, grouped

V1T = "core.v1t."


def encoder(model: Encoder, letters: Mapping[str, str] | None = None) -> Iterator[Entry]:
    """Every array of a model; letters: {mouse: its name there}, the same as here if not given.

    Raises UserError for a part that none of these models has.
    """
    core = model.core
    if isinstance(core, ComposedCore):
        yield from rotation_equivariant2d(core.core, "core.cnn.")
        yield from sensorium.conv_gru(core.recurrence, "core.gru.conv_gru_cell.")
    elif isinstance(core, factorized3d.Core):
        yield from sensorium.factorized3d(core, "core.cnn.")
    elif isinstance(core, v1t.Core):
        yield from _v1t(core)
    elif isinstance(core, linear.Core):
        for name, variable in (("weight", core.weight), ("bias", core.bias)):
            height, width, channels = variable.shape
            yield Entry(f"core.{name}", variable, (2, 0, 1), (channels, height, width))
    else:
        raise viv1t.strange("core", core)
    for mouse, letter in (letters or {mouse: mouse for mouse in model.mice}).items():
        yield from _readout(model.readouts[mouse], f"readouts.{letter}.")
        if mouse in model.shifters:
            yield from sensorium.shifter(model.shifters[mouse], f"shifters.{letter}.")


def _readout(readout: nnx.Module, here: str) -> Iterator[Entry]:
    if isinstance(readout, factorized2d.Readout):
        yield from sensorium.factorized2d(readout, here)
    elif isinstance(readout, grouped.Readout):
        shape = (*readout.weight.shape, 1)
        yield Entry(f"{here}layer.1.weight", readout.weight, (0, 1), shape)
        yield vector(f"{here}layer.1.bias", readout.bias)
    elif isinstance(readout, dense.Readout):
        yield Entry(f"{here}linear.weight", readout.weight, (0, 1), readout.weight.shape)
        yield vector(f"{here}linear.bias", readout.bias)
    else:
        yield from viv1t.readout(readout, here)


def _v1t(core: v1t.Core) -> Iterator[Entry]:
    here = f"{V1T}patch_embedding."
    yield Entry(f"{here}cls_token", core.extra, (0,), (1, 1, *core.extra.shape))
    yield Entry(f"{here}pos_embedding", core.places, (0, 1), core.places.shape)
    kernel = core.tokenizer.kernel
    shape = (core.num_features, kernel.size // core.num_features)
    yield Entry(f"{here}projection.2.weight", kernel, (4, 3, 0, 1, 2), shape)
    yield vector(f"{here}projection.2.bias", core.tokenizer.bias)
    for number, block in enumerate(core.in_space.blocks):
        here = f"{V1T}transformer.blocks.{number}."
        attention, thinking = f"{here}mha.", f"{here}mlp.model."
        yield from viv1t.norm(block.norm, f"{attention}layer_norm")
        yield from viv1t.linear(block.fused, None, f"{attention}to_qkv")
        out = block.attention_out, block.attention_bias
        yield from viv1t.linear(*out, f"{attention}projection.0")
        yield from viv1t.norm(block.hidden_norm, f"{thinking}0")
        yield from viv1t.linear(block.hidden_in, block.hidden_in_bias, f"{thinking}1")
        yield from viv1t.linear(block.hidden_out, block.hidden_out_bias, f"{thinking}4")
        if core.in_space.networks:
            network, names = core.in_space.networks[number], f"{here}b-mlp.models."
            yield from viv1t.linear(network.hidden.weight, network.hidden.bias, f"{names}0")
            yield from viv1t.linear(network.out.weight, network.out.bias, f"{names}3")
