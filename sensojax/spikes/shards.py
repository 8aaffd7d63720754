"""Writing the published table of counts: sessions and rows go in, a folder of shards comes out.

Which row is in which shard is planned before anything is read, so a run that was killed goes on
with the shards that are missing, and the result is the same. A shard appears under its name when it
is whole. Schema and metadata are those that the library `datasets`
writes and reads (`load_dataset` on the folder), row by row, so that one row can be had by itself.
"""

import fcntl
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sensojax.errors import UserError
from sensojax.spikes import tables
from sensojax.spikes.counts import Counts, dtype_of
from sensojax.spikes.rows import Row, Settings, Shard, pack
from sensojax.spikes.session import Session
from sensojax.spikes.statistics import Tally
from sensojax.spikes.workers import Workers
from sensojax.writing import write_atomically

PLAN, FILES, TALLIES = "shards.json", "data", "tallies"


def schema(settings: Settings, shapes: Sequence[tuple[int, int]] = ()) -> pa.Schema:
    """The five columns, with what `datasets` and `tables` want to know of them.

    shapes: neurons and bins of each row of the file.
    """
    values = pa.from_numpy_dtype(settings.dtype)
    texts = [pa.field(name, pa.string()) for name in tables.TEXTS]
    counts = pa.field(tables.COUNTS, pa.list_(pa.list_(values)))
    text = {"dtype": "string", "_type": "Value"}
    # `Sequence`, since all versions of `datasets` know it; the newest ones write `List`.
    inner = {"feature": {"dtype": settings.dtype, "_type": "Value"}, "_type": "Sequence"}
    features = {tables.COUNTS: {"feature": inner, "_type": "Sequence"}}
    features |= dict.fromkeys(tables.TEXTS, text)
    about = {"bin_s": settings.bin_s, "shapes": [list(shape) for shape in shapes]}
    metadata = {
        b"huggingface": json.dumps({"info": {"features": features}}).encode(),
        tables.ABOUT: json.dumps(about).encode(),
    }
    return pa.schema([counts, *texts], metadata=metadata)


def batch_of(matrix: np.ndarray, texts: Sequence[str], of: pa.Schema) -> pa.RecordBatch:
    """One row as a record batch; matrix: [neuron bin], kept as it is in memory, not copied."""
    neurons, bins = matrix.shape
    values = pa.array(np.ascontiguousarray(matrix).reshape(-1))
    inner = pa.ListArray.from_arrays(
        pa.array(np.arange(neurons + 1, dtype=np.int64) * bins, pa.int32()), values
    )
    outer = pa.ListArray.from_arrays(pa.array([0, neurons], pa.int32()), inner)
    return pa.record_batch([outer, *(pa.array([text]) for text in texts)], schema=of)


@dataclass(frozen=True)
class Task:
    """What a worker needs for one file: where it goes, its rows, and their sessions by number."""

    folder: Path
    shard: Shard
    sessions: Mapping[int, Session]
    settings: Settings


def export(
    folder: Path,
    sessions: Sequence[Session],
    splits: Mapping[str, Sequence[Row]],
    settings: Settings,
    workers: Workers,
) -> dict[str, dict[str, Tally]]:
    """Writes the rows of all splits, in their order; returns {split: {component: Tally}}.

    See `write` for what it raises.
    """
    planned = {
        name: pack(name, rows, [row.tokens(sessions) for row in rows], settings)
        for name, rows in splits.items()
    }
    every = [shard for group in planned.values() for shard in group]
    found = write(folder, every, sessions, settings, workers)
    tallies: dict[str, dict[str, Tally]] = {}
    for name, group in planned.items():
        total: dict[str, Tally] = {}
        for shard in group:
            for component, tally in found[shard.name].items():
                total[component] = total.get(component, Tally()) + tally
        tallies[name] = total
    return tallies


