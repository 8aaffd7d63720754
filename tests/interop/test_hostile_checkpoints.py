"""Files that were made to do harm: each is refused in one sentence, runs nothing, takes no memory.

`CANARY` is where a file that runs code leaves its mark; the first test shows that Python's own
unpickler does run these, so that the refusals mean something.
"""

import io
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from sensojax.errors import UserError
from sensojax.interop import pickles, state_dicts
from tests.interop import torch_files as files
from tests.interop.torch_files import call, integer, name, ordered, several, sizes, text

MEMORY = 24 << 20  # bytes; the largest of these files would take terabytes
FOUR = np.float32([1, 2, 3, 4]).tobytes()
GOOD = files.tensor(files.storage("0", "FloatStorage", 4), (2, 2), (2, 1))


def opening(canary: str) -> bytes:
    return call(name("io", "open"), text(canary), text("w"))


def evaluated(canary: str) -> bytes:
    return call(name("builtins", "eval"), text(f"open({canary!r}, 'w')"))


def getattr_chain(canary: str) -> bytes:
    module = call(name("importlib", "import_module"), text("io"))
    return call(call(name("builtins", "getattr"), module, text("open")), text(canary), text("w"))


def inside_a_tensor(canary: str) -> bytes:
    return call(name("torch._utils", "_rebuild_tensor_v2"), evaluated(canary))


def by_stack(canary: str) -> bytes:
    return call(text("io") + text("open") + b"\x93", text(canary), text("w"))


def instance(canary: str) -> bytes:
    return files.MARK + text(canary) + text("w") + b"iio\nopen\n"


RUN_CODE = [opening, evaluated, getattr_chain, by_stack, instance]


@pytest.mark.parametrize("make", RUN_CODE)
def test_python_itself_would_run_these(tmp_path, make):
    canary = tmp_path / "canary"
    pickle.Unpickler(io.BytesIO(b"\x80\x04" + make(str(canary)) + files.END)).load().close()
    assert canary.exists()


@pytest.mark.parametrize("make", [*RUN_CODE, inside_a_tensor])
@pytest.mark.parametrize("place", ["alone", "value", "metadata", "hooks"])
def test_code_is_refused_by_name_wherever_it_stands(tmp_path, make, place):
    canary = tmp_path / "canary"
    evil = make(str(canary))
    saved = {
        "alone": evil,
        "value": ordered({"good": GOOD, "bad": evil}),
        "metadata": ordered({"good": GOOD}) + files.EMPTY_DICT + text("_metadata") + evil + b"sb",
        "hooks": call(name("torch._utils", "_rebuild_parameter"), GOOD, files.FALSE, evil),
    }[place]
    said = refused(files.save(tmp_path / "a.pth", saved, {"0": FOUR}))
    assert not canary.exists()
    assert "nothing of it was run" in said and any(word in said for word in ("mentions", "step"))


def refused(path: Path) -> str:
    """The one sentence with which a file is refused; it took next to no memory."""
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as caught:
            for tensor in state_dicts.read(path).tensors.values():
                np.asarray(tensor)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    said = str(caught.value)
    assert peak < MEMORY, f"{peak:,} bytes"
    assert "\n" not in said and len(said) < 500 and said.endswith(".")
    return said


def of(storage: bytes, shape, strides, offset: int = 0) -> bytes:
    return ordered({"w": files.tensor(storage, shape, strides, offset)})


