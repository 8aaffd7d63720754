"""Single numbers of numpy in a pickle: schedulers save their best score so, beside the weights.

In: the calls that a pickle makes for one (its type, the order of its bytes, and these as text);
out: a plain number. `CALLS` are the names that it may mention, in the old and the new way of numpy.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sensojax.interop.pickles import Attributed, Call, Refused

TYPES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")
ORDERS = ("<", ">", "|")


class NumberType(Attributed):
    """A type of numbers, whose byte order the pickle says afterwards."""

    def __init__(self, name: str):
        self.dtype = np.dtype(name)

    def told(self, attributes: Any) -> None:
        order = attributes[1] if isinstance(attributes, tuple) and len(attributes) > 1 else None
        if order not in ORDERS:
            raise Refused("its pickle describes a type of numbers in a way numpy does not")
        self.dtype = self.dtype.newbyteorder(order)


def _number_type(arguments: Sequence[Any]) -> NumberType:
    if not arguments or not isinstance(arguments[0], str) or arguments[0] not in TYPES:
        raise Refused("its pickle has a type that is not of single numbers")
    return NumberType(arguments[0])


def _bytes(arguments: Sequence[Any]) -> bytes:
    """The bytes that a text stands for, one for each of its letters."""
    if len(arguments) != 2 or not isinstance(arguments[0], str) or arguments[1] != "latin1":
        raise Refused("its pickle has bytes that are written in an unknown way")
    try:
        return arguments[0].encode("latin1")
    except UnicodeEncodeError as error:
        raise Refused("its pickle has bytes that are none") from error


def _number(arguments: Sequence[Any]) -> float | int | bool:
    if len(arguments) != 2 or not isinstance(arguments[0], NumberType):
        raise Refused("its pickle makes a number without a type")
    kind, content = arguments[0].dtype, arguments[1]
    if not isinstance(content, bytes) or len(content) != kind.itemsize:
        raise Refused("its pickle makes a number of too few or too many bytes")
    return np.frombuffer(content, kind)[0].item()


CALLS: dict[str, Call] = {
    "numpy.dtype": Call(_number_type),
    "numpy.core.multiarray.scalar": Call(_number),
    "numpy._core.multiarray.scalar": Call(_number),
    "_codecs.encode": Call(_bytes),
}
