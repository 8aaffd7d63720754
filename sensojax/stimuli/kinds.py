"""What kind of stimulus a video is: one of the six of `types.STIMULUS_KINDS`, and why.

In goes a video [time height width] of grey levels of any size, length, contrast and background; out
comes `Evidence`: measured features with a meaning, a score between 0 and 1 for every kind, and the
kind of the highest score. The published tool asks a person instead (sota 4.5).

The rules follow from how the stimuli are made. Images are flashed: pictures stand still, are
replaced as a whole, and blanks lie between them. Dots and Gabors stand before an even background:
Gaussian dots are one compact blob at a time, random dots many small ones that are all alike, a
Gabor is bright and dark stripes of one orientation. Pink noise fills the screen, has the Gaussian
contrast of noise where pictures of things have sparse edges, and one orientation at a time. All
else is a movie.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy.ndimage

from sensojax.types import STIMULUS_KINDS

PICTURES = 32  # frames of a video that are looked at one by one, evenly spread
UNKNOWN = ""  # the kind of a video that shows nothing


@dataclass(frozen=True)
class Evidence:
    """kind: one of STIMULUS_KINDS, "" for an empty screen. scores: of every kind, 0..1.

    features: what was measured, by the names that `features` explains.
    """

    kind: str
    scores: Mapping[str, float]
    features: Mapping[str, float]


def classify(video: np.ndarray, frame_rate_hz: float = 30.0) -> Evidence:
    """The kind of a video [time height width] of grey levels, and what speaks for it."""
    measured = features(video, frame_rate_hz)
    if not measured:
        return Evidence(UNKNOWN, dict.fromkeys(STIMULUS_KINDS, 0.0), {})
    found = scores(measured)
    return Evidence(max(found, key=found.__getitem__), found, measured)


def scores(measured: Mapping[str, float]) -> dict[str, float]:
    """How well the features fit each kind: its worst criterion, each from 0 (not met) to 1."""
    f = measured
    even = min(_ramp(f["background"], 0.55, 0.75), _ramp(f["steadiness"], 0.7, 0.85))
    found = {
        "pink_noise": min(
            _ramp(f["sparseness"], 3.8, 3.4),
            _ramp(f["orientation"], 0.4, 0.6),
            _ramp(f["background"], 0.75, 0.55),
            _ramp(f["opposite"], 0.15, 0.35),
            _ramp(f["held"], 0.7, 0.5),
        ),
        "gaussian_dots": min(
            even,
            _ramp(f["single"], 0.5, 0.75),
            _ramp(f["compactness"], 0.5, 0.65),
            _ramp(f["largest_blob"], 0.25, 0.15),
        ),
        "random_dots": min(
            _ramp(f["background"], 0.35, 0.45),
            _ramp(f["steadiness"], 0.8, 0.9),
            _ramp(f["blobs"], 3.0, 6.0),
            _ramp(f["largest_blob"], 0.12, 0.08),
            _ramp(f["size_spread"], 1.1, 0.8),
            _ramp(f["brightness_spread"], 0.22, 0.15),
            _ramp(f["orientation"], 0.6, 0.4),
            _ramp(f["held"], 0.7, 0.5),
        ),
        "drifting_gabor": min(
            even, _ramp(f["opposite"], 0.25, 0.5), _ramp(f["orientation"], 0.55, 0.75)
        ),
        "flashed_images": min(
            _ramp(f["held"], 0.65, 0.8),
            _ramp(f["replaced"], 0.5, 0.75),
            max(_ramp(f["blank"], 0.1, 0.2), _ramp(f["still_seconds"], 1.4, 0.9)),
            _ramp(f["single"], 0.9, 0.7) if f["background"] > 0.6 else 1.0,
        ),
    }
    return {"movie": 1.0 - max(found.values()), **found}


def features(video: np.ndarray, frame_rate_hz: float = 30.0) -> dict[str, float]:
    """What can be measured of a video, by name; empty without a picture of 3 x 3 pixels or more.

    In time: `held` share of frames that equal the one before; `replaced` share of the others in
    which the whole picture is new; `blank` share of empty frames; `still_seconds` how long a
    picture stands still (median).
    Over frames that are not blank: `background` share of pixels that have the most frequent grey
    level; `steadiness` that share in the tenth of frames that have least of it, over that in all;
    `blobs` how many separate things stand out from the background, in the tenth with the fewest;
    `single` share of frames with one thing; `orientation` how far one orientation dominates, 0..1,
    in the clearest fifth.
    Medians over such frames: `sparseness` kurtosis of local contrast, 3 for Gaussian noise and more
    for pictures of things; `largest_blob` share of the screen; `compactness` how far that one fills
    its bounding box (a disc: 0.79); `size_spread` standard deviation of the logarithms of areas;
    `brightness_spread` that of the strongest pixels over their mean; `opposite` how far a frame
    departs from the background to the bright and to the dark side, smaller over larger.
    """
    video = np.asarray(video, np.float32)
    contrast = float(video.std()) if video.size else 0.0
    if contrast < 1.0 or min(video.shape[1:]) < 3:  # nothing but rounding
        return {}
    blank = video.std(axis=(1, 2)) < 0.03 * contrast + 0.5
    if blank.all():
        return {}
    shown = video[~blank]
    chosen = np.unique(np.linspace(0, len(shown) - 1, PICTURES).round().astype(int))
    pictures = shown[chosen]
    return _in_time(video, blank, contrast, frame_rate_hz) | _blobs(pictures) | _texture(pictures)


def _in_time(video, blank, contrast, frame_rate_hz) -> dict[str, float]:
    step = np.sqrt(np.square(np.diff(video, axis=0)).mean(axis=(1, 2)))
    held = step < 0.02 * contrast + 0.4  # a rounded picture may flicker by a level
    replaced = step > 0.5 * contrast  # two unrelated pictures differ by 1.4 contrasts
    moving = np.flatnonzero(~held)
    runs = np.diff(np.concatenate(([-1], moving, [len(video) - 1])))
    starts = np.concatenate(([0], moving + 1))
    still = [run for run, start in zip(runs, starts, strict=True) if not blank[start]]
    return {
        "held": float(held.mean()) if len(held) else 1.0,
        "replaced": float(replaced[moving].mean()) if len(moving) else 1.0,
        "blank": float(blank.mean()),
        "still_seconds": float(np.median(still)) / frame_rate_hz if still else 0.0,
    }


def _blobs(pictures) -> dict[str, float]:
    """What stands out from the most frequent grey level."""
    low, high = np.percentile(pictures, [0.1, 99.9])
    spread = max(high - low, 1.0)
    counts, edges = np.histogram(pictures, bins=64)
    fullest = edges[1 + np.argmax(counts[1:] + counts[:-1])]
    background = np.median(pictures[np.abs(pictures - fullest) <= 0.04 * spread + 0.5])
    away = pictures - background
    near = np.abs(away) <= 0.05 * spread + 0.5
    reach = np.percentile(np.abs(away), 99.8)
    found = [_blobs_of(picture, 0.45 * reach) for picture in away]
    count, largest, box, sizes, peaks = np.array(found, float).T
    seen = count > 0
    of_seen = {
        "largest_blob": largest / pictures[0].size,
        "compactness": largest / np.maximum(box, 1),
        "size_spread": sizes,
        "brightness_spread": peaks,
    }
    bright, dark = away.max(axis=(1, 2)), -away.min(axis=(1, 2))
    opposite = np.minimum(bright, dark) / np.maximum(np.maximum(bright, dark), 1e-6)
    share = near.mean(axis=(1, 2))
    return {
        "background": float(share.mean()),
        "steadiness": float(np.percentile(share, 10) / share.mean()),
        "opposite": float(np.median(opposite)),
        "blobs": float(np.percentile(count, 10)),
        "single": float((count == 1).mean()),
        **{name: float(np.median(each[seen])) for name, each in of_seen.items()},
    }


def _blobs_of(away, least) -> tuple[float, ...]:
    """Of one frame: number of blobs, area and box of the largest, spread of sizes and of peaks."""
    strength = np.abs(away)
    labels, count = scipy.ndimage.label(strength > least, np.ones((3, 3)))
    if not count:
        return 0, 0, 0, 0, 0
    areas = np.bincount(labels.ravel())[1:]
    rows, columns = scipy.ndimage.find_objects(labels)[areas.argmax()]
    box = (rows.stop - rows.start) * (columns.stop - columns.start)
    peaks = scipy.ndimage.maximum(strength, labels, np.arange(1, count + 1))
    return count, areas.max(), box, np.log(areas).std(), np.std(peaks) / np.mean(peaks)


def _texture(pictures) -> dict[str, float]:
    """Orientation from the gradients' second moments, sparseness from a Laplacian."""
    # Over squares of 2 x 2 pixels, so that both slopes belong to the same place.
    down = np.diff(pictures[:, :, 1:] + pictures[:, :, :-1], axis=1)
    right = np.diff(pictures[:, 1:] + pictures[:, :-1], axis=2)
    dd, rr, dr = (
        np.sum(a * b, axis=(1, 2)) for a, b in ((down, down), (right, right), (down, right))
    )
    one_sided = np.hypot(rr - dd, 2 * dr) / np.maximum(rr + dd, 1e-6)
    inner = pictures[:, 1:-1, 1:-1]
    around = pictures[:, :-2, 1:-1] + pictures[:, 2:, 1:-1]
    around = around + pictures[:, 1:-1, :-2] + pictures[:, 1:-1, 2:]
    local = 4 * inner - around
    square = np.square(local - local.mean(axis=(1, 2), keepdims=True))
    kurtosis = np.square(square).mean(axis=(1, 2)) / np.square(square.mean(axis=(1, 2)) + 1e-6)
    return {
        "orientation": float(np.percentile(one_sided, 80)),
        "sparseness": float(np.median(kurtosis)),
    }


def _ramp(value: float, none: float, full: float) -> float:
    """0 up to `none`, 1 from `full` on, straight in between; full may be the smaller one."""
    return float(np.clip((value - none) / (full - none), 0.0, 1.0))
