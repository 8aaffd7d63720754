"""The kind of a stimulus is found in clips of ours and in those of another laboratory."""

from collections import Counter

import numpy as np
import pytest

from sensojax.stimuli import kinds, synthesis
from sensojax.types import STIMULUS_KINDS
from tests.stimuli import other_laboratory

SIZES = ((36, 64), (28, 50), (54, 96), (20, 36))
every_kind = pytest.mark.parametrize("kind", STIMULUS_KINDS)


def ours(kind, seed, frames=60, size=(36, 64)):
    rng = np.random.default_rng([seed, STIMULUS_KINDS.index(kind)])
    return getattr(synthesis, kind)(rng, frames, *size)


def theirs(kind, seed, frames=60, size=(36, 64)):
    """As another laboratory makes them, and then as they may reach us."""
    rng = np.random.default_rng([seed, STIMULUS_KINDS.index(kind), 1])
    clip = getattr(other_laboratory, kind)(rng, frames, *size)
    return clip if seed % 2 else other_laboratory.disturbed(rng, clip)


@every_kind
@pytest.mark.parametrize("make", [ours, theirs])
def test_clips_of_every_kind_are_told_apart(make, kind):
    for seed, size in enumerate(SIZES[:3]):
        found = kinds.classify(make(kind, seed, size=size))
        assert found.kind == kind, found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "frames", "clips"), [(ours, 300, 30), (ours, 75, 40), (theirs, 90, 25)]
)
def test_hundreds_of_clips_are_right_in_more_than_98_of_100_cases(make, frames, clips):
    confused = Counter()
    for number in range(clips):
        for kind in STIMULUS_KINDS:
            clip = make(kind, 1000 + number, frames, SIZES[number % len(SIZES)])
            confused[kind, kinds.classify(clip).kind] += 1
    right = sum(count for (true, found), count in confused.items() if true == found)
    assert right >= 0.98 * confused.total(), confused
    for kind in STIMULUS_KINDS:
        assert confused[kind, kind] >= clips - 2, confused


@every_kind
def test_the_kind_stays_when_a_clip_is_mirrored_inverted_or_shown_backwards(kind):
    clip = ours(kind, 5).astype(float)
    changed = {
        "mirrored": clip[:, :, ::-1],
        "upside down": clip[:, ::-1],
        "on its side": clip.swapaxes(1, 2),
        "backwards": clip[::-1],
        "inverted": 255 - clip,
        "faint": 100 + 0.4 * (clip - 100),
        "noisy": clip + np.random.default_rng(0).normal(0, 0.3, clip.shape),
        "float32": clip.astype(np.float32),
    }
    for how, video in changed.items():
        assert kinds.classify(video).kind == kind, how


def test_an_empty_screen_is_of_no_kind():
    flicker = np.full((30, 8, 9), 80) + np.arange(30)[:, None, None] % 2 * 40
    thin = np.random.default_rng(0).normal(80, 30, (30, 2, 9))
    empty = np.full((30, 8, 9), 80), np.zeros((0, 8, 9)), np.full((1, 8, 9), 80.0)
    for video in (*empty, flicker, thin):
        found = kinds.classify(video)
        assert found.kind == "" and set(found.scores.values()) == {0.0}


def test_one_picture_for_a_moment_is_a_flashed_image_also_when_it_is_all():
    picture = ours("movie", 0)[:1]
    assert kinds.classify(picture).kind == "flashed_images"
    assert kinds.classify(np.repeat(picture, 20, axis=0)).kind == "flashed_images"


@every_kind
def test_evidence_says_how_well_each_kind_fits(kind):
    found = kinds.classify(ours(kind, 2))
    assert tuple(found.scores) == STIMULUS_KINDS
    assert all(0 <= score <= 1 for score in found.scores.values())
    others = [score for name, score in found.scores.items() if name != "movie"]
    assert found.scores["movie"] == pytest.approx(1 - max(others))
    assert found.kind == max(found.scores, key=found.scores.get)
    assert all(np.isfinite(value) for value in found.features.values())
    assert kinds.scores(found.features) == found.scores


def test_what_is_measured_means_what_it_says():
    rng = np.random.default_rng(0)
    grey = np.full((40, 36, 64), 100.0)
    dots = grey.copy()
    dots[20:, 4:10, 4:10] = 255  # 36 of 2304 pixels
    found = kinds.features(dots, frame_rate_hz=10)
    assert found["blank"] == 0.5 and found["background"] == pytest.approx(1 - 36 / 2304)
    assert found["single"] == found["compactness"] == 1 and found["still_seconds"] == 2
    assert found["largest_blob"] == pytest.approx(36 / 2304) and found["opposite"] == 0
    assert found["held"] == pytest.approx(38 / 39) and found["replaced"] == 1
    noise = kinds.features(rng.normal(128, 20, (40, 36, 64)))
    assert noise["held"] == 0 and noise["sparseness"] == pytest.approx(3, abs=0.1)
    assert noise["orientation"] < 0.1
    stripes = grey + 50 * np.sin(np.arange(64) + np.arange(36)[:, None])
    assert kinds.features(stripes)["orientation"] > 0.95  # on any diagonal, too
    assert kinds.features(stripes[:, ::-1])["orientation"] > 0.95
    assert kinds.features(ours("drifting_gabor", 0))["opposite"] > 0.8
