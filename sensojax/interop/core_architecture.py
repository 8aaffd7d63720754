"""The settings of a core, and of a recurrence behind it, from the names and shapes of its weights.

In: shapes of the arrays of a published state dict, under `core.` and `gru_module.`, and the names
of its modules where they are known; out: a `Core` and a `Found`: what the weights tell, what they
do not tell and all published models share, and what has to be asked for.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sensojax.errors import UserError

Shapes = Mapping[str, tuple[int, ...]]
PREFIX, GATES = "core.features.layer", "gru_module.gru."
SEPARABLE = ("ds_conv.in_depth_conv", "ds_conv.spatial_conv", "ds_conv.out_depth_conv")
IS_IT_LINEAR = (
    "the file does not say whether there are nonlinearities between the layers: true for the LN "
    "models, which have none, false for the others"
)


@dataclass
class Found:
    """Settings of one section: told by the weights, assumed as published, and asked for: why."""

    told: dict[str, Any] = field(default_factory=dict)
    assumed: dict[str, Any] = field(default_factory=dict)
    asked: dict[str, str] = field(default_factory=dict)


class Core(NamedTuple):
    """inputs: channels of the video. widths: channels of every layer's result."""

    found: Found
    inputs: int
    widths: list[int]


def core(shapes: Shapes, modules: frozenset[str] | None) -> Core:
    """The core; UserError when it is none of the kits' (whose arrays all have known names)."""
    layers = list(_layers(shapes))
    first = layers[0] if layers else {}
    if "conv_spatial.weight" in first:
        return _factorized3d(layers, modules)
    if "hermite_conv.coeffs" in first:
        return _rotation_equivariant2d(layers, modules)
    if len(first.get("conv.weight", ())) == 5:
        return _full3d(layers, modules)
    if len(first.get("conv.weight", ())) == 4:
        return _stacked2d(layers, modules)
    near = ", ".join(sorted(shapes)[:3])
    raise UserError(
        f"found no core of the Sensorium kits in the file (it has {near}, ...), expected names "
        f"such as {PREFIX}0.conv.weight; models of other laboratories have other names."
    )


def stack(widths: Sequence[int], wanted: int) -> Found:
    """Which layers are joined in the result, given how many channels are read of it."""
    if wanted in (widths[-1], sum(widths)):
        return Found(told=dict(stack=-1 if wanted == widths[-1] else ()))
    have = ", ".join(map(str, widths))
    why = f"{wanted} channels are read of layers that have {have}: which of them are joined"
    return Found(asked=dict(stack=why))


def recurrence(shapes: Shapes) -> tuple[Found, int]:
    """The recurrence behind the core, and how many channels it reads; told["name"] "" for none."""
    seen, before = (shapes.get(f"{GATES}out_gate_{side}.weight") for side in ("input", "hidden"))
    if seen is None or before is None:
        return Found(told=dict(name="")), 0
    groups = seen[0] // before[1]
    kernels = dict(input_kernel=seen[2], recurrent_kernel=before[2])
    told = dict(name="conv_gru", channels=seen[0], groups=groups, **kernels)
    return Found(told=told, assumed=dict(padding=True)), seen[1] * groups


def _layers(shapes: Shapes) -> Iterator[dict[str, tuple[int, ...]]]:
    """The shapes of each layer's arrays, by the rest of their names without the layer's number."""
    for index in range(len(shapes)):
        prefix = f"{PREFIX}{index}."
        inside = {n.removeprefix(prefix): s for n, s in shapes.items() if n.startswith(prefix)}
        if not inside:
            return
        # In the 3-D cores the convolutions of later layers carry the layer's number once more.
        yield {n.replace(f"_{index}.", ".", 1): shape for n, shape in inside.items()}


def _stacked2d(layers: Sequence[Shapes], modules) -> Core:
    separable = any("ds_conv.spatial_conv.weight" in layer for layer in layers)
    widths, inputs, kernels, biases = [], [], [], []
    for index, layer in enumerate(layers):
        names = SEPARABLE if index and separable else ("conv", "conv", "conv")
        first, seen, last = (_of(layer, index, f"{name}.weight", axes=4) for name in names)
        inputs.append(first[1])
        widths.append(last[0])
        kernels.append(_size(seen[2:]))
        biases.append(f"{names[0]}.bias" in layer)
    told = dict(
        name="stacked2d",
        channels=tuple(widths),
        kernels=tuple(kernels),
        separable=separable,
        skip=_skip(inputs, widths),
        conv_bias=tuple(biases),
        **_norms(layers),
    )
    found = _nonlinearities(len(layers), modules, final=True)
    paddings = ("valid", *("same",) * (len(layers) - 1))
    assumed = dict(strides=1, paddings=paddings, dilations=1, se_blocks=0, elu_shift=(0.0, 0.0))
    return _with(found, told, assumed, inputs[0], widths)


