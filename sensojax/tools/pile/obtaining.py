"""Whole files of a data set brought to this machine, for formats that cannot be read in parts.

In go the files that an archive lists and a folder; out come the same files in it, under the same
paths. What is there already is kept, a download that was stopped goes on, and a file gets its name
when its size and digest are those that the archive states.
"""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from sensojax.errors import UserError
from sensojax.tools import downloading
from sensojax.tools.downloading.display import Display
from sensojax.tools.downloading.obtaining import check_digest
from sensojax.tools.pile.archives import RemoteFile, digest_of


def obtain(files: Sequence[RemoteFile], folder: Path) -> Path:
    """Brings all files into a folder and unpacks zips there; returns the folder.

    Raises UserError when one of them cannot be had; those before it stay.
    """
    missing = [file for file in files if not _place(file, folder).exists()]
    needed = sum(file.size for file in missing)
    downloading.check_space(folder, needed, f"fetching {len(missing)} files")
    with Display() as display:
        for file in missing:
            _fetch(file, _place(file, folder), display)
    return folder


def _place(file: RemoteFile, folder: Path) -> Path:
    """Where a file goes; of a zip, the folder that it is unpacked to."""
    path = PurePosixPath(file.path)
    if path.is_absolute() or ".." in path.parts or "\\" in file.path:
        raise UserError(
            f"found the path {file.path!r} in the archive's list, expected one inside the data "
            "set; tell its publishers."
        )
    return folder / (path.with_suffix("") if path.suffix == ".zip" else path)


def _fetch(file: RemoteFile, path: Path, display: Display) -> None:
    watch = display.watch(file.path)
    digest = digest_of(file)

    def check(arrived: Path) -> None:
        found = arrived.stat().st_size
        if file.size and found != file.size:
            raise downloading.Damaged(f"{file.path} has {found} bytes, expected {file.size}")
        check_digest(arrived, digest)

    if path.name == PurePosixPath(file.path).name:
        downloading.fetch(file.where, path, check, watch)
        return
    archive = path.with_name(PurePosixPath(file.path).name)
    if not archive.exists():
        downloading.fetch(file.where, archive, check, watch)
    downloading.unpack(archive, path, watch)
    archive.unlink()
