"""A 2-D core on every frame by itself: what can be predicted without memory.

    python -m sensojax.main --config configs/dynamic_frames.py --workdir runs/frames

Presets, after a colon; every setting is explained in configs/dynamic.py:

simulated (default)  a linear-nonlinear model of two simulated mice, the frame-wise linear baseline:
                     one layer of linear filters, a readout, and the output's nonlinearity.
cnn                  the same mice with a small nonlinear core.
sensorium            the core of the published models of images (2022), on the frames of recorded
                     mice; --config.data.folder=STORES. A public reproduction reports a single-trial
                     correlation of 0.164 on tier oracle of the five newer mice.
tiny                 seconds; for tests.
"""

from ml_collections import ConfigDict

from configs import dynamic
from sensojax.errors import check_name

PRESETS = ("simulated", "cnn", "sensorium", "tiny")


def get_config(preset: str = "simulated") -> ConfigDict:
    check_name(preset, PRESETS, "preset")
    config = dynamic.get_config("simulated" if preset == "cnn" else preset)
    config.core = dict(
        name="stacked2d",
        channels=(64, 64, 64, 64),
        kernels=(9, 7, 7, 7),
        paddings=("valid", "same", "same", "same"),
        separable=True,
        conv_bias=(False, True, True, True),
        linear=False,
        spatial_smoothness=6.3831,
        group_sparsity=0.0,
        weight_of_new=0.9,
    )
    if preset == "cnn":
        _small(config, (16, 32), (7, 5), linear=False)
    elif preset == "simulated":
        _small(config, (32,), (9,), linear=True)  # more layers would make no other filters
    elif preset == "tiny":
        _small(config, (4,), (5,), linear=True)
    return config


def _small(config: ConfigDict, channels: tuple, kernels: tuple, *, linear: bool) -> None:
    config.core.update(
        channels=channels,
        kernels=kernels,
        paddings=("valid", "same")[: len(channels)],
        separable=False,
        conv_bias=(False,) * len(channels),
        linear=linear,
        weight_of_new=0.1,
    )