def _rotation_equivariant2d(layers: Sequence[Shapes], modules) -> Core:
    basis = _of_all(layers, "hermite_conv.rotate_hermite.H", axes=3)
    coefficients = _of_all(layers, "hermite_conv.coeffs", axes=3)
    rotations = sum(name.startswith("hermite_conv.rotate_hermite.Rs.") for name in layers[0])
    # There are k (k + 1) / 2 functions of k by k pixels, drawn on a finer grid.
    kernels = [round((8 * functions + 1) ** 0.5) // 2 for functions, _, _ in basis]
    features = [shape[2] for shape in coefficients]
    shared = any(name.startswith("norm.batch_norm.") for layer in layers for name in layer)
    told = dict(
        name="rotation_equivariant2d",
        channels=tuple(features),
        kernels=tuple(kernels),
        rotations=rotations,
        upsampling=basis[0][1] // kernels[0],
        shared_norm=shared,
        **_norms(layers),
    )
    found = _nonlinearities(len(layers), modules, final=False)
    if found.asked:  # there are none but this in any publication
        found = Found(assumed=dict(linear=False, final_nonlinearity=False))
    paddings = ("valid", *("same",) * (len(layers) - 1))
    assumed = dict(strides=1, paddings=paddings, elu_shift=(0.0, 0.0))
    widths = [rotations * each for each in features]
    return _with(found, told, assumed, coefficients[0][1], widths)


def _factorized3d(layers: Sequence[Shapes], modules) -> Core:
    space = _of_all(layers, "conv_spatial.weight", axes=5)
    time = _of_all(layers, "conv_temporal.weight", axes=5)
    norms = {name: each[0] for name, each in _norms(layers).items()}
    told = dict(
        name="factorized3d",
        channels=tuple(shape[0] for shape in space),
        spatial_kernels=tuple(_size(shape[3:]) for shape in space),
        temporal_kernels=tuple(shape[2] for shape in time),
        bias="conv_spatial.bias" in layers[0],
        batch_norm=norms["batch_norm"],
        norm_scale=norms["norm_scale"],
    )
    return _video(told, space, modules, padding=False)


def _full3d(layers: Sequence[Shapes], modules) -> Core:
    kernels = _of_all(layers, "conv.weight", axes=5)
    told = dict(
        name="full3d",
        channels=tuple(shape[0] for shape in kernels),
        spatial_kernels=tuple(_size(shape[3:]) for shape in kernels),
        temporal_kernels=tuple(shape[2] for shape in kernels),
        bias=tuple("conv.bias" in layer for layer in layers),
        **_norms(layers),
    )
    return _video(told, kernels, modules, padding=True)


def _video(told, kernels, modules, *, padding: bool) -> Core:
    """What both 3-D cores have; the published ones pad in space or not, each in its own way."""
    assumed = dict(strides=1, spatial_dilations=1, temporal_dilations=1, padding=padding)
    if modules is None or any(n.startswith(PREFIX) and n.endswith(".nonlin") for n in modules):
        assumed["nonlinearity"] = "elu"
    else:
        told["nonlinearity"] = "none"
    return Core(Found(told, assumed), kernels[0][1], [shape[0] for shape in kernels])


def _of_all(layers: Sequence[Shapes], name: str, axes: int) -> list[tuple[int, ...]]:
    return [_of(layer, index, name, axes) for index, layer in enumerate(layers)]


def _of(layer: Shapes, index: int, name: str, axes: int) -> tuple[int, ...]:
    """The shape of an array of a layer; UserError when there is none with so many axes."""
    if len(layer.get(name, ())) != axes:
        raise UserError(
            f"found in {PREFIX}{index} {', '.join(sorted(layer))}, expected {name} with {axes} "
            "axes; this kind of layer cannot be exchanged."
        )
    return layer[name]


def _with(found: Found, told, assumed, inputs, widths) -> Core:
    found.told |= told
    found.assumed |= assumed | dict(nonlinearity="elu")
    return Core(found, inputs, widths)


def _norms(layers: Sequence[Shapes]) -> dict[str, tuple[bool, ...]]:
    """Which layers have batch norm, and whether that has a gain and an offset."""
    parts = {
        "batch_norm": ("norm.running_mean", "norm.batch_norm.running_mean"),
        "norm_scale": ("norm.weight", "norm.batch_norm.weight", "scale.scale"),
        "norm_bias": ("norm.bias", "norm.batch_norm.bias", "bias.bias"),
    }
    return {
        setting: tuple(any(name in layer for name in names) for layer in layers)
        for setting, names in parts.items()
    }


def _nonlinearities(count: int, modules, *, final: bool) -> Found:
    """Which layers are followed by one; final: whether the published models' last layer is."""
    if modules is None:
        return Found(assumed=dict(final_nonlinearity=final), asked=dict(linear=IS_IT_LINEAR))
    has = [f"{PREFIX}{index}.nonlin" in modules for index in range(count)]
    if len(set(has[:-1])) > 1 or (has[-1] and not all(has)):
        raise UserError(
            f"found nonlinearities after some layers of the core only ({has}), expected all, none, "
            "or all but the last; such a model cannot be exchanged."
        )
    return Found(told=dict(linear=not any(has), final_nonlinearity=has[-1]))


def _skip(inputs: Sequence[int], widths: Sequence[int]) -> int:
    """How many layers before it each layer reads, joined."""
    for skip in range(1, len(widths) + 1):
        if all(inputs[i] == sum(widths[max(0, i - skip) : i]) for i in range(1, len(widths))):
            return skip
    raise UserError(
        f"found layers with {', '.join(map(str, inputs))} channels in and "
        f"{', '.join(map(str, widths))} out, which do not fit each other; get the file again."
    )


def _size(kernel: Sequence[int]) -> int | tuple[int, ...]:
    return kernel[0] if len(set(kernel)) == 1 else tuple(kernel)
