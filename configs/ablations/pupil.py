"""Where the pupil's centre should enter: at the core, at the readout, at both, or nowhere.

    python -m sensojax.ablate --config configs/ablations/pupil.py

The base gives it to the shifter alone, which moves where neurons look; as planes beside the video
the core sees it. Presets and settings are those of configs/dynamic.py.
"""

from configs import dynamic

PRESETS = dynamic.PRESETS
get_config = dynamic.get_config


def get_changes(base):
    """{name: {setting: value}}; the first is the base itself."""
    return {
        "shifter": {},
        "planes": {"inputs.pupil": True, "shifter.name": ""},
        "both": {"inputs.pupil": True},
        "nowhere": {"shifter.name": ""},
    }
