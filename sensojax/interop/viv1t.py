"""ViV1T under the names of its published PyTorch state dicts, of 2023 and of 2025, both ways.

In: a mapping from their names to numpy arrays; out: an encoder that holds them, or the other way
round, with `entries.load` and `entries.export`. Names and shapes are sota 2 and 3. They call mice
by letters: `letters` says which of ours is which, `LETTERS` which are those of Sensorium 2023.
"""

from collections.abc import Iterable, Iterator, Mapping

from flax import nnx

from sensojax.errors import UserError
from sensojax.interop.dwiseneuro import HEADS
from sensojax.interop.entries import Entry, vector
from sensojax.interop.sensorium import gaussian2d as kit_readout
from sensojax.interop.sensorium import shifter
from sensojax.models.cores import viv1t, viv1t2023
from sensojax.models.encoder import Encoder
from sensojax.models.readouts import attention, gaussian2d
from sensojax.models.tokens import Tokenizer
from sensojax.models.transformer import Parallel, Sequential, Stack

# {mouse of Sensorium 2023: its letter}; F to J are the newer ones (sota 0.1).
LETTERS = dict(zip(HEADS, "FGHIJABCDE", strict=True))
# Arrays of theirs that follow from settings, by the last part of their names.
CONSTANTS = (
    *("scale", "reg_scale", "keep_prob", "inv_freq", "pos_encoding", "twod_pe"),
    *("T", "threshold", "one"),
)


def encoder(model: Encoder, letters: Mapping[str, str] | None = None) -> Iterator[Entry]:
    """Every array of a model; letters: {mouse: its name there}, the same as here if not given.

    Raises UserError for a part that no ViV1T has.
    """
    if isinstance(model.core, viv1t2023.Core):
        yield from core2023(model.core)
    elif isinstance(model.core, viv1t.Core):
        yield from core2025(model.core)
    else:
        raise _strange("core", model.core)
    if model.shared is not None:
        weight = model.shared.weight
        yield Entry("readouts.to_kv.weight", weight, (1, 0), weight.shape[::-1])
    for mouse, letter in (letters or {mouse: mouse for mouse in model.mice}).items():
        yield from _readout(model.readouts[mouse], f"readouts.{letter}.")
        if mouse in model.shifters:
            yield from shifter(model.shifters[mouse], f"shifters.{letter}.")
        learned = getattr(model.output[mouse], "log_beta", None)
        if learned is not None:
            yield Entry(f"output_activation.{letter}.log_beta", learned, (), ())


def core2023(core: viv1t2023.Core) -> Iterator[Entry]:
    here = "core.vivit.tokenizer."
    if core.tokenizer.patch_norm is not None:
        names = [f"{here}tokenizer.{number}" for number in (1, 2, 3)]
    else:
        names = ["", f"{here}tokenizer.0", f"{here}tokenizer.2"]
    yield from _tokenizer(core.tokenizer, *names)
    for name, table, axis in (("spatial", core.places.space, 2), ("temporal", core.places.time, 1)):
        if table is not None:
            shape = [1, 1, 1, table.shape[1]]
            shape[axis] = table.shape[0]
            yield Entry(f"{here}{name}_pos_embedding", table, (0, 1), tuple(shape))
    yield from _stacks(core)


def core2025(core: viv1t.Core) -> Iterator[Entry]:
    """UserError for settings under which their names are not known."""
    learned = "learned" in (core.places.space_code, core.places.time_code)
    if learned or core.tokenizer.patch_norm is None:
        raise UserError(
            "found a ViV1T with learned position codes or without norm of its patches, for which "
            "the names of the published state dicts are not known; set core.patch_norm, and other "
            "codes."
        )
    here = "core.tokenizer."
    names = (f"{here}tokenizer.norm", f"{here}tokenizer.linear", f"{here}norm")
    yield from _tokenizer(core.tokenizer, *names)
    for name, registers in (("s", core.space_registers), ("t", core.time_registers)):
        yield Entry(f"core.vivit.reg_{name}_tokens", registers, (0, 1), registers.shape)
    yield from _stacks(core)


def without_constants(names: Iterable[str]) -> list[str]:
    """The names without those of arrays that say nothing beyond the settings of a model."""
    return [name for name in names if name.rpartition(".")[2] not in CONSTANTS]


