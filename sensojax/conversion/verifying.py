"""Whether a store still equals its source: both are read in full and compared number by number.

In go a finished store and the recording it was made from; out comes silence, or the first
difference.
"""

from pathlib import Path

import numpy as np

from sensojax import errors, progress, store, types, zarrs
from sensojax.conversion import journal, trials


def verify(path: str | Path, recording: types.Recording, *, workers: int = 0) -> None:
    """Reads the source again and compares all of it with the store at `path`.

    Raises UserError naming the first difference in file order: trial, signal, place and values.
    """
    stored = store.TrialStore.open(path)
    dtype = stored.response_dtype
    journal.refuse_other(
        stored.path, stored.header, journal.header(recording, journal.tables(recording), dtype)
    )
    rows = range(len(stored.trials))
    prepared = trials.in_order(recording, rows, dtype, workers or zarrs.cores())
    shown = progress.track(prepared, f"verifying {stored.mouse}", len(rows))
    for row, source in enumerate(shown):
        _compare(stored, row, source)


def _compare(stored: store.TrialStore, row: int, source: trials.Prepared) -> None:
    line = {key: value for key, value in stored.lines[row].items() if key != "clip"}
    for key in ("num_frames", "video", "tier"):
        if line[key] != source.line[key]:
            raise _different(stored, row, key, source.line[key], line[key])
    if line["num_frames"]:
        for name, expected, found in _pairs(stored, row, source):
            differs = found != expected
            if differs.any():
                place = tuple(int(i) for i in np.unravel_index(np.argmax(differs), found.shape))
                what = f"{name} at (frame, ...) {place}"
                raise _different(stored, row, what, expected[place], found[place])
    if line != source.line:
        raise _different(stored, row, "checksum", source.line["checksum"], line["checksum"])


def _pairs(stored: store.TrialStore, row: int, source: trials.Prepared):
    trial = stored.read(row)
    columns = trial["behavior"].shape[1]
    yield "video", source.video, trial["video"]
    yield "responses", source.responses.astype(np.float32), trial["responses"]
    yield "behavior", source.traces[:, :columns], trial["behavior"]
    yield "pupil_center", source.traces[:, columns:], trial["pupil_center"]
    if source.rates is not None:
        yield "rates", source.rates.astype(np.float32), stored.read_rates(row)


def _different(stored: store.TrialStore, row: int, what: str, expected, found) -> errors.UserError:
    return errors.UserError(
        f"store {stored.path} differs from its source in trial {stored.trials.index[row]}: {what} "
        f"is {expected} in the source and {found} in the store; delete the folder and convert the "
        "recording again."
    )
