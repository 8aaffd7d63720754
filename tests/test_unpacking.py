"""A zip is unpacked with distrust, whole or not at all."""

import shutil
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from sensojax.errors import UserError
from sensojax.tools import downloading
from sensojax.tools.downloading import unpacking
from sensojax.tools.downloading.display import Stopped
from tests.serving import CONTENT, FILES, Listening, no_room, zipped


def tree(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def unpacked(tmp_path: Path, content: bytes) -> dict[str, bytes]:
    """What lies in the folder afterwards; also that nothing lies anywhere else."""
    inside = tmp_path / "inside"
    inside.mkdir(exist_ok=True)
    (inside / "a.zip").write_bytes(content)
    try:
        downloading.unpack(inside / "a.zip", inside / "a")
    finally:
        there = {path.name for path in inside.iterdir()}
        assert there - {"a"} == {"a.zip"} and {p.name for p in tmp_path.iterdir()} == {"inside"}
    return tree(inside / "a")


@pytest.mark.parametrize("around", ["", "session/"])
@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_a_zip_is_unpacked_without_the_folder_around_it(tmp_path, around, compression):
    clutter = {"__MACOSX/._data": b"x", f"{around}data/.DS_Store": b"y", f"{around}data/": b""}
    files = {around + name: each for name, each in FILES.items()}
    assert unpacked(tmp_path, zipped(files | clutter, compression)) == FILES


def linked() -> zipfile.ZipInfo:
    member = zipfile.ZipInfo("data/link")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"/etc/x": b"x"}, "'/etc/x' has a name that may lead out"),
        ({"a/../../x": b"x"}, "lead out"),
        ({"..": b"x"}, "lead out"),
        ({"./x": b"x"}, "lead out"),
        ({"a//x": b"x"}, "lead out"),
        ({"..\\x": b"x"}, "lead out"),
        ({"C:x": b"x"}, "lead out"),
        ({linked(): b"/etc"}, "is a link or a device"),
        ({"a": b"1", zipfile.ZipInfo("a"): b"2"}, "'a' comes twice"),
        ({"data/a": b"1", "DATA/A": b"2"}, "'DATA/A' comes twice"),
        ({"a": b"1", "a/b": b"2"}, "has a/b inside a file"),
    ],
)
def test_a_zip_that_must_not_be_trusted_is_refused_and_writes_nothing(tmp_path, files, complaint):
    content = zipped({"data/good": b"good"} | files)
    with pytest.raises(downloading.Untrusted, match=complaint):
        unpacked(tmp_path, content)
    with pytest.raises(downloading.Untrusted, match=complaint):
        downloading.test(tmp_path / "inside" / "a.zip")


def central(content: bytes, name: bytes) -> int:
    """Where the record of a member begins in the list at the end of a zip."""
    at = content.rindex(name)
    assert content[at - 46 : at - 42] == b"PK\1\2"
    return at - 46


def with_size(content: bytes, name: bytes, size: int) -> bytes:
    """The zip with another stated size of a member, in its list and beside its bytes."""
    changed = bytearray(content)
    struct.pack_into("<I", changed, central(content, name) + 24, size)
    struct.pack_into("<I", changed, content.index(name) - 8, size)
    return bytes(changed)


def test_members_that_claim_impossible_sizes_are_refused(tmp_path):
    content = zipped(FILES)
    with pytest.raises(UserError, match="claims 3000000000 bytes, which cannot be"):
        unpacked(tmp_path, with_size(content, b"data/videos/1.npy", 3_000_000_000))
    stored = zipped(FILES, zipfile.ZIP_STORED)
    with pytest.raises(UserError, match="claims 9000 bytes, which cannot be"):
        unpacked(tmp_path, with_size(stored, b"data/videos/1.npy", 9000))


@pytest.mark.parametrize("size", [2999, 3001, 4000, 0])
def test_members_of_another_size_than_stated_are_damaged(tmp_path, size):
    with pytest.raises(downloading.Damaged, match=r"damaged at data/videos/1\.npy"):
        unpacked(tmp_path, with_size(zipped(FILES), b"data/videos/1.npy", size))


def test_zips_that_unfold_beyond_measure_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "HARMLESS_BYTES", 100_000)
    with pytest.raises(UserError, match="claims to hold 2000000; that is no recording"):
        unpacked(tmp_path, zipped({f"data/{i}": bytes(200_000) for i in range(10)}))


