"""Writing one mouse: trials into sharded arrays, then tables, statistics, and the description last.

In goes a `types.Recording`; out comes `<folder>/<mouse>/`, or, when it was stopped on the way,
`<folder>/<mouse>.partial/`, from which the same call continues.
"""

import contextlib
import itertools
import os
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

from sensojax import errors, progress, store, types, zarrs
from sensojax.conversion import arrays, finishing, trials
from sensojax.conversion import journal as journals

WRITES_AHEAD = 2  # groups of trials packed and written while the next are taken
RESPONSE_DTYPES = ("float32", "float16")


def write(
    folder: str | Path,
    recording: types.Recording,
    *,
    workers: int = 0,
    response_dtype: str = "float32",
) -> Path:
    """Converts one mouse into `<folder>/<mouse>/` and returns that path; done already: at once.

    workers: threads that read the source, 0 for one per core. response_dtype: "float32" or
    "float16" (half the size, 11 bits of precision, at most 65504); also of the true rates.
    Raises UserError when the source is not as it should be, when a response does not fit, when the
    folder holds this mouse with other settings, or when another process is converting it.
    """
    if response_dtype not in RESPONSE_DTYPES:
        raise errors.UserError(
            f"responses as {response_dtype!r}, expected one of {', '.join(RESPONSE_DTYPES)}"
            f"{errors.nearest(response_dtype, RESPONSE_DTYPES)}"
        )
    path = Path(folder).absolute() / recording.mouse
    tables = journals.tables(recording)
    header = journals.header(recording, tables, response_dtype)
    if path.exists():
        journals.refuse_other(path, store.TrialStore.open(path).header, header)
        (path / journals.TRACES).unlink(missing_ok=True)  # left when the last line was not reached
        return path
    partial = path.with_name(path.name + store.PARTIAL)
    partial.mkdir(parents=True, exist_ok=True)
    with journals.Journal(partial, header) as journal:
        if not (partial / store.DESCRIPTION).exists():
            _write_trials(recording, journal, response_dtype, workers or zarrs.cores())
            finishing.finish(recording, journal, tables)
        os.replace(partial, path)
    (path / journals.TRACES).unlink()
    return path


def _write_trials(
    recording: types.Recording, journal: journals.Journal, response_dtype: str, workers: int
) -> None:
    """Stores the trials that the journal lacks, in file order, and notes them."""
    arrays.remove_strays(journal.folder)
    packed = arrays.Arrays(journal.folder, len(recording.tiers), recording.still)
    clips = _placed_clips(journal)
    under_way: deque = deque()

    def note_oldest():
        lines, traces, writes = under_way.popleft()
        for each in writes:
            each.result()
        journal.note(lines, traces)

    done, total = len(journal.trials), len(recording.tiers)
    prepared = trials.in_order(recording, range(done, total), response_dtype, workers)
    shown = progress.track(prepared, f"converting {recording.mouse}", total, done)
    with contextlib.closing(prepared), contextlib.closing(shown):
        for group in _groups(enumerate(shown, start=done), packed.rows_per_file):
            placed = [(row, trial, *clips.place(trial.prefixes)) for row, trial in group]
            writes = packed.write(
                [(row, trial, clip if is_new else None) for row, trial, clip, is_new in placed]
            )
            lines = [trial.line | {"clip": clip} for _, trial, clip, _ in placed]
            under_way.append((lines, [trial.traces for _, trial in group], writes))
            if len(under_way) > WRITES_AHEAD:
                note_oldest()
        while under_way:
            note_oldest()


def _groups(trials_in_order: Iterable[tuple], rows_per_file: int) -> Iterator[list[tuple]]:
    """The (row, trial) that belong into one file together."""
    by_file = itertools.groupby(trials_in_order, lambda each: each[0] // rows_per_file)
    return (list(group) for _, group in by_file)


def _placed_clips(journal: journals.Journal) -> trials.Clips:
    """The clips of the trials noted so far, found again by reading them back."""
    clips = trials.Clips()
    lengths: dict[int, tuple[int, str]] = {}
    for line in journal.trials:
        known = lengths.get(line["clip"], (0, ""))
        lengths[line["clip"]] = max(known, (line["num_frames"], line["video"]))
    prefixes: dict[int, list[bytes]] = {-1: []}
    for clip, (frames, dtype) in lengths.items():
        if frames:
            try:
                array = zarrs.open_array(journal.folder, f"clips_{dtype}")
                prefixes[clip] = trials.prefixes(array[clip, :frames].read().result())
            except ValueError as error:
                raise store.damaged(journal.folder, error) from error
    for line in journal.trials:
        clips.place(prefixes[line["clip"]][: line["num_frames"]])
    return clips
