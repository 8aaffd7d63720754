"""Which videos are the same: within a mouse as published, and across mice (sota 4.4).

In go videos, one at a time; out come ids: trials with equal ids showed the same video. Two videos
are the same when more than 85 % of their frames agree in every pixel within one grey level. The
published tool compares every video with every other, pixel by pixel. Here each becomes a `Sketch`
first: a digest of all its bytes and the mean grey of a few blocks of each frame. Equal digests are
equal videos. Pixels that agree within one level have block means that agree within one level, so
videos that are the same by the rule always have sketches that pass it too: only those are read
again and compared, and none is missed.
"""

import functools
import hashlib
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

SHARE = 0.85  # more than this part of the frames must agree
WITHIN = 1.0  # grey levels
PADDING = -1.0  # what the published tool takes for frames past the end of a video
BLOCKS = (2, 4)  # of a frame, down and across
REPEATS = (5, 10)  # how often a laboratory shows a video that is not for training
NUMBERING = "video_numbering"  # annotation of stores: equal where ids were given together
EVERY = 4  # frames that are looked at first when many videos are compared
KEPT_VIDEOS = 32  # read last, in case that they are compared again


@dataclass(frozen=True)
class Sketch:
    """digest: of size and pixels. size: (height, width). blocks: mean grey, [frame block]."""

    digest: bytes
    size: tuple[int, int]
    blocks: np.ndarray

    @classmethod
    def of(cls, video: np.ndarray) -> "Sketch":
        """Of a video [time height width]; equal numbers of another dtype have another digest."""
        digest = hashlib.blake2b(f"{video.dtype}{video.shape}".encode(), digest_size=16)
        digest.update(np.ascontiguousarray(video))
        rows, columns = (
            np.unique(np.linspace(0, pixels, parts, endpoint=False).astype(int))
            for pixels, parts in zip(video.shape[1:], BLOCKS, strict=True)
        )
        sums = np.add.reduceat(video, rows, axis=1, dtype=np.float64)
        sums = np.add.reduceat(sums, columns, axis=2)
        heights, widths = (
            np.diff(np.append(starts, pixels))
            for starts, pixels in zip((rows, columns), video.shape[1:], strict=True)
        )
        means = sums / np.outer(heights, widths)
        return cls(
            digest.digest(), video.shape[1:], means.reshape(len(video), len(rows) * len(columns))
        )


def packed(sketches: Sequence[Sketch]) -> dict[str, np.ndarray]:
    """Sketches as arrays that `unpacked` understands, for a file."""
    blocks = max((sketch.blocks.shape[1] for sketch in sketches), default=0)
    none = np.zeros((0, blocks))
    return {
        "digests": np.array([list(sketch.digest) for sketch in sketches], np.uint8),
        "sizes": np.array([sketch.size for sketch in sketches], np.int64),
        "lengths": np.array([len(sketch.blocks) for sketch in sketches], np.int64),
        "blocks": np.concatenate([none, *(sketch.blocks for sketch in sketches)]),
    }


def unpacked(arrays: Mapping[str, np.ndarray]) -> list[Sketch]:
    """The sketches again."""
    blocks = np.split(arrays["blocks"], np.cumsum(arrays["lengths"]))  # and nothing at last
    each = zip(arrays["digests"], arrays["sizes"], blocks[:-1], strict=True)
    return [Sketch(digest.tobytes(), tuple(size.tolist()), own) for digest, size, own in each]


def same(one: np.ndarray, other: np.ndarray, frames: int) -> bool:
    """The rule for two videos [time height width], both padded with -1 to so many frames."""
    if one.shape[1:] != other.shape[1:]:
        return False
    both = min(len(one), len(other))
    rest = one[both:] if len(one) > both else other[both:]
    agreeing = _agree(one[:both], other[:both]).sum() + (frames - both - len(rest))
    if len(rest):
        agreeing += _agree(rest.astype(np.float64), np.float64(PADDING)).sum()
    return bool(agreeing / frames > SHARE)


def _agree(one, other) -> np.ndarray:
    """Frames that agree in every pixel, [time] bool; unsigned numbers are never below zero."""
    return (np.maximum(one, other) - np.minimum(one, other) <= WITHIN).all(axis=(1, 2))


def within_mouse(
    sketches: Sequence[Sketch],
    tiers: Sequence[str],
    padded_frames: int,
    read: Callable[[int], np.ndarray],
) -> np.ndarray:
    """The ids of one mouse's trials as the published tool gives them, [trial] int64.

    Tier none has -1, a trial of tier train always a new id, any other the id of the first earlier
    video that is the same, or else a new one. padded_frames: the length of the laboratory's files;
    padding counts as frames that agree. read(trial): its video, asked for seldom.
    """
    frames = max(padded_frames, *(len(sketch.blocks) for sketch in sketches), 1)
    table = _Table(sketches, frames)
    recent = functools.lru_cache(KEPT_VIDEOS)(read)
    ids, firsts = np.full(len(tiers), -1, np.int64), []
    for trial, tier in enumerate(tiers):
        if tier == "none":
            continue
        found = None
        if tier != "train":
            near = table.candidates(trial, np.array(firsts, int), np.full(len(firsts), frames))
            found = next(
                (
                    first
                    for first in near
                    if sketches[first].digest == sketches[trial].digest
                    or same(recent(int(first)), recent(trial), frames)
                ),
                None,
            )
        if found is None:
            ids[trial] = len(firsts)
            firsts.append(trial)
        else:
            ids[trial] = ids[found]
    return ids


