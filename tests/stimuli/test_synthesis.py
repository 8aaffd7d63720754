import numpy as np
import pytest

from sensojax.stimuli import synthesis

KINDS = ("movie", *synthesis.OUT_OF_DOMAIN)


def make(kind, seed=0, frames=120, height=36, width=64):
    return getattr(synthesis, kind)(np.random.default_rng(seed), frames, height, width)


@pytest.mark.parametrize("kind", KINDS)
def test_clip_is_a_function_of_its_generator(kind):
    assert np.array_equal(make(kind, 1), make(kind, 1))
    assert not np.array_equal(make(kind, 1), make(kind, 2))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1, 8, 8), (37, 9, 14), (300, 36, 64)])
def test_clip_has_the_size_asked_for_and_something_in_it(kind, size):
    clip = make(kind, 3, *size)
    assert clip.shape == size and clip.dtype == np.uint8
    if size[0] > 30:
        assert clip.std() > 8
        assert np.abs(np.diff(clip.astype(float), axis=0)).max() > 20


def test_movies_have_the_grey_levels_of_the_published_videos():
    movies = np.stack([make("movie", seed) for seed in range(30)])
    assert 74 < movies.mean() < 86
    assert 52 < movies.std() < 63
    assert 60 < np.median(movies) < 76


def test_movies_have_natural_spectra():
    movies = np.stack([make("movie", seed) for seed in range(12)]).astype(float)
    movies -= movies.mean()
    window = np.outer(np.hanning(36), np.hanning(64))
    power = np.abs(np.fft.fft2(movies * window)) ** 2
    y, x = np.meshgrid(np.fft.fftfreq(36), np.fft.fftfreq(64), indexing="ij")
    radius = np.hypot(y, x)
    edges = np.geomspace(0.06, 0.35, 8)
    rings = np.digitize(radius, edges)
    spatial = [power[..., rings == ring].mean() for ring in range(1, 8)]
    slope = np.polyfit(np.log(np.sqrt(edges[1:] * edges[:-1])), np.log(spatial), 1)[0]
    assert -3.0 < slope < -1.6  # power of natural scenes falls as about 1/f^2
    series = movies.reshape(12, 120, -1) * np.hanning(120)[:, None]
    temporal = (np.abs(np.fft.rfft(series, axis=1)) ** 2).mean(axis=(0, 2))
    chosen = slice(3, 45)
    slope = np.polyfit(np.log(np.arange(61)[chosen]), np.log(temporal[chosen]), 1)[0]
    assert -3.0 < slope < -0.8


def test_movies_have_cuts_between_scenes_that_move_smoothly():
    movies = np.stack([make("movie", seed, 300) for seed in range(8)]).astype(float)
    change = np.abs(np.diff(movies, axis=1)).mean(axis=(2, 3)).ravel()
    cuts = change > 3 * np.median(change)
    assert 1 / 200 < cuts.mean() < 1 / 30
    assert change[~cuts].mean() < movies.std() / 3


def motion(clip, step=1):
    """Velocity (right, down) in pixels per frame of the best matching displacement."""
    clip = clip.astype(float) - clip.mean()
    one, two = np.fft.fft2(clip[:-step]), np.fft.fft2(clip[step:])
    match = np.fft.ifft2((np.conj(one) * two).mean(axis=0)).real
    row, column = np.unravel_index(match.argmax(), match.shape)
    signed = [
        (p + n // 2) % n - n // 2 for p, n in zip((column, row), clip.shape[:0:-1], strict=True)
    ]
    return np.array(signed) / step


def test_pink_noise_drifts_along_one_of_eight_directions():
    angles = set()
    for seed in range(12):
        clip = synthesis.pink_noise(
            *(np.random.default_rng(seed), 27, 36, 64), heights_per_second=2.0
        )
        right, down = motion(clip, 2)
        # The aperture problem: only motion along the wave vector is seen, so 45 degrees are coarse.
        assert 0.5 < np.hypot(right, down) < 4
        angles.add(round(np.degrees(np.arctan2(-down, right)) / 45) % 8)
    assert len(angles) >= 5


def test_gaussian_dots_are_one_black_or_white_dot_at_a_time():
    clip = make("gaussian_dots", 0, 300)
    signs = []
    for frame in clip[::9]:
        away = np.abs(frame.astype(float) - 127.5)
        peak = np.unravel_index(away.argmax(), away.shape)
        signs.append(frame[peak] > 127)
        rows, columns = np.nonzero(away > 64)
        assert np.hypot(rows - peak[0], columns - peak[1]).max() < 0.25 * 36
    assert 0.2 < np.mean(signs) < 0.8
    changes = np.flatnonzero(np.abs(np.diff(clip.astype(float), axis=0)).max(axis=(1, 2)) > 0)
    assert set(np.diff(changes)) == {9}


def test_coherent_random_dots_move_together():
    for seed in range(4):
        clip = synthesis.random_dots(
            *(np.random.default_rng(seed), 30, 36, 64), coherence=(1.0,), heights_per_second=1.7
        )
        assert 1.0 < np.hypot(*motion(clip)) < 3.0
    dark = np.median(clip)
    assert dark < 40 and clip.max() > 200


def test_gabor_moves_in_its_direction():
    for seed in range(6):
        clip = synthesis.drifting_gabor(
            *(np.random.default_rng(seed), 25, 36, 64), wavelengths=(0.65,), cycles=(1.408,)
        )
        direction = 45.0 * np.random.default_rng(seed).integers(8)
        right, down = motion(clip, 4)
        assert right * np.cos(np.radians(direction)) - down * np.sin(np.radians(direction)) > 0.3
        corner = clip[:, :4, :4]
        assert np.ptp(corner) <= 2


def test_flashed_images_alternate_with_blanks():
    clip = make("flashed_images", 0, 300)
    blank = np.ptp(clip.reshape(300, -1), axis=1) == 0
    runs = np.diff(np.flatnonzero(np.diff(blank.astype(int)))[:-1])
    assert 5 <= len(runs) + 1 <= 25 and runs.min() >= 10
    moving = np.abs(np.diff(clip.astype(int), axis=0)).max(axis=(1, 2)) > 0
    assert not moving[~blank[1:] & ~blank[:-1]].any()  # a picture stands still
