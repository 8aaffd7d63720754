"""Whether neurons are predicted better when more of them are trained together.

    python -m sensojax.ablate --config configs/ablations/neurons.py

Each run has so many neurons of each mouse; smaller choices lie within larger ones, and all are
compared on the neurons of the smallest. Presets and settings are those of configs/dynamic.py.
"""

from configs import dynamic

PRESETS = dynamic.PRESETS
get_config = dynamic.get_config


def get_changes(base):
    """{name: {setting: value}}; the first is the base itself."""
    simulated = base.data.recordings == "simulated"
    most = base.simulation.neurons if simulated else 8000
    counts = [max(1, most // part) for part in (2, 4, 8)]
    return {"all": {}} | {f"{count}_neurons": {"data.max_neurons": count} for count in counts}
