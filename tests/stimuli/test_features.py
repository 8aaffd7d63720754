"""Gabors, dots and images are found as they were drawn, at any size, and doubt is said as NaN."""

import itertools

import numpy as np
import pytest

from sensojax.errors import UserError
from sensojax.stimuli import features, synthesis

USUAL = features.Bank()
SMALL = features.Bank((0, 90, 180), (0.4, 0.7), (0.02, 0.05), sigma=0.5, block_frames=9)
GREY = 127


def shown(bank: features.Bank, templates, height: int, width: int) -> np.ndarray:
    """A clip of these Gabors in whole grey levels."""
    blocks = [bank.template(index, height, width) for index in templates]
    return np.rint(np.concatenate(blocks)).astype(np.uint8)


# --- gabors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bank", "height", "width"), [(USUAL, 36, 64), (SMALL, 20, 15), (SMALL, 17, 40)]
)
def test_every_gabor_is_recognized(bank, height, width):
    order = np.random.default_rng(0).permutation(len(bank.parameters))
    found = features.gabors(shown(bank, order, height, width), bank)
    expected = bank.parameters[order].astype(np.float32).repeat(bank.block_frames, axis=0)
    np.testing.assert_array_equal(found, expected)


def test_contrast_brightness_and_noise_do_not_matter():
    rng = np.random.default_rng(1)
    clip = shown(SMALL, range(12), 20, 30)
    faint = 40 + 0.1 * clip + rng.normal(0, 2, clip.shape)
    np.testing.assert_array_equal(features.gabors(faint, SMALL), features.gabors(clip, SMALL))


