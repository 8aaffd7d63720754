"""How much of the prediction comes from behaviour: from running, pupil size and gaze.

    python -m sensojax.ablate --config configs/ablations/behavior.py

The base gives dilation and speed to the core as planes beside the video, and the pupil's centre to
the shifter. Presets and settings are those of configs/dynamic.py (`:sensorium`, `:tiny`, ...,
`--config.data.folder=...`).
"""

from configs import dynamic

PRESETS = dynamic.PRESETS
get_config = dynamic.get_config


def get_changes(base):
    """{name: {setting: value}}; the first is the base itself."""
    return {
        "base": {},
        "dilation_only": {"inputs.behavior_columns": (0,)},
        "speed_only": {"inputs.behavior_columns": (1,)},
        "no_planes": {"inputs.behavior": False},
        "no_shifter": {"shifter.name": ""},
        "video_only": {"inputs.behavior": False, "shifter.name": ""},
    }
