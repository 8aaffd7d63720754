"""Submission files of the Sensorium 2023 competition: parquet, one row per trial (baselines 9.1).

In go predictions trial by trial, on the scale of the normalization `official`; out come the files
that the competition takes, and the zip of a track. They are written in row groups of a few trials
straight from arrays, so that memory holds no more than these; `read` streams them back, also those
that the published code wrote. A file that has its name is whole.
"""

import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sensojax.errors import UserError

TRACKS = {
    "main": ("live_test_main", "final_test_main"),
    "bonus": ("live_test_bonus", "final_test_bonus"),
}
# By the rules of the competition, and as the published code names them.
NAMES = {
    "live_test_main": "predictions_live_main.parquet.brotli",
    "final_test_main": "predictions_final_main.parquet.brotli",
    "live_test_bonus": "predictions_live_test_bonus_ood.parquet.brotli",
    "final_test_bonus": "predictions_final_test_bonus_ood.parquet.brotli",
}
KIT_NAMES = {
    "live_test_main": "predictions_file_live_test_main_main_track.parquet.brotli",
    "final_test_main": "predictions_file_final_test_main_main_track.parquet.brotli",
    "live_test_bonus": "predictions_file_live_test_bonus_ood_track.parquet.brotli",
    "final_test_bonus": "predictions_file_final_test_bonus_ood_track.parquet.brotli",
}
LARGEST_ZIP = 5e9
COLUMNS = ("mouse", "trial_indices", "prediction", "neuron_ids")
ABOUT = b"sensojax"  # key of what a file says of itself, in the parquet metadata
GROUP_VALUES = 4_000_000  # predictions of one row group: 2 trials of 8,000 neurons
ALL_BITS = 23  # of a float32, after the point
# Smooth predictions of 7,863 neurons, share of the float32 numbers and MB/s of them written: so
# 0.79 and 50; brotli's default level 0.73 and 3; as the published code has it 1.17 and 1.
WRITTEN = dict(
    compression="brotli",
    compression_level=1,
    use_dictionary=False,
    column_encoding={"prediction.list.element.list.element": "BYTE_STREAM_SPLIT"},
    write_statistics=False,
)


@dataclass(frozen=True, eq=False)
class Row:
    """One trial. trial: its file index; prediction: [neuron time]; neuron_ids: [neuron]."""

    mouse: str
    trial: int
    prediction: np.ndarray
    neuron_ids: np.ndarray


def write(
    path: Path,
    rows: Iterable[Row],
    about: Mapping,
    *,
    double: bool = True,
    bits: int = ALL_BITS,
    packed: bool = True,
) -> None:
    """Writes a submission file; about: plain values, what the predictions are.

    double: as 64-bit floats, as the published code does; hardly larger. bits: how many digits after
    the point of each (binary) number are kept. packed: False for a file that is soon read again.
    """
    element = pa.float64() if double else pa.float32()
    schema = _schema(element).with_metadata({ABOUT: json.dumps(about)})
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    how = WRITTEN if packed else dict(compression="none", use_dictionary=False)
    with pq.ParquetWriter(partial, schema, **how) as file:
        for group in _groups(rows):
            file.write_table(_table(group, schema, bits), row_group_size=len(group))
    with open(partial, "rb") as written:
        os.fsync(written.fileno())
    os.replace(partial, path)


def read(path: str | Path) -> Iterator[Row]:
    """The rows of a submission file in their order, one at a time; predictions as float64.

    Raises UserError when it is not such a file.
    """
    with _opened(path) as file:
        for number in range(file.num_row_groups):
            for batch in file.iter_batches(1, row_groups=[number], columns=list(COLUMNS)):
                yield _row(path, batch)


def about(path: str | Path) -> dict:
    """What a file says of itself; nothing when other code wrote it."""
    with _opened(path) as file:
        return json.loads((file.schema_arrow.metadata or {}).get(ABOUT, b"{}"))


def find(folder: str | Path, tier: str) -> Path | None:
    """The file of a tier in a folder, by the name of the rules or that of the published code."""
    paths = (Path(folder) / names[tier] for names in (NAMES, KIT_NAMES))
    return next((path for path in paths if path.is_file()), None)


