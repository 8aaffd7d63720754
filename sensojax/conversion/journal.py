"""What a conversion has safely stored: `trials.jsonl`, a line on the recording, then one per trial.

In go lines, in file order, each after its arrays were written; out come, when a conversion starts
again, the lines that hold. The finished file is the trial table of the store and its SHA-256 the
fingerprint, so it must not contain anything that differs from run to run.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sensojax import errors, store, types

# Behavior and pupil are a few bytes per frame: they collect in one file [frame column] float32
# beside the journal and become two arrays when all trials are there.
TRACES = "behavior_and_pupil.f32"
STATISTICS = ("mean", "std")  # of the published ones; of others `finishing` takes what is used


class Journal:
    """The journal of one `<mouse>.partial/`; locked while it is open. Use with `with`.

    Opening it cuts a torn last line, and the traces of a trial that was not noted any more. Raises
    UserError when the folder was begun with other settings or another process is writing it.
    """

    def __init__(self, folder: Path, header: dict):
        self.folder = folder
        self.lines: list[dict] = []
        with contextlib.ExitStack() as files:
            self._file = files.enter_context(open(folder / store.TRIALS, "a+b"))
            self._traces = files.enter_context(open(folder / TRACES, "ab"))
            self._lock()
            self._recover(header)
            self._files = files.pop_all()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_) -> None:
        self._files.close()

    @property
    def trials(self) -> list[dict]:
        """The lines of the trials that are stored, in file order."""
        return self.lines[1:]

    @property
    def text(self) -> bytes:
        return b"".join(map(canonical, self.lines))

    def note(self, lines: Sequence[dict], traces: Sequence[np.ndarray]) -> None:
        """Remembers trials whose arrays are stored. traces: [time column] float32 of each."""
        self._traces.write(b"".join(each.tobytes() for each in traces))
        self._traces.flush()
        os.fsync(self._traces.fileno())
        self._append(*lines)

    def read_traces(self) -> list[np.ndarray]:
        """Behavior and pupil center of every noted trial, [time column]."""
        data = np.fromfile(self.folder / TRACES, np.float32)
        ends = np.cumsum([_trace_bytes(line) // data.itemsize for line in self.trials])
        parts = np.split(data, ends[:-1])
        return [
            part.reshape(line["num_frames"], _trace_columns(line))
            for part, line in zip(parts, self.trials, strict=True)
        ]

    def _recover(self, header: dict) -> None:
        self._file.seek(0)
        self.lines = _whole_lines(self._file.read())
        if self.lines:
            refuse_other(self.folder, self.lines[0], header)
        # After a power failure the traces may be shorter than the journal says.
        room = os.fstat(self._traces.fileno()).st_size
        while sum(map(_trace_bytes, self.trials)) > room:
            self.lines.pop()
        self._file.truncate(len(self.text))
        self._traces.truncate(sum(map(_trace_bytes, self.trials)))
        if not self.lines:
            self._append(header)

    def _append(self, *lines: dict) -> None:
        self._file.write(b"".join(map(canonical, lines)))
        self._file.flush()
        os.fsync(self._file.fileno())
        self.lines += lines

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise errors.UserError(
                f"{self.folder} is being written by another process; wait until that is done."
            ) from error
        except OSError as error:  # some network file systems have no locks
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                raise


def header(recording: types.Recording, tables: dict[str, np.ndarray], response_dtype: str) -> dict:
    """The first line: what makes this store this store, but for the trials themselves."""
    tiers = np.array(recording.tiers, dtype=np.str_)
    return {
        "format": store.FORMAT,
        "mouse": recording.mouse,
        "frame_rate_hz": float(recording.frame_rate_hz),
        "simulated": bool(recording.simulated),
        "response_dtype": response_dtype,
        "trials": len(recording.tiers),
        "neurons": len(recording.neurons),
        "tables": {name: _checksum(array) for name, array in (tables | {"tiers": tiers}).items()},
    }


def tables(recording: types.Recording) -> dict[str, np.ndarray]:
    """The small arrays of a recording, by the names they have in `tables.npz`."""
    found = {
        "neurons/ids": recording.neurons.ids,
        "neurons/position_um": recording.neurons.position_um,
    }
    columns = recording.neurons.columns
    found |= {f"neuron_columns/{name}": column for name, column in columns.items()}
    found |= {f"columns/{name}": column for name, column in recording.trial_columns.items()}
    found |= {f"truth/{name}": values for name, values in recording.truth.items()}
    for modality, published in recording.statistics.items():
        for name in STATISTICS:
            if name in published:
                found[f"official/{modality}/{name}"] = published[name]
    return {name: _plain(array) for name, array in found.items()}


def refuse_other(folder: Path, found: dict, expected: dict) -> None:
    """Raises UserError when two first lines differ, and says in what."""
    for key in expected:
        if key != "tables" and found.get(key) != expected[key]:
            difference = f"{key} {found.get(key)!r}, now it is {expected[key]!r}"
            break
    else:
        old, new = found["tables"], expected["tables"]
        names = [name for name in sorted(old | new) if old.get(name) != new.get(name)]
        difference = f"other values of {', '.join(names)}"
        if not names:
            return
    raise errors.UserError(
        f"{folder} was converted with {difference}; delete that folder to convert anew, or choose "
        "another one."
    )


def canonical(line: dict) -> bytes:
    """One line of JSON, the same for the same content."""
    return json.dumps(line, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def _whole_lines(text: bytes) -> list[dict]:
    lines = []
    for line in text.splitlines(keepends=True):
        try:
            parsed = json.loads(line)
        except ValueError:
            break
        if canonical(parsed) != line:  # also a line without its end
            break
        lines.append(parsed)
    return lines


def _trace_columns(line: dict) -> int:
    """Of behavior and pupil center together; a line tells of the latter if they are not two."""
    return line["behavior_columns"] + line.get("pupil_columns", 2)


def _trace_bytes(line: dict) -> int:
    return line["num_frames"] * _trace_columns(line) * np.dtype(np.float32).itemsize


def _checksum(array: np.ndarray) -> str:
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def _plain(array: np.ndarray) -> np.ndarray:
    array = np.asarray(array)
    return array.astype(np.str_) if array.dtype.hasobject else array