STORAGE = files.storage("0", "FloatStorage", 4)
BUILT = name("collections", "OrderedDict") + files.EMPTY_TUPLE + files.CALL
NUMPY_TYPE, NUMPY_NUMBER = name("numpy", "dtype"), name("numpy._core.multiarray", "scalar")
PICKLES = {
    "attributes": (
        ordered({"w": GOOD}) + files.EMPTY_DICT + text("x") + integer(1) + b"sb",
        "sets",
    ),
    "state of a tensor": (GOOD + files.EMPTY_DICT + files.BUILD, "sets attributes"),
    "setstate": (BUILT + several(files.NONE, files.EMPTY_DICT) + files.BUILD, "sets attributes"),
    "new object": (BUILT + several() + b"\x81", "NEWOBJ"),
    "extension": (b"\x82\x01", "EXT1"),
    "text persistent id": (b"P0\n", "PERSID"),
    "persistent id of a call": (several(text("module"), text("x")) + b"Q", "no storage"),
    "calling a storage type": (call(name("torch", "FloatStorage"), integer(1)), "none of our func"),
    "calling a dict": (BUILT + several() + files.CALL, "none of our functions"),
    "dotted attribute": (name("collections", "OrderedDict.update"), "mentions"),
    "another tensor maker": (name("torch._utils", "_rebuild_sparse_tensor"), "sparse"),
    "numpy array": (name("numpy.core.multiarray", "_reconstruct"), "multiarray._reconstruct"),
    "number of objects": (call(NUMPY_TYPE, text("O8")), "not of single numbers"),
    "number of pieces": (call(NUMPY_TYPE, text("f4,f4")), "not of single numbers"),
    "number without type": (call(NUMPY_NUMBER, text("f8"), text("x")), "number without a type"),
    "number of few bytes": (call(NUMPY_NUMBER, call(NUMPY_TYPE, text("f8")), b"C\x01x"), "few or"),
    "number of text": (call(NUMPY_NUMBER, call(NUMPY_TYPE, text("f8")), text("x" * 8)), "few or"),
    "state of a type": (call(NUMPY_TYPE, text("f8")) + files.EMPTY_DICT + files.BUILD, "in a way"),
    "other codec": (call(name("_codecs", "encode"), text("a"), text("rot13")), "an unknown way"),
    "no byte": (call(name("_codecs", "encode"), text("\u2603"), text("latin1")), "that are none"),
    "negative strides": (of(STORAGE, (2, 2), (-2, 1), 2), "cannot be"),
    "negative shape": (of(STORAGE, (-2, 2), (2, 1)), "cannot be"),
    "negative offset": (of(STORAGE, (2,), (1,), -1), "cannot be"),
    "far strides": (of(STORAGE, (2, 2), (2**40, 1)), "reaches beyond"),
    "far offset": (of(STORAGE, (1,), (1,), 4), "reaches beyond"),
    "repeated elements": (of(STORAGE, (10**7, 10**7), (0, 0)), "reaches beyond"),
    "huge shape": (of(STORAGE, (2**62, 2**62), (1, 1)), "reaches beyond"),
    "too many axes": (of(STORAGE, (1,) * 99, (1,) * 99), "cannot be"),
    "shape without strides": (of(STORAGE, (4,), ()), "cannot be"),
    "truth as a size": (ordered({"w": call(name("torch", "Size"), several(b"\x88"))}), "shape"),
    "large storage": (of(files.storage("0", "FloatStorage", 2**40), (1,), (1,)), "claims"),
    "small storage": (of(files.storage("0", "FloatStorage", 3), (1,), (1,)), "claims 12 bytes"),
    "other type": (of(files.storage("0", "DoubleStorage", 4), (1,), (1,)), "claims 32 bytes"),
    "absolute storage": (of(files.storage("/etc/hosts", "ByteStorage", 1), (1,), (1,)), "/etc/ho"),
    "parent storage": (of(files.storage("../data.pkl", "ByteStorage", 9), (1,), (1,)), "not have"),
    "quantized": (of(files.storage("0", "QInt8Storage", 16), (1,), (1,)), "torch.QInt8Storage"),
    "no tensor": (ordered({"w": call(name("torch._utils", "_rebuild_tensor"))}), "no storage"),
    "not a pair": (call(name("collections", "OrderedDict"), several(integer(1))), "pairs"),
    "nested lists": (b"]" * 100_001, "nests more than"),
    "nested tuples": (b")" + b"\x85" * 20_000, "found no weights"),
    "deep key": (b"}" + b")" + b"\x85" * 60_000 + b"Ns", "key"),
    "marks": (b"(" * 100_001, "nests more than"),
    "memo": (b"Nr\xff\xff\xff\x7f", "remembers more values"),
    "recall": (b"h\x07", "recalls"),
    "empty stack": (b"R", "not there"),
    "no such list": (b"(K\x01e", "list that is not there"),
    "odd pairs": (b"}(K\x01u", "key"),
    "long number": (b"\x8b" + struct.pack("<i", 50_000) + b"\x7f" * 50_000, "64 bits"),
    "claimed text": (b"X\xff\xff\xff\x7fabc", "cut or wrong"),
    "claimed bytes": (b"\x8e" + struct.pack("<Q", 2**62) + b"abc", "cut or wrong"),
    "no end": (b"(" * 9 + b"\xff\xfe", "cut or wrong"),
    "endless laughter": (
        b")" + b"".join(b"q%c" % i + b"h%c\x86" % i for i in range(99)),
        "found no weights",
    ),
}


