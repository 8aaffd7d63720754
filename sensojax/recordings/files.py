"""The files of a session, wherever they lie: in a folder, or inside a .zip read in place.

In goes the path that a user gave; out come the sessions found there (`find`), and from each of them
listings, bytes and arrays. Everything may be asked from several threads at once. What cannot be
read is refused by name.
"""

import io
import math
import os
import threading
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from sensojax.errors import UserError, nearest

HEADER_BYTES = 4096  # more than the header of any .npy without named fields
BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
BROKEN_NPY = (
    *(ValueError, EOFError, SyntaxError, TypeError, MemoryError, OverflowError),
    tokenize.TokenError,
)


class Folder:
    """A session that lies in a folder. Names are relative to it, with forward slashes."""

    def __init__(self, path: Path, name: str | None = None):
        self.path = path
        self.name = name or path.name

    def where(self, name: str) -> str:
        """How to call a file in a message."""
        return str(self.path / name)

    def listing(self, folder: str) -> list[str]:
        """Names of the entries of a folder, sorted; empty when there is no such folder."""
        try:
            return sorted(entry.name for entry in os.scandir(self.path / folder))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def read(self, name: str, limit: int | None = None) -> bytes:
        """The first `limit` bytes of a file, or all of them."""
        try:
            with open(self.path / name, "rb", buffering=0) as file:
                return file.read() if limit is None else file.read(limit)
        except OSError as error:
            raise UserError(
                f"cannot read {self.where(name)} ({error.strerror}); copy this file again from "
                "its source."
            ) from error


class Zip:
    """A session inside a .zip, under `prefix`; every thread reads through a handle of its own."""

    def __init__(self, path: Path, prefix: str, name: str, members: dict[str, list[str]]):
        self.path = path
        self.prefix = prefix
        self.name = name
        self._members = members
        self._local = threading.local()

    def where(self, name: str) -> str:
        return f"{self.path}:{self.prefix}{name}"

    def listing(self, folder: str) -> list[str]:
        return self._members.get(f"{self.prefix}{folder}".rstrip("/"), [])

    def read(self, name: str, limit: int | None = None) -> bytes:
        try:
            if not hasattr(self._local, "archive"):
                self._local.archive = zipfile.ZipFile(self.path)
            with self._local.archive.open(self.prefix + name) as member:
                return member.read() if limit is None else member.read(limit)
        except KeyError as error:
            raise UserError(
                f"cannot read {self.where(name)} (no such member of the zip); download the zip "
                "again."
            ) from error
        except (*BROKEN_ZIP, OSError) as error:
            raise UserError(
                f"{self.where(name)} is damaged ({error}); download the zip again."
            ) from error


@dataclass(frozen=True)
class Npy:
    """What the header of an .npy says."""

    shape: tuple[int, ...]
    dtype: np.dtype


# Python 3.11 may fail when two threads parse at once ("AST constructor recursion depth mismatch",
# CPython issue 106905), and numpy reads the header with Python's parser.
_one_header_at_a_time = threading.Lock()


def load(source: Folder | Zip, name: str, observe: Callable[[bytes], None] | None = None):
    """The array in an .npy file; `observe` sees the bytes of the file (to hash them)."""
    data = source.read(name)
    if observe:
        observe(data)
    found, fortran_order, first = _header(source, name, data)
    try:  # refuses Python objects, and fewer bytes than the shape needs
        flat = np.frombuffer(data, found.dtype, math.prod(found.shape), first)
    except ValueError as error:
        raise _unreadable(source, name, len(data), error) from error
    return flat.reshape(found.shape, order="F" if fortran_order else "C")


def load_rows(source: Folder, name: str, rows: slice, axis: int = 0) -> np.ndarray:
    """Some rows of an axis of an .npy file in a folder; reads no others.

    The axes before it must have length 1, and are dropped.
    """
    data = source.read(name, HEADER_BYTES)
    found, fortran_order, first = _header(source, name, data)
    shape = found.shape[axis:]
    if fortran_order:
        return load(source, name).reshape(shape)[rows]
    start, stop, _ = rows.indices(shape[0])
    row = math.prod(shape[1:])
    offset = first + start * row * found.dtype.itemsize
    with open(source.path / name, "rb") as file:
        flat = np.fromfile(file, found.dtype, (stop - start) * row, offset=offset)
    try:
        return flat.reshape(stop - start, *shape[1:])
    except ValueError as error:
        raise _unreadable(source, name, flat.nbytes, error) from error


def header(source: Folder | Zip, name: str) -> Npy:
    """Shape and dtype of an .npy file, without reading its numbers."""
    return _header(source, name, source.read(name, HEADER_BYTES))[0]


def _header(source, name, data) -> tuple[Npy, bool, int]:
    """What the header says: shape and dtype, whether columns come first, where numbers begin."""
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        with _one_header_at_a_time:
            shape, fortran_order, dtype = read(file)
    except (*BROKEN_NPY, KeyError) as error:
        raise _unreadable(source, name, len(data), error) from error
    return Npy(shape, dtype), fortran_order, file.tell()


def find(path: str | Path, marker: str) -> list[Folder | Zip]:
    """The sessions at a path: the folder itself, its subfolders, the .zip files in it, or a .zip.

    A session is a folder that holds the file `marker`. Sorted by name; empty when there is none.
    Raises UserError when the path does not exist or a zip is damaged.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return _in_zip(path, marker)
    if not path.is_dir():
        siblings = os.listdir(path.parent) if path.parent.is_dir() else []
        raise UserError(
            f"there is no folder or .zip {path}{nearest(path.name, siblings)}; give the folder or "
            "the .zip of a session."
        )
    if (path / marker).is_file():
        return [Folder(path, path.resolve().name)]
    # A session that is still being written is called <name>.partial.
    folders = [
        Folder(child)
        for child in path.iterdir()
        if child.suffix != ".partial" and (child / marker).is_file()
    ]
    names = {folder.name for folder in folders}
    zips = [source for file in sorted(path.glob("*.zip")) for source in _in_zip(file, marker)]
    found = folders + [source for source in zips if source.name not in names]
    return sorted(found, key=lambda source: source.name)


def _in_zip(path: Path, marker: str) -> list[Folder | Zip]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (*BROKEN_ZIP, OSError) as error:
        raise UserError(
            f"{path} is not a readable zip ({error}); download it again, or give the folder of a "
            "session."
        ) from error
    members: dict[str, list[str]] = {}
    for name in names:
        if not name.endswith("/") and not name.startswith("__MACOSX/"):
            folder, _, file = name.rpartition("/")
            members.setdefault(folder, []).append(file)
    folder, _, file = marker.rpartition("/")
    prefixes = [
        where[: len(where) - len(folder)]
        for where, inside in members.items()
        if file in inside and (where == folder or where.endswith("/" + folder))
    ]
    sources = [
        Zip(path, prefix, PurePosixPath(prefix).name or path.stem, members) for prefix in prefixes
    ]
    return sorted(sources, key=lambda source: source.name)


def _unreadable(source: Folder | Zip, name: str, size: int, error: Exception) -> UserError:
    reason = str(error).split("\n")[0].rstrip(".")
    return UserError(
        f"{source.where(name)} is not a complete .npy file of numbers ({reason}; {size} bytes "
        "read); copy this file again from its source."
    )
