"""PyTorch checkpoints written by hand, step by step of their pickles, good ones and bad ones.

PyTorch is not here, and it would not write most of these. A pickle is put together from the bytes
of its steps; `save` puts it into a zip file with its storages, as `torch.save` does.
"""

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

START, END, MARK, CALL, BUILD, NONE, FALSE = b"\x80\x02", b".", b"(", b"R", b"b", b"N", b"\x89"
EMPTY_DICT, EMPTY_TUPLE, SET_ITEMS, PERSISTENT = b"}", b")", b"u", b"Q"
KINDS = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
    "complex64": "ComplexFloatStorage",
}


def text(value: str) -> bytes:
    content = value.encode()
    return b"X" + struct.pack("<I", len(content)) + content


LATIN = text("latin1")


def integer(value: int) -> bytes:
    if 0 <= value < 256:
        return b"K" + bytes([value])
    length = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([length]) + value.to_bytes(length, "little", signed=True)


def several(*values: bytes) -> bytes:
    """A tuple."""
    return MARK + b"".join(values) + b"t"


def sizes(values) -> bytes:
    return several(*map(integer, values))


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + several(*arguments) + CALL


def pairs(values: Mapping[bytes, bytes]) -> bytes:
    return MARK + b"".join(key + value for key, value in values.items()) + SET_ITEMS


def ordered(values: Mapping[str, bytes], modules=None) -> bytes:
    """An ordered dict; modules: names that the state dict of a module remembers."""
    made = name("collections", "OrderedDict") + EMPTY_TUPLE + CALL
    made += pairs({text(key): value for key, value in values.items()})
    if modules is not None:
        listed = EMPTY_DICT + pairs({text(each): EMPTY_DICT for each in modules})
        made += EMPTY_DICT + text("_metadata") + listed + b"s" + BUILD
    return made


def storage(key: str, kind: str, count: int) -> bytes:
    parts = (text("storage"), name("torch", kind), text(key), text("cuda:0"), integer(count))
    return several(*parts) + PERSISTENT


def tensor(stored: bytes, shape, strides, offset: int = 0) -> bytes:
    parts = (stored, integer(offset), sizes(shape), sizes(strides), FALSE, ordered({}))
    return call(name("torch._utils", "_rebuild_tensor_v2"), *parts)


def steps(shape) -> tuple[int, ...]:
    """The strides, in elements, of a tensor whose last axis is the fastest."""
    return tuple(int(np.prod(shape[axis + 1 :])) for axis in range(len(shape)))


def save(path: Path, pickle: bytes, storages: Mapping[str, bytes] | None = None, **more) -> Path:
    """Writes the zip file. more: further members by name in the folder, and how to `change` each.

    change: called with every `zipfile.ZipInfo` before its member is written.
    """
    change = more.pop("change", lambda info: info)
    members = {"data.pkl": START + pickle + END, "byteorder": b"little"} | more.pop("members", {})
    members |= {f"data/{key}": content for key, content in (storages or {}).items()}
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(change(zipfile.ZipInfo(f"archive/{member}")), content)
    return path


def save_arrays(
    path: Path, arrays: Mapping[str, np.ndarray], modules=None, part: str = "", beside=None
) -> Path:
    """What torch.save(module.state_dict(), path) writes.

    part: its name in a dict, if it is in one; beside: what else is there, {name: bytes}.
    """
    values, storages = {}, {}
    for number, (key, array) in enumerate(arrays.items()):
        kind = KINDS[array.dtype.name]
        stored = storage(str(number), kind, array.size)
        values[key] = tensor(stored, array.shape, steps(array.shape))
        storages[str(number)] = np.ascontiguousarray(array).tobytes()
    written = ordered(values, modules)
    if part:
        written = EMPTY_DICT + pairs(
            {text(name): value for name, value in {**(beside or {}), part: written}.items()}
        )
    return save(path, written, storages)


def number(value: np.generic, module: str = "numpy._core.multiarray") -> bytes:
    """What torch.save writes of a single number of numpy."""
    kind = call(name("numpy", "dtype"), text(value.dtype.str[1:]))
    kind += several(integer(3), text(value.dtype.str[0]), NONE) + BUILD
    content = text(value.tobytes().decode("latin1"))
    return call(name(module, "scalar"), kind, call(name("_codecs", "encode"), content, LATIN))