def pack(path: Path, files: Sequence[Path]) -> None:
    """Zips the files of a track side by side, as the rules want it.

    Raises UserError when the zip is larger than the competition takes; it is there all the same.
    """
    partial = path.with_name(f"{path.name}.partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:  # they are packed already
        for file in files:
            archive.write(file, file.name)
    with open(partial, "rb") as written:
        os.fsync(written.fileno())
    os.replace(partial, path)
    size = path.stat().st_size
    if size > LARGEST_ZIP:
        raise UserError(
            f"{path} has {size / 1e9:.2f} GB, expected at most {LARGEST_ZIP / 1e9:.0f} GB; delete "
            "it and the files in it, and write them with --bits 15, which makes them a third "
            "smaller and moves no neuron's correlation by more than 1e-5."
        )


def _schema(element: pa.DataType) -> pa.Schema:
    return pa.schema(
        {
            "mouse": pa.string(),
            "trial_indices": pa.int64(),
            "prediction": pa.list_(pa.list_(element)),
            "neuron_ids": pa.list_(pa.uint32()),
        }
    )


def _groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Rows together until they have enough values; each group begins with a fresh list."""
    group, values = [], 0
    for row in rows:
        if group and values + row.prediction.size > GROUP_VALUES:
            yield group
            group, values = [], 0
        group.append(row)
        values += row.prediction.size
    if group:
        yield group


def _table(rows: Sequence[Row], schema: pa.Schema, bits: int) -> pa.Table:
    element = schema.field("prediction").type.value_type.value_type
    flat = np.concatenate([np.asarray(row.prediction, np.float32).ravel() for row in rows])
    neurons = [len(row.neuron_ids) for row in rows]
    frames = np.repeat([row.prediction.shape[1] for row in rows], neurons)
    per_neuron = pa.ListArray.from_arrays(
        _offsets(frames), pa.array(rounded(flat, bits).astype(element.to_pandas_dtype()))
    )
    ids = np.concatenate([np.asarray(row.neuron_ids, np.uint32) for row in rows])
    columns = [
        pa.array([row.mouse for row in rows]),
        pa.array([row.trial for row in rows], pa.int64()),
        pa.ListArray.from_arrays(_offsets(neurons), per_neuron),
        pa.ListArray.from_arrays(_offsets(neurons), pa.array(ids)),
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _offsets(lengths) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))


def rounded(values: np.ndarray, bits: int) -> np.ndarray:
    """float32 numbers rounded to so many binary digits after the point of their mantissa."""
    check_bits(bits)
    spare = np.uint32(ALL_BITS - bits)
    if not spare:
        return values
    half = np.uint32(1) << (spare - np.uint32(1))
    kept = (np.ascontiguousarray(values).view(np.uint32) + half) >> spare << spare
    return np.where(np.isfinite(values), kept.view(np.float32), values)


def check_bits(bits: int) -> None:
    """UserError unless a float32 can be rounded to so many digits."""
    if not 1 <= bits <= ALL_BITS:
        raise UserError(f"found bits {bits}, expected 1 to {ALL_BITS}; {ALL_BITS} keeps them all.")


def _opened(path: str | Path) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path, memory_map=True)  # mapped, so that no row group is held whole
    except (OSError, pa.ArrowException) as error:
        said = " ".join(str(error).split())
        raise UserError(
            f"cannot read the submission {path} ({said}); give a whole .parquet.brotli file."
        ) from error
    missing = [name for name in COLUMNS if name not in file.schema_arrow.names]
    if missing:
        found = ", ".join(file.schema_arrow.names)
        file.close()
        raise UserError(
            f"found the columns {found} in {path}, expected {', '.join(COLUMNS)}; is it the file "
            "of a submission?"
        )
    return file


def _row(path, batch: pa.RecordBatch) -> Row:
    mouse, trial = batch["mouse"][0].as_py(), batch["trial_indices"][0].as_py()
    per_neuron = batch["prediction"].flatten()
    lengths = np.unique(per_neuron.value_lengths().to_numpy(zero_copy_only=False))
    values, ids = per_neuron.flatten(), batch["neuron_ids"].flatten()
    name = str(trial).removesuffix(".npy")
    if len(lengths) != 1 or len(ids) != len(per_neuron) or values.null_count or not name.isdigit():
        raise UserError(
            f"trial {trial} of mouse {mouse} in {path} has {len(per_neuron)} neurons with "
            f"{' or '.join(map(str, lengths)) or 'no'} frames and {len(ids)} neuron ids, "
            "expected a number as the trial's name and as many frames for each neuron that has an "
            "id; write the file again."
        )
    prediction = values.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
    return Row(
        mouse=mouse,
        trial=int(name),
        prediction=prediction.reshape(len(ids), -1),
        neuron_ids=ids.to_numpy(zero_copy_only=False).astype(np.int64),
    )