def _tokenizer(tokenizer: Tokenizer, patch_norm: str, linear: str, norm: str) -> Iterator[Entry]:
    frames, patch, _, channels, features = tokenizer.kernel.shape
    if tokenizer.patch_norm is None:
        shape = (features, channels, frames, patch, patch)
    else:
        size = frames * patch**2 * channels
        shape = (features, size)
        yield from _norm(tokenizer.patch_norm, patch_norm, (3, 0, 1, 2), (size,))
    yield Entry(f"{linear}.weight", tokenizer.kernel, (4, 3, 0, 1, 2), shape)
    yield vector(f"{linear}.bias", tokenizer.bias)
    yield from _norm(tokenizer.norm, norm)


def _stacks(core: nnx.Module) -> Iterator[Entry]:
    for axis, stack in (("spatial", core.in_space), ("temporal", core.in_time)):
        yield from _stack(stack, f"core.vivit.{axis}_transformer.blocks.")


def _stack(stack: Stack, prefix: str) -> Iterator[Entry]:
    for number, block in enumerate(stack.blocks):
        here = f"{prefix}{number}."
        yield from (_parallel if isinstance(block, Parallel) else _sequential)(block, here)
        if stack.networks:
            network, names = stack.networks[number], f"{here}state_encoder.models.share."
            yield from _linear(network.hidden.weight, network.hidden.bias, f"{names}0")
            yield from _linear(network.out.weight, network.out.bias, f"{names}3")


def _parallel(block: Parallel, here: str) -> Iterator[Entry]:
    yield from _norm(block.norm, f"{here}norm")
    yield from _linear(block.fused, None, f"{here}fused_linear")
    yield from _linear(block.attention_out, None, f"{here}attn_out")
    yield from _linear(block.hidden_out, None, f"{here}ff_out.2")
    yield from _query_norms(block, here)


def _sequential(block: Sequential, here: str) -> Iterator[Entry]:
    yield from _norm(block.norm, f"{here}attention.norm")
    yield from _linear(block.fused, None, f"{here}attention.to_qkv")
    yield from _linear(block.attention_out, block.attention_bias, f"{here}attention.attn_out.0")
    yield from _query_norms(block, f"{here}attention.")
    yield from _norm(block.hidden_norm, f"{here}ff.0")
    yield from _linear(block.hidden_in, block.hidden_in_bias, f"{here}ff.1")
    yield from _linear(block.hidden_out, block.hidden_out_bias, f"{here}ff.4")


def _query_norms(block: nnx.Module, here: str) -> Iterator[Entry]:
    if block.heads.query_norm is not None:
        yield from _norm(block.heads.query_norm, f"{here}norm_q")
        yield from _norm(block.heads.key_norm, f"{here}norm_k")


def _readout(readout: nnx.Module, here: str) -> Iterator[Entry]:
    def of_neurons(name, variable):
        neurons, channels = variable.shape
        return Entry(f"{here}{name}", variable, (1, 0), (1, channels, neurons))

    if isinstance(readout, attention.Readout):
        yield of_neurons("features", readout.features)
        yield of_neurons("neuron_query", readout.queries)
        yield vector(f"{here}bias", readout.bias)
        return
    known = isinstance(readout, gaussian2d.Readout) and readout.gaussian == "full"
    if not known or readout.network is None or readout.bias is None:
        raise _strange("readout", readout)
    # Like the kits' but for the name and the shape of the feature weights.
    yield of_neurons("features", readout.features)
    for entry in kit_readout(readout, here):
        if not entry.name.endswith("_features"):
            yield entry
    if readout.state is not None:
        state, names = readout.state, f"{here}state_encoder."
        yield from _linear(state.hidden.weight, state.hidden.bias, f"{names}0")
        yield from _norm(state.norm, f"{names}1")
        yield from _linear(state.out.weight, state.out.bias, f"{names}4")


def _linear(weight: nnx.Variable, bias: nnx.Variable | None, name: str) -> Iterator[Entry]:
    yield Entry(f"{name}.weight", weight, (1, 0), weight.shape[::-1])
    if bias is not None:
        yield vector(f"{name}.bias", bias)


def _norm(norm: nnx.Module, name: str, axes=(0,), shape=None) -> Iterator[Entry]:
    yield Entry(f"{name}.weight", norm.scale, axes, shape or norm.scale.shape)
    if norm.bias is not None:
        yield Entry(f"{name}.bias", norm.bias, axes, shape or norm.bias.shape)


def _strange(part: str, module: nnx.Module) -> UserError:
    name = type(module).__module__.rpartition(".")[2]
    return UserError(
        f"found the {part} {name!r} in the model with settings that no published ViV1T has; build "
        "it with configs/dynamic_viv1t.py."
    )
