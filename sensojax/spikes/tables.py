"""The published table of counts: one chunk of a session per row, in shards of Arrow or Parquet.

Its five columns are `spike_counts`, a list (neurons) of lists (bins) of small whole numbers, and
the texts `subject_id`, `session_id`, `segment_id` (`segment_0`, `segment_1`, ...) and
`source_dataset`. Shards go in (also those without the last column, and those that the library
`datasets` keeps on disk); out come `Session`s, whose counts are read row by row, from Arrow without
copying. `shards` writes them.
"""

import hashlib
import itertools
import json
import re
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sensojax.errors import UserError
from sensojax.spikes.binning import BIN_S
from sensojax.spikes.counts import Counts, check_window
from sensojax.spikes.session import Session
from sensojax.spikes.trains import name_of

COUNTS = "spike_counts"
TEXTS = ("subject_id", "session_id", "segment_id", "source_dataset")
SUFFIXES = (".arrow", ".parquet")
ABOUT = b"sensojax"  # our own entry in the schema's metadata


def is_shard(path: Path) -> bool:
    """Whether a file is a whole shard of such a table."""
    if path.suffix not in SUFFIXES or path.name.startswith("."):
        return False
    return COUNTS in _Shard(path).schema.names


class _Shard:
    """One file: its texts are read at once, its rows when they are asked for."""

    def __init__(self, path: Path):
        self.path = path

    @cached_property
    def _opened(self) -> pa.Table | pq.ParquetFile:
        try:
            if self.path.suffix == ".parquet":
                return pq.ParquetFile(self.path, page_checksum_verification=True)
            mapped = pa.memory_map(str(self.path))
            try:
                return pa.ipc.open_stream(mapped).read_all()
            except pa.ArrowInvalid:  # the other of the two Arrow formats
                return pa.ipc.open_file(mapped).read_all()
        except (OSError, pa.ArrowException) as error:
            raise damaged(self.path, error) from error

    @property
    def schema(self) -> pa.Schema:
        opened = self._opened
        return opened.schema if isinstance(opened, pa.Table) else opened.schema_arrow

    @cached_property
    def about(self) -> dict:
        """What `shards` has noted: `bin_s` and the `shapes` of all rows; nothing in others'."""
        return json.loads((self.schema.metadata or {}).get(ABOUT, b"{}"))

    @property
    def bin_s(self) -> float:
        """Width of its bins; others' tables do not say that it is 20 ms."""
        return self.about.get("bin_s", BIN_S)

    def shape(self, row: int) -> tuple[int, int]:
        """Neurons and bins of one row; of others' Parquet it must be read for that."""
        opened, noted = self._opened, self.about.get("shapes", ())
        if not isinstance(opened, pa.Table):
            groups = opened.metadata
            # Who takes rows out of a shard may keep our note of all: it must fit what is there.
            if len(noted) == groups.num_rows == groups.num_row_groups:
                neurons, bins = noted[row]
                if groups.row_group(row).column(0).num_values == neurons * bins:
                    return neurons, bins
        return self.matrix(row).shape

    def texts(self) -> list[tuple[str, str, str, str]]:
        """The four texts of every row; "" for a column that is not there."""
        names = [name for name in TEXTS if name in self.schema.names]
        try:
            opened = self._opened
            found = opened if isinstance(opened, pa.Table) else opened.read(names)
            columns = {name: found.column(name).to_pylist() for name in names}
        except (OSError, pa.ArrowException) as error:
            raise damaged(self.path, error) from error
        empty = [""] * found.num_rows
        return list(zip(*(columns.get(name, empty) for name in TEXTS), strict=True))

    def matrix(self, row: int) -> np.ndarray:
        """The counts of one row, [neuron bin]; of Arrow the file itself, read only."""
        try:
            opened = self._opened
            if isinstance(opened, pa.Table):
                return _matrix(opened.column(COUNTS).slice(row, 1).chunk(0), self.path)
            group = 0
            while row >= (rows := opened.metadata.row_group(group).num_rows):
                row, group = row - rows, group + 1
            column = opened.read_row_group(group, columns=[COUNTS]).column(COUNTS)
            return _matrix(column.slice(row, 1).combine_chunks(), self.path)
        except (OSError, pa.ArrowException) as error:
            raise damaged(self.path, error) from error


@lru_cache(maxsize=256)  # open files
def _shard(path: Path) -> _Shard:
    return _Shard(path)


