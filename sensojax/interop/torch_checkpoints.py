"""PyTorch checkpoints without PyTorch: tensors and plain values, and no code of the file is run.

In: the path of a file that `torch.save` wrote (1.6 or later: a zip of one pickle and one member for
each storage); out: what was saved, with a `Tensor` for every tensor. Bytes of tensors stay in the
file, mapped, until an array is asked for. Formats of members are in `archives`, of the pickle in
`pickles`; here is what the pickle's few names mean, and that a tensor lies within its storage.
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from sensojax.errors import UserError
from sensojax.interop import numpy_scalars, pickles
from sensojax.interop.archives import Archive
from sensojax.interop.pickles import Call, Refused, StateDict

PICKLE, STORAGES, BYTE_ORDER = "data.pkl", "data", "byteorder"
SCRIPT = ("constants.pkl", "code")  # members and folders that only TorchScript programs have
MOST_AXES = 25  # of a tensor, as in PyTorch's own compiled code
STORAGE_TYPES = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": jnp.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
    "ComplexFloatStorage": np.complex64,
    "ComplexDoubleStorage": np.complex128,
}
DTYPES = {
    "float32": np.float32,
    "float64": np.float64,
    "float16": np.float16,
    "bfloat16": jnp.bfloat16,
    "float8_e4m3fn": jnp.float8_e4m3fn,
    "float8_e5m2": jnp.float8_e5m2,
    "int64": np.int64,
    "int32": np.int32,
    "int16": np.int16,
    "int8": np.int8,
    "uint64": np.uint64,
    "uint32": np.uint32,
    "uint16": np.uint16,
    "uint8": np.uint8,
    "bool": np.bool_,
    "complex64": np.complex64,
    "complex128": np.complex128,
}


@dataclass(frozen=True, eq=False)
class Tensor:
    """An array that is still in the file; `numpy.asarray` gives it, read-only and not copied."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        array = self.read() if dtype is None else self.read().astype(dtype, copy=False)
        return array.copy() if copy else array


@dataclass(frozen=True)
class StorageType:
    """What the elements of a storage are; dtype None: bytes, the tensors on it say of what."""

    dtype: np.dtype | None


@dataclass(frozen=True)
class Storage:
    """One member of the file, `count` elements long. view: gives its bytes."""

    dtype: np.dtype | None
    num_bytes: int
    view: Callable[[], memoryview]


def load(path: str | Path) -> Any:
    """What was saved: nested dicts, lists, tuples, numbers, strings, and a `Tensor` per tensor.

    A state dict is a `pickles.StateDict`. Raises UserError for a file that is damaged, of another
    format, or that asks for anything beyond that; nothing of it has been run then.
    """
    archive = Archive(path)
    folder = _folder(archive)
    byte_order = "<"
    if f"{folder}/{BYTE_ORDER}" in archive.members:
        written = bytes(archive.view(f"{folder}/{BYTE_ORDER}")[:10])
        if written not in (b"little", b"big"):
            raise archive.damaged(f"its byte order is {written!r}")
        byte_order = "<" if written == b"little" else ">"
    storage = functools.partial(_storage, archive, folder)
    pickle = archive.view(f"{folder}/{PICKLE}")
    try:
        if len(pickle) > pickles.LARGEST_PICKLE:  # before it is copied
            raise Refused(f"its pickle has {len(pickle):,} bytes")
        return pickles.load(bytes(pickle), _names(byte_order), storage)
    except Refused as error:
        raise UserError(
            f"{archive.path} is refused: {error}, expected only tensors, dicts, lists, numbers and "
            "strings; nothing of it was run. Get a file of weights alone "
            "(torch.save(model.state_dict(), ...)) from a source you trust."
        ) from error


def _folder(archive: Archive) -> str:
    """The folder in the archive that everything is in."""
    found = [name for name in archive.members if name.endswith(f"/{PICKLE}")]
    if len(found) != 1 or found[0].count("/") != 1:
        raise archive.damaged(f"it has {len(found)} members */{PICKLE}, a PyTorch file has one")
    folder = found[0].removesuffix(f"/{PICKLE}")
    if any(name.split("/")[1] in SCRIPT for name in archive.members if "/" in name):
        raise UserError(
            f"found a TorchScript program in {archive.path}, expected weights alone; load it with "
            "PyTorch, and torch.save its state_dict()."
        )
    return folder


def _storage(archive: Archive, folder: str, said: Any) -> Storage:
    """The member that a pickle speaks of; `said` is ("storage", type, member, device, count)."""
    if not isinstance(said, tuple) or len(said) != 5 or said[0] != "storage":
        raise Refused("its pickle speaks of something outside that is no storage")
    _, kind, key, _, count = said
    if not isinstance(kind, StorageType) or not isinstance(key, str) or not _is_size(count):
        raise Refused("its pickle describes a storage in a way PyTorch does not")
    name = f"{folder}/{STORAGES}/{key}"
    if name not in archive.members:
        raise Refused(f"its pickle names a storage {key[:60]!r} that the file does not have")
    member = archive.members[name]
    size = member.stop - member.start
    claimed = count * (1 if kind.dtype is None else kind.dtype.itemsize)
    if claimed != size:
        raise Refused(f"its pickle claims {claimed:,} bytes of storage {key}, which has {size:,}")
    return Storage(kind.dtype, size, functools.partial(archive.view, name))


