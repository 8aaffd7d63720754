"""The members of a zip file that PyTorch wrote, found and checked without unpacking anything.

In: a path; out: an `Archive`, which maps the file into memory and gives the bytes of a member when
asked. PyTorch stores members as they are, so the bytes of a member are a piece of the file, and
nothing that a file claims can take more memory than the file has bytes. What PyTorch would not
write (compressed or encrypted members, names that lead elsewhere, two members of one name or in
one place, a list of members that does not fit the file) is refused before any of it is read.
"""

import io
import mmap
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sensojax.errors import UserError

LARGEST_LIST = 4 << 20  # bytes of the list of members: more than 40,000 of them
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # how files of PyTorch before 1.6 begin
LOCAL = struct.Struct("<4s5H3L2H")  # what stands before a member's name, extra and bytes
ENCRYPTED = 0x1


@dataclass(frozen=True)
class Member:
    """Where the bytes of a member are in the file, and the checksum that they must have."""

    start: int
    stop: int
    crc: int


class Archive:
    """A zip file of uncompressed members. Raises UserError when it is anything else."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        with open(self.path, "rb") as file:
            _refuse_other_formats(self.path, file.read(len(LEGACY)))
            self._map = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        self.members: Mapping[str, Member] = self._listed()
        self._checked: set[str] = set()

    def view(self, name: str) -> memoryview:
        """The bytes of a member, read-only and not copied; checked once against their checksum."""
        member = self.members[name]
        content = self._map[member.start : member.stop]
        if name not in self._checked:
            if zlib.crc32(content) != member.crc:
                raise self.damaged(f"the bytes of {name} are not those that were written")
            self._checked.add(name)
        return content

    def damaged(self, found: str) -> UserError:
        """What to tell the user of a file that cannot be what PyTorch wrote."""
        return UserError(
            f"{self.path} is damaged or not a PyTorch file: {found}; get it again from its source."
        )

    def _listed(self) -> dict[str, Member]:
        try:
            with _Bounded(self.path) as file, zipfile.ZipFile(file) as archive:
                infos = archive.infolist()
        except (zipfile.BadZipFile, NotImplementedError, struct.error, ValueError) as error:
            raise self.damaged(str(error)) from error
        found: dict[str, Member] = {}
        for info in infos:
            name = info.orig_filename
            self._refuse_name(name)
            if name in found:
                raise self.damaged(f"two members are called {name!r}")
            if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
                raise self.damaged(f"member {name!r} is compressed, which PyTorch never does")
            if info.flag_bits & ENCRYPTED:
                raise self.damaged(f"member {name!r} is encrypted")
            found[name] = self._located(info)
        self._refuse_overlaps(found)
        return found

    def _refuse_name(self, name: str) -> None:
        parts = name.split("/")
        if not name.isprintable() or "\\" in name or ":" in parts[0] or {"", ".", ".."} & {*parts}:
            raise self.damaged(f"a member is called {name[:100]!r}, which leads out of the file")

    def _located(self, info: zipfile.ZipInfo) -> Member:
        """Where the bytes of a member are, by what stands in front of them."""
        name, at = info.orig_filename, info.header_offset
        header = bytes(self._map[at : at + LOCAL.size]) if at >= 0 else b""
        if len(header) < LOCAL.size or not header.startswith(zipfile.stringFileHeader):
            raise self.damaged(f"member {name!r} is not where the list says")
        _, _, flags, method, *_, name_length, extra_length = LOCAL.unpack(header)
        own_name = bytes(self._map[at + LOCAL.size : at + LOCAL.size + name_length])
        if own_name != name.encode("utf-8") or method != zipfile.ZIP_STORED or flags & ENCRYPTED:
            raise self.damaged(f"member {name!r} is another one where the list points to")
        start = at + LOCAL.size + name_length + extra_length
        if start + info.file_size > len(self._map):
            raise self.damaged(f"member {name!r} ends {info.file_size:,} bytes on, past the file")
        return Member(start, start + info.file_size, info.CRC)

    def _refuse_overlaps(self, found: Mapping[str, Member]) -> None:
        end = 0
        for name, member in sorted(found.items(), key=lambda item: item[1].start):
            if member.start < end:
                raise self.damaged(f"member {name!r} shares its bytes with another one")
            end = member.stop


class _Bounded(io.FileIO):
    """A file of which nobody reads much at a time: a zip's list of members may claim any size."""

    def read(self, size: int = -1) -> bytes:
        size = os.fstat(self.fileno()).st_size - self.tell() if size < 0 else size
        if size > LARGEST_LIST:
            raise zipfile.BadZipFile(f"its list of members claims {size:,} bytes")
        return super().read(size)


def _refuse_other_formats(path: Path, beginning: bytes) -> None:
    if not beginning:
        raise UserError(f"found an empty file {path}, expected weights; get it again.")
    if beginning == LEGACY:
        raise UserError(
            f"found {path} in the format of PyTorch before 1.6, expected the zip format; load it "
            "with PyTorch, and torch.save its state dict again."
        )
    if not beginning.startswith((zipfile.stringFileHeader, zipfile.stringEndArchive)):
        raise UserError(
            f"found {path}, which is no zip file, expected one of PyTorch (1.6 or later) or a "
            ".safetensors file; give such a file."
        )
