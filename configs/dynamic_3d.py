"""Cores that convolve over space and time at once, and the other models of the published notebook.

    python -m sensojax.main --config configs/dynamic_3d.py --workdir runs/full3d

Presets, after a colon; every setting is explained in configs/dynamic.py:

simulated (default)  two simulated mice and a small full 3-D core; about three minutes on 2 CPU
                     cores, ending near 0.7 of the exact ceiling on tier oracle.
sensorium            the full 3-D model of the published notebook on recorded mice;
                     --config.data.folder=STORES.
kit                  `sensorium` with the mechanics of the published training code as well.
demo_factorized      the notebook's factorised core (the benchmark's is configs/dynamic.py), and
demo_factorized_readout  the same with a mask over the map for every neuron, and no pupil shift.
tiny                 seconds; for tests.
"""

from ml_collections import ConfigDict

from configs import dynamic
from sensojax.errors import check_name

PRESETS = (
    "simulated",
    "sensorium",
    "kit",
    "demo_factorized",
    "demo_factorized_readout",
    "tiny",
)


def get_config(preset: str = "simulated") -> ConfigDict:
    check_name(preset, PRESETS, "preset")
    published = preset.startswith("demo")
    config = dynamic.get_config("sensorium" if published else preset)
    config.core = dict(
        name="factorized3d" if published else "full3d",
        channels=(64, 64, 64) if published else (64, 64),
        spatial_kernels=(11, 7, 7) if published else (9, 7),
        temporal_kernels=(11, 7, 7) if published else (9, 9),
        strides=(1, 1, 1) if published else (1, 1),
        padding=True,
        spatial_smoothness=0.0,
        temporal_smoothness=0.0,
        weight_of_new=0.7,
    )
    if preset in ("simulated", "tiny"):
        _simulated(config)
    else:
        config.data.window_frames = 60
        config.data.batch_size = 16
    if preset == "demo_factorized_readout":
        config.readout = dict(
            name="factorized2d",
            normalize=False,
            bias=False,
            init_noise=1e-3,
            l1="per_neuron",  # or "published", which couples all neurons
            l1_weight=0.0,
        )
        config.shifter.name = ""  # whole maps are read: there is nothing to shift
    elif preset == "tiny":
        config.core.channels = (4, 4)
        config.core.spatial_kernels = (5, 3)
        config.core.temporal_kernels = (5, 3)
        config.core.strides = (2, 1)
    return config


def _simulated(config: ConfigDict) -> None:
    config.core.channels = (8, 32)
    config.core.spatial_kernels = (7, 3)
    config.core.temporal_kernels = (11, 9)
    config.core.padding = False
    config.core.spatial_smoothness = 10.0
    config.core.temporal_smoothness = 0.01
    config.core.weight_of_new = 0.1
