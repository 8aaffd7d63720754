"""3-D cores as golden files describe them, from the list of layers as they were really built."""

from flax import nnx

from sensojax.models.cores import factorized3d, full3d

SMOOTHNESS = {"LaplaceL2norm": "laplace_l2_norm", "LaplaceL2": "laplace_l2"}


def _parts(resolved: dict) -> list[dict]:
    """Of every layer its parts by kind (convolutions of hidden layers carry a number)."""
    kinds = ("spatial", "temporal", "conv", "norm", "nonlin", "scale", "bias")
    return [
        {next(kind for kind in kinds if kind in part["name"]): part for part in layer["parts"]}
        for layer in resolved["layers"]
    ]


def _penalties(settings: dict) -> dict:
    padding = settings["laplace_padding"]
    return dict(
        spatial_smoothness=settings["gamma_input_spatial"],
        temporal_smoothness=settings["gamma_input_temporal"],
        smoothness=SMOOTHNESS[settings["input_regularizer"]],
        laplace_padding=1 if padding is None else padding,
        rngs=nnx.Rngs(0),
    )


def factorized3d_from(resolved: dict, settings: dict) -> factorized3d.Core:
    per_layer = _parts(resolved)
    space = [layer["spatial"] for layer in per_layer]
    time = [layer["temporal"] for layer in per_layer]
    return factorized3d.Core(
        space[0]["channels_in"],
        channels=[part["channels_out"] for part in space],
        spatial_kernels=[part["kernel"][1:] for part in space],
        temporal_kernels=[part["kernel"][0] for part in time],
        strides=[part["stride"][1] for part in space],
        spatial_dilations=[part["dilation"][1] for part in space],
        temporal_dilations=[part["dilation"][0] for part in time],
        padding=settings["padding"],
        bias=settings["bias"],
        batch_norm="norm" in per_layer[0],
        norm_scale=settings["batch_norm_scale"],
        weight_of_new=settings["momentum"],
        nonlinearity=per_layer[0]["nonlin"]["type"] if "nonlin" in per_layer[0] else "none",
        **_penalties(settings),
    )


def full3d_from(resolved: dict, settings: dict) -> full3d.Core:
    per_layer = _parts(resolved)
    convolutions = [layer["conv"] for layer in per_layer]
    own = ["norm" in layer and layer["norm"]["own_scale_and_shift"] for layer in per_layer]
    return full3d.Core(
        convolutions[0]["channels_in"],
        channels=[part["channels_out"] for part in convolutions],
        spatial_kernels=[part["kernel"][1:] for part in convolutions],
        temporal_kernels=[part["kernel"][0] for part in convolutions],
        strides=[part["stride"][1] for part in convolutions],
        spatial_dilations=[part["dilation"][1] for part in convolutions],
        temporal_dilations=[part["dilation"][0] for part in convolutions],
        padding=settings["padding"],
        bias=[part["bias"] for part in convolutions],
        batch_norm=["norm" in layer for layer in per_layer],
        norm_scale=[a or "scale" in layer for a, layer in zip(own, per_layer, strict=True)],
        norm_bias=[a or "bias" in layer for a, layer in zip(own, per_layer, strict=True)],
        weight_of_new=settings["momentum"],
        nonlinearity=[
            layer["nonlin"]["type"] if "nonlin" in layer else "none" for layer in per_layer
        ],
        **_penalties(settings),
    )
