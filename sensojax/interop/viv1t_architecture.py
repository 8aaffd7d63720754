"""The settings of a ViV1T, of 2023 or 2025, from the names and shapes of its weights (sota 2, 3).

In: what a file tells of a published state dict; out: an `Architecture`. Widths, numbers of blocks,
kinds of position codes, readouts and shifters are told. How the numbers of a patch are made up of
channels, frames and pixels is not, nor how wide a head is where none of the small tables beside the
weights says so: there the published sizes are taken if they fit, and asked for if they do not.
"""

import dataclasses
from typing import NamedTuple

from sensojax.errors import UserError
from sensojax.interop import mouse_architecture, viv1t_tokens
from sensojax.interop.core_architecture import Found, Shapes
from sensojax.interop.told import Architecture, File, together

SPACE, TIME = ("core.vivit.spatial_transformer.blocks.", "core.vivit.temporal_transformer.blocks.")
NETWORK = "state_encoder.models."


class Generation(NamedTuple):
    """What weights do not tell of a published model."""

    page: str
    heads: int
    head_width: int
    activation: str
    output: str
    tokens: viv1t_tokens.Published


OF_2023 = Generation(
    "viv1t2023", 11, 48, "gelu", "exponential", viv1t_tokens.Published("core.vivit.", 25)
)
OF_2025 = Generation("viv1t2025", 2, 80, "relu", "elu", viv1t_tokens.Published("core.", 13))


def of(file: File) -> Architecture:
    """UserError for parts that we do not have, and for arrays that do not fit each other."""
    published = OF_2023 if viv1t_tokens.has(file, OF_2023.tokens) else OF_2025
    if not viv1t_tokens.has(file, published.tokens):
        raise UserError(
            "found a ViV1T without a tokeniser that we know, expected core.tokenizer.* or "
            "core.vivit.tokenizer.*; such a model cannot be exchanged."
        )
    core, columns = _core(file, published)
    readout, mice = _readouts(file.shapes)
    found = dict(
        data=_normalization(file, published),
        inputs=Found(told=dict(behavior=columns > 0, behavior_columns=(), pupil=columns > 2)),
        core=core,
        recurrent=Found(told=dict(name="")),
        readout=readout,
        shifter=mouse_architecture.shifter(file.shapes, mice, "shifters"),
        output=_output(file.shapes, published),
    )
    return together(published.page, found, mice)


def _normalization(file: File, published: Generation) -> Found:
    if "data.normalization" in file.given:
        return Found()
    name = "viv1t2023" if published is OF_2023 else "per_neuron"
    return Found(assumed=dict(normalization=name))


def _core(file: File, published: Generation) -> tuple[Found, int]:
    """The core's settings, and how many columns of behaviour and pupil it sees."""
    shapes = file.shapes
    block = {n.removeprefix(f"{SPACE}0."): s for n, s in shapes.items() if n.startswith(SPACE)}
    parallel = "fused_linear.weight" in block
    before = "" if parallel else "attention."
    first, out = ("fused_linear", "attn_out") if parallel else ("to_qkv", "attn_out.0")
    fused, attention_out = (block.get(f"{before}{name}.weight", ()) for name in (first, out))
    last = block.get("ff_out.2.weight" if parallel else "ff.4.weight", ())
    if any(len(shape) != 2 for shape in (fused, attention_out, last)):
        raise UserError(
            f"found in {SPACE}0 {', '.join(sorted(block)[:5])}, expected maps of a parallel or a "
            "sequential block; such a model cannot be exchanged."
        )
    features, inner = attention_out
    hidden = last[1]
    thinking = fused[0] - 3 * inner if parallel else block["ff.1.weight"][0]
    found = Found(
        told=dict(
            name="viv1t2023" if published is OF_2023 else "viv1t",
            features=features,
            hidden=hidden,
            spatial_blocks=_count(shapes, SPACE),
            temporal_blocks=_count(shapes, TIME),
            normalize_queries=f"{before}norm_q.weight" in block,
        )
    )
    if thinking == 2 * hidden:
        found.told["activation"] = "swiglu"
    else:
        found.assumed["activation"] = published.activation
    _add_heads(found, file, published, inner)
    behavior = [s for n, s in block.items() if n.startswith(NETWORK)]
    if behavior:
        inputs = max(shape[-1] for shape in behavior if len(shape) == 2 and shape[0] != features)
    tokens = viv1t_tokens.of(file, published.tokens, inputs if behavior else None)
    columns = tokens.columns
    found.told |= tokens.found.told
    found.assumed |= tokens.found.assumed
    found.asked |= tokens.found.asked
    if published is OF_2023:
        found.told["blocks"] = "parallel" if parallel else "sequential"
        shared = any(name.startswith(f"{NETWORK}share.") for name in block)
        found.told["behavior"] = ("network" if shared else "networks") if behavior else "planes"
    else:
        _add_2025(found, shapes, block)
    return found, columns


