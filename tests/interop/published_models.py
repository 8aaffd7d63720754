"""Files of DwiseNeuro and ViV1T as they are published, with the weights of golden models."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tests.goldens import Golden
from tests.interop import torch_files
from tests.interop.torch_files import number, ordered, text


def file_of(path: Path, folder: Path, changes: Mapping | None = None) -> Path:
    """The weights of a golden model as the file that its own code would write.

    changes: other arrays, None for left out.
    """
    golden = Golden(path)
    arrays = {**golden.part("param"), **(changes or {})}
    arrays = {name: array for name, array in arrays.items() if array is not None}
    if path.stem.startswith("dwiseneuro"):
        (folder / "fold_3").mkdir(exist_ok=True)
        beside = dict(model_name=text("MouseModel"), params=ordered(dict(amp=torch_files.FALSE)))
        file = folder / "fold_3" / "model-017-0.290000.pth"
        return torch_files.save_arrays(file, arrays, part="nn_state_dict", beside=beside)
    if "parallel_attention" not in golden.config["modes"]:
        return torch_files.save_arrays(folder / "model.pt", arrays)
    # Compiling the core puts a word into its names; the scheduler has a number of numpy.
    arrays = {n.replace("core.", "core._orig_mod.", 1): each for n, each in arrays.items()}
    scheduler = ordered(dict(best_value=number(np.float64(0.25)), mode=text("max")))
    beside = dict(epoch=torch_files.integer(7), scheduler=scheduler)
    return torch_files.save_arrays(folder / "model_state.pt", arrays, part="model", beside=beside)


def shapes_of(golden: Golden, prefix: str = "") -> dict[str, tuple[int, ...]]:
    """Names and shapes of a published model from the file that lists them."""
    names, shapes, axes = (
        golden[f"output/{prefix}{what}"] for what in ("names", "shapes_zero_padded", "ndim")
    )
    listed = zip(names, shapes, axes, strict=True)
    return {str(name): tuple(map(int, shape[:count])) for name, shape, count in listed}
