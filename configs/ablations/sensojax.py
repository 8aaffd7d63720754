"""What each part of our own model brings, at the same number of steps.

    python -m sensojax.ablate --config configs/ablations/sensojax.py --seeds 0,1

The base is configs/dynamic_sensojax.py; each other run does one thing as the published factorised
baseline does, and the last one all of them: it is configs/dynamic.py.
"""

from configs import dynamic_sensojax
from sensojax.errors import check_name

PRESETS = ("simulated", "tiny")


def get_config(preset: str = "simulated"):
    check_name(preset, PRESETS, "preset")
    return dynamic_sensojax.get_config(preset)


def get_changes(base):
    """{name: {setting: value}}; the first is the base itself."""
    kernels = base.core.temporal_kernels
    two_layers = {
        "core.channels": base.core.channels[:2],
        "core.spatial_kernels": base.core.spatial_kernels[:2],
        "core.temporal_kernels": (kernels[0] + 2, kernels[1] + 2),  # as much of the past
        "core.strides": base.core.strides[:2],
    }
    planes = {"gain": dict(name=""), "inputs.behavior": True}
    places = {"readout.positions": "cortex"}
    rate = dict(name="cosine", peak_rate=0.005, final_rate=1e-4)
    steps = {name: base.schedule[name] for name in ("warmup_steps", "steps")}
    falling = {"schedule": rate | steps, "train.average": 0.0}
    return {
        "sensojax": {},
        "behavior_as_planes": planes,
        "gain_of_behavior_alone": {"gain.reads_core": False},
        "places_in_cortex_alone": places,
        "no_average": {"train.average": 0.0},
        "falling_rate": falling,
        "two_layers": two_layers,
        "as_published": planes | places | falling | two_layers,
    }
