"""Reading the golden files: settings, weights, inputs and outputs of the published code.

A parity test lists the files of a case with `golden_files`, reads every setting from the file's own
`config`, and compares with `assert_close`; so it also holds for any further file of the case.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
GOLDEN = Path(os.environ.get("SENSOJAX_GOLDEN", REPOSITORY / "tests" / "parity" / "golden"))


class Golden:
    """One golden file: `config`, and its arrays by the part of the key before the first slash."""

    def __init__(self, path: Path):
        self.path = path
        self.arrays = dict(np.load(path))
        self.config = json.loads(str(self.arrays.pop("config")))

    def __getitem__(self, key: str) -> np.ndarray:
        return self.arrays[key]

    def __contains__(self, key: str) -> bool:
        return key in self.arrays

    def part(self, prefix: str) -> dict[str, np.ndarray]:
        """The arrays under `prefix/`, by the rest of their names."""
        prefix += "/"
        return {k[len(prefix) :]: v for k, v in self.arrays.items() if k.startswith(prefix)}


def golden_files(case: str) -> list:
    """Every golden file of a case, as pytest parameters; a missing case is an error, not a skip."""
    paths = sorted(GOLDEN.glob(f"{case}*.npz"))
    assert paths, f"no golden file {case}*.npz in {GOLDEN}; set SENSOJAX_GOLDEN to their folder"
    return [pytest.param(path, id=path.stem) for path in paths]


def assert_close(found, expected, tolerance: float, what: str = "") -> None:
    """Largest absolute difference, relative to the largest absolute expected value."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape, f"{what}: shape {found.shape}, expected {expected.shape}"
    scale = np.max(np.abs(expected), initial=0.0) or 1.0
    error = np.max(np.abs(found - expected), initial=0.0) / scale
    assert error <= tolerance, f"{what}: relative error {error:.2e}, allowed {tolerance:.0e}"
