"""The weights in a file, whatever its format: names and arrays, and what the file says of them.

In: a path, of a PyTorch checkpoint or of a .safetensors file; out: a `StateDict`, whose arrays stay
in the file until they are asked for. `write` makes a .safetensors file, which PyTorch reads too.
What the names mean is somebody else's business (`sensorium`).
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from sensojax.errors import UserError, nearest
from sensojax.interop import torch_checkpoints
from sensojax.interop.torch_checkpoints import Tensor
from sensojax.writing import write_bytes_atomically

# What wrappers of a model put before the names of all its arrays; what compiling a part of it puts
# into the middle of theirs.
WRAPPER, COMPILED = "module.", "_orig_mod."
SAFETENSORS_TYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


@dataclass(frozen=True)
class StateDict:
    """Arrays by name, none of them read yet (`numpy.asarray` reads one).

    modules: names of the modules that they came from, also of those without arrays (activations);
    None where the file does not say. notes: text that was stored beside them.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    modules: frozenset[str] | None = None
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tensor.shape for name, tensor in self.tensors.items()}

    def numbers(self) -> dict[str, float]:
        """The arrays without axes."""
        alone = {name: tensor for name, tensor in self.tensors.items() if tensor.shape == ()}
        return {name: np.asarray(tensor).item() for name, tensor in alone.items()}


def read(path: str | Path, part: str = "") -> StateDict:
    """The weights in a file.

    part: where they are, when the file holds several dicts of weights. Raises UserError when there
    are none, or several and no part is named, and for files that cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"found no file {path}, expected weights; check the path.")
    if _is_safetensors(path):
        if part:
            raise UserError(f"found --part {part} for {path}, which has no parts; leave it out.")
        return _safetensors(path)
    saved = torch_checkpoints.load(path)
    found = _weights(saved)
    if part:
        if part not in found:
            known = ", ".join(map(repr, found)) or "none"
            raise UserError(
                f"found no weights under {part!r} in {path}, expected one of {known}"
                f"{nearest(part, found) or '.'}"
            )
    elif not found:
        raise UserError(
            f"found no weights in {path}, expected a dict of names and tensors, perhaps in a dict; "
            "save the model's state_dict() with PyTorch."
        )
    elif len(found) > 1:
        raise UserError(
            f"found {len(found)} dicts of weights in {path}, expected one; say --part with "
            f"{' or '.join(map(repr, found))}."
        )
    chosen = found[part] if part else next(iter(found.values()))
    modules = getattr(chosen, "modules", None)
    return _unwrapped(path, chosen, modules)


def write(path: str | Path, arrays: Mapping[str, np.ndarray], notes: Mapping[str, str]) -> None:
    """Writes a .safetensors file, whole or not at all."""
    packed = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    # ascontiguousarray makes vectors of scalars.
    packed = {name: array.reshape(arrays[name].shape) for name, array in packed.items()}
    content = safetensors.numpy.save(packed, metadata=dict(notes))
    write_bytes_atomically(Path(path), content)


def _weights(saved: Any) -> dict[str, dict]:
    """The dicts of tensors in what was saved, by name: the whole of it ("") or its parts."""
    if not isinstance(saved, dict):
        return {}
    if _holds_tensors(saved):
        return {"": saved}
    return {name: part for name, part in saved.items() if _holds_tensors(part)}


def _holds_tensors(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(n, str) and isinstance(t, Tensor) for n, t in value.items())
    )


def _unwrapped(path: Path, found: Mapping[str, Tensor], modules) -> StateDict:
    """Without the words that wrappers have put into names."""

    def interpreted(name: str) -> str:
        return f".{name}.".replace(f".{COMPILED}", ".")[1:-1]

    tensors = {interpreted(name): each for name, each in found.items()}
    modules = None if modules is None else frozenset(map(interpreted, modules))
    if all(name.startswith(WRAPPER) for name in tensors):
        tensors = {name.removeprefix(WRAPPER): each for name, each in tensors.items()}
        modules = modules and frozenset(name.removeprefix(WRAPPER) for name in modules)
    return StateDict(path, tensors, modules)


def _is_safetensors(path: Path) -> bool:
    """By how the file begins: the length of its header in 8 bytes, and the header in JSON."""
    with open(path, "rb") as file:
        beginning = file.read(9)
    return beginning[8:] == b"{"


def _safetensors(path: Path) -> StateDict:
    try:
        file = safetensors.safe_open(path, framework="np")
        notes = file.metadata() or {}
        tensors = {name: _lazy(file, name) for name in file.keys()}  # noqa: SIM118, no dict
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"{path} is damaged or no .safetensors file ({str(error)[:200]}); get it again."
        ) from error
    return StateDict(path, tensors, None, notes)


def _lazy(file, name: str) -> Tensor:
    about = file.get_slice(name)
    kind = about.get_dtype()
    if kind not in SAFETENSORS_TYPES:
        raise ValueError(f"{name} is of type {kind}")
    dtype = np.dtype(torch_checkpoints.DTYPES[SAFETENSORS_TYPES[kind]])
    return Tensor(tuple(about.get_shape()), dtype, functools.partial(file.get_tensor, name))
