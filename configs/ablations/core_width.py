"""How many channels the core needs.

    python -m sensojax.ablate --config configs/ablations/core_width.py

Every layer becomes narrower or wider by the same factor; the readouts have as many weights per
neuron as the last layer has channels. Presets and settings are those of configs/dynamic.py.
"""

from configs import dynamic

PRESETS = dynamic.PRESETS
get_config = dynamic.get_config


def get_changes(base):
    """{name: {setting: value}}; the first is the base itself."""
    factors = {"base": 1, "quarter": 0.25, "half": 0.5, "double": 2}

    def wide(factor):
        return tuple(max(1, round(factor * channels)) for channels in base.core.channels)

    return {
        name: {} if factor == 1 else {"core.channels": wide(factor)}
        for name, factor in factors.items()
    }