def test_members_that_share_their_bytes_are_refused(tmp_path):
    """The trick of the small zips that unfold to terabytes: many records of the same bytes."""
    content = zipped({"data/0": CONTENT[:3000], "data/1": b"x"})
    start, end = central(content, b"data/0"), content.rindex(b"PK\5\6")
    record = content[start : central(content, b"data/1")]
    records = b"".join(record.replace(b"data/0", f"data/{i}".encode()) for i in range(9))
    ending = bytearray(content[end:])
    struct.pack_into("<HHII", ending, 8, 9, 9, len(records), start)
    with pytest.raises(UserError, match="that is no recording"):
        unpacked(tmp_path, content[:start] + records + bytes(ending))


def test_encrypted_and_unusually_packed_members_are_refused(tmp_path):
    content = bytearray(zipped(FILES))
    content[central(bytes(content), b"meta/empty") + 8] |= 1
    with pytest.raises(UserError, match="is encrypted or packed"):
        unpacked(tmp_path, bytes(content))
    with pytest.raises(UserError, match="is encrypted or packed"):
        unpacked(tmp_path, zipped(FILES, zipfile.ZIP_BZIP2))


def test_no_cut_zip_is_taken_for_a_whole_one(tmp_path):
    content = zipped(FILES)
    for length in [0, 1, 21, 22, *range(100, len(content), 97), len(content) - 1]:
        with pytest.raises(downloading.Damaged, match=r"a\.zip"):
            unpacked(tmp_path, content[:length])
    assert unpacked(tmp_path, content) == FILES


def test_no_altered_byte_passes_unless_nothing_of_the_files_is_altered(tmp_path):
    content = zipped({name: each[:200] for name, each in FILES.items()})
    expected = {name: each[:200] for name, each in FILES.items()}
    refused, places = (
        0,
        [*range(0, len(content), 17), *range(content.rindex(b"PK\5\6"), len(content))],
    )
    for at in places:
        changed = content[:at] + bytes([content[at] ^ (1 << at % 8)]) + content[at + 1 :]
        path = tmp_path / "a.zip"
        path.write_bytes(changed)
        try:
            assert tree(downloading.unpack(path, tmp_path / str(at))) == expected
        except UserError:
            refused += 1
        shutil.rmtree(tmp_path / str(at), ignore_errors=True)
    assert refused > 0.6 * len(places)


def test_members_are_counted_also_in_long_zips(tmp_path, monkeypatch):
    """Zips of more than 65535 members have the count in a record of their own."""
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 2)  # so that a short one has it too
    content = bytearray(zipped(FILES))
    assert b"PK\6\6" in content
    for place in (8, 10):
        struct.pack_into("<H", content, content.rindex(b"PK\5\6") + place, 0xFFFF)
    (tmp_path / "a.zip").write_bytes(content)
    unpacking.look(tmp_path / "a.zip")
    struct.pack_into("<Q", content, content.rindex(b"PK\6\6") + 32, len(FILES) + 1)
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(downloading.Damaged, match="4 members of 5"):
        unpacking.look(tmp_path / "a.zip")


def test_what_is_no_zip_is_said_with_how_it_begins(tmp_path):
    with pytest.raises(downloading.Damaged, match=r"not a whole zip .*<!DOCTYPE html"):
        unpacked(tmp_path, b"<!DOCTYPE html><title>log in</title>")


def test_unpacking_that_is_stopped_leaves_nothing(tmp_path):
    (tmp_path / "a.zip").write_bytes(zipped(FILES))
    with pytest.raises(Stopped):
        downloading.unpack(tmp_path / "a.zip", tmp_path / "a", Listening(stop_at=6000))
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]
    (tmp_path / "a.partial" / "data").mkdir(parents=True)  # what a kill leaves
    (tmp_path / "a.partial" / "data" / "left_over").write_bytes(b"x")
    assert tree(downloading.unpack(tmp_path / "a.zip", tmp_path / "a")) == FILES


def test_unpacking_wants_room_for_what_it_writes(tmp_path, monkeypatch):
    no_room(monkeypatch, 8000)
    with pytest.raises(UserError, match=r"unpacking a\.zip needs"):
        unpacked(tmp_path, zipped(FILES))
