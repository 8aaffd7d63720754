"""The core of a trained run, with new readouts and shifters for other mice.

    python -m sensojax.main --config configs/transfer.py --config.transfer.run=runs/dynamic \\
        --config.data.folder=STORES_OF_NEW_MICE --workdir runs/transfer

Inputs and core come from that run, whatever is said here. Presets, after a colon:

frozen (default)  the core stays as it is and is not differentiated; `--config.transfer.features=
                  FOLDER` computes its features once, after which a step costs only the readout.
fine_tuned        the core learns too, ten times slower than readouts and shifters.
simulated         frozen, and the new mouse is the third simulated mouse, which the default preset
                  of configs/dynamic.py has not seen.
tiny              seconds; for tests.
"""

from ml_collections import ConfigDict

from configs import dynamic
from sensojax.errors import check_name
from sensojax.recordings import simulated

PRESETS = ("frozen", "fine_tuned", "simulated", "tiny")


def get_config(preset: str = "frozen") -> ConfigDict:
    check_name(preset, PRESETS, "preset")
    base = {"simulated": "simulated", "tiny": "tiny"}.get(preset, "sensorium")
    config = dynamic.get_config(base)
    config.transfer.run = "runs/dynamic"
    if preset == "fine_tuned":
        config.transfer.core = "fine_tuned"
        config.transfer.core_rate = 0.1
    elif preset in ("simulated", "tiny"):
        config.data.folder = f"data/{preset}_transfer"
        config.simulation.mice = 3
        config.data.mice = (simulated.name(2),)
        config.schedule.steps = 200 if preset == "simulated" else 12
    return config