@pytest.mark.parametrize("case", PICKLES)
def test_a_pickle_that_claims_what_cannot_be_is_refused(tmp_path, case):
    steps, said = PICKLES[case]
    assert said in refused(files.save(tmp_path / "a.pth", steps, {"0": FOUR}))


def test_a_pickle_of_endless_steps_is_left_after_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(pickles, "MOST_STEPS", 10_000)
    path = files.save(tmp_path / "a.pth", b"]" + b"]a" * 20_000, {"0": FOUR})
    assert "more than 10,000 steps" in refused(path)
    monkeypatch.setattr(pickles, "LARGEST_PICKLE", 10_000)
    assert "its pickle has 40,0" in refused(path)


def compressed(info):
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


@pytest.mark.parametrize("member", ["data/0", "data.pkl"])
def test_a_compressed_bomb_is_not_unpacked(tmp_path, member):
    def change(info):
        return compressed(info) if info.filename.endswith(member) else info

    bomb = {member: bytes(30 << 20)}
    path = files.save(tmp_path / "a.pth", ordered({"w": GOOD}), change=change, members=bomb)
    assert path.stat().st_size < 1 << 20
    assert f"archive/{member}' is compressed" in refused(path)


@pytest.mark.parametrize(
    "member",
    ["/etc/passwd", "archive/../../x", "C:/x", "archive\\x", "archive//x", "archive/a\nb", "../x"],
)
def test_members_that_lead_out_of_the_file_are_refused(tmp_path, member):
    path = files.save(tmp_path / "a.pth", ordered({"w": GOOD}), {"0": FOUR})
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo("x")
        info.filename = member
        archive.writestr(info, b"x")
    assert "leads out of the file" in refused(path)


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_a_file_with_two_of_what_there_is_one_of_is_refused(tmp_path):
    path = files.save(tmp_path / "a.pth", ordered({"w": GOOD}), {"0": FOUR})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/data/0", FOUR)
    assert "two members are called 'archive/data/0'" in refused(path)
    path = files.save(tmp_path / "b.pth", ordered({"w": GOOD}), {"0": FOUR})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("other/data.pkl", b".")
    assert "2 members */data.pkl" in refused(path)


def listed(path: Path) -> tuple[bytearray, int]:
    """A file's bytes, and where its list of members begins."""
    content = bytearray(path.read_bytes())
    return content, struct.unpack_from("<I", content, content.rindex(b"PK\5\6") + 16)[0]


@pytest.mark.parametrize(
    ("field", "at", "value", "said"),
    [
        ("flags", 8, struct.pack("<H", 1), "encrypted"),
        ("size", 20, struct.pack("<II", 2**31, 2**31), "past the file"),
        ("smaller size", 24, struct.pack("<I", 1), "compressed"),
        ("place", 42, struct.pack("<I", 7), "not where the list says"),
    ],
)
def test_a_list_of_members_that_does_not_fit_the_file_is_refused(tmp_path, field, at, value, said):
    content, start = listed(files.save(tmp_path / "a.pth", ordered({"w": GOOD}), {"0": FOUR}))
    content[start + at : start + at + len(value)] = value
    (tmp_path / "b.pth").write_bytes(content)
    assert said in refused(tmp_path / "b.pth"), field


