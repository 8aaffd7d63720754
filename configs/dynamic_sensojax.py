"""Our own model of mice that watch movies: what measured best on simulated mice at equal compute.

    python -m sensojax.main --config configs/dynamic_sensojax.py --workdir runs/own

A factorised 3-D core that sees the video alone; what the animal does, and how active the whole core
is, multiplies the responses of each neuron instead; every neuron looks where its place in cortex
says, and may step away from there; the rate stays high, and an average of the weights is scored.
What each of these brings, configs/ablations/sensojax.py tells; what all of them do beside the
published models, docs/ranking.md.

Presets, after a colon; every setting is explained in configs/dynamic.py:

simulated (default)  two simulated mice; three minutes on 2 CPU cores, ending above 0.85 of the
                     exact ceiling on tier oracle.
sensorium            the same for recorded mice, with the core of the published baseline; its score
                     there is not known. --config.data.folder=STORES.
tiny                 seconds; for tests.
"""

from ml_collections import ConfigDict

from configs import dynamic
from sensojax.errors import check_name

PRESETS = ("simulated", "sensorium", "tiny")


def get_config(preset: str = "simulated") -> ConfigDict:
    check_name(preset, PRESETS, "preset")
    config = dynamic.get_config(preset)
    config.inputs.behavior = False
    config.gain = dict(name="state", hidden=8, frames=12, reads_core=True)
    config.readout.update(positions="both", position_l2=0.0)
    config.train.average = 0.999
    if preset != "sensorium":
        _simulated(config)
    if preset == "tiny":
        config.core.update(channels=(4, 4, 4), temporal_kernels=(5, 3, 1), strides=(2, 1, 1))
        config.core.spatial_kernels = (5, 3, 3)
    return config


def _simulated(config: ConfigDict) -> None:
    config.core.update(
        channels=(16, 32, 32),
        spatial_kernels=(7, 3, 3),
        temporal_kernels=(9, 7, 5),
        strides=(1, 1, 1),
    )
    kept = {name: config.schedule[name] for name in ("warmup_steps", "steps")}
    config.schedule = dict(name="constant", rate=0.005, **kept)
    config.train.average = 0.97  # of some thirty steps; 0.999 would remember the first ones
