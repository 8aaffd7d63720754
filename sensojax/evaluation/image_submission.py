"""Submission files of the Sensorium 2022 benchmark: one row per trial, as CSV (baselines 9.2).

In go responses trial by trial, predicted ones or those that were recorded (a ground truth file), in
the units of the normalization `official`; out come the files that the benchmark takes, written row
by row, and their scores. A name that ends in .parquet.brotli makes parquet of the same columns, a
third of the size. `read` takes either kind, also those that the published code wrote. A file that
has its name is whole.
"""

import csv
import itertools
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sensojax import image_scores
from sensojax.errors import UserError
from sensojax.writing import replacing

NAMES = {"test": "submission_file_live_test", "final_test": "submission_file_final_test"}
TRUTH_NAMES = {tier: f"ground_truth_file_{tier}" for tier in NAMES}
CSV, PARQUET = ".csv", ".parquet.brotli"
VALUES = ("prediction", "responses")  # the column of a submission, and that of a ground truth
GROUP_ROWS = 64  # of a parquet file: 4 MB of 7,776 neurons


@dataclass(frozen=True, eq=False)
class Row:
    """One trial. trial: its number, or the text that hides it; values: [neuron]."""

    trial: str | int
    image: int
    values: np.ndarray


@dataclass(frozen=True, eq=False)
class File:
    """What a file holds: responses with their ids, and image_ids [trial] in the same order."""

    responses: image_scores.ImageResponses
    image_ids: np.ndarray


def write(path: Path, rows: Iterable[Row], neuron_ids: np.ndarray, what: str) -> None:
    """Writes a file. neuron_ids: [neuron], in the order of the values; what: of `VALUES`."""
    columns = ("trial_indices", "image_ids", what, "neuron_ids")
    ids = np.asarray(neuron_ids).tolist()
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        if path.name.endswith(PARQUET):
            _write_parquet(partial, columns, rows, ids)
            return
        with open(partial, "w", newline="", encoding="ascii") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            for row in rows:
                # As Python writes its lists, which is how the published code made these columns.
                values = np.asarray(row.values, np.float64).tolist()
                writer.writerow((row.trial, row.image, values, ids))


def _write_parquet(path, columns, rows, ids) -> None:
    kinds = (pa.string(), pa.int64(), pa.list_(pa.float32()), pa.list_(pa.int64()))
    schema = pa.schema(list(zip(columns, kinds, strict=True)))
    rows = iter(rows)
    with pq.ParquetWriter(path, schema, compression="brotli", compression_level=1) as file:
        while group := list(itertools.islice(rows, GROUP_ROWS)):
            arrays = (
                pa.array([str(row.trial) for row in group]),
                pa.array([row.image for row in group], pa.int64()),
                pa.array([np.asarray(row.values, np.float32) for row in group], kinds[2]),
                pa.array([ids] * len(group), kinds[3]),
            )
            file.write_table(pa.Table.from_arrays(arrays, schema=schema))


def read(path: str | Path) -> File:
    """The content of a file; UserError when it is not one, or a row is not as it should be.

    Neuron ids stand in every row and are read from the first, as the published code does.
    """
    path = Path(path)
    rows = _parquet_rows(path) if path.name.endswith(PARQUET) else _csv_rows(path)
    trials, images, values, neurons = [], [], [], None
    for number, row in enumerate(rows, start=1):
        try:
            trial, image, numbers, ids = row
            neurons = _array(ids, np.int64) if neurons is None else neurons
            found = _array(numbers, np.float32)
            image = int(image)
        except ValueError as error:
            raise UserError(
                f"row {number} of {path} is not as it should be ({error}), expected the trial, the "
                "image's number, a list of responses and a list of neuron ids; write it again."
            ) from error
        if found.shape != neurons.shape:
            raise UserError(
                f"row {number} of {path} has {len(found)} responses, expected one for each of the "
                f"{len(neurons)} neuron ids; write the file again."
            )
        for listed, value in ((trials, str(trial)), (images, image), (values, found)):
            listed.append(value)
    if neurons is None:
        raise UserError(f"{path} has no trials, expected those of a tier; write it again.")
    responses = image_scores.ImageResponses(np.array(trials), neurons, np.stack(values))
    return File(responses, np.array(images))


def score(predicted: str | Path, truth: str | Path) -> dict[str, float]:
    """The scores of the benchmark, by name: each the mean over neurons.

    Trials and neurons are matched by their ids, in any order; the images' ids are those of the
    truth. FEVE is that of neurons with an explainable fraction of 0.15 or more (baselines 6.4).
    Raises UserError when the files do not hold the same trials and neurons.
    """
    submitted, reference = read(predicted), read(truth)
    found = image_scores.benchmark(submitted.responses, reference.responses, reference.image_ids)
    return {
        "single_trial_correlation": float(np.mean(found.single_trial_correlation())),
        "correlation_to_average": float(np.mean(found.correlation_to_average())),
        "feve": found.mean_feve(),
    }


def described(scores: Mapping[str, float], predicted: str | Path, truth: str | Path) -> str:
    """The scores in a sentence."""
    said = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in scores.items())
    return f"{Path(predicted).name} against {Path(truth).name}: {said} (means over neurons)"


def _csv_rows(path: Path) -> Iterator[list[str]]:
    csv.field_size_limit(sys.maxsize)
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.reader(file)
            head = next(reader, [])
            places = _places(path, head)
            for row in reader:
                if len(row) != len(head):
                    raise UserError(
                        f"line {reader.line_num} of {path} has {len(row)} columns, expected "
                        f"{len(head)}; the file is cut or damaged: write it again."
                    )
                yield [row[place] for place in places]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(path, error) from error


def _parquet_rows(path: Path) -> Iterator[list]:
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            chosen = [names[place] for place in _places(path, names)]
            for batch in file.iter_batches(GROUP_ROWS, columns=chosen):
                columns = [batch[name] for name in chosen]
                yield from zip(*(column.to_pylist() for column in columns), strict=True)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UserError:
    said = " ".join(str(error).split())
    return UserError(f"cannot read {path} ({said}); give a whole {CSV} or {PARQUET} file.")


def _places(path: Path, head: list[str]) -> list[int]:
    """Where the four columns are; UserError when one of them is not."""
    values = next((name for name in VALUES if name in head), VALUES[0])
    wanted = ("trial_indices", "image_ids", values, "neuron_ids")
    missing = [name for name in wanted if name not in head]
    if missing:
        raise UserError(
            f"found the columns {', '.join(head) or 'none'} in {path}, expected "
            f"{', '.join(wanted)}; is it the file of a submission to Sensorium 2022?"
        )
    return [head.index(name) for name in wanted]


def _array(listed: str | list, dtype: type) -> np.ndarray:
    """A list, or the text of one; ValueError when it holds something else than numbers."""
    if isinstance(listed, str):
        if not (listed.startswith("[") and listed.endswith("]")):
            raise ValueError(f"{listed[:20]!r} is no list")
        listed = listed[1:-1].split(",")
    return np.array(listed, dtype)
