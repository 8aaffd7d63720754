"""Where small pieces of real data lie, for tests that skip where there are none.

SENSOJAX_REAL_DATA names their folder; without it, a folder `shared/data` beside the checkout is
taken. It has folders like `sensorium2023_metadata` (tables of published sessions) and
`sensorium2022_models` (released weights); nothing in it belongs to the repository.
"""

import os
from pathlib import Path

import pytest

from tests.goldens import REPOSITORY

NAMED = os.environ.get("SENSOJAX_REAL_DATA")
FOLDER = Path(NAMED) if NAMED else REPOSITORY.parent / "shared" / "data"


def found(name: str) -> Path:
    """The folder of this name; skips the test where it is absent, unless it was promised."""
    path = FOLDER / name
    if not path.is_dir():
        assert not NAMED, f"SENSOJAX_REAL_DATA is {NAMED}, which has no folder {name}"
        pytest.skip(f"no real data: there is no {path} (SENSOJAX_REAL_DATA names another folder)")
    return path


def needed(name: str) -> pytest.MarkDecorator:
    """Marks tests that need the folder of this name."""
    absent = not NAMED and not (FOLDER / name).is_dir()
    return pytest.mark.skipif(absent, reason=f"no real data: there is no {FOLDER / name}")
