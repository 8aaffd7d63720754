"""One mouse on our disk: a `TrialStore` is read here; `conversion.py` writes it.

In goes a folder made by `conversion.write`; out come windows of trials, the tables of trials and
neurons, and both kinds of statistics. The folder holds

    store.json      format version, provenance, sizes; written last: without it there is no store
    trials.jsonl    one line on the recording, then one per trial; its SHA-256 is the fingerprint
    tables.npz      neurons, other trial columns, statistics, truth of simulated neurons
    clips_uint8/, clips_float32/    [clip time height width], each distinct clip once
    responses/, rates/              [trial neuron time]
    behavior/, pupil_center/        [trial time column]
    annotations/<name>.npy          [trial], what tools found out about the stimuli later on

From clips to pupil_center they are zarr 3 arrays (any zarr reader opens them), as many of them as
the mouse needs. Annotations do not enter the fingerprint, and nothing else ever changes.
Clips, responses and rates have a file per row (many images share one) with an index of pieces along
time, so that a window costs only its own; each carries a checksum, and a missing one is an error.
"""

import copy
import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import tensorstore as ts

from sensojax import errors, tables, types, zarrs
from sensojax.tables import Statistics, TrialTable, damaged
from sensojax.writing import write_array_atomically

FORMAT = 1
DESCRIPTION, TRIALS = "store.json", "trials.jsonl"
ANNOTATIONS = "annotations"
PARTIAL = ".partial"


