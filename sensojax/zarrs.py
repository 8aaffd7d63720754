"""The zarr arrays of a store, as TensorStore opens them: settings, threads, and the order of axes.

In goes a folder and an array's name; out comes a TensorStore with rows first and time second.
"""

import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import tensorstore as ts


def open_array(folder: Path, name: str) -> ts.TensorStore:
    """An existing array of a store, [row time ...]; ValueError when it is missing or unreadable."""
    array = ts.open(array_spec(folder, name), context=context(), open=True).result()
    time_last = array.domain.labels[-1] == "time"  # responses and rates, see conversion/arrays.py
    return array.transpose([0, 2, 1]) if time_last else array


def fill(array: np.ndarray, stored: ts.TensorStore, at: object = ...) -> ts.Future:
    """Starts to read (a part of) an array of a store straight into the part `at` of a numpy one."""
    return ts.array(array, copy=False, context=context()).oindex[at].write(stored)


def array_spec(folder: Path, name: str) -> dict:
    """How TensorStore is to treat the arrays of a store."""
    return {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": str(folder / name)},
        # A lost piece must not pass for zeros: all pieces are written, also those of zeros.
        "fill_missing_data_reads": False,
        "store_data_equal_to_fill_value": True,
    }


@lru_cache(maxsize=1)
def context() -> ts.Context:
    """TensorStore's threads in this process, for all stores; no cache (reads are random)."""
    # One unpacking thread per core, and no more than 8: loaders come in several processes.
    decoding = min(cores(), 8)
    return ts.Context(
        {
            "cache_pool": {"total_bytes_limit": 0},
            "data_copy_concurrency": {"limit": decoding},
            "file_io_concurrency": {"limit": max(decoding, 4)},
        }
    )


def cores() -> int:
    """Cores this process may use (fewer than the machine has under SLURM or in a container)."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
