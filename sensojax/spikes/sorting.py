"""Whole numbers from 0 on, sorted several times as fast as `numpy.lexsort` and `argsort` do.

In go columns that belong together, or values; out come the same columns sorted, or what sorts the
values. Where it fits, all that belongs together is one number, and a plain sort does it.
"""

import numpy as np


def by_all(*columns: np.ndarray) -> tuple[np.ndarray, ...]:
    """Columns of whole numbers from 0 on, sorted by the first, then by the second, and so on."""
    bits = [int(column.max(initial=0)).bit_length() for column in columns]
    if sum(bits) > 63:
        order = np.lexsort(columns[::-1])
        return tuple(column[order] for column in columns)
    # All columns in one number: a plain sort, several times as fast.
    word = columns[0]
    for column, width in zip(columns[1:], bits[1:], strict=True):
        word = word << width | column
    word = np.sort(word)
    found = []
    for width in reversed(bits):
        found.append(word & (2**width - 1))
        word = word >> width
    return tuple(reversed(found))


def order_of(values: np.ndarray) -> np.ndarray:
    """What sorts whole numbers from 0 on; equal ones keep their order."""
    bits = len(values).bit_length()
    if int(values.max(initial=0)).bit_length() + bits > 63:
        return np.argsort(values, kind="stable")
    # Value and index in one number: a plain sort, several times as fast.
    both = np.sort(values << bits | np.arange(len(values)))
    return both & (2**bits - 1)