def test_correlations_are_those_of_whole_templates():
    """Templates are never laid out in full there: two pictures and their courses stand for them."""
    clip = np.random.default_rng(2).integers(0, 256, (20, 11, 16), np.uint8)
    found = features.correlations(clip, SMALL)
    assert found.shape == (2, 12) and found.dtype == np.float64
    for block in range(2):
        frames = clip[9 * block : 9 * block + 9].ravel()
        expected = [np.corrcoef(frames, SMALL.template(i, 11, 16).ravel())[0, 1] for i in range(12)]
        np.testing.assert_allclose(found[block], expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize(("direction", "rows", "columns"), [(0, 0, -1), (90, 1, 0), (180, 0, 1)])
def test_gabors_move_in_their_direction(direction, rows, columns):
    """0 is leftward, 90 downward, 180 rightward: the next frame is nearest to one shifted so."""
    number = np.flatnonzero((SMALL.parameters == (direction, 0.7, 0.02)).all(axis=1))[0]
    template = SMALL.template(number, 60, 60) - 127.5
    middle = (slice(20, 40), slice(20, 40))
    errors = {}
    for step in (-1, 1):
        moved = np.roll(template[3], (4 * step * rows, 4 * step * columns), axis=(0, 1))
        errors[step] = np.abs(moved[middle] - template[4][middle]).mean()
    assert errors[1] < 0.6 * errors[-1]


def test_a_simulated_clip_is_read_back():
    """The simulation counts directions from rightward, the published tables from leftward."""
    rng = np.random.default_rng(5)
    clip = synthesis.drifting_gabor(rng, 100, 36, 64)
    rng = np.random.default_rng(5)
    drawn = [
        ((180 + 45 * rng.integers(8)) % 360, rng.choice([0.18, 0.38, 0.65]), rng.choice([0, 1, 2]))
        for _ in range(4)
    ]
    expected = [(d, w, USUAL.frequencies[f]) for d, w, f in drawn]
    np.testing.assert_allclose(features.gabors(clip, USUAL)[::25], expected, rtol=1e-6)


def test_grey_blocks_get_what_was_asked_for():
    clip = shown(SMALL, (7, 3), 20, 30)
    clip[:9] = GREY
    assert np.isnan(features.correlations(clip, SMALL)[0]).all()
    published = features.gabors(clip, SMALL)
    assert (published[:9] == SMALL.parameters[0].astype(np.float32)).all()
    careful = features.gabors(clip, SMALL, blank="nan")
    assert np.isnan(careful[:9]).all()
    np.testing.assert_array_equal(careful[9:], published[9:])


@pytest.mark.parametrize("grey", [np.uint8(3), np.float32(127.3), np.float64(0.1)])
def test_constant_grey_is_recognized_whatever_its_level(grey):
    assert np.isnan(features.correlations(np.full((9, 20, 30), grey), SMALL)).all()


def test_equal_correlations_give_the_first_template():
    """A grating that stands still moves as much to the left as to the right."""
    along = np.cos(2 * np.pi * np.linspace(-1.5, 1.5, 30) / 0.7)
    still = np.broadcast_to(along, (9, 20, 30))
    correlated = features.correlations(still, SMALL)[0]
    best = np.flatnonzero(correlated > correlated.max() - 1e-9)
    assert SMALL.parameters[best, 0].tolist() == [0, 180]
    assert features.gabors(still, SMALL)[0, 0] == 0


def test_frames_after_the_last_block_are_nan_and_short_clips_refused():
    found = features.gabors(shown(SMALL, (1, 2), 20, 30)[:17], SMALL)
    assert np.isfinite(found[:9]).all() and np.isnan(found[9:]).all()
    with pytest.raises(UserError, match="a video of 8 frames, expected a block of 9"):
        features.gabors(np.zeros((8, 20, 30)), SMALL)
    with pytest.raises(UserError, match="blank 'None', expected one of first, nan"):
        features.gabors(np.zeros((9, 20, 30)), SMALL, blank="None")


# --- dots -----------------------------------------------------------------------------------------


def disc(x: float, y: float, radius: float, level: int, height: int = 36, width: int = 64):
    rows, columns = np.mgrid[:height, :width]
    inside = (columns - x) ** 2 + (rows - y) ** 2 <= radius**2
    return np.where(inside, level, GREY).astype(np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_dots_are_found_where_they_were_drawn(dtype):
    rng = np.random.default_rng(0)
    drawn = [
        (*rng.integers(8, 20, 2), rng.integers(2, 7), black) for black in (0, 1) for _ in range(20)
    ]
    clip = [disc(x, y, radius, 255 * (1 - black)) for x, y, radius, black in drawn]
    np.testing.assert_array_equal(features.dots(np.array(clip, dtype)), drawn)


def test_simulated_dots_are_found_within_a_pixel():
    clip = synthesis.gaussian_dots(np.random.default_rng(3), 90, 36, 64)
    rng = np.random.default_rng(3)
    for found in features.dots(clip)[::9]:
        radius, y, x = rng.uniform(0.11, 0.2) * 36, rng.uniform(0, 35), rng.uniform(0, 63)
        sign = rng.choice([-1.0, 1.0])
        if radius < x < 63 - radius and radius < y < 35 - radius:  # not cut by the border
            np.testing.assert_allclose(found, [x, y, radius, sign < 0], atol=1)
        assert found[3] == (sign < 0)


def test_frames_without_a_dot_are_nan():
    clip = np.stack([disc(9, 9, 3, 255), np.full((36, 64), GREY, np.uint8), disc(20, 9, 3, 0)])
    for two_dots in features.TWO_DOTS:
        found = features.dots(clip, two_dots)
        assert np.isnan(found[1]).all() and np.isfinite(found[[0, 2]]).all()


def test_two_dots_are_nan_or_their_mean_as_published():
    two = np.maximum(disc(10, 10, 4, 255), disc(40, 20, 4, 255))
    clip = np.stack([disc(10, 10, 4, 255), two, disc(40, 20, 4, 255)])
    careful = features.dots(clip)
    np.testing.assert_array_equal(careful[[0, 2]], [(10, 10, 4, 0), (40, 20, 4, 0)])
    assert np.isnan(careful[1]).all()
    np.testing.assert_array_equal(features.dots(clip, "mean")[1], [25, 15, 19, 0])


def test_a_blemish_is_no_second_dot():
    clip = disc(10, 10, 6, 255)[None]
    clip[0, 30, 50] = 255
    assert np.isfinite(features.dots(clip)).all()
    clip[0, 25:33, 46:54] = 255
    assert np.isnan(features.dots(clip)).all()


def test_blobs_that_touch_at_a_corner_are_one_dot():
    clip = np.zeros((2, 10, 10), np.uint8)
    clip[:, 2:4, 2:4] = clip[0, 4:6, 4:6] = clip[1, 5:7, 5:7] = 255
    assert np.isnan(features.dots(clip)[:, 0]).tolist() == [False, True]


# --- images ---------------------------------------------------------------------------------------


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 6, 8)).astype(np.float64)