def _tensor(arguments: Sequence[Any], dtype: np.dtype | None = None) -> Tensor:
    """A tensor from (storage, offset, shape, strides, ...), the last two in elements."""
    if len(arguments) < 4 or not isinstance(arguments[0], Storage):
        raise Refused("its pickle makes a tensor of something that is no storage")
    storage, offset, shape, strides = arguments[:4]
    dtype = storage.dtype if dtype is None else dtype
    sizes = (shape, strides)
    if dtype is None or not all(isinstance(each, tuple) for each in sizes):
        raise Refused("its pickle makes a tensor without type or shape")
    numbers = (offset, *shape, *strides)
    if len(shape) != len(strides) or len(shape) > MOST_AXES or not all(map(_is_size, numbers)):
        raise Refused("its pickle makes a tensor with a shape or strides that cannot be")
    available, wanted = storage.num_bytes // dtype.itemsize, math.prod(shape)
    last = offset + sum((size - 1) * by for size, by in zip(*sizes, strict=True))
    # A tensor that repeats its elements (stride 0) could be larger than any memory.
    if wanted > available or (wanted and last >= available) or offset > available:
        raise Refused(
            f"its pickle makes a tensor of {wanted:,} elements that reaches beyond its storage of "
            f"{available:,}"
        )

    def read() -> np.ndarray:
        steps = tuple(by * dtype.itemsize for by in strides)
        place = dict(buffer=storage.view(), offset=offset * dtype.itemsize, strides=steps)
        return np.ndarray(shape, dtype, **place) if wanted else np.empty(shape, dtype)

    return Tensor(shape, dtype, read)


def _typed_tensor(arguments: Sequence[Any]) -> Tensor:
    """A tensor of bytes that says its type: (storage, offset, shape, strides, _, _, dtype, ...)."""
    if len(arguments) < 7 or not isinstance(arguments[6], np.dtype):
        raise Refused("its pickle makes a tensor without a type")
    return _tensor(arguments, arguments[6])


def _parameter(arguments: Sequence[Any]) -> Tensor:
    if not arguments or not isinstance(arguments[0], Tensor):
        raise Refused("its pickle makes a parameter of something that is no tensor")
    return arguments[0]


def _state_dict(arguments: Sequence[Any]) -> StateDict:
    """An ordered dict, made empty and filled by later steps, or of a list of pairs."""
    pairs = arguments[0] if arguments else ()
    if len(arguments) > 1 or not isinstance(pairs, list | tuple):
        raise Refused("its pickle makes an ordered dict of something else than pairs")
    if not all(isinstance(p, list | tuple) and len(p) == 2 for p in pairs):
        raise Refused("its pickle makes an ordered dict of something else than pairs")
    if not all(isinstance(key, pickles.SCALARS) for key, _ in pairs):
        raise Refused("its pickle has a key that is no number or string")
    return StateDict(pairs)


def _shape(arguments: Sequence[Any]) -> tuple[int, ...]:
    sizes = arguments[0] if arguments else ()
    if len(arguments) > 1 or not isinstance(sizes, list | tuple) or not all(map(_is_size, sizes)):
        raise Refused("its pickle has a shape that cannot be")
    return tuple(sizes)


def _device(arguments: Sequence[Any]) -> str:
    """What a device is called; nothing is put there."""
    if not arguments or not isinstance(arguments[0], str):
        raise Refused("its pickle has a device without a name")
    return arguments[0]


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _names(byte_order: str) -> dict[str, Any]:
    """All that a pickle may mention, and what it means here."""
    names = CALLS | {f"torch.{name}": dtype for name, dtype in _ordered(DTYPES, byte_order)}
    for name, dtype in _ordered(STORAGE_TYPES, byte_order):
        names[f"torch.{name}"] = StorageType(dtype)
    return names


def _ordered(types: Mapping[str, Any], byte_order: str) -> Iterator[tuple[str, np.dtype]]:
    """The types with their bytes in this order."""
    for name, dtype in types.items():
        given = np.dtype(dtype)
        yield name, given if given.itemsize == 1 else given.newbyteorder(byte_order)


CALLS: dict[str, Any] = numpy_scalars.CALLS | {
    "collections.OrderedDict": Call(_state_dict),
    "torch._utils._rebuild_tensor": Call(_tensor),
    "torch._utils._rebuild_tensor_v2": Call(_tensor),
    "torch._utils._rebuild_tensor_v3": Call(_typed_tensor),
    "torch._utils._rebuild_parameter": Call(_parameter),
    "torch.Size": Call(_shape),
    "torch.device": Call(_device),
    "torch.storage.UntypedStorage": StorageType(None),
}