class TrialStore:
    """A finished store; made by `TrialStore.open`. Pickles as its path and opens again elsewhere.

    mouse, source, simulated, frame_rate_hz, height, width (pixels), max_frames (longest trial),
    video_dtype ("uint8" when every clip is integer valued, else "float32"), response_dtype
    (on disk; `read` gives float32), has_rates, and fingerprint: SHA-256 (hex), equal for equal
    sources and settings.
    """

    def __init__(self, path: Path, description: dict, lines: list[dict]):
        self.path = path
        self.mouse: str = description["mouse"]
        self.source: str = description["source"]
        self.simulated: bool = description["simulated"]
        self.frame_rate_hz: float = description["frame_rate_hz"]
        self.fingerprint: str = description["fingerprint"]
        self.height: int = description["height"]
        self.width: int = description["width"]
        self.max_frames: int = description["max_frames"]
        self.video_dtype: str = description["video_dtype"]
        self.response_dtype: str = description["response_dtype"]
        self.has_rates = "rates" in description["arrays"]
        self._arrays_on_disk = frozenset(description["arrays"])
        self.header, self.lines = lines[0], lines[1:]  # of `trials.jsonl`

    _tiers: np.ndarray | None = None  # in place of those on disk

    @classmethod
    def open(cls, path: str | Path) -> "TrialStore":
        """Opens `<folder>/<mouse>`; raises UserError when it is not a whole store."""
        path = Path(path).absolute()
        _refuse_unfinished(path)
        try:
            description = json.loads((path / DESCRIPTION).read_text())
            version = description["format"]
            if version != FORMAT:
                raise errors.UserError(
                    f"store {path} has format {version}, this sensojax reads format {FORMAT}; "
                    "delete the folder and convert the recording again."
                )
            table = (path / TRIALS).read_bytes()
            if hashlib.sha256(table).hexdigest() != description["fingerprint"]:
                raise ValueError(f"{TRIALS} does not have the fingerprint of {DESCRIPTION}")
            lines = [json.loads(line) for line in table.splitlines()]
            for name in (tables.FILE, *(f"{name}/zarr.json" for name in description["arrays"])):
                if not (path / name).is_file():
                    raise ValueError(f"{name} is missing")
            return cls(path, description, lines)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise damaged(path, error) from error

    def __reduce__(self):
        return TrialStore.open, (self.path,), {"_tiers": self._tiers}

    def __repr__(self) -> str:
        return f"TrialStore({self.mouse}: {len(self.trials)} trials, {len(self.neurons)} neurons)"

    @cached_property
    def trials(self) -> TrialTable:
        columns = {
            name: np.array([line[name] for line in self.lines])
            for name in TrialTable.__dataclass_fields__
            if name != "columns"
        }
        columns["has_responses"] = self.has_responses
        if self._tiers is not None:
            columns["tier"] = self._tiers
        return TrialTable(**columns, columns=tables.read(self.path, "columns"))

    @cached_property
    def has_responses(self) -> np.ndarray:
        """See `TrialTable`, [trial] bool. One image may leave every neuron silent: there, what was
        withheld are tiers of nothing but zeros."""
        found = np.array([line["has_responses"] for line in self.lines])
        if self.max_frames > 1:
            return found
        tiers = np.array([line["tier"] for line in self.lines])
        return np.isin(tiers, tiers[found])

    def with_tiers(self, tiers: np.ndarray) -> "TrialStore":
        """The same store, read with other names of tiers, [trial] str; on disk nothing changes."""
        changed = copy.copy(self)
        changed._tiers = np.asarray(tiers)
        return changed

    @cached_property
    def neurons(self) -> types.Neurons:
        return types.Neurons(
            **tables.read(self.path, "neurons"), columns=tables.read(self.path, "neuron_columns")
        )

    @cached_property
    def truth(self) -> dict[str, np.ndarray]:
        """What is known of a simulated mouse's neurons, by name, [neuron ...]; else empty."""
        return tables.read(self.path, "truth")

    @cached_property
    def statistics(self) -> Statistics:
        return Statistics(
            official=tables.nested(tables.read(self.path, "official")),
            per_neuron=tables.nested(tables.read(self.path, "per_neuron")),
        )

    def annotation(self, name: str) -> np.ndarray | None:
        """What `annotate` kept under this name, [trial]; None when there is no such thing."""
        path = self.path / ANNOTATIONS / f"{name}.npy"
        if not path.is_file():
            return None
        try:
            values = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise errors.UserError(
                f"{path} is damaged ({error}); delete it and run the script that made it again."
            ) from error
        if values.shape != (len(self.trials),):
            raise errors.UserError(
                f"{path} has shape {values.shape}, expected one value for each of the "
                f"{len(self.trials)} trials; delete it and run the script that made it again."
            )
        return values

    def annotate(self, name: str, values: np.ndarray) -> None:
        """Keeps one value per trial beside the recording; replaces what was there, at once."""
        values = np.asarray(values)
        if values.shape != (len(self.trials),):
            raise ValueError(f"found {values.shape} values for {len(self.trials)} trials")
        write_array_atomically(self.path / ANNOTATIONS / f"{name}.npy", values)

    @property
    def stimulus_kinds(self) -> np.ndarray:
        """The kind of each trial's stimulus, one of `types.STIMULUS_KINDS` or "", [trial].

        As annotated, as a simulated mouse knows it, or by the published numbers in a column
        `stimulus_ids` (-1 is unknown). Raises UserError when none of these is there.
        """
        kinds = self.annotation("stimulus_kind")
        if kinds is None:
            kinds = self.trials.columns.get("true_kind")
        if kinds is None and "stimulus_ids" in self.trials.columns:
            names = np.array([*types.STIMULUS_KINDS, ""])
            kinds = names[self.trials.columns["stimulus_ids"].astype(int)]
        if kinds is None and self.max_frames == 1:
            raise errors.UserError(
                f"mouse {self.mouse} looked at images, expected videos, of which there are several "
                "kinds; leave this mouse out."
            )
        if kinds is None:
            raise errors.UserError(
                f"the kinds of the stimuli of mouse {self.mouse} are not known; find them with "
                f"python scripts/assign_stimulus_ids.py {self.path.parent}"
            )
        return kinds

    @property
    def video_ids(self) -> np.ndarray:
        """Equal numbers for trials that showed the same video, -1 for unknown, [trial] int.

        As annotated (alike across mice that were numbered together), in a column `video_ids` or
        `frame_image_id`, or by clip, which only knows videos that are equal in every pixel.
        """
        columns = self.trials.columns
        told = self.annotation("video_id"), *map(columns.get, ("video_ids", "frame_image_id"))
        found = next((each for each in told if each is not None), self.trials.clip)
        if found.dtype.kind in "US":  # names of images
            found = np.unique(found, return_inverse=True)[1]
        return np.asarray(found, np.int64)

    def rows(self, *tiers: str) -> np.ndarray:
        """The rows of all trials of these tiers, ascending; UserError when a tier has none."""
        present = sorted(set(self.trials.tier.tolist()))
        for tier in tiers:
            if tier not in present:
                raise errors.UserError(
                    f"mouse {self.mouse} has no trial of tier {tier!r}; it has "
                    f"{', '.join(present)}{errors.nearest(tier, present)}"
                )
        return np.flatnonzero(np.isin(self.trials.tier, tiers))

    def read(self, row: int, start: int = 0, stop: int | None = None) -> dict[str, np.ndarray]:
        """Frames start..stop (to the end of the trial when None) of one trial, as recorded.

        video [time height width] uint8 or float32 (`video_dtype`), responses [time neuron],
        behavior [time 2], pupil_center [time 2], all float32. `read_rates` gives the rates.
        Raises ValueError for frames outside the trial, UserError when the store is damaged.
        """
        window = self._window(row, start, stop)
        arrays = self.empty((window.stop - window.start,))
        self.read_into(row, window.start, window.stop, arrays)()
        return arrays | {"responses": arrays["responses"].astype(np.float32, copy=False)}

    def empty(self, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
        """Arrays for so many frames, [..., of one frame] by the names of `read`, not filled.

        Responses as they are stored (`response_dtype`), so that they stay small on their way.
        """
        frame = {
            "video": ((self.height, self.width), self.video_dtype),
            "responses": (self._array("responses").shape[2:], self.response_dtype),
            "behavior": (self._behavior.shape[2:], np.float32),
            "pupil_center": (self._pupil_center.shape[2:], np.float32),
        }
        return {name: np.empty((*shape, *of), dtype) for name, (of, dtype) in frame.items()}

    def read_into(
        self, row: int, start: int, stop: int, arrays: Mapping[str, np.ndarray]
    ) -> Callable[[], None]:
        """Starts to read frames start..stop of one trial straight into arrays of that many frames.

        arrays: as `empty` makes them, C-contiguous, or responses as float32; video and responses
        may be left out. Call the result to wait until they are filled. Many windows under way at
        once keep all cores unpacking.
        """
        window = self._window(row, start, stop)
        line = self.lines[row]
        arrays["behavior"][:] = self._behavior[row, window]
        arrays["pupil_center"][:] = self._pupil_center[row, window]
        clip = (f"clips_{line['video']}", (line["clip"], window), ...)
        return self._fill(arrays, video=[clip], responses=[("responses", (row, window), ...)])

    def read_images_into(
        self, rows: np.ndarray, at: np.ndarray, arrays: Mapping[str, np.ndarray]
    ) -> Callable[[], None]:
        """As `read_into`, but many trials of one frame at once: several times as fast.

        at: which examples of the arrays, [example 1 ...], they become.
        """
        arrays["behavior"][at] = self._behavior[rows]
        arrays["pupil_center"][at] = self._pupil_center[rows]
        clips, dtype = self.trials.clip[rows], np.array([self.lines[row]["video"] for row in rows])
        of = {each: dtype == each for each in np.unique(dtype)}
        video = [(f"clips_{each}", clips[chosen], at[chosen]) for each, chosen in of.items()]
        return self._fill(arrays, video=video, responses=[("responses", rows, at)])

    def _fill(self, arrays: Mapping[str, np.ndarray], **places: list[tuple]) -> Callable[[], None]:
        """Starts to fill arrays by name, each from (stored array, what of it, to which place)."""
        futures = [
            zarrs.fill(arrays[name], self._array(source).oindex[part], to)
            for name, parts in places.items()
            for source, part, to in parts
            if name in arrays
        ]

        def wait() -> None:
            for future in futures:
                self._result(future)

        return wait

    def read_rates(self, row: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Noiseless expected responses of a simulated mouse, [time neuron] float32."""
        if not self.has_rates:
            raise errors.UserError(
                f"mouse {self.mouse} is not simulated with rates: its true rates are not known."
            )
        window = self._window(row, start, stop)
        rates = self._result(self._array("rates")[row, window].read())
        return rates.astype(np.float32, copy=False)

    def _window(self, row: int, start: int, stop: int | None) -> slice:
        frames = self.lines[row]["num_frames"]
        stop = frames if stop is None else stop
        if not 0 <= start < stop <= frames:
            raise ValueError(f"frames {start}..{stop} of row {row}, which has {frames}")
        return slice(int(start), int(stop))

    @cached_property
    def _behavior(self) -> np.ndarray:
        return self._trace("behavior")

    @cached_property
    def _pupil_center(self) -> np.ndarray:
        return self._trace("pupil_center")

    def _trace(self, name: str) -> np.ndarray:
        """[trial time column], of no column where nothing was recorded."""
        if name not in self._arrays_on_disk:
            return np.zeros((len(self.lines), self.max_frames, 0), np.float32)
        return self._result(self._array(name).read())

    @property
    def has_pupil(self) -> bool:
        """Whether it was recorded where the pupil is."""
        return "pupil_center" in self._arrays_on_disk

    @cached_property
    def _arrays(self) -> dict[str, ts.TensorStore]:
        return {}

    def _array(self, name: str) -> ts.TensorStore:
        if name not in self._arrays:  # two threads may both open it; either result serves
            try:
                self._arrays[name] = zarrs.open_array(self.path, name)
            except ValueError as error:
                raise damaged(self.path, error) from error
        return self._arrays[name]

    def _result(self, future: ts.Future) -> np.ndarray:
        try:
            return future.result()
        except ValueError as error:  # how TensorStore reports missing, cut or altered pieces
            raise damaged(self.path, error) from error


def _refuse_unfinished(path: Path) -> None:
    partial = path if path.name.endswith(PARTIAL) else path.with_name(path.name + PARTIAL)
    if path == partial or (partial.is_dir() and not (path / DESCRIPTION).is_file()):
        raise errors.UserError(
            f"the store {partial} is incomplete: its conversion was stopped; give the same "
            "scripts/convert.py command again, it continues."
        )
    if not path.is_dir():
        near = stores_in(path.parent)
        known = f"{path.parent} has {', '.join(near)}" if near else f"{path.parent} has no store"
        raise errors.UserError(
            f"no store at {path}; {known}{errors.nearest(path.name, near)} "
            "(scripts/convert.py makes one from a recording)."
        )
    if not (path / DESCRIPTION).is_file():
        near = stores_in(path)
        hint = f"it is a folder of stores: {', '.join(near)}" if near else "it is not a store"
        raise errors.UserError(f"{path} has no {DESCRIPTION}; {hint}.")


def stores_in(folder: str | Path) -> list[str]:
    """The mice that have a finished store in a folder, sorted; none in no folder."""
    found = Path(folder).glob(f"*/{DESCRIPTION}")
    return sorted(path.parent.name for path in found if not path.parent.name.endswith(PARTIAL))
