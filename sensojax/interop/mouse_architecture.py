"""The settings of readouts and pupil shifters, from the names and shapes of their weights.

In: shapes of the arrays of a published state dict under `readout.<mouse>.` and `shifter.<mouse>.`,
and the names of its modules where they are known; out: the mice with their neurons and channels,
and a `Found` for each section. All mice of a model share one setting.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from sensojax.errors import UserError
from sensojax.interop.core_architecture import Found, Shapes

SIGMAS = {(2, 2): "full", (1, 2): "uncorrelated", (1, 1): "isotropic"}
WHOLE_STATE = 4  # columns of what a shifter may see: behaviour and the pupil


class Readouts(NamedTuple):
    """mice: {mouse: number of neurons}. channels: features that every neuron weighs."""

    found: Found
    mice: dict[str, int]
    channels: int


def readouts(shapes: Shapes, modules: frozenset[str] | None) -> Readouts:
    """The readouts of all mice; UserError when there are none, or when they differ in kind."""
    of_mice = by_mouse(shapes, "readout")
    if not of_mice:
        raise UserError(
            "found no readouts in the file, expected names such as readout.<mouse>._features; "
            "models of other laboratories have other names."
        )
    found, channels, neurons = {}, {}, {}
    for mouse, parts in of_mice.items():
        features = parts.get("_features", ())
        if len(features) == 4 and "sigma" in parts:
            found[mouse] = gaussian(f"readout.{mouse}", parts, modules)
            channels[mouse], neurons[mouse] = features[1], features[3]
        elif len(features) == 2 and "spatial" in parts:
            found[mouse] = Found(
                told=dict(name="factorized2d", bias="bias" in parts),
                assumed=dict(normalize=True, constrain_pos=False, positive_spatial=False),
            )
            neurons[mouse], channels[mouse] = features
        else:
            raise UserError(
                f"found the readout of {mouse} with {', '.join(sorted(parts))}, expected a "
                "Gaussian one (_features, sigma) or a factorised one (_features, spatial); others "
                "cannot be exchanged."
            )
    return Readouts(same(found, "readouts"), neurons, same(channels, "numbers of features"))


def map_size(shapes: Shapes) -> tuple[int, int] | None:
    """(height, width) of the features that factorised readouts were made for; None for others."""
    sizes = [s[1:] for n, s in shapes.items() if re.fullmatch(r"readout\.[^.]+\.spatial", n)]
    return sizes[0] if sizes else None


def shifter(shapes: Shapes, mice: Mapping[str, int], group: str = "shifter") -> Found:
    """The pupil shifters, under names that begin with `group`; told["name"] "" for none."""
    of_mice = by_mouse(shapes, group)
    if not of_mice:
        return Found(told=dict(name=""))
    if set(of_mice) != set(mice):
        raise UserError(
            f"found pupil shifters of {', '.join(of_mice)} and readouts of {', '.join(mice)}, "
            "expected both of the same mice; such a model cannot be exchanged."
        )
    return same({mouse: _shifter(mouse, parts) for mouse, parts in of_mice.items()}, "shifters")


def by_mouse(shapes: Shapes, group: str) -> dict[str, dict[str, tuple[int, ...]]]:
    """The shapes of each mouse's arrays in `<group>.<mouse>.`, by the rest of their names."""
    found: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in shapes.items():
        parts = name.split(".", 2)
        if len(parts) == 3 and parts[0] == group:
            found.setdefault(parts[1], {})[parts[2]] = shape
    return found


def gaussian(here: str, parts: Shapes, modules: frozenset[str] | None) -> Found:
    """A Gaussian readout of these arrays, whose names begin with `here`."""
    sigma = parts["sigma"][2:]
    if sigma not in SIGMAS:
        raise UserError(
            f"found {here}.sigma with the shape {parts['sigma']}, expected one of a "
            f"Gaussian: {', '.join(map(str, SIGMAS))} for each neuron; get the file again."
        )
    told = dict(name="gaussian2d", gaussian=SIGMAS[sigma], bias="bias" in parts)
    if "_mu" in parts:
        return Found(told=told | dict(positions="learned"))
    places = sorted(
        int(n.split(".")[1]) for n in parts if re.fullmatch(r"mu_transform\.\d+\.weight", n)
    )
    weights = [parts[f"mu_transform.{place}.weight"] for place in places]
    if not weights or len(parts.get("source_grid", ())) != 2:
        raise UserError(
            f"found {here} without positions, expected _mu, or source_grid and "
            "mu_transform; models whose mice share positions cannot be exchanged."
        )
    if parts["source_grid"][1] != 2:
        raise UserError(
            f"found {here} with positions from {parts['source_grid'][1]} coordinates of "
            "cortex, expected 2; such a model cannot be exchanged."
        )
    told |= dict(positions="cortex", hidden_layers=len(weights) - 1)
    if len(weights) > 1:
        told["hidden_features"] = weights[0][0]
    if modules is None:
        return Found(told=told, assumed=dict(final_tanh=True))
    last = f"{here}.mu_transform.{places[-1] + 1}"
    return Found(told=told | dict(final_tanh=last in modules))


def _shifter(mouse: str, parts: Shapes) -> Found:
    weights = [parts[name] for name in sorted(parts) if re.fullmatch(r"mlp\.\d+\.weight", name)]
    if weights and weights[0][1] in (2, WHOLE_STATE):
        reads_state = weights[0][1] == WHOLE_STATE
        told = dict(name="mlp", num_layers=len(weights), reads_state=reads_state)
        if len(weights) > 1:
            told["hidden"] = weights[0][0]
        return Found(told=told)
    if parts.get("weight") == (2, 2):
        return Found(told=dict(name="affine"))
    raise UserError(
        f"found the pupil shifter of {mouse} with {', '.join(sorted(parts))}, expected one that "
        "sees the pupil's two coordinates, or the behaviour's two columns as well; others cannot "
        "be exchanged."
    )


def same(of_mice: Mapping, what: str) -> Any:
    """What is the same for all mice; UserError where they differ."""
    first, *others = of_mice.items()
    for mouse, other in others:
        if other != first[1]:
            raise UserError(
                f"found {what} of two kinds, of {first[0]} and of {mouse}, expected the same for "
                "all mice; such a model cannot be exchanged."
            )
    return first[1]
