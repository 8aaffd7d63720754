"""Sessions in tokens on disk: one Parquet file each, one row of the file for each row of counts.

In go sessions and a vocabulary; out come files with the tokens (time first, flat) and, where the
escape token stands, the counts of the patch. Read back they are sessions again, which every other
command takes. A file is there whole or not at all, so encoding goes on where it was stopped.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sensojax.errors import UserError
from sensojax.spikes.counts import Counts, check_window
from sensojax.spikes.motifs.pieces import cut, rows_of
from sensojax.spikes.session import Session
from sensojax.spikes.tokens import vocabulary as vocabularies
from sensojax.spikes.tokens.coding import Encoded, Encoder, decode, joined
from sensojax.spikes.tokens.fidelity import Fidelity
from sensojax.spikes.tokens.vocabulary import Vocabulary

ABOUT, FIDELITY = b"sensojax.tokens", b"sensojax.fidelity"  # of the metadata, as JSON
SUFFIX = ".tokens.parquet"
NAMES = ("name", "component", "subject", "session", "fingerprint")


@dataclass(frozen=True)
class Task:
    """One session to be encoded into `folder`; vocabulary: its file. rest and rows: as named."""

    session: Session
    vocabulary: Path
    rest: str
    rows: str
    folder: Path


def encode_session(task: Task) -> Fidelity:
    """Writes the tokens of a session, unless they are there; returns how faithful they are.

    Raises UserError when the file there was written otherwise, or the session cannot be read.
    """
    vocabulary = vocabularies.load(task.vocabulary)
    session, bin_s = task.session, vocabulary.bin_s
    rows = rows_of(session, bin_s, task.rows)
    names = {name: getattr(session, name) for name in NAMES}
    about = dict(names, rest=task.rest, rows=task.rows, vocabulary=vocabulary.fingerprint)
    about |= dict(bin_s=bin_s, neurons=session.num_neurons, bins=session.num_bins(bin_s))
    path = task.folder / f"{quote(session.name, safe='')}{SUFFIX}"
    if path.exists():
        return _same(path, about)
    encoder = Encoder(vocabulary, task.rest)
    schema = _schema(vocabulary).with_metadata({ABOUT: json.dumps(about)})
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.partial")
    fidelity = Fidelity()
    try:
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for number, (start, stop) in enumerate(rows):
                parts = []
                for piece in cut(start, stop, session.num_neurons, vocabulary.patch):
                    encoded, kept = encoder.encode(session.counts(bin_s, *piece))
                    parts.append(encoded)
                    fidelity += kept
                writer.write_table(_row(schema, about, number, start, joined(parts)))
            writer.add_key_value_metadata({FIDELITY: json.dumps(fidelity.plain())})
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return fidelity


def open_tokens(folder: Path, vocabulary: Vocabulary) -> list["TokenSession"]:
    """The encoded sessions in a folder, by name; UserError when there is none."""
    paths = sorted(folder.glob(f"*{SUFFIX}"))
    if not paths:
        raise UserError(
            f"found no encoded session in {folder}, expected files *{SUFFIX}; write them with "
            "python scripts/pile_tokens.py encode."
        )
    return [TokenSession(path, vocabulary) for path in paths]


class TokenSession(Session):
    """A session that is kept in tokens; what it reads are the counts that they stand for.

    path: its file. fidelity: how near these are to the counts that were encoded.
    """

    def __init__(self, path: Path, vocabulary: Vocabulary):
        self.path, self.vocabulary, self.bin_s = path, vocabulary, vocabulary.bin_s
        self.about, self.fidelity = _told(path)
        if self.about["vocabulary"] != vocabulary.fingerprint:
            raise UserError(
                f"{path} was written in another vocabulary than this one, expected "
                f"{self.about['vocabulary'][:12]}; give the file that it was encoded with."
            )
        for name in NAMES:
            setattr(self, name, self.about[name])
        self.fingerprint += f":{vocabulary.fingerprint[:16]}:{self.about['rest']}"
        self.num_neurons = self.about["neurons"]
        starts = pq.read_table(path, columns=["start_bin", "num_bins"])
        begins, lengths = (starts.column(i).to_pylist() for i in range(2))
        self._rows = [(begin, begin + n) for begin, n in zip(begins, lengths, strict=True)]

    def num_bins(self, bin_s: float) -> int:
        if bin_s != self.vocabulary.bin_s:
            raise UserError(
                f"found tokens of {self.vocabulary.bin_s} s bins in {self.path}, expected bins of "
                f"{bin_s} s; ask for the width they have."
            )
        return self.about["bins"]

    @property
    def chunks(self) -> list[tuple[int, int]]:
        return list(self._rows)

    def counts(self, bin_s: float, start: int = 0, stop: int | None = None) -> Counts:
        stop = self.num_bins(bin_s) if stop is None else stop
        check_window(start, stop, self.num_bins(bin_s))
        bins, parts = self.vocabulary.patch.bins, []
        for row, (begin, end) in enumerate(self._rows):
            if begin < stop and end > start:
                slices = max(start - begin, 0) // bins, -(-(min(stop, end) - begin) // bins)
                part = self.encoded(row).part(*slices, self.vocabulary)
                parts.append((begin + slices[0] * bins, decode(part, self.vocabulary)))
        return _joined(parts, self.num_neurons, bin_s, start, stop)

    def encoded(self, row: int) -> Encoded:
        """The tokens of one row of counts."""
        with pq.ParquetFile(self.path) as file:
            read = file.read_row_group(row)
        tokens, escaped = (
            read.column(name).combine_chunks().flatten().to_numpy()
            for name in ("tokens", "escaped")
        )
        patch = self.vocabulary.patch
        num_bins = self._rows[row][1] - self._rows[row][0]
        groups, slices = patch.grid(self.num_neurons, num_bins)
        sizes = (self.num_neurons, num_bins, self.vocabulary.bin_s)
        escaped = escaped.reshape(-1, patch.cells)
        return Encoded(tokens.reshape(slices, groups), escaped, *sizes)


def _schema(vocabulary: Vocabulary) -> pa.Schema:
    text, number = pa.string(), pa.int64()
    columns = dict(subject_id=text, session_id=text, segment_id=text, source_dataset=text)
    columns |= dict(start_bin=number, num_bins=number, num_neurons=number)
    columns["tokens"] = pa.list_(pa.from_numpy_dtype(vocabulary.dtype))
    columns["escaped"] = pa.list_(pa.uint32())
    return pa.schema(columns)


def _row(schema: pa.Schema, about: dict, number: int, start: int, encoded: Encoded) -> pa.Table:
    def listed(values: np.ndarray) -> pa.Array:
        return pa.ListArray.from_arrays(pa.array([0, values.size], pa.int32()), values.ravel())

    values = dict(
        subject_id=[about["subject"]],
        session_id=[about["session"]],
        segment_id=[f"segment_{number}"],
        source_dataset=[about["component"]],
        start_bin=[start],
        num_bins=[encoded.num_bins],
        num_neurons=[encoded.num_neurons],
        tokens=listed(encoded.tokens),
        escaped=listed(encoded.escaped),
    )
    return pa.table(values, schema=schema)


def _told(path: Path) -> tuple[dict, Fidelity]:
    """What a file says of itself; UserError when it is no file of tokens."""
    try:
        with pq.ParquetFile(path) as file:
            told = file.metadata.metadata or {}
        return json.loads(told[ABOUT]), Fidelity(**json.loads(told[FIDELITY]))
    except (pa.ArrowInvalid, KeyError) as error:
        raise UserError(
            f"found {path}, which is no file of tokens ({error}), expected one of "
            "scripts/pile_tokens.py encode; delete it and encode the session again."
        ) from error


def _same(path: Path, about: dict) -> Fidelity:
    told, fidelity = _told(path)
    if told != about:
        other = next(name for name in about if told.get(name) != about[name])
        raise UserError(
            f"{path} was written with another {other}, expected that of this command; delete the "
            "file, or choose another --out."
        )
    return fidelity


def _joined(parts, num_neurons: int, bin_s: float, start: int, stop: int) -> Counts:
    """Bins start..stop of counts that begin at other bins, one after the other."""
    found = [(np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.int64))]
    for first, part in parts:
        inside = (part.bin + first >= start) & (part.bin + first < stop)
        bins = part.bin[inside] + first - start
        found.append((part.neuron[inside], bins, part.count[inside]))
    neuron, bins, count = map(np.concatenate, zip(*found, strict=True))
    return Counts.of_events(neuron, bins, count, num_neurons, stop - start, bin_s)