def _add_heads(found: Found, file: File, published: Generation, inner: int) -> None:
    """How many heads there are, of which the weights only tell the width together."""
    numbers, given = file.numbers, file.given
    angles = (f"{here}0.rotary_position_embedding.inv_freq" for here in (SPACE, TIME))
    turned = [file.shapes[name][0] for name in angles if name in file.shapes]
    scale = numbers.get(f"{SPACE}0.scale")
    if turned:
        width = 2 * turned[0]
    elif scale:
        width = round(scale**-2)
    elif "core.heads" in given:
        width = inner / given["core.heads"]
    elif "core.head_width" in given:
        width = given["core.head_width"]
    elif inner == published.heads * published.head_width:
        found.assumed |= dict(heads=published.heads, head_width=published.head_width)
        return
    else:
        found.asked["heads"] = f"attention is {inner} wide, that of all heads together: how many"
        return
    if not width or width % 1 or inner % width:
        raise UserError(
            f"found attention that is {inner} wide in all and heads of {width:g}, expected a "
            "multiple; correct core.heads, or get the file again."
        )
    found.told |= dict(heads=int(inner // width), head_width=int(width))


def _add_2025(found: Found, shapes: Shapes, block: Shapes) -> None:
    norm = "dyt" if "norm.alpha" in block else "layer" if "norm.bias" in block else "rms"
    registers = shapes.get("core.vivit.reg_s_tokens", (0,))[0]
    found.told |= dict(norm=norm, registers=registers)
    found.assumed |= dict(causal=True, padded=True, final="none", rotary_gain="published")


def _count(shapes: Shapes, prefix: str) -> int:
    return len({n.removeprefix(prefix).split(".")[0] for n in shapes if n.startswith(prefix)})


def _output(shapes: Shapes, published: Generation) -> Found:
    if any(n.startswith("output_activation.") and n.endswith(".log_beta") for n in shapes):
        return Found(told=dict(name="softplus", learned=True))
    return Found(assumed=dict(name=published.output))


def _readouts(shapes: Shapes) -> tuple[Found, dict[str, int]]:
    found, neurons = {}, {}
    for mouse, parts in mouse_architecture.by_mouse(shapes, "readouts").items():
        if "features" not in parts:
            continue  # what all mice share
        neurons[mouse] = parts["features"][2]
        if "sigma" in parts:
            found[mouse] = _gaussian(mouse, parts)
        elif "neuron_query" in parts:
            told = dict(name="attention", embedding=parts["features"][1])
            found[mouse] = Found(told=told)
    if not found or len(found) != len(neurons):
        raise UserError(
            "found no readouts in the file that we know, expected those of a Gaussian "
            "(readouts.<mouse>.sigma) or of attention (readouts.<mouse>.neuron_query); such a "
            "model cannot be exchanged."
        )
    return mouse_architecture.same(found, "readouts"), neurons


def _gaussian(mouse: str, parts: Shapes) -> Found:
    """Like the kits', but the network may see depth, and what the animal does may enter."""
    reads_state = "state_encoder.0.weight" in parts
    dimensions = parts.get("source_grid", (0, 2))[1]
    as_of_two = {**parts, **{n: (s[0], 2) for n, s in parts.items() if n == "source_grid"}}
    found = mouse_architecture.gaussian(f"readouts.{mouse}", as_of_two, frozenset())
    told = found.told | dict(cortex_dimensions=dimensions, reads_state=reads_state)
    if "final_tanh" in told:
        told["final_tanh"] = True  # there is no other
    return dataclasses.replace(found, told=told)
