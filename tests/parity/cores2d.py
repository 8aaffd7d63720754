"""2-D cores as golden files describe them, from the list of layers as they were really built.

Their arrays are zeros, to be loaded from the file.
"""

import functools

from flax import nnx

from sensojax.models.cores import rotation_equivariant2d, stacked2d
from tests.models.made_up import unfilled

SMOOTHNESS = {
    "LaplaceL1": "laplace_l1",
    "LaplaceL2": "laplace_l2",
    "LaplaceL2norm": "laplace_l2_norm",
    "GaussianLaplaceL2": "gaussian_laplace_l2",
}


def _parts(resolved: dict, *names: str) -> list:
    """Of every layer the part with one of these names, or None."""
    found = []
    for layer in resolved["layers"]:
        named = {part["name"]: part for part in layer["parts"]}
        found.append(next((named[name] for name in names if name in named), None))
    return found


def _shared(resolved: dict, settings: dict) -> dict:
    """Settings that both cores have."""
    norms, nonlinear = _parts(resolved, "norm"), _parts(resolved, "nonlin")
    own = [norm is not None and norm["own_scale_and_shift"] for norm in norms]
    active = [each for each in nonlinear if each is not None]
    padding = settings["laplace_padding"]
    return dict(
        batch_norm=[norm is not None for norm in norms],
        norm_scale=[a or bool(b) for a, b in zip(own, _parts(resolved, "scale"), strict=True)],
        norm_bias=[a or bool(b) for a, b in zip(own, _parts(resolved, "bias"), strict=True)],
        weight_of_new=settings["momentum"],
        nonlinearity=active[0]["type"] if active else "none",
        elu_shift=(active[0]["input_shift"], active[0]["output_shift"]) if active else (0.0, 0.0),
        linear=not active,
        final_nonlinearity=nonlinear[-1] is not None,
        stack=resolved["stacked_layers"],
        spatial_smoothness=settings["gamma_input"],
        smoothness=SMOOTHNESS[settings["input_regularizer"]],
        laplace_padding=1 if padding is None else padding,
        group_sparsity=settings["gamma_hidden"],
        average_penalties=settings["use_avg_reg"],
    )


def stacked2d_from(resolved: dict, settings: dict) -> stacked2d.Core:
    convolutions = _parts(resolved, "conv", "ds_conv")
    separable = any("parts" in part for part in convolutions)
    # Of the three convolutions of a separable one, the middle one sees the neighbourhood.
    seen = [part["parts"][1] if "parts" in part else part for part in convolutions]
    build = functools.partial(
        stacked2d.Core,
        convolutions[0]["channels_in"],
        channels=[part["channels_out"] for part in seen],
        kernels=[part["kernel"] for part in seen],
        strides=[part["stride"] for part in seen],
        paddings=[part["padding"] for part in seen],
        dilations=[part["dilation"] for part in seen],
        separable=separable,
        skip=settings["skip"],
        conv_bias=[part["bias"] for part in seen],
        **_shared(resolved, settings),
    )
    return unfilled(lambda: build(rngs=nnx.Rngs(0)))


def rotation_equivariant2d_from(resolved: dict, settings: dict) -> rotation_equivariant2d.Core:
    seen = _parts(resolved, "hermite_conv")
    build = functools.partial(
        rotation_equivariant2d.Core,
        seen[0]["features_in"],
        channels=[part["features_out"] for part in seen],
        kernels=[part["filter_size"] for part in seen],
        strides=[part["stride"] for part in seen],
        paddings=[part["padding"] for part in seen],
        rotations=seen[0]["rotations"],
        upsampling=seen[0]["upsampling"],
        shared_norm=settings["rot_eq_batch_norm"],
        **_shared(resolved, settings),
    )
    return unfilled(lambda: build(rngs=nnx.Rngs(0)))
