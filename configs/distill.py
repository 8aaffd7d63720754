"""A narrower DwiseNeuro that learns from recorded responses and from the answers of a teacher.

    python -m sensojax.main --config configs/dynamic_dwiseneuro.py --workdir runs/dwiseneuro
    python -m sensojax.main --config configs/distill.py --workdir runs/distilled

Every mouse's readout learns from the clips of all mice: from its own by responses, from the others
by what the teacher says that it would have answered (sota 1.7). The teacher is any run of the same
mice, inputs and fold: --config.distillation.run=RUN. Any other page distills, too, when it is given
that setting. Presets, after a colon; every setting is explained in configs/dynamic.py:

simulated (default)  the student of `dynamic_dwiseneuro.py`, with half the expansion.
sensorium            the published student, of one fold of seven: 64 % of the weight for responses;
                     --config.data.folder=STORES --config.data.fold=0 to 6, as its teacher.
tiny                 seconds; for tests.
"""

from ml_collections import ConfigDict

from configs import dynamic_dwiseneuro
from sensojax.errors import check_name

PRESETS = ("simulated", "sensorium", "tiny")


def get_config(preset: str = "simulated") -> ConfigDict:
    check_name(preset, PRESETS, "preset")
    page = dynamic_dwiseneuro.get_config("distilled" if preset == "sensorium" else preset)
    page.distillation.run = "runs/dwiseneuro"
    if preset == "sensorium":
        page.distillation.weights = "newest"  # the average at the end, as published
    elif preset == "simulated":
        page.core.expansion = 2
    return page
