"""State dicts with the layout of the published files: from golden models, and by shapes alone."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from scripts import import_checkpoint
from sensojax.recordings import published
from tests.goldens import Golden
from tests.interop import torch_files

PAGES = import_checkpoint.pages()
SEVEN = [session.key for session in published.choose(set_name="2022")]


def modules_of(config: Mapping, mice: Sequence[str] = ()) -> list[str]:
    """The modules of a golden model that a state dict remembers, as far as anybody asks.

    mice: those of the file, () for the golden ones.
    """
    layers = config["core_resolved"]["layers"]
    found = [
        f"core.features.{layer['name']}.{p['name']}" for layer in layers for p in layer["parts"]
    ]
    settings = config["settings"]
    network = settings.get("readout", settings)["grid_mean_predictor"]
    if network["final_tanh"]:
        last = 2 * network["hidden_layers"] + 1
        found += [f"readout.{mouse}.mu_transform.{last}" for mouse in mice or config["mice_order"]]
    return ["", "core", *found]


def file_of(path: Path, folder: Path) -> Path:
    """The weights of a golden model as the file that PyTorch would write of them."""
    golden = Golden(path)
    modules = modules_of(golden.config)
    return torch_files.save_arrays(folder / f"{path.stem}.pth", golden.part("param"), modules)


def images(layers: int, inputs: int, mice: Mapping[str, int], *, shifter: bool) -> dict:
    """Shapes of the arrays of a released model of images, as baselines 10 lists them."""
    shapes = {"core._input_weights_regularizer.laplace.filter": (1, 1, 3, 3)}
    for layer in range(layers):
        here = f"core.features.layer{layer}."
        if layer:
            shapes[f"{here}ds_conv.in_depth_conv.weight"] = (64, 64, 1, 1)
            shapes[f"{here}ds_conv.spatial_conv.weight"] = (64, 1, 7, 7)
            shapes[f"{here}ds_conv.out_depth_conv.weight"] = (64, 64, 1, 1)
        else:
            shapes[f"{here}conv.weight"] = (64, inputs, 9, 9)
        for name in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{here}norm.{name}"] = (64,)
        shapes[f"{here}norm.num_batches_tracked"] = ()
    for mouse, neurons in mice.items():
        here = f"readout.{mouse}."
        shapes[f"{here}sigma"] = (1, neurons, 2, 2)
        shapes[f"{here}_features"] = (1, 64, 1, neurons)
        shapes[f"{here}bias"] = (neurons,)
        shapes[f"{here}source_grid"] = (neurons, 2)
        shapes |= _linears(f"{here}mu_transform", (2, 30, 2))
        if shifter:
            shapes |= _linears(f"shifter.{mouse}.mlp", (2, 5, 5, 2))
    return shapes


def image_modules(layers: int, *, linear: bool) -> frozenset[str]:
    """The modules of such a model that tell whether it is linear."""
    kinds = ("norm",) if linear else ("norm", "nonlin")
    named = [f"core.features.layer{layer}.{kind}" for layer in range(layers) for kind in kinds]
    return frozenset(["", "core", *named])


def _linears(prefix: str, sizes: Sequence[int]) -> dict:
    shapes = {}
    for place, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        shapes[f"{prefix}.{2 * place}.weight"] = (outputs, inputs)
        shapes[f"{prefix}.{2 * place}.bias"] = (outputs,)
    return shapes


def with_learned_positions(arrays: Mapping, positions: Mapping[str, np.ndarray]) -> dict:
    """The older layout: every neuron's own position in place of a network on cortex.

    positions: {mouse: [1 neuron 1 2]}.
    """
    found = {n: a for n, a in arrays.items() if "mu_transform" not in n and "source_grid" not in n}
    return found | {f"readout.{mouse}._mu": each for mouse, each in positions.items()}


def of_seven_mice(arrays: Mapping, mouse: str) -> dict:
    """The layout of the generalisation model, every mouse with the readout of this one."""
    prefix = f"readout.{mouse}."
    found = {name: array for name, array in arrays.items() if not name.startswith("readout.")}
    for name, array in arrays.items():
        if name.startswith(prefix):
            found |= {f"readout.{key}.{name.removeprefix(prefix)}": array for key in SEVEN}
    return found
