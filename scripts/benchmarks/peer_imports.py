"""What the worker takes from the published checkouts, and empty modules for what they lack.

In: names; out: classes of the library, once its folder is on Python's path. Runs beside torch.
"""

import importlib
import sys
import types

import torch

# What the model of images is made of, and where that is.
LIBRARY = {
    "Stacked2dCore": "cores",
    "MultiReadoutSharedParametersBase": "readouts",
    "FullGaussian2d": "readouts",
    "FiringRateEncoder": "encoders",
}
# Imported by the published modules but not by anything that runs here; empty modules stand in for
# those that are not installed. `set_random_seed` is called once, before weights that we replace.
OPTIONAL = ("nnfabrik.utility.nn_helpers", "torchvision", "matplotlib.pyplot")


def published(name, where):
    return getattr(importlib.import_module(f"neuralpredictors.layers.{where}"), name)


def stand_ins() -> list[str]:
    """Puts empty modules where optional ones are missing; returns their names."""
    missing = []
    for name in OPTIONAL:
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(name.split(".")[0])
            parts = name.split(".")
            for end in range(1, len(parts) + 1):
                sys.modules[".".join(parts[:end])] = types.ModuleType(".".join(parts[:end]))
            sys.modules[name].set_random_seed = torch.manual_seed
    return missing
