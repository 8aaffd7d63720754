"""What drifting Gabors, Gaussian dots and flashed images show in each frame.

In goes a video [time height width] of grey levels 0..255 of any size; out come numbers per frame,
by the rules with which the published tables were made (sota 4.6 to 4.8): direction, wavelength and
frequency of a Gabor; place, radius and colour of a dot; the number of an image. Where those rules
break down (a grey block, two dots at once, images without a blank between them) an argument chooses
between the published answer and a more careful one.
"""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from sensojax.errors import UserError, check_name

GABOR_NAMES = ("direction_deg", "wavelength", "frequency")
DOT_NAMES = ("x", "y", "radius", "is_black")
BLANKS = ("first", "nan")
TWO_DOTS = ("nan", "mean")
SPLITS = ("blanks", "changes")
TIE = 1e-12  # correlations nearer than this are equal: the first template is chosen
SECOND_DOT = 0.25  # of the pixels of the first one: a smaller blob is a blemish of the video
HELD_FRAMES = 3  # that an image must stay; what changes faster is the passage between two


# --- drifting gabors ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bank:
    """The Gabors that may have been shown, one in each block of frames.

    directions_deg: of motion, counter-clockwise from leftward. wavelengths and sigma (of the round
    envelope): in half heights of the screen. frequencies: `cycle_unit` times as many cycles pass in
    a block. block_frames: how long each is shown.
    """

    directions_deg: tuple[float, ...] = (0, 45, 90, 135, 180, 225, 270, 315)
    wavelengths: tuple[float, ...] = (0.18, 0.38, 0.65)
    frequencies: tuple[float, ...] = (0.008, 0.022, 0.055)
    sigma: float = 0.3
    block_frames: int = 25
    cycle_unit: float = 64.0

    def __post_init__(self):
        sizes = (*self.wavelengths, self.sigma, self.block_frames)
        if not (self.directions_deg and self.wavelengths and self.frequencies) or min(sizes) <= 0:
            raise UserError(
                f"found {self}, expected one or more directions, wavelengths and frequencies, and "
                "sizes above zero; correct them."
            )

    @property
    def parameters(self) -> np.ndarray:
        """[template 3]: direction, wavelength, frequency; the last one changes fastest."""
        axes = (self.directions_deg, self.wavelengths, self.frequencies)
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)

    @property
    def phases(self) -> np.ndarray:
        """How far each frequency has come, in radians, [frequency frame]."""
        time = np.linspace(0, 1, self.block_frames)
        return 2 * np.pi * self.cycle_unit * np.array(self.frequencies)[:, None] * time

    def space(self, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Phase at each pixel before the motion, [direction wavelength height width], envelope."""
        y = np.linspace(-1, 1, height)[:, None]
        x = np.linspace(-width / height, width / height, width)
        angle = np.radians(self.directions_deg)[:, None, None, None]
        along = (x * np.cos(angle) - y * np.sin(angle)) / np.array(self.wavelengths)[:, None, None]
        return 2 * np.pi * along, np.exp(-(x**2 + y**2) / (2 * self.sigma**2))

    def template(self, index: int, height: int, width: int) -> np.ndarray:
        """One of the Gabors as it is shown, [frame height width] float64, 0..255."""
        along, envelope = self.space(height, width)
        directions, wavelengths, frequencies = map(len, (along, along[0], self.frequencies))
        *place, speed = np.unravel_index(index, (directions, wavelengths, frequencies))
        carrier = np.cos(along[tuple(place)] + self.phases[speed, :, None, None])
        return 127.5 * (1 + envelope * carrier)


def gabors(video: np.ndarray, bank: Bank, blank: str = "first") -> np.ndarray:
    """The most correlated Gabor of each block, [time 3] float32: direction, wavelength, frequency.

    Frames after the last whole block are NaN. blank: what a block of one constant grey gets, which
    correlates with nothing: the first template (as published) or NaN. Raises UserError for a video
    shorter than a block.
    """
    check_name(blank, BLANKS, "blank")
    correlated = correlations(video, bank)
    best = correlated.max(axis=1, keepdims=True)
    chosen = bank.parameters[np.argmax(correlated >= best - TIE, axis=1)]  # the first when NaN
    if blank == "nan":
        chosen = np.where(np.isnan(best), np.nan, chosen)
    found = np.full((len(video), 3), np.nan, np.float32)
    found[: len(chosen) * bank.block_frames] = np.repeat(chosen, bank.block_frames, axis=0)
    return found


def correlations(video: np.ndarray, bank: Bank) -> np.ndarray:
    """Pearson correlation of every whole block with every template, [block template] float64.

    NaN for a block of one constant grey.
    """
    frames, height, width = video.shape
    whole = frames // bank.block_frames
    if not whole:
        raise UserError(
            f"found a video of {frames} frames, expected a block of {bank.block_frames} or more; "
            "name another block length."
        )
    blocks = video[: whole * bank.block_frames].reshape(whole, bank.block_frames, -1)
    # float64: Gabors that differ little must be told apart as the published float64 does it.
    with jax.enable_x64(True):
        found = _correlate(blocks, *_factors(bank, height, width))
    return np.asarray(found).reshape(whole, -1)


@functools.lru_cache(maxsize=4)
def _factors(bank: Bank, height: int, width: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """All templates as sums of two pictures, each times a function of time; and their lengths.

    cos(place + time) = cos(place) cos(time) - sin(place) sin(time), so the pictures of a direction
    and wavelength serve all frequencies. pictures [picture pixel 2], courses [frequency frame 2],
    lengths [picture frequency] (without the mean), float64.
    """
    along, envelope = bank.space(height, width)
    both = np.stack([np.cos(along), np.sin(along)], axis=-1) * envelope[..., None]
    pictures = both.reshape(-1, height * width, 2)
    courses = np.stack([np.cos(bank.phases), -np.sin(bank.phases)], axis=-1)
    count = courses.shape[1] * pictures.shape[1]
    means = pictures.mean(axis=1) @ courses.mean(axis=1).T
    squares = [np.einsum("xyp,xyq->xpq", each, each) for each in (pictures, courses)]
    lengths = np.sqrt(np.einsum("apq,vpq->av", *squares) - count * means**2)
    return jnp.asarray(pictures), jnp.asarray(courses), jnp.asarray(lengths)


@jax.jit
def _correlate(blocks, pictures, courses, lengths) -> jax.Array:
    """[block picture frequency]; blocks [block frame pixel]."""
    values = blocks.astype(pictures.dtype)
    # Constant blocks become exact zeros; and what has no mean needs no template without one.
    values -= values[:, :1, :1]
    values -= values.mean(axis=(1, 2), keepdims=True)
    seen = jnp.einsum("bfp,apq->bfaq", values, pictures, precision="highest")
    products = jnp.einsum("bfaq,vfq->bav", seen, courses, precision="highest")
    return products / (lengths[None] * jnp.sqrt((values**2).sum(axis=(1, 2)))[:, None, None])


# --- gaussian dots --------------------------------------------------------------------------------


def dots(video: np.ndarray, two_dots: str = "nan") -> np.ndarray:
    """The dot of each frame, [time 4] float32: x, y and radius in pixels, and 1 if it is black.

    The dot is what is nearer to the extreme grey level than to the ground, and the ground is what
    most pixels are nearer to. Its centre is the mean of the columns and of the rows that it
    touches, its radius half of its width. NaN for a frame without a dot. two_dots: what a frame
    with more than one gets: NaN, or (as published) the mean of them.
    """
    check_name(two_dots, TWO_DOTS, "two_dots")
    levels = video.astype(np.int16) if video.dtype == np.uint8 else video
    low, high = levels.min(axis=(1, 2)), levels.max(axis=(1, 2))
    above, span = levels - low[:, None, None], (high - low)[:, None, None]
    is_black = above.mean(axis=(1, 2), dtype=np.float64) > 0.5 * (high - low)
    dot = np.where(is_black[:, None, None], 2 * above < span, 2 * above > span)
    columns, rows = dot.any(axis=1), dot.any(axis=2)
    with np.errstate(invalid="ignore"):
        x, y = (each @ np.arange(each.shape[1]) / each.sum(axis=1) for each in (columns, rows))
    width = columns.shape[1] - 1 - columns[:, ::-1].argmax(axis=1) - columns.argmax(axis=1)
    found = np.stack([x, y, width / 2, is_black], axis=1).astype(np.float32)
    unclear = low == high
    if two_dots == "nan":
        unclear |= _several(dot)
    found[unclear] = np.nan
    return found


def _several(dot: np.ndarray) -> np.ndarray:
    """[time] bool: whether there is a second blob of a size that counts; dot: [time height width].

    Pixels that touch at a corner belong together.
    """
    touching = np.zeros((3, 3, 3), bool)
    touching[1] = True  # within a frame, never from frame to frame
    labels, count = ndimage.label(dot, touching)
    first = np.unique(labels, return_index=True)[1][-count:] if count else np.zeros(0, int)
    frame, size = first // dot[0].size, np.bincount(labels.ravel())[1:]
    largest = np.zeros(len(dot), int)
    np.maximum.at(largest, frame, size)
    counts = np.bincount(frame[size >= SECOND_DOT * largest[frame]], minlength=len(dot))
    return counts > 1


# --- flashed images -------------------------------------------------------------------------------


class Images:
    """The images that a mouse was flashed, numbered as they appear, over all its clips.

    split: "blanks" (as published: what lies between two blanks is one image) or "changes" (images
    that follow each other without a blank are told apart too). most_frames: of a clip are looked
    at, 0 for all. `pictures`: [height width] of each, in whole grey levels.
    """

    def __init__(self, split: str = "blanks", most_frames: int = 300):
        check_name(split, SPLITS, "split")
        self.split, self.most_frames = split, most_frames
        self.pictures: list[np.ndarray] = []
        self._numbers: dict[bytes, int] = {}

    def identify(self, video: np.ndarray) -> np.ndarray:
        """The number of the image in each frame, -1 for a blank, [time] int64."""
        levels = np.rint(video[: self.most_frames or None]).astype(np.int32)
        shown = (levels != levels[:, :1, :1]).any(axis=(1, 2))
        found = np.full(len(levels), -1)
        for start, stop in _runs(shown):
            for first, last, middle in self._images(levels[start:stop]):
                found[start + first : start + last] = self._number(levels[start + middle])
        return found

    def _images(self, run: np.ndarray) -> list[tuple[int, int, int]]:
        """First frame, frame after the last, and a frame in the middle of each image of a run."""
        held = [(0, len(run))]
        if self.split == "changes":
            still = (np.abs(np.diff(run, axis=0)) <= 1).all(axis=(1, 2))
            # Frames i and i+1 are alike: as many such pairs in a row as frames that stay, less one.
            stays = [(first, last + 1) for first, last in _runs(still)]
            held = [each for each in stays if each[1] - each[0] >= HELD_FRAMES] or held
        # The passage before an image belongs to it, that after the last one too.
        edges = [0, *(last for _, last in held[:-1]), len(run)]
        middles = [(first + last) // 2 for first, last in held]
        return list(zip(edges, edges[1:], middles, strict=False))

    def _number(self, picture: np.ndarray) -> int:
        key = picture.tobytes()
        if key not in self._numbers:
            self._numbers[key] = len(self.pictures)
            self.pictures.append(picture)
        return self._numbers[key]


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """First index and the one after the last of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
