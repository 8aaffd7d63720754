"""ViV1T under the names of its published PyTorch state dicts, of 2023 and of 2025, both ways.

In: a mapping from their names to numpy arrays; out: an encoder that holds them, or the other way
round, with `entries.load` and `entries.export`. Names and shapes are sota 2 and 3. They call mice
by letters: `letters` says which of ours is which, `LETTERS` which are those of Sensorium 2023.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from flax import nnx

from sensojax.errors import UserError
from sensojax.interop.dwiseneuro import HEADS
from sensojax.interop.entries import Entry, vector
from sensojax.interop.sensorium import gaussian2d as kit_readout
from sensojax.interop.sensorium import shifter
from sensojax.models import norms
from sensojax.models.cores import viv1t, viv1t2023
from sensojax.models.encoder import Encoder
from sensojax.models.readouts import attention, gaussian2d
from sensojax.models.token_behavior import OfMice
from sensojax.models.tokens import Tokenizer
from sensojax.models.transformer import Parallel, Sequential, Stack

# {mouse of Sensorium 2023: its letter}; F to J are the newer ones (sota 0.1).
LETTERS = dict(zip(HEADS, "FGHIJABCDE", strict=True))
# Arrays of theirs that follow from settings, by the last part of their names.
CONSTANTS = (
    *("scale", "reg_scale", "keep_prob", "inv_freq", "pos_encoding", "twod_pe"),
    *("T", "threshold", "one"),
)

# What cuts patches out of a video in one of their ways to do that (2025's patch mode 1).
CUTS = ("core.tokenizer.tokenizer.weight",)


def encoder(model: Encoder, letters: Mapping[str, str] | None = None) -> Iterator[Entry]:
    """Every array of a model; letters: {mouse: its name there}, the same as here if not given.

    Raises UserError for a part that no ViV1T has.
    """
    letters = letters or {mouse: mouse for mouse in model.mice}
    if isinstance(model.core, viv1t2023.Core):
        yield from core2023(model.core, [letters[mouse] for mouse in sorted(letters)])
    elif isinstance(model.core, viv1t.Core):
        yield from core2025(model.core)
    else:
        raise strange("core", model.core)
    if model.shared is not None:
        weight = model.shared.weight
        yield Entry("readouts.to_kv.weight", weight, (1, 0), weight.shape[::-1])
    for mouse, letter in letters.items():
        yield from readout(model.readouts[mouse], f"readouts.{letter}.")
        if mouse in model.shifters:
            yield from shifter(model.shifters[mouse], f"shifters.{letter}.")
        learned = getattr(model.output[mouse], "log_beta", None)
        if learned is not None:
            yield Entry(f"output_activation.{letter}.log_beta", learned, (), ())


def core2023(core: viv1t2023.Core, letters: Sequence[str] = ()) -> Iterator[Entry]:
    """letters: of the mice in the order of our names, if each has networks of behaviour."""
    here = "core.vivit.tokenizer."
    if core.tokenizer.patch_norm is not None:
        names = [f"{here}tokenizer.{number}" for number in (1, 2, 3)]
    else:
        names = ["", f"{here}tokenizer.0", f"{here}tokenizer.2"]
    yield from _tokenizer(core.tokenizer, *names)
    yield from _places(core, here)
    yield from _stacks(core, letters)


def core2025(core: viv1t.Core) -> Iterator[Entry]:
    here = "core.tokenizer."
    if core.tokenizer.patch_norm is not None:
        names = (f"{here}tokenizer.norm", f"{here}tokenizer.linear", f"{here}norm")
    else:
        names = ("", f"{here}tokenizer.0", f"{here}norm")
    yield from _tokenizer(core.tokenizer, *names)
    yield from _places(core, here)
    for name, registers in (("s", core.space_registers), ("t", core.time_registers)):
        if registers is not None:
            yield Entry(f"core.vivit.reg_{name}_tokens", registers, (0, 1), registers.shape)
    yield from _stacks(core)


def _places(core: nnx.Module, here: str) -> Iterator[Entry]:
    places = core.places
    if places.joint is not None:
        tokens, features = places.joint.shape
        shape = (1, core.most_tokens, tokens // core.most_tokens, features)
        yield Entry(f"{here}pos_embedding", places.joint, (0, 1), shape)
    for name, table, axis in (("spatial", places.space, 2), ("temporal", places.time, 1)):
        if table is not None:
            shape = [1, 1, 1, table.shape[1]]
            shape[axis] = table.shape[0]
            yield Entry(f"{here}{name}_pos_embedding", table, (0, 1), tuple(shape))


def without_constants(names: Iterable[str]) -> list[str]:
    """The names without those of arrays that say nothing beyond the settings of a model."""
    return [name for name in names if name not in CUTS and name.rpartition(".")[2] not in CONSTANTS]


def _tokenizer(
    tokenizer: Tokenizer, of_patches: str, map_name: str, of_tokens: str
) -> Iterator[Entry]:
    frames, patch, _, channels, features = tokenizer.kernel.shape
    if tokenizer.patch_norm is None:
        shape = (features, channels, frames, patch, patch)
    else:
        size = frames * patch**2 * channels
        shape = (features, size)
        yield from norm(tokenizer.patch_norm, of_patches, (3, 0, 1, 2), (size,))
    yield Entry(f"{map_name}.weight", tokenizer.kernel, (4, 3, 0, 1, 2), shape)
    yield vector(f"{map_name}.bias", tokenizer.bias)
    yield from norm(tokenizer.norm, of_tokens)


def _stacks(core: nnx.Module, letters: Sequence[str] = ()) -> Iterator[Entry]:
    for axis, stack in (("spatial", core.in_space), ("temporal", core.in_time)):
        here = f"core.vivit.{axis}_transformer.blocks."
        yield from _stack(stack, here, letters)
        if stack.neighbours is not None:
            kernel, name = stack.neighbours.kernel, f"{here}0.pos_encoding.pos_embedding"
            *reach, features = kernel.shape
            order = (len(reach), *range(len(reach)))
            yield Entry(f"{name}.weight", kernel, order, (features, 1, *reach))
            yield vector(f"{name}.bias", stack.neighbours.bias)


def _stack(stack: Stack, prefix: str, letters: Sequence[str]) -> Iterator[Entry]:
    for number, block in enumerate(stack.blocks):
        here = f"{prefix}{number}."
        yield from (_parallel if isinstance(block, Parallel) else _sequential)(block, here)
        if stack.networks:
            network = stack.networks[number]
            known = {"share": network}
            if isinstance(network, OfMice):
                known = dict(zip(letters, network.networks, strict=True))
            for name, each in known.items():
                names = f"{here}state_encoder.models.{name}."
                yield from linear(each.hidden.weight, each.hidden.bias, f"{names}0")
                yield from linear(each.out.weight, each.out.bias, f"{names}3")


def _parallel(block: Parallel, here: str) -> Iterator[Entry]:
    yield from norm(block.norm, f"{here}norm")
    yield from linear(block.fused, None, f"{here}fused_linear")
    yield from linear(block.attention_out, None, f"{here}attn_out")
    yield from linear(block.hidden_out, None, f"{here}ff_out.2")
    yield from _query_norms(block, here)


def _sequential(block: Sequential, here: str) -> Iterator[Entry]:
    yield from norm(block.norm, f"{here}attention.norm")
    yield from linear(block.fused, None, f"{here}attention.to_qkv")
    yield from linear(block.attention_out, block.attention_bias, f"{here}attention.attn_out.0")
    yield from _query_norms(block, f"{here}attention.")
    yield from norm(block.hidden_norm, f"{here}ff.0")
    yield from linear(block.hidden_in, block.hidden_in_bias, f"{here}ff.1")
    yield from linear(block.hidden_out, block.hidden_out_bias, f"{here}ff.4")


def _query_norms(block: nnx.Module, here: str) -> Iterator[Entry]:
    if block.heads.query_norm is not None:
        yield from norm(block.heads.query_norm, f"{here}norm_q")
        yield from norm(block.heads.key_norm, f"{here}norm_k")


def readout(module: nnx.Module, here: str) -> Iterator[Entry]:
    def of_neurons(name, variable):
        neurons, channels = variable.shape
        return Entry(f"{here}{name}", variable, (1, 0), (1, channels, neurons))

    if isinstance(module, attention.Readout):
        yield of_neurons("features", module.features)
        yield of_neurons("neuron_query", module.queries)
        yield vector(f"{here}bias", module.bias)
        return
    if not isinstance(module, gaussian2d.Readout) or module.gaussian != "full":
        raise strange("readout", module)
    # Like the kits' but for the name and the shape of the feature weights.
    yield of_neurons("features", module.features)
    for entry in kit_readout(module, here):
        if not entry.name.endswith("_features"):
            yield entry
    if module.state is not None:
        state, names = module.state, f"{here}state_encoder."
        yield from linear(state.hidden.weight, state.hidden.bias, f"{names}0")
        yield from norm(state.norm, f"{names}1")
        yield from linear(state.out.weight, state.out.bias, f"{names}4")


def linear(weight: nnx.Variable, bias: nnx.Variable | None, name: str) -> Iterator[Entry]:
    yield Entry(f"{name}.weight", weight, (1, 0), weight.shape[::-1])
    if bias is not None:
        yield vector(f"{name}.bias", bias)


def norm(module: nnx.Module, name: str, axes=(0,), shape=None) -> Iterator[Entry]:
    if isinstance(module, norms.DyT):
        yield Entry(f"{name}.alpha", module.rate, (), (1,))
    yield Entry(f"{name}.weight", module.scale, axes, shape or module.scale.shape)
    if module.bias is not None:
        yield Entry(f"{name}.bias", module.bias, axes, shape or module.bias.shape)


def strange(part: str, module: nnx.Module) -> UserError:
    name = type(module).__module__.rpartition(".")[2]
    return UserError(
        f"found the {part} {name!r} in the model with settings that no published ViV1T has; build "
        "it with configs/dynamic_viv1t.py."
    )
