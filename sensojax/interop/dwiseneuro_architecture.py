"""The settings of a DwiseNeuro from the names and shapes of its weights (sota 1.2).

In: the shapes of the arrays of a published state dict; out: an `Architecture`. Widths, kernels,
groups and the reduction of squeeze-excite are told; strides and the steepness of the last softplus
are not, and taken as published. Nor do weights tell which fold of seven the model has not seen:
that stands in the name of its folder, or has to be said.
"""

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sensojax.errors import UserError
from sensojax.interop.core_architecture import Found, Shapes
from sensojax.interop.told import Architecture, File, together

STEM = "core.stem.0.weight"
STRIDES = (2, 1, 1, 1, 2, 1, 1, 2, 1)
BETA = 0.07
SQUEEZE = 32
COLUMNS = {1: (False, False), 3: (True, False), 5: (True, True)}  # channels: behaviour, pupil


def of(file: File) -> Architecture:
    """UserError for arrays that do not fit each other."""
    core = _core(file.shapes, file.given)
    readout, mice = _readouts(file.shapes, core.told["cortex"][-1])
    channels = file.shapes[STEM][1]
    if channels not in COLUMNS:
        raise UserError(
            f"found a DwiseNeuro that sees {channels} channels, expected one of "
            f"{', '.join(map(str, COLUMNS))}; such a model cannot be exchanged."
        )
    behavior, pupil = COLUMNS[channels]
    found = dict(
        data=_fold(file),
        inputs=Found(told=dict(behavior=behavior, behavior_columns=(), pupil=pupil)),
        core=core,
        recurrent=Found(told=dict(name="")),
        readout=readout,
        shifter=Found(told=dict(name="")),
        output=Found(told=dict(name="softplus", learned=False), assumed=dict(beta=BETA)),
    )
    return together("dwiseneuro", found, mice, spare=readout.told["groups"] - 1)


def _core(shapes: Shapes, given: Mapping[str, Any]) -> Found:
    blocks = _blocks(shapes)
    inputs, hidden, outputs = zip(*(each["widths"] for each in blocks), strict=True)
    if outputs != (*inputs[1:], inputs[-1]) or shapes[STEM][0] != inputs[0]:
        raise UserError(
            f"found blocks with {', '.join(map(str, inputs))} features in and "
            f"{', '.join(map(str, outputs))} out, which do not fit each other; get the file again."
        )
    cortex, groups = _cortex(shapes, inputs[-1])
    found = Found(
        told=dict(
            name="dwiseneuro",
            features=inputs,
            expansion=_one((h // i for i, h in zip(inputs, hidden, strict=True)), "expansions"),
            spatial_kernel=_one((each["space"] for each in blocks), "spatial kernels"),
            temporal_kernel=_one((each["time"] for each in blocks), "temporal kernels"),
            squeeze=_squeeze(hidden, [each["gates"] for each in blocks]),
            cortex=cortex,
            groups=groups,
        )
    )
    if len(inputs) == len(STRIDES):
        found.assumed["strides"] = STRIDES
    elif "core.strides" not in given:
        found.asked["strides"] = (
            f"it has {len(inputs)} blocks where published ones have {len(STRIDES)}: the stride of "
            "each in space"
        )
    return found


def _blocks(shapes: Shapes) -> list[dict[str, Any]]:
    """Of each block (which share their list with the position codes): widths and kernels."""
    found = []
    for number in itertools.count():
        here = f"core.blocks.{2 * number + 1}."
        if f"{here}conv_pw.0.weight" not in shapes:
            break
        names = ("conv_pw.0", "spat_covn_dw.0", "temp_covn_dw.0", "se.conv_reduce", "conv_pwl.0")
        parts = [shapes.get(f"{here}{name}.weight", ()) for name in names]
        if any(len(part) != 5 for part in parts):
            raise UserError(
                f"found in {here}* no {' or '.join(names)} with five axes, expected all of them; "
                "get the file again."
            )
        widen, space, time, gates, narrow = parts
        widths = (widen[1], widen[0], narrow[0])
        found.append(dict(widths=widths, space=space[3], time=time[2], gates=gates[0]))
    if not found:
        raise UserError(
            "found a DwiseNeuro without blocks, expected core.blocks.1.conv_pw.0.weight and so "
            "on; get the file again."
        )
    return found


def _cortex(shapes: Shapes, width: int) -> tuple[tuple[int, ...], int]:
    """The widths of its layers, and in how many groups they see features."""
    widths, groups = [width], []
    for number in itertools.count():
        shape = shapes.get(f"cortex.layers.{number}.conv.weight")
        if shape is None:
            break
        groups.append(widths[-1] // shape[1])
        widths.append(shape[0])
    if not groups:
        raise UserError(
            "found a DwiseNeuro without cortex, expected cortex.layers.0.conv.weight; get the file "
            "again."
        )
    return tuple(widths[1:]), _one(groups, "numbers of groups")


def _readouts(shapes: Shapes, width: int) -> tuple[Found, dict[str, int]]:
    """The readouts' settings, and how many outputs each numbered one has."""
    heads = {}
    for number in itertools.count():
        shape = shapes.get(f"readouts.{number}.layer.1.weight")
        if shape is None:
            break
        heads[str(number)] = shape
    if not heads:
        raise UserError(
            "found a DwiseNeuro without readouts, expected readouts.0.layer.1.weight; get the file "
            "again."
        )
    groups = _one((width // shape[1] for shape in heads.values()), "numbers of groups")
    return Found(told=dict(name="grouped", groups=groups)), {m: s[0] for m, s in heads.items()}


def _squeeze(hidden: Sequence[int], gates: Sequence[int]) -> int:
    """By what squeeze-excite divides a width; all that give the same gates mean the same."""
    known = (SQUEEZE, *range(1, max(hidden) + 1))
    for divisor in known:
        if all(width // divisor == count for width, count in zip(hidden, gates, strict=True)):
            return divisor
    raise UserError(
        f"found squeeze-excite of {', '.join(map(str, gates))} of {', '.join(map(str, hidden))} "
        "features, expected the same fraction everywhere; such a model cannot be exchanged."
    )


def _fold(file: File) -> Found:
    """The fold that it has not seen, from a folder's name such as fold_3."""
    if file.given.keys() & {"data.fold", "data.folds"}:
        return Found()
    named = re.findall(r"(?:^|/)fold_(\d+)(?=/)", file.path.as_posix())
    if named:
        return Found(told=dict(fold=int(named[-1])))
    why = (
        "the number of the published fold that it was not trained on, 0 to 6, which is no part of "
        "its weights and stands in the name of its folder (fold_3)"
    )
    return Found(asked=dict(fold=why))


def _one(values, what: str) -> int:
    """The only value; UserError when there are several."""
    values = list(values)
    if len(set(values)) != 1:
        raise UserError(
            f"found {what} {', '.join(map(str, values))} in one DwiseNeuro, expected the same "
            "everywhere; such a model cannot be exchanged."
        )
    return values[0]