def across_mice(
    sketches: Mapping[str, Sequence[Sketch]],
    ids: Mapping[str, np.ndarray],
    read: Callable[[str, int], np.ndarray],
) -> dict[str, np.ndarray]:
    """One numbering of the videos of all mice, {mouse: [trial] int64}; -1 stays -1.

    Any two videos that are the same by the rule have the same id, also when one is for training,
    and so have those that already had in `ids` (of `within_mouse`). Here padding does not count:
    the longer video decides how many frames there are. Numbered as they appear, mouse by mouse.
    """
    trials = [(mouse, int(row)) for mouse in ids for row in np.flatnonzero(ids[mouse] >= 0)]
    nodes = _numbered([sketches[mouse][row].digest for mouse, row in trials])
    groups = _numbered([(mouse, ids[mouse][row]) for mouse, row in trials])
    shown = dict(zip(nodes[::-1], trials[::-1], strict=True))
    edges = list(zip(nodes, [node + len(shown) for node in groups], strict=True))
    edges += _same_videos([sketches[m][r] for m, r in map(shown.get, sorted(shown))],
                          lambda node: read(*shown[node]))  # fmt: skip
    count = len(shown) + len(set(groups))
    ends = np.array(edges, int).reshape(-1, 2).T
    graph = coo_array((np.ones(ends.shape[1]), tuple(ends)), shape=(count, count))
    _, together = connected_components(graph, directed=False)
    found = {mouse: np.full(len(each), -1, np.int64) for mouse, each in ids.items()}
    for (mouse, row), number in zip(trials, _numbered(together[nodes].tolist()), strict=True):
        found[mouse][row] = number
    return found


def _same_videos(sketches: Sequence[Sketch], read: Callable[[int], np.ndarray]) -> list:
    """Pairs of these videos that are the same by the rule."""
    if not sketches:
        return []
    lengths = np.array([len(sketch.blocks) for sketch in sketches])
    table = _Table(sketches, max(int(lengths.max()), 1))
    recent = functools.lru_cache(KEPT_VIDEOS)(read)
    pairs = []
    for one in range(1, len(sketches)):
        earlier = np.arange(one)
        frames = np.maximum(np.maximum(lengths[one], lengths[:one]), 1)
        for other in table.candidates(one, earlier, frames):
            if same(recent(int(other)), recent(one), int(frames[other])):
                pairs.append((one, int(other)))
    return pairs


class _Table:
    """Sketches side by side, padded to equal lengths: what may be the same by the rule."""

    def __init__(self, sketches: Sequence[Sketch], frames: int):
        self.frames = frames
        self.sizes = np.array([sketch.size for sketch in sketches]).reshape(-1, 2)
        blocks = max((sketch.blocks.shape[1] for sketch in sketches), default=1)
        self.means = np.full((blocks, len(sketches), frames), PADDING, np.float32)
        for index, sketch in enumerate(sketches):
            time, own = sketch.blocks.shape
            self.means[:own, index, :time] = sketch.blocks.T
        self.few = np.ascontiguousarray(self.means[0, :, ::EVERY])
        # What rounding to float32 can add to a difference of one level.
        largest = np.abs(self.means).max(initial=0.0)
        self.within = np.float32(WITHIN + 1e-5 + 4 * np.finfo(np.float32).eps * largest)

    def candidates(self, one: int, others: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """Those of `others` that may be the same as `one`, in their order.

        frames: [other], how many frames the rule counts; the padding beyond them always agrees and
        does not count.
        """
        fits = (self.sizes[others] == self.sizes[one]).all(axis=1)
        others, frames = others[fits], frames[fits]
        # So many frames may disagree, among whichever frames one looks.
        spare = frames - np.floor(SHARE * frames).astype(int) - 1
        close = np.abs(self.few[others] - self.few[one]) <= self.within
        likely = (~close).sum(axis=1) <= spare
        others, spare = others[likely], spare[likely]
        agree = np.ones((len(others), self.frames), bool)
        for means in self.means:
            agree &= np.abs(means[others] - means[one]) <= self.within
            likely = (~agree).sum(axis=1) <= spare
            others, spare, agree = others[likely], spare[likely], agree[likely]
        return others


def odd_repeats(ids: np.ndarray, tiers: Sequence[str]) -> dict[int, int]:
    """Videos that are shown fewer than 5 or more than 10 times outside tiers train and none.

    Returns {id: times}; laboratories repeat such videos about 10 times, so it tells of mistakes.
    """
    shown = Counter(
        int(video)
        for video, tier in zip(ids, tiers, strict=True)
        if tier not in ("train", "none") and video >= 0
    )
    fewest, most = REPEATS
    return {video: times for video, times in shown.items() if not fewest <= times <= most}


def shared(ids: Mapping[str, np.ndarray]) -> np.ndarray:
    """How many videos every two mice have in common, and on the diagonal in all, [mouse mouse]."""
    seen = [set(each[each >= 0].tolist()) for each in ids.values()]
    return np.array([[len(one & other) for other in seen] for one in seen])


def _numbered(values: Sequence[Hashable]) -> list[int]:
    """0, 1, 2... for different values as they appear."""
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(value, len(numbers)) for value in values]
