"""Whether neurons' places in cortex help to find where they look.

    python -m sensojax.ablate --config configs/ablations/positions.py

The base has one network per mouse that predicts every neuron's position in the image from its
position in cortex; else each neuron learns its own two numbers. Presets and settings are those of
configs/dynamic.py.
"""

from configs import dynamic

PRESETS = dynamic.PRESETS
get_config = dynamic.get_config


def get_changes(base):
    """{name: {setting: value}}; the first is the base itself."""
    return {
        "cortex": {},
        "free": {"readout.positions": "learned"},
        "wider_network": {"readout.hidden_features": 4 * base.readout.hidden_features},
    }
