"""The zarr arrays of a store that is being written: files of small pieces.

In go prepared trials; out come files. A piece is what a reader unpacks at once: 20 frames, or an
image. A file is a clip or a trial, or many images.

Responses lie on disk as [trial neuron time], the only place where time comes last: a neuron is
silent for many frames in a row, so its zeros make long runs, which pack better and unpack faster.
`zarrs.open_array` turns them round. Measured on 80-frame windows of 7,863 neurons with events as in
deconvolved calcium (30 Hz by low-pass from 8 Hz, 79 % zeros), and, as the worst case, with noise
instead of zeros; size as share of the float64 source, milliseconds of one core per window:

                                     events            noise instead of zeros
    [trial neuron time]  lz4         0.110   1.0 ms    0.463   1.2 ms        (chosen)
                         zstd 1      0.098   1.5 ms    0.431   2.8 ms
                         lz4 + byte shuffle  0.130  1.9 ms    0.416  1.6 ms
    [trial time neuron]  lz4         0.157   1.5 ms    0.463   0.9 ms
                         zstd 1      0.114   2.4 ms    0.431   2.7 ms
                         lz4 + byte shuffle  0.244  1.9 ms    0.445  1.8 ms

lz4 packs about 1 GB of float32 per second and core. Pieces of 10 to 25 frames differ by less than
the noise of the measurement.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import tensorstore as ts

from sensojax import errors, zarrs
from sensojax.conversion import trials

# A window of 80 frames reads at most 100. A file holds 1000 frames, more than any published trial
# has, and an index of 16 bytes per piece; a longer trial takes several files.
PIECE_FRAMES, FILE_FRAMES = 20, 1000
UNKNOWN_FRAMES = 1000 * FILE_FRAMES  # bound while writing; cut to the longest trial at the end
# Images are read one by one, at random. Of 3,000 trials of 7,776 neurons, 144 x 256 pixels each:
#
#     images in a file            1      16      64     128     256     512
#     files of the store       4929     317      86      48      29      19
#     converted trials/s        324    1129    1241    1378    1418    1245
#     ms to read 128            7.8     8.0     6.7     6.6     6.4     5.9
#
# More are no faster, and this many at most are done again by a conversion that was stopped.
FILE_IMAGES = 256
TRACES = ("behavior", "pupil_center")
LITTLE_ENDIAN = {"name": "bytes", "configuration": {"endian": "little"}}
LZ4 = {"cname": "lz4", "clevel": 9, "shuffle": "noshuffle", "typesize": 1, "blocksize": 0}
# lz4 may unpack an altered piece without complaint: the checksum is what finds it.
PACKED = [LITTLE_ENDIAN, {"name": "blosc", "configuration": LZ4}, {"name": "crc32c"}]


class Arrays:
    """The sharded arrays of a store that is being written; each appears when it is first needed.

    still: all trials are images; `rows_per_file` of them share a file and are best written at once.
    """

    def __init__(self, folder: Path, num_trials: int, still: bool):
        self.folder = folder
        self.num_trials = num_trials
        self.rows_per_file = FILE_IMAGES if still else 1
        self._still = still
        self._open: dict[str, ts.TensorStore] = {}

    def write(
        self, group: Sequence[tuple[int, trials.Prepared, int | None]]
    ) -> list[ts.WriteFutures]:
        """Starts writing trials, each (row, trial, row of its clip if that is new).

        They are written when all of the results are.
        """
        parts: dict[str, dict[int, np.ndarray]] = {}
        for row, trial, clip in group:
            if trial.line["num_frames"]:
                parts.setdefault("responses", {})[row] = trial.responses
                if trial.rates is not None:
                    parts.setdefault("rates", {})[row] = trial.rates
                if clip is not None:
                    parts.setdefault(f"clips_{trial.video.dtype}", {})[clip] = trial.video
        return [write for name, values in parts.items() for write in self._write(name, values)]

    def _write(self, name: str, values: dict[int, np.ndarray]) -> list[ts.WriteFutures]:
        arrays = [self._array(name, each) for each in values.values()]
        if self._still:
            _check_still(values.values())
            return [arrays[0].oindex[list(values)].write(np.stack(list(values.values())))]
        return [
            array[row, : len(each)].write(each)
            for array, (row, each) in zip(arrays, values.items(), strict=True)
        ]

    def _array(self, name: str, values: np.ndarray) -> ts.TensorStore:
        """The array for values of [time neuron] or [time height width]."""
        if name not in self._open:
            self._open[name] = self._open_or_create(name, values)
        found, expected = values.shape[1:], self._open[name].shape[2:]
        if found != expected:
            raise errors.UserError(
                f"a trial has {name} of shape {found} per frame, earlier ones have {expected}; "
                "convert recordings of different shapes separately."
            )
        return self._open[name]

    def _open_or_create(self, name: str, values: np.ndarray) -> ts.TensorStore:
        if (self.folder / name / "zarr.json").exists():
            return zarrs.open_array(self.folder, name)
        if name.startswith("clips"):
            _, height, width = values.shape
            axes = ("clip", "time", "height", "width")
            shape, file, piece = ((rows, frames, height, width) for rows, frames in self._extents())
        else:
            _, neurons = values.shape
            axes = ("trial", "neuron", "time")
            shape, file, piece = ((rows, neurons, frames) for rows, frames in self._extents())
        return _create(self.folder, name, axes, shape, file, values.dtype, [_sharded(piece)])

    def _extents(self) -> tuple[tuple[int, int], ...]:
        """Rows and frames of the whole array, of a file and of a piece."""
        if self._still:
            return (self.num_trials, 1), (self.rows_per_file, 1), (1, 1)
        return (self.num_trials, UNKNOWN_FRAMES), (1, FILE_FRAMES), (1, PIECE_FRAMES)


def _check_still(arrays: Iterable[np.ndarray]) -> None:
    longest = max(map(len, arrays))
    if longest > 1:
        raise errors.UserError(
            f"a trial of images has {longest} frames, expected one; read the recording as videos."
        )


def _sharded(piece: tuple[int, ...]) -> dict:
    index = [LITTLE_ENDIAN, {"name": "crc32c"}]
    settings = {"chunk_shape": list(piece), "codecs": PACKED, "index_codecs": index}
    return {"name": "sharding_indexed", "configuration": settings}


def _create(
    folder: Path, name: str, axes: tuple, shape: tuple, file: tuple, dtype: np.dtype, codecs: list
) -> ts.TensorStore:
    """A new array (one that is there is emptied); `file` is the part of it that is one file."""
    metadata = {
        "shape": list(shape),
        "data_type": dtype.name,
        "fill_value": 0,
        "dimension_names": list(axes),
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(file)}},
        # Files side by side: the default makes a folder per axis, four times as many entries.
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "codecs": codecs,
    }
    spec = zarrs.array_spec(folder, name) | {"metadata": metadata}
    ts.open(spec, context=zarrs.context(), create=True, delete_existing=True).result()
    return zarrs.open_array(folder, name)


def remove_strays(folder: Path) -> None:
    """Removes what a killed writer left beside its files, which appear only when they are whole.

    Before anything is written: TensorStore would write over such a leftover without cutting it, and
    its old end would become the end of the new file.
    """
    for stray in folder.glob("*/**/*.__lock*"):
        stray.unlink(missing_ok=True)  # its writer may be about to do so


def cut(folder: Path, max_frames: int, num_clips: int) -> None:
    """Gives the arrays the extent that they turned out to have; no data are touched."""
    for path in sorted(folder.glob("*/zarr.json")):
        name = path.parent.name
        if name not in TRACES:
            array = zarrs.open_array(folder, name)
            rows = num_clips if name.startswith("clips") else array.shape[0]
            shape = (rows, max_frames, *array.shape[2:])
            array.resize(exclusive_max=shape, resize_metadata_only=True).result()


def write_traces(
    folder: Path, trials_traces: list[np.ndarray], max_frames: int, behavior_columns: int
) -> None:
    """The arrays `behavior` and `pupil_center`, [trial time column], each one piece; zero padded.

    trials_traces: [time column] float32 per trial, behavior and then pupil center. What has no
    column (nobody recorded it) gets no array.
    """
    columns = trials_traces[0].shape[1]
    padded = np.zeros((len(trials_traces), max_frames, columns), np.float32)
    for row, each in enumerate(trials_traces):
        padded[row, : len(each)] = each
    for name, values in zip(TRACES, np.split(padded, [behavior_columns], axis=2), strict=True):
        shape = values.shape
        if not shape[2]:
            continue
        array = _create(
            folder, name, ("trial", "time", "column"), shape, shape, values.dtype, PACKED
        )
        array.write(values).result()
