"""Arrays of numbers in a MATLAB file: of version 7.3 (HDF5) piece by piece, of older ones whole.

In goes the path of a .mat; out come the names and shapes of its arrays, and (parts of) them. HDF5
shows MATLAB's axes backwards, and so does this for files of every version: what is (pixel, time,
clip) in MATLAB is [clip time pixel] here. Files may be read by several threads. What cannot be read
is refused by name.
"""

import contextlib
import os
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import scipy.io

from sensojax.errors import UserError, nearest

ENDING = ".mat"
OLD, NEW = b"MATLAB 5.0", b"MATLAB 7.3"  # how files of versions 5 to 7, and of 7.3, begin
SIZES = (8, 16, 32, 64)
OLD_NUMBERS = ("double", "single", "logical", *(f"{s}int{n}" for s in ("", "u") for n in SIZES))
HEADER, TAG = 128, 8  # bytes of an old file before its arrays, and before each of them
BROKEN = (
    *(OSError, ValueError, TypeError, KeyError, RuntimeError, EOFError, MemoryError),
    *(struct.error, zlib.error, scipy.io.matlab.MatReadError),
)


class File:
    """One .mat file. shapes: of every array of numbers, by its name (in a group: group/name).

    Raises UserError when the path holds no MATLAB file, or a damaged one.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path).expanduser()
        self._lock = threading.Lock()
        self._whole: dict[str, np.ndarray] = {}
        with self._readable():
            self._is_old = _is_old(self.path)
            self.shapes = dict(self._old_shapes() if self._is_old else self._new_shapes())

    def read(self, name: str, part: object = ...) -> np.ndarray:
        """An array, or the part of it at an index; UserError when there is none of this name."""
        if name not in self.shapes:
            raise UserError(f"found {self.described()}, expected an array {name!r} in it.")
        with self._readable():
            if self._is_old:
                return self._old(name)[part]
            with h5py.File(self.path, "r") as file:
                return np.asarray(file[name][part])

    def described(self) -> str:
        """The file and what it holds, in words."""
        held = ", ".join(f"{name} {shape}" for name, shape in list(self.shapes.items())[:8])
        return f"{self.path} with {held or 'no array of numbers'}"

    def _new_shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        with h5py.File(self.path, "r") as file:
            yield from _datasets(file, "")

    def _old_shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        _refuse_cut(self.path)
        for name, shape, kind in scipy.io.whosmat(self.path):
            if kind in OLD_NUMBERS:
                yield name, shape[::-1]

    def _old(self, name: str) -> np.ndarray:
        with self._lock:
            if name not in self._whole:
                self._whole[name] = scipy.io.loadmat(self.path, variable_names=[name])[name].T
            return self._whole[name]

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except BROKEN as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            raise UserError(
                f"{self.path} is damaged ({reason}); copy it again from its source."
            ) from error


def _is_old(path: Path) -> bool:
    """Whether a MATLAB file is older than version 7.3; UserError for what is no MATLAB file."""
    if not path.is_file():
        siblings = os.listdir(path.parent) if path.parent.is_dir() else []
        raise UserError(f"there is no file {path}{nearest(path.name, siblings)}; correct the path.")
    with open(path, "rb") as file:
        begin = file.read(len(OLD))
    if begin == OLD:
        return True
    if not h5py.is_hdf5(path):
        if begin == NEW:
            raise ValueError("its HDF5 part is missing")
        raise UserError(
            f"{path} begins with {begin!r}, expected a MATLAB file of version 5 to 7.3; copy it "
            "again from its source."
        )
    return False


def _refuse_cut(path: Path) -> None:
    """ValueError for an old file that ends within one of its arrays: scipy lists those before."""
    with open(path, "rb") as file:
        order = "<" if file.read(HEADER)[-2:] == b"IM" else ">"
        place, size = HEADER, path.stat().st_size
        while place + TAG <= size:
            file.seek(place)
            _, count = struct.unpack(f"{order}II", file.read(TAG))
            place += TAG + count
    if place != size:
        raise ValueError("its end is missing")


def _datasets(group: h5py.Group, above: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Arrays of numbers, but not what MATLAB keeps for itself under names with #."""
    for name, item in group.items():
        if isinstance(item, h5py.Group) and not name.startswith("#"):
            yield from _datasets(item, f"{above}{name}/")
        elif isinstance(item, h5py.Dataset) and item.dtype.kind in "fiub":
            yield f"{above}{name}", item.shape
