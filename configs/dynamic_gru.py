"""A 2-D core on every frame and a convolutional GRU behind it: the GRU baseline of Sensorium 2023.

    python -m sensojax.main --config configs/dynamic_gru.py --workdir runs/gru

Presets, after a colon; every setting is explained in configs/dynamic.py:

simulated (default)  two simulated mice and a small model; about three minutes on 2 CPU cores,
                     ending near 0.6 of the exact ceiling on tier oracle.
sensorium            the published benchmark on recorded mice: a rotation-equivariant core and a
                     GRU of 64 channels; --config.data.folder=STORES.
kit                  `sensorium` with the mechanics of the published training code as well.
demo                 the smaller model of the published notebook: a plain 2-D core, 7x7 GRU.
tiny                 seconds; for tests.
"""

from ml_collections import ConfigDict

from configs import dynamic
from sensojax.errors import check_name

PRESETS = ("simulated", "sensorium", "kit", "demo", "tiny")


def get_config(preset: str = "simulated") -> ConfigDict:
    check_name(preset, PRESETS, "preset")
    config = dynamic.get_config("sensorium" if preset == "demo" else preset)
    config.core = dict(
        name="rotation_equivariant2d",
        channels=(8, 8, 8, 8),  # in each of 8 orientations
        kernels=(9, 7, 7, 7),
        strides=(1, 1, 1, 1),
        paddings=("valid", "same", "same", "same"),
        rotations=8,
        final_nonlinearity=False,
        spatial_smoothness=500.0,
        group_sparsity=500_000.0,
        weight_of_new=0.9,
    )
    config.recurrent = dict(name="conv_gru", channels=64, input_kernel=9, recurrent_kernel=9)
    if preset == "demo":
        _demo(config)
    elif preset == "simulated":
        _simulated(config)
    elif preset == "tiny":
        _simulated(config)
        _tiny(config)
    return config


def _demo(config: ConfigDict) -> None:
    config.data.window_frames = 60
    config.data.batch_size = 16
    config.core = dict(
        name="stacked2d",
        channels=(64, 64, 64, 64),
        kernels=(9, 7, 7, 7),
        paddings=("valid", "same", "same", "same"),
        separable=False,
        conv_bias=(False, True, True, True),  # idle before batch norm, and published nonetheless
        final_nonlinearity=False,
        spatial_smoothness=500.0,
        group_sparsity=500_000.0,
        weight_of_new=0.9,
    )
    config.recurrent.update(input_kernel=7, recurrent_kernel=7)


def _simulated(config: ConfigDict) -> None:
    # One layer, since the recurrence sees neighbours as well. Its map must be fine: with a stride
    # of 2 the score was a quarter lower.
    config.core.channels = (2,)
    config.core.kernels = (7,)
    config.core.strides = (1,)
    config.core.paddings = ("valid",)
    config.core.final_nonlinearity = True
    config.core.spatial_smoothness = 10.0  # a tenth of the neurons speak against it
    config.core.group_sparsity = 0.0
    config.core.weight_of_new = 0.1
    config.recurrent.update(channels=16, input_kernel=5, recurrent_kernel=5)


def _tiny(config: ConfigDict) -> None:
    config.core.kernels = (5,)
    config.core.rotations = 4
    config.recurrent.update(channels=4, input_kernel=3, recurrent_kernel=3)
