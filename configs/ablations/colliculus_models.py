"""The models of SCML 2017 beside ours, on one recording of the superior colliculus.

    python -m sensojax.ablate --config configs/ablations/colliculus_models.py

The organisers' LSTM and the entrants' frame-wise network and convolutional LSTM see the same
frames, learn as many steps and are scored on the same frames as our factorised model. Presets and
settings are those of configs/colliculus.py. Their bits per spike, in a table of its own:
`python -m sensojax.evaluate --runs 'runs/ablations/colliculus_models/*' --measures bits_per_spike`.

On the simulated recording the published models stay where those of the competition did, near the
null model: bits per spike -0.04 (lstm), 0.03 (mlp) and -0.06 (conv_lstm), against 0.70 (factorized;
the true rates have 1.26).
"""

import copy

from configs import colliculus

PRESETS = ("simulated", "scml", "tiny")
get_config = colliculus.get_config


def get_changes(base):
    """{name: {setting: value}}; the first is the base itself."""
    rates = [f"schedule.{n}" for n in ("peak_rate", "initial_rate") if n in base.schedule]
    slower = dict.fromkeys(rates, 1e-3)
    changes = {"factorized": {}}
    for name, model in copy.deepcopy(colliculus.MODELS).items():
        # The published start, zero, costs the first epochs.
        readout = model["readout"] | {"bias_start": "matched"}
        changes[name] = {**model, "readout": readout, **slower, "shifter.name": ""}
    return changes
