"""The table of motifs on disk: every motif that occurs, most frequent first, as Parquet.

In go merged runs; out comes a file with the published columns `patch` (the counts of the motif, row
by row), `frequency` and `probability`. Motifs that are equally frequent stand in the order in which
they were met first, as in the published tables. The file says in its metadata what was counted.
"""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sensojax.errors import UserError
from sensojax.spikes.counts import dtype_of
from sensojax.spikes.motifs import runs
from sensojax.spikes.motifs.patches import Layout, Patch

ABOUT = b"sensojax.motifs"  # of the metadata: what was counted, as JSON
CELLS_AT_ONCE = 16_000_000  # counts of motifs in memory
PAGE_BYTES = 1 << 16  # of the file, packed while they are in a core's cache: a fifth faster


@dataclass(frozen=True)
class Motifs:
    """Motifs [motif cell], most frequent first, and how often each occurs, [motif].

    patch: their size; cells run over the bins of the first neuron, then over those of the next.
    about: what was counted (`patches`: how many there were, `silent`: of these without a spike).
    """

    patch: Patch
    motifs: np.ndarray
    frequency: np.ndarray
    about: dict


def about(path: Path) -> dict:
    """What a table says of itself; UserError when the file is no table of motifs."""
    try:
        metadata = pq.read_schema(path).metadata or {}
    except FileNotFoundError as error:
        raise UserError(
            f"found no file {path}, expected a table of motifs; count them with python "
            "scripts/pile_motifs.py."
        ) from error
    except pa.ArrowInvalid as error:
        raise _no_table(path) from error
    if ABOUT not in metadata:
        raise _no_table(path)
    return json.loads(metadata[ABOUT])


def same(path: Path, wanted: dict) -> dict:
    """What the table at `path` says of itself; UserError when it does not say what is wanted."""
    told = about(path)
    for name, value in wanted.items():
        if told[name] != value:
            what = "other sessions" if name == "of" else f"{name} {told[name]!r}, not {value!r}"
            raise UserError(
                f"{path} was counted with {what}; choose another --out, or delete the file."
            )
    return told


def read(path: Path, limit: int | None = None) -> Motifs:
    """The first `limit` motifs of a table (all when None)."""
    told = about(path)
    blocks = list(stream(path, limit))
    patch = Patch.parse(told["patch"])
    motifs = [motifs for motifs, _ in blocks] or [np.empty((0, patch.cells), np.uint8)]
    counts = [frequency for _, frequency in blocks] or [np.empty(0, np.int64)]
    return Motifs(patch, np.concatenate(motifs), np.concatenate(counts), told)


def stream(
    path: Path, limit: int | None = None, at_once: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The first `limit` motifs (all when None) and their frequencies, blocks of `at_once`."""
    told = about(path)
    left = told["motifs"] if limit is None else limit
    at_once = at_once or max(CELLS_AT_ONCE // Patch.parse(told["patch"]).cells, 1)
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(min(max(left, 1), at_once), columns=["patch", "frequency"]):
            if left <= 0:
                break
            patches = batch.column("patch")
            motifs = patches.flatten().to_numpy().reshape(len(batch), -1)
            yield motifs[:left], batch.column("frequency").to_numpy()[:left]
            left -= len(batch)


def write(
    path: Path, merged: Sequence[np.ndarray], patch: Patch, about: dict, scratch: Path
) -> None:
    """Writes the table of merged runs, one for each layout of the patch.

    about: what was counted, with `patches`, `silent`, `first_silent` (the number of the first
    silent patch) and `largest` (count). scratch: a folder for sorting, made and removed.
    """
    if about["silent"]:
        silence = np.zeros(1, merged[0].dtype)
        silence["count"], silence["first"] = about["silent"], about["first_silent"]
        layouts, merged = (patch.layouts[0], *patch.layouts), [silence, *merged]
    else:
        layouts = patch.layouts
    told = {name: value for name, value in about.items() if name != "first_silent"}
    told["motifs"] = int(sum(map(len, merged)))
    cell = pa.from_numpy_dtype(dtype_of(about["largest"]))
    columns = [("patch", pa.list_(cell, patch.cells)), ("frequency", pa.int64())]
    columns += [("probability", pa.float32())]
    schema = pa.schema(columns, metadata={ABOUT: json.dumps(told)})
    temporary = path.with_name(f"{path.name}.{os.getpid()}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        with pq.ParquetWriter(
            temporary, schema, compression="zstd", data_page_size=PAGE_BYTES
        ) as writer:
            for motifs, frequency in _by_frequency(layouts, merged, about["patches"], scratch):
                cells = pa.array(motifs.astype(cell.to_pandas_dtype(), copy=False).ravel(), cell)
                probability = (frequency / about["patches"]).astype(np.float32)
                arrays = [pa.FixedSizeListArray.from_arrays(cells, patch.cells)]
                arrays += [pa.array(frequency), pa.array(probability)]
                writer.write_batch(pa.record_batch(arrays, schema=schema))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
        shutil.rmtree(scratch, ignore_errors=True)


def _by_frequency(
    layouts: Sequence[Layout], merged: Sequence[np.ndarray], patches: int, scratch: Path
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Motifs [motif cell] and frequencies by falling frequency, then by rising `first`.

    Both orders are one whole number, `rank`; blocks are sorted by it, written, and merged.
    """
    cells = layouts[0].cells
    blocks = (np.unique(block["count"]) for run in merged for block in _blocks(run, cells))
    values = reduce(np.union1d, blocks, np.empty(0, np.int64))
    bits = int(patches).bit_length()
    # So many different frequencies add up to at least half their square.
    if bits + len(values).bit_length() > 64:
        raise UserError(f"found {patches} patches, too many for one table; count fewer sessions.")
    ordered, of = [], []
    for layout, run in zip(layouts, merged, strict=True):
        dtype = np.dtype([("rank", np.uint64), ("count", np.int64), ("key", layout.dtype)])
        for block in _blocks(run, cells):
            behind = len(values) - 1 - np.searchsorted(values, block["count"])
            rank = (behind << bits | block["first"]).astype(np.uint64)
            order = np.argsort(rank)
            sorted_block = np.empty(len(block), dtype)
            sorted_block["rank"] = rank[order]
            sorted_block["count"], sorted_block["key"] = block["count"][order], block["key"][order]
            file = scratch / f"{len(ordered)}.sorted"
            runs.write(file, [sorted_block])
            ordered.append(runs.opened(file, dtype))
            of.append(layout)
    for pieces in runs.aligned(ordered, "rank"):
        order = np.argsort(np.concatenate([piece["rank"] for piece in pieces.values()]))
        motifs = np.concatenate([of[i].unpack(piece["key"]) for i, piece in pieces.items()])
        frequency = np.concatenate([piece["count"] for piece in pieces.values()])
        yield motifs[order], frequency[order]


def _blocks(run: np.ndarray, cells: int) -> Iterator[np.ndarray]:
    step = max(CELLS_AT_ONCE // cells, 1)
    for start in range(0, len(run), step):
        yield np.array(run[start : start + step])


def _no_table(path: Path) -> UserError:
    return UserError(
        f"found {path}, which is no table of motifs, expected one written by "
        "scripts/pile_motifs.py; count the motifs with it."
    )
