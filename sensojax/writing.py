"""Writing small files: whole or not at all, and values in what JSON knows."""

import contextlib
import io
import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np


def write_atomically(path: Path, text: str) -> None:
    """Writes a text file, and the folders above it, so that it is there whole or not at all."""
    write_bytes_atomically(path, text.encode("utf-8"))


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Writes a file, and the folders above it, so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write a file to, which becomes `path` when all went well and is removed if not."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_array_atomically(path: Path, array: np.ndarray) -> None:
    """Writes an .npy file, and the folders above it, so that it is there whole or not at all."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    write_bytes_atomically(path, file.getvalue())


def plain(value):
    """The same in what JSON knows: dict, list, str, int, float, bool, None.

    Numbers that JSON does not know become "NaN", "Infinity", "-Infinity", which `float` reads.
    """
    if hasattr(value, "items"):  # dict, ConfigDict
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy and JAX arrays and scalars
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
