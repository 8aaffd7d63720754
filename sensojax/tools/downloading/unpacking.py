"""A zip from the network, tested or taken apart without trusting it.

In goes the path of a .zip; out comes a folder that is there whole or not at all (`unpack`), or the
knowledge that every byte is as it was packed (`test`): each member of a zip carries a checksum.
Refused are names that lead out of the folder, links, names that come twice, and members that claim
sizes which cannot be. Files that only some file managers need are left out.
"""

import os
import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from sensojax.tools.downloading.fetching import CHUNK, Damaged, Untrusted, Watch, check_space

BROKEN = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError),
    *(RuntimeError, ValueError, KeyError, IndexError, OverflowError),
)
# The record at the end of a zip, and the one before it in long zips (APPNOTE.TXT 4.3.14, 4.3.16).
END, LONG_END = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q")
METHODS = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: 1032}  # most bytes that one can unfold to
# Of all members together: recordings reach 10, and zeros alone come near 1032.
LARGEST_RATIO, HARMLESS_BYTES = 100, 10**9
CLUTTER = ("__MACOSX", ".DS_Store")


def look(path: Path) -> None:
    """Reads only the list of members; raises Damaged when there is none, as in a cut zip."""
    with _Archive(path):
        pass


def test(path: Path, watch: Watch | None = None) -> None:
    """Reads every member to its end and compares checksums; raises Damaged or Untrusted."""
    watch = watch or Watch()
    watch.begin("testing")
    with _Archive(path) as archive:
        for name in archive.files:
            archive.read(name, lambda chunk: None, watch)


def unpack(path: Path, folder: Path, watch: Watch | None = None) -> Path:
    """Unpacks into `<folder>.partial`, which is then renamed; returns the folder.

    A single folder around everything in the zip is left away. Raises Damaged when the zip is not
    whole, Untrusted when it must not be used, UserError when the disk has no room for it.
    """
    watch = watch or Watch()
    watch.begin("unpacking")
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    with _Archive(path) as archive:
        check_space(folder.parent, archive.total, f"unpacking {path.name}")
        try:
            _write(archive, partial, watch)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    os.replace(partial, folder)
    return folder


def _write(archive: "_Archive", partial: Path, watch: Watch) -> None:
    around = {name.split("/")[0] for name in archive.files}
    prefix = f"{around.pop()}/" if len(around) == 1 and all("/" in n for n in archive.files) else ""
    partial.mkdir(parents=True)
    for name in archive.files:
        target = partial / name.removeprefix(prefix)
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(target, "xb") as file:
            archive.read(name, file.write, watch)


class _Archive:
    """An open zip whose list of members has been checked. total: bytes of its unpacked files."""

    def __init__(self, path: Path):
        self.path = path
        self._done = 0  # bytes unpacked so far

    def __enter__(self) -> "_Archive":
        try:
            self._zip = zipfile.ZipFile(self.path)
        except BROKEN as error:
            raise self._not_whole(error) from error
        try:
            # A damaged list may seem to have fewer members than its end counts.
            if (found := len(self._zip.infolist())) != (stated := self._stated_members()):
                raise self._not_whole(f"{found} members of {stated}")
            self.files = self._checked()
            self.total = sum(member.file_size for member in self.files.values())
            self._check_sizes()
        except BaseException:
            self._zip.close()
            raise
        return self

    def __exit__(self, *raised) -> None:
        self._zip.close()

    def read(self, name: str, take: Callable[[bytes], object], watch: Watch) -> None:
        """Hands over a file piece by piece; Damaged when it is not what the zip says of it."""
        member, done = self.files[name], 0
        for chunk in self._chunks(member):
            take(chunk)
            done += len(chunk)
            watch.at(self._done + done, self.total)
        if done != member.file_size:
            raise Damaged(
                f"{self.path.name} is damaged at {name}, which has {done} bytes and states "
                f"{member.file_size}"
            )
        self._done += done

    def _chunks(self, member: zipfile.ZipInfo) -> Iterator[bytes]:
        try:
            with self._zip.open(member) as file:  # compares the checksum at the end
                while chunk := file.read(CHUNK):
                    yield chunk
        except (*BROKEN, OSError) as error:
            name = member.filename
            raise Damaged(f"{self.path.name} is damaged at {name} ({error})") from error

    def _checked(self) -> dict[str, zipfile.ZipInfo]:
        """The files in it by name; Untrusted for anything that an honest zip does not have."""
        files: dict[str, zipfile.ZipInfo] = {}
        seen: set[str] = set()
        for member in self._zip.infolist():
            self._check_name(member)
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise self._refused(member, "is a link or a device")
            if member.flag_bits & 1 or member.compress_type not in METHODS:
                raise self._refused(member, "is encrypted or packed in an unusual way")
            if member.is_dir():
                continue
            # File systems that do not tell A from a would write one over the other.
            if member.filename.lower() in seen:
                raise self._refused(member, "comes twice")
            seen.add(member.filename.lower())
            if not set(CLUTTER) & set(member.filename.split("/")):
                files[member.filename] = member
        for name in seen:
            for end in re.finditer("/", name):
                if name[: end.start()] in seen:
                    raise self._refused(self._zip.infolist()[0], f"has {name} inside a file")
        return files

    def _check_name(self, member: zipfile.ZipInfo) -> None:
        name = member.orig_filename
        parts = name.removesuffix("/").split("/")
        if {"", ".", ".."} & set(parts) or re.search(r"[\\\0]|^[A-Za-z]:", name):
            raise self._refused(member, "has a name that may lead out of the folder")

    def _stated_members(self) -> int:
        """How many members the record at the end of the zip counts."""
        ends = self.path.stat().st_size - len(self._zip.comment)
        count = self._record(END, ends)[4]
        # A long zip has the true number in the record before, with 20 bytes between them.
        longer = self._record(LONG_END, ends - END.size - 20) if count == 0xFFFF else (b"",)
        return longer[7] if longer[0] == b"PK\6\6" else count

    def _record(self, form: struct.Struct, ends: int) -> tuple:
        with open(self.path, "rb") as file:
            file.seek(max(ends - form.size, 0))
            return form.unpack(file.read(form.size))

    def _not_whole(self, reason: object) -> Damaged:
        with open(self.path, "rb") as file:
            begins = file.read(16)
        return Damaged(
            f"{self.path.name} is not a whole zip ({reason}; {self.path.stat().st_size} bytes that "
            f"begin with {begins!r})"
        )

    def _check_sizes(self) -> None:
        size = self.path.stat().st_size
        for member in self.files.values():
            if member.file_size > (member.compress_size + 1) * METHODS[member.compress_type]:
                raise self._refused(member, f"claims {member.file_size} bytes, which cannot be")
        packed = sum(member.compress_size for member in self.files.values())
        if packed > size or self.total > max(LARGEST_RATIO * size, HARMLESS_BYTES):
            raise Untrusted(
                f"{self.path} has {size} bytes and claims to hold {self.total}; that is no "
                "recording: do not unpack it, and tell its publishers."
            )

    def _refused(self, member: zipfile.ZipInfo, what: str) -> Untrusted:
        return Untrusted(
            f"{self.path}: member {member.orig_filename!r} {what}; do not unpack this zip, fetch "
            "it again from its publishers."
        )
