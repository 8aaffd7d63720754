"""A trial on its way from the source to the store: read, made small, hashed; and its clip's row.

In goes a `types.Recording`; out come `Prepared` trials in file order, read by several threads.
"""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from sensojax import errors, types


@dataclass(frozen=True)
class Prepared:
    """A trial as it will be stored.

    video: [time height width] uint8 or float32. responses, rates: [time neuron] in the dtype of
    the store, rates None when unknown. traces: [time column] float32, behavior and then pupil
    center. line: what `trials.jsonl` says of it, but for the clip. prefixes: for every frame a
    digest of the video up to and with it.
    """

    video: np.ndarray
    responses: np.ndarray
    rates: np.ndarray | None
    traces: np.ndarray
    line: dict
    prefixes: list[bytes]


def prepare(recording: types.Recording, index: int, response_dtype: str) -> Prepared:
    """Reads one trial; raises UserError when a response does not fit into the dtype."""
    trial = recording.read(index)
    video = compact(trial.video)
    responses = fitting(trial.responses, response_dtype, recording.mouse, index)
    rates = trial.rates
    if rates is not None:
        rates = fitting(rates, response_dtype, recording.mouse, index)
    line = {
        "index": int(trial.index),
        "tier": trial.tier,
        "num_frames": trial.num_frames,
        "official_frames": int(trial.official_frames),
        "has_responses": bool(responses.any()),
        "checksum": trial.checksum,
        "video": video.dtype.name,
        "height": video.shape[1],
        "width": video.shape[2],
        "behavior_columns": trial.behavior.shape[1],
        "rates": "" if rates is None else hashlib.sha256(rates).hexdigest(),
    }
    if trial.pupil_center.shape[1] != 2:  # lines of mice with a pupil stay those of older stores
        line["pupil_columns"] = trial.pupil_center.shape[1]
    traces = np.concatenate((trial.behavior, trial.pupil_center), axis=1).astype(np.float32)
    return Prepared(video, responses, rates, traces, line, prefixes(video))


def in_order(
    recording: types.Recording, rows: Iterable[int], response_dtype: str, workers: int
) -> Iterator[Prepared]:
    """Trials prepared by several threads and handed out in order, few ahead of the consumer."""
    pool = ThreadPoolExecutor(workers)
    ahead: deque = deque()
    try:
        for row in rows:
            ahead.append(pool.submit(prepare, recording, row, response_dtype))
            if len(ahead) > workers + 1:  # bounded: a trial takes up to 60 MB while it is read
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def compact(video: np.ndarray) -> np.ndarray:
    """The video as uint8 when every value is an integer of 0..255, else as float32."""
    if not video.size or video.dtype == np.uint8:
        return np.ascontiguousarray(video, np.uint8)
    if video.min() >= 0 and video.max() <= 255:
        integers = np.ascontiguousarray(video).astype(np.uint8)
        if np.array_equal(integers, video):
            return integers
    return np.ascontiguousarray(video, np.float32)


def fitting(values: np.ndarray, dtype: str, mouse: str, index: int) -> np.ndarray:
    """The values in a smaller dtype; UserError when one is too large for it."""
    with np.errstate(over="ignore"):
        cast = np.ascontiguousarray(values, dtype)
    if not np.isfinite(cast).all():
        raise errors.UserError(
            f"trial {index} of {mouse} has a response of {np.abs(values).max():g}, but {dtype} "
            f"holds at most {np.finfo(dtype).max:g}; convert with --responses float32 into "
            "another folder."
        )
    return cast


def prefixes(video: np.ndarray) -> list[bytes]:
    """For every frame a digest of the video up to and with it; 16 bytes suffice to tell apart."""
    digest = hashlib.sha256(f"{video.dtype}{video.shape[1:]}".encode())
    found = []
    for frame in video:
        digest.update(frame)
        found.append(digest.copy().digest()[:16])
    return found


class Clips:
    """Gives each distinct clip a row, in order of first appearance.

    A trial ends where one of its signals does, so presentations of one video differ in length. A
    video that is the beginning of a known clip is therefore that clip, and one that begins with a
    whole known clip and goes on extends it.
    """

    def __init__(self):
        self.count = 0
        self._beginnings: dict[bytes, int] = {}
        self._wholes: dict[bytes, int] = {}

    def place(self, video: list[bytes]) -> tuple[int, bool]:
        """The row of a video (given by its `prefixes`), and whether it must be written.

        An empty video has the row -1.
        """
        if not video:
            return -1, False
        whole = video[-1]
        if whole in self._beginnings:
            return self._beginnings[whole], False
        extended = next((prefix for prefix in reversed(video) if prefix in self._wholes), None)
        if extended is None:
            clip, self.count = self.count, self.count + 1
        else:
            clip = self._wholes.pop(extended)
        self._wholes[whole] = clip
        for prefix in video:
            self._beginnings.setdefault(prefix, clip)
        return clip, True