def write(
    folder: Path,
    shards: Sequence[Shard],
    sessions: Sequence[Session],
    settings: Settings,
    workers: Workers,
) -> dict[str, dict[str, Tally]]:
    """Writes `<folder>/data/<shard>` for every shard that is not there; the tallies of all of them.

    Returns {shard: {component: Tally}}. Raises UserError when the folder holds shards of another
    plan, and at the end when some could not be written, which is said one by one.
    """
    tasks = []
    for shard in shards:
        own = {row.session: sessions[row.session] for row in shard.rows}
        tasks.append(Task(folder, shard, own, settings))
    _note_plan(folder, shards, sessions, settings)
    with open(folder / PLAN) as plan:
        try:
            fcntl.flock(plan, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{folder} is being written by another process; wait until that is done."
            ) from error
        # What a killed process has left; of the names of shards, tallies and descriptions.
        for stray in (*folder.glob("*.partial"), *folder.glob("*/*.partial")):
            stray.unlink()
        found = workers.run(write_shard, tasks, "shards")
    failed = [result for result in found if isinstance(result, UserError)]
    if failed and len(shards) > 1:
        for error in failed:
            print(f"error: {error}", file=sys.stderr, flush=True)
        raise UserError(
            f"{len(failed)} of {len(shards)} shards could not be written (reasons above); put that "
            "right and give the same command again, what is done stays."
        )
    if failed:
        raise failed[0]
    return {shard.name: each for shard, each in zip(shards, found, strict=True)}


def write_shard(task: Task) -> dict[str, Tally]:
    """Writes one file and returns its tally by component; one that is there is only looked up."""
    path = task.folder / FILES / task.shard.name
    noted = task.folder / TALLIES / f"{task.shard.name}.json"
    if path.exists():
        return {name: Tally.of_plain(each) for name, each in json.loads(noted.read_text()).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    rows = task.shard.rows
    shapes = [(task.sessions[row.session].num_neurons, row.stop - row.start) for row in rows]
    columns = schema(task.settings, shapes)
    tallies: dict[str, Tally] = {}
    with open(partial, "wb") as file:
        with _writer(file, columns, task.settings.format) as writer:
            for row in rows:
                session = task.sessions[row.session]
                counts = _counts(session, row, task.settings)
                known = tallies.get(session.component, Tally())
                tallies[session.component] = known + Tally.of(counts)
                matrix = counts.dense().astype(task.settings.dtype, copy=False)
                texts = (session.subject, session.session, f"segment_{row.segment}")
                writer.write_batch(batch_of(matrix, (*texts, session.component), columns))
        file.flush()
        os.fsync(file.fileno())
    # The tally first: where a file is, its tally is.
    write_atomically(noted, json.dumps({name: each.plain() for name, each in tallies.items()}))
    os.replace(partial, path)
    return tallies


def _writer(file, columns: pa.Schema, kind: str) -> pq.ParquetWriter | pa.RecordBatchStreamWriter:
    """Writes record batches; of Parquet each becomes a row group, which is read by itself."""
    if kind == "arrow":
        return pa.ipc.new_stream(file, columns)
    return pq.ParquetWriter(file, columns, compression="zstd", write_page_checksum=True)


def _counts(session: Session, row: Row, settings: Settings) -> Counts:
    """The counts of one row; UserError when one of them does not fit its type."""
    counts = session.counts(settings.bin_s, row.start, row.stop)
    limit = np.iinfo(settings.dtype).max
    largest = int(counts.count.max(initial=0))
    if largest > limit:
        place = int(np.argmax(counts.count))
        raise UserError(
            f"found {largest} spikes of neuron {counts.neuron[place]} in bin "
            f"{row.start + int(counts.bin[place])} of {session.name}, expected at most {limit} in "
            f"{settings.dtype}; give --counts {dtype_of(largest)}, or narrower bins."
        )
    return counts


def _note_plan(folder: Path, shards, sessions: Sequence[Session], settings: Settings) -> None:
    """Notes what the folder will hold; UserError when it already holds something else."""
    plan = {
        "settings": asdict(settings),
        "sessions": [[each.component, each.name, each.fingerprint] for each in sessions],
        "shards": {
            shard.name: [list(asdict(row).values()) for row in shard.rows] for shard in shards
        },
    }
    path = folder / PLAN
    if path.exists():
        found = json.loads(path.read_text())
        if found != plan:
            parts = [name for name in plan if found.get(name) != plan[name]]
            raise UserError(
                f"found shards of other {' and '.join(parts)} in {folder}, expected those of this "
                "command; choose another --out, or delete that folder."
            )
    elif any((folder / FILES).glob("*")):
        raise UserError(
            f"found files in {folder / FILES} that this command did not write, expected none; "
            "choose another --out."
        )
    else:
        write_atomically(path, json.dumps(plan))