def test_members_that_share_their_bytes_are_refused(tmp_path):
    path = files.save(tmp_path / "a.pth", ordered({"w": GOOD}), {"0": FOUR, "1": FOUR})
    content, start = listed(path)
    first, second = (content.index(b"archive/data/%d" % i, start) - 46 for i in (0, 1))
    content[second + 42 : second + 46] = content[first + 42 : first + 46]
    (tmp_path / "b.pth").write_bytes(content)
    assert "another one where the list points to" in refused(tmp_path / "b.pth")
    # A member of the same name, whose bytes are claimed to reach into the next one.
    content, start = listed(path)
    content[first + 20 : first + 28] = struct.pack("<II", 99, 99)
    (tmp_path / "c.pth").write_bytes(content)
    assert "shares its bytes" in refused(tmp_path / "c.pth")


def test_a_list_that_claims_gigabytes_is_not_read(tmp_path):
    path = tmp_path / "a.pth"
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 60_000, 60_000, 5 << 20, 0, 0)
    path.write_bytes(b"PK\3\4" + bytes(5 << 20) + end)
    assert "claims 5,242,880 bytes" in refused(path)


def test_a_cut_or_altered_file_is_refused_wherever_it_is_cut(tmp_path):
    whole = files.save(tmp_path / "a.pth", ordered({"w": GOOD}), {"0": FOUR}).read_bytes()
    path = tmp_path / "b.pth"
    for length in range(0, len(whole), 23):
        path.write_bytes(whole[:length])
        refused(path)
    altered = bytearray(whole)
    altered[whole.index(FOUR)] ^= 1
    path.write_bytes(altered)
    assert "the bytes of archive/data/0 are not those that were written" in refused(path)


def test_no_change_of_a_byte_does_more_than_be_refused(tmp_path):
    arrays = {"w": np.arange(6.0, dtype=np.float32).reshape(2, 3), "n": np.array(3, np.int64)}
    whole = files.save_arrays(tmp_path / "a.pth", arrays, modules=["", "core"]).read_bytes()
    rng, path, outcomes = np.random.default_rng(0), tmp_path / "b.pth", set()
    for _ in range(400):
        content = bytearray(whole)
        for at in rng.integers(0, len(whole), rng.integers(1, 4)):
            content[at] = rng.integers(256)
        path.write_bytes(content)
        try:
            for tensor in state_dicts.read(path).tensors.values():
                np.asarray(tensor)
            outcomes.add("read")
        except UserError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def test_random_steps_never_do_more_than_be_refused(tmp_path):
    """Pickles whose checksums are right, of any steps that exist."""
    rng = np.random.default_rng(1)
    whole = ordered({"w": GOOD, "v": GOOD}, modules=["", "core"])
    for number in range(400):
        content = bytearray(whole)
        for at in rng.integers(0, len(whole), 3):
            content[at] = rng.integers(256)
        path = files.save(tmp_path / f"{number}.pth", bytes(content), {"0": FOUR})
        try:
            state_dicts.read(path)
        except UserError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty file"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.", "before 1.6"),
        (b"\x89HDF\r\n\x1a\n" + bytes(40), "no zip file"),
        (b"PK\x05\x06" + bytes(18), "0 members"),
        (b"PK\x03\x04" + bytes(50), "not a zip file"),
        (b"\xff" * 8 + b"{" + bytes(8), "safetensors"),
        (struct.pack("<Q", 10**12) + b"{}", "safetensors"),
    ],
)
def test_other_formats_are_named(tmp_path, content, said):
    (tmp_path / "a.pth").write_bytes(content)
    assert said in refused(tmp_path / "a.pth")


@pytest.mark.parametrize("member", ["constants.pkl", "code/model.py"])
def test_a_program_is_refused_as_such(tmp_path, member):
    path = files.save(tmp_path / "a.pth", ordered({"w": GOOD}), {"0": FOUR}, members={member: b""})
    assert "TorchScript program" in refused(path)


def test_a_byte_order_that_there_is_not_is_refused(tmp_path):
    order = {"byteorder": b"middle"}
    path = files.save(tmp_path / "a.pth", ordered({"w": GOOD}), {"0": FOUR}, members=order)
    assert "its byte order is b'middle'" in refused(path)


def test_the_good_file_of_these_tests_is_good(tmp_path):
    path = files.save(tmp_path / "a.pth", ordered({"w": GOOD}), {"0": FOUR})
    np.testing.assert_array_equal(state_dicts.read(path).tensors["w"], [[1, 2], [3, 4]])
    assert sizes([]) == b"(t"
