"""How the score grows with the amount of training data.

    python -m sensojax.ablate --config configs/ablations/training_data.py

Each run trains on a share of the training trials; smaller shares lie within larger ones. Statistics
of normalisation are always those of all trials. A schedule that counts steps gives all runs equally
many; one that counts epochs gives smaller shares fewer. Presets and settings are those of
configs/dynamic.py.
"""

from configs import dynamic

PRESETS = dynamic.PRESETS
get_config = dynamic.get_config


def get_changes(base):
    """{name: {setting: value}}; the first is the base itself."""
    shares = {"75_percent": 0.75, "50_percent": 0.5, "25_percent": 0.25, "10_percent": 0.1}
    return {"all": {}} | {name: {"data.train_share": share} for name, share in shares.items()}
