"""Which network should turn the pupil's centre into a shift of where neurons look.

    python -m sensojax.ablate --config configs/ablations/shifter.py

The base has the published one of 2023, three layers of five; the affine one is that of 2022.
Presets and settings are those of configs/dynamic.py.
"""

from configs import dynamic

PRESETS = dynamic.PRESETS
get_config = dynamic.get_config


def get_changes(base):
    """{name: {setting: value}}; the first is the base itself."""
    hidden, layers = base.shifter.hidden, base.shifter.num_layers
    return {
        "base": {},
        "none": {"shifter.name": ""},
        "affine": {"shifter": dict(name="affine", l2=0.0)},
        "wider": {"shifter.hidden": 4 * hidden},
        "deeper": {"shifter.num_layers": layers + 2},
    }
