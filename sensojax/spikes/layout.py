"""How a session lies on disk: blocks of time, and within a block the neurons one after the other.

    events.json     format, names, sizes, clocks; written last: without it there is no store
    neurons.npz     what is known of each neuron, by name, [neuron]
    spikes/         [event] ticks since the neuron's previous event in the block (since the block's
                    beginning for its first)
    residuals/      [event] what the tick leaves of the time, twice its size, odd when it is
                    negative; missing where all are zero
    counts/         [block neuron] how many events each neuron has in each block

All arrays are zarr 3. Blocks make a window of time cheap (2,000 neurons for two seconds: a few
hundred kB), and within a block the order by neuron keeps gaps small. Every piece has a checksum,
and `events.json` a fingerprint of everything.

What bit shuffling and zstd 5 make of gaps in 30 kHz samples (300 neurons, counts distributed as
published): 1.67 bytes per spike, where an ideal code for independent gaps needs 1.61; zstd 9 gives
1.66 at an eighth of the speed, byte shuffling 1.72, lz4 1.75, zstd without shuffling 2.07.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorstore as ts

from sensojax import zarrs
from sensojax.errors import UserError
from sensojax.spikes.clocks import Clock

FORMAT = 1
# What a description says of the session, by the names that `Trains` has for it.
ABOUT = ("name", "component", "subject", "session", "end_s", "rule", "resolution_s", "source")
NOT_OWN = ("fingerprint", "sensojax")  # of a description, what does not enter its fingerprint
DESCRIPTION, NEURONS, PARTIAL = "events.json", "neurons.npz", ".partial"
PARTS = {DESCRIPTION, NEURONS, "spikes", "residuals", "counts"}  # all there is in a store
BLOCK_EVENTS, BLOCK_S = 1 << 17, (1.0, 1024.0)  # aimed at, within these lengths
PIECE_EVENTS, FILE_EVENTS = 1 << 15, 1 << 22  # unpacked at once; in one file
PIECE_COUNTS, FILE_COUNTS = 1 << 16, 1 << 22
LITTLE_ENDIAN = {"name": "bytes", "configuration": {"endian": "little"}}


def create(folder: Path, name: str, shape: tuple[int, ...], dtype: str) -> ts.TensorStore:
    """A new array, [event] or [block neuron]; one that is there is emptied."""
    rows = max(math.prod(shape[1:]), 1)  # numbers in a row
    piece, file = (PIECE_EVENTS, FILE_EVENTS) if len(shape) == 1 else (PIECE_COUNTS, FILE_COUNTS)
    pieces = max(piece // rows, 1)
    files = max(file // rows // pieces, 1) * pieces
    packing = {
        "cname": "zstd",
        "clevel": 5,
        "shuffle": "bitshuffle",
        "blocksize": 0,
        "typesize": np.dtype(dtype).itemsize,
    }
    codecs = [LITTLE_ENDIAN, {"name": "blosc", "configuration": packing}, {"name": "crc32c"}]
    sharding = {
        "chunk_shape": [pieces, *shape[1:]],
        "codecs": codecs,
        "index_codecs": [LITTLE_ENDIAN, {"name": "crc32c"}],
    }
    grid = {"name": "regular", "configuration": {"chunk_shape": [files, *shape[1:]]}}
    metadata = {
        "shape": list(shape),
        "data_type": dtype,
        "fill_value": 0,
        "dimension_names": ["event"] if len(shape) == 1 else ["block", "neuron"],
        "chunk_grid": grid,
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
    }
    spec = zarrs.array_spec(folder, name) | {"metadata": metadata}
    return ts.open(spec, context=zarrs.context(), create=True, delete_existing=True).result()


def block_length(num_spikes: int, span_s: float) -> float:
    """Seconds of a block: a power of two in which about BLOCK_EVENTS spikes lie."""
    shortest, longest = BLOCK_S
    wanted = BLOCK_EVENTS * max(span_s, shortest) / max(num_spikes, 1)
    return float(min(max(2.0 ** math.floor(math.log2(wanted)), shortest), longest))


def first_ticks(clocks: list[Clock], blocks: np.ndarray, block_s: float) -> np.ndarray:
    """The tick before which no spike of a block lies, [clock block] int64."""
    edges = blocks * block_s
    # One tick early: a time just after the edge may be nearest to the tick before it.
    rows = [np.floor((edges - clock.shift_s) * clock.rate_hz) - 1 for clock in clocks]
    return np.array(rows).astype(np.int64).reshape(len(clocks), len(blocks))


def places(begins: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Indices of stretches one after the other: begins[0], begins[0] + 1, ..., begins[1], ..."""
    ends = np.cumsum(lengths)
    return np.repeat(begins - (ends - lengths), lengths) + np.arange(ends[-1] if len(ends) else 0)


def folded(residuals: np.ndarray) -> np.ndarray:
    """Signed numbers as unsigned ones that are small where those are near zero, uint64."""
    return ((residuals << 1) ^ (residuals >> 63)).view(np.uint64)


def unfolded(numbers: np.ndarray) -> np.ndarray:
    """The signed numbers that `folded` took, int64."""
    return (numbers >> np.uint64(1)).view(np.int64) ^ -(numbers & np.uint64(1)).astype(np.int64)


def digest_of(columns: Mapping[str, np.ndarray]):
    """The SHA-256 of arrays with their names and types, in the order given."""
    digest = hashlib.sha256()
    for name, column in columns.items():
        digest.update(f"{name} {column.dtype.str} {column.shape}".encode() + column.tobytes())
    return digest


def fingerprint(description: Mapping) -> str:
    """The SHA-256 (hex) of a description with its checksums, and so of the whole store."""
    own = {key: value for key, value in description.items() if key not in NOT_OWN}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()


def damaged(path: Path, error: object) -> UserError:
    """What to tell the user of a store that was complete and no longer is."""
    text = str(error)
    found = text.splitlines()[0].split(" [")[0] if text else type(error).__name__
    return UserError(
        f"the event store {path} is damaged ({found}); delete the folder and build it again with "
        "python scripts/pile_build.py."
    )