def _matrix(row: pa.Array, path: Path) -> np.ndarray:
    """The nested list of one row as a matrix: its innermost buffer is one already."""
    row = row.combine_chunks() if isinstance(row, pa.ChunkedArray) else row
    neurons = row.flatten()
    lengths = np.unique(np.diff(neurons.offsets.to_numpy()))
    if len(lengths) > 1:
        raise damaged(path, f"neurons with {lengths[0]} and {lengths[-1]} bins in one row")
    values = neurons.flatten().to_numpy(zero_copy_only=True)
    return values.reshape(len(neurons), int(lengths[0]) if len(lengths) else 0)


class TableSession(Session):
    """The rows of one session, in the order of their segments; pickles as the paths of its shards.

    Rows that are missing (in another split) leave no gap: those that are there follow each other.
    """

    def __init__(self, texts: tuple[str, str, str], rows: list[tuple[Path, int]], bin_s: float):
        """texts: subject, session and component. rows: shard and row of each segment."""
        self.subject, self.session, self.component = texts
        self.name = name_of(self.subject, self.session)
        self.rows, self.bin_s = rows, bin_s

    def __repr__(self) -> str:
        return f"TableSession({self.name}: {len(self.rows)} rows)"

    @cached_property
    def num_neurons(self) -> int:
        path, row = self.rows[0]
        return _shard(path).shape(row)[0]

    @cached_property
    def chunks(self) -> list[tuple[int, int]]:
        """The rows themselves, in their own bins."""
        shapes = [_shard(path).shape(row) for path, row in self.rows]
        if len({neurons for neurons, _ in shapes}) > 1:
            raise damaged(self.rows[0][0], f"{self.name} has rows of different neurons")
        ends = np.cumsum([0, *(bins for _, bins in shapes)]).tolist()
        return list(itertools.pairwise(ends))

    @cached_property
    def fingerprint(self) -> str:
        """Of the names, and the sizes and dates of its files: reading all would take too long."""
        files = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in self._paths]
        own = [self.name, self.component, files, [row for _, row in self.rows]]
        return hashlib.sha256(json.dumps(own).encode()).hexdigest()

    def num_bins(self, bin_s: float) -> int:
        return -(-self.chunks[-1][1] // self._parts(bin_s))

    def counts(self, bin_s: float, start: int = 0, stop: int | None = None) -> Counts:
        parts, total = self._parts(bin_s), self.num_bins(bin_s)
        stop = total if stop is None else stop
        check_window(start, stop, total)
        found = [(np.zeros(0, np.int64),) * 3]
        for number, (first, last) in enumerate(self.chunks):
            low, high = max(start * parts, first), min(stop * parts, last)
            if low < high:
                matrix = self._matrix(number)[:, low - first : high - first]
                # flatnonzero: ten times as fast as nonzero on a matrix.
                neuron, bins = np.divmod(np.flatnonzero(matrix), matrix.shape[1])
                found.append((neuron, (bins + low) // parts - start, matrix[neuron, bins]))
        neuron, bins, count = map(np.concatenate, zip(*found, strict=True))
        return Counts.of_events(neuron, bins, count, self.num_neurons, stop - start, bin_s)

    def _parts(self, bin_s: float) -> int:
        parts = round(bin_s / self.bin_s)
        if parts < 1 or abs(parts * self.bin_s - bin_s) > 1e-9:
            raise UserError(
                f"found bins of {bin_s} s asked of {self.name}, expected a multiple of "
                f"{self.bin_s} s, in which its table holds counts; event stores give any width."
            )
        return parts

    def _matrix(self, number: int) -> np.ndarray:
        path, row = self.rows[number]
        return _shard(path).matrix(row)

    @property
    def _paths(self) -> list[Path]:
        return sorted({path for path, _ in self.rows})


def sessions(paths: list[Path]) -> list[TableSession]:
    """The sessions whose rows lie in these shards; UserError when a segment comes twice."""
    found: dict[tuple, dict[int, tuple[Path, int]]] = {}
    for path in paths:
        shard = _shard(path)
        for row, (subject, session, segment, source) in enumerate(shard.texts()):
            number = re.search(r"\d+$", segment or "")
            rows = found.setdefault((subject, session, source, shard.bin_s), {})
            place = int(number[0]) if number else 0
            if place in rows:
                raise UserError(
                    f"found {segment} of session {session} of {subject} in {rows[place][0]} and in "
                    f"{path}, expected it once; name the folder of one of them."
                )
            rows[place] = (path, row)
    return [
        TableSession((subject, session, source), [rows[place] for place in sorted(rows)], bin_s)
        for (subject, session, source, bin_s), rows in found.items()
    ]


def damaged(path: Path, error: object) -> UserError:
    """What to tell of a shard that cannot be read."""
    found = " ".join(str(error).split())[:200] or type(error).__name__
    return UserError(
        f"the shard {path} is damaged ({found}); delete it and export or download it again."
    )