def flashed(*parts: tuple[np.ndarray | None, int]) -> np.ndarray:
    """A clip of pictures (None: blank), each for so many frames."""
    blank = np.full((6, 8), float(GREY))
    shown = [np.repeat((blank if each is None else each)[None], n, axis=0) for each, n in parts]
    return np.concatenate(shown)


def numbers(found: np.ndarray) -> list[tuple[int, int]]:
    """Each number with how many frames it stays."""
    edges = np.flatnonzero(np.diff(found, prepend=-9, append=-9))
    return [(int(found[a]), int(b - a)) for a, b in itertools.pairwise(edges)]


@pytest.mark.parametrize("split", features.SPLITS)
def test_images_are_numbered_over_all_clips(split):
    a, b, c = pictures(3)
    images = features.Images(split)
    first = images.identify(flashed((None, 3), (a, 5), (None, 4), (b, 6)))
    assert numbers(first) == [(-1, 3), (0, 5), (-1, 4), (1, 6)]
    # A little noise and other greys between are still the same images and blanks.
    second = images.identify(flashed((c, 4), (None, 2), (a + 0.3, 3), (np.zeros((6, 8)), 2)))
    assert numbers(second) == [(2, 4), (-1, 2), (0, 3), (-1, 2)]
    np.testing.assert_array_equal(images.pictures, [a, b, c])


def test_images_without_a_blank_between_are_told_apart_when_asked():
    a, b = pictures(2)
    clip = flashed((None, 3), (a, 5), (b, 7), (a, 4), (None, 1))
    assert numbers(features.Images().identify(clip)) == [(-1, 3), (0, 16), (-1, 1)]
    found = numbers(features.Images("changes").identify(clip))
    assert found == [(-1, 3), (0, 5), (1, 7), (0, 4), (-1, 1)]


def test_the_passage_between_images_is_no_image():
    """Resampled videos show a mixture for a frame, before the first image too."""
    a, b = pictures(2)
    mixed = (a + b) / 2
    clip = flashed((None, 3), (a / 2 + GREY / 2, 1), (a, 5), (mixed, 1), (b, 5), (b / 2, 2))
    images = features.Images("changes")
    assert numbers(images.identify(clip)) == [(-1, 3), (0, 6), (1, 8)]
    np.testing.assert_array_equal(images.pictures, [a, b])


@pytest.mark.parametrize("split", features.SPLITS)
@pytest.mark.parametrize("frames", [1, 2, 3])
def test_an_image_cut_by_the_end_counts(split, frames):
    (a,) = pictures(1)
    assert numbers(features.Images(split).identify(flashed((None, 2), (a, frames)))) == [
        (-1, 2),
        (0, frames),
    ]


def test_only_the_first_frames_are_looked_at():
    a, b = pictures(2)
    clip = flashed((a, 200), (None, 100), (b, 20))
    assert numbers(features.Images().identify(clip)) == [(0, 200), (-1, 100)]
    assert numbers(features.Images(most_frames=0).identify(clip))[-1] == (1, 20)
    assert numbers(features.Images(most_frames=50).identify(clip)) == [(0, 50)]


@pytest.mark.parametrize("split", features.SPLITS)
def test_simulated_images_are_found(split):
    clip = synthesis.flashed_images(np.random.default_rng(0), 200, 18, 32)
    found = numbers(features.Images(split).identify(clip))
    assert [number for number, _ in found if number >= 0] == list(range(len(found) // 2))
    assert {n for number, n in found[:-1] if number >= 0} == {round(0.55 * 30)}
