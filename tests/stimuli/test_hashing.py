import numpy as np
import pytest

from sensojax.stimuli import hashing, synthesis


def bits_apart(one: int, other: int) -> int:
    return (int(one) ^ int(other)).bit_count()


def movie(seed, frames=60):
    return synthesis.movie(np.random.default_rng(seed), frames, 36, 64)


def test_shrinking_is_a_weighted_mean_in_whole_numbers_the_width_first():
    rng = np.random.default_rng(0)
    # Hard edges overshoot and are clipped.
    picture = rng.integers(0, 2, (5, 6)).repeat(5, axis=0).repeat(4, axis=1) * 255

    def narrowed(rows, size):
        weights = hashing.lanczos_weights(len(rows[0]), size).tolist()
        half = hashing.FIXED_POINT // 2
        sums = [[sum(w * int(p) for w, p in zip(of, row, strict=True)) for of in weights]
                for row in rows]  # fmt: skip
        return [[min(max((s + half) // hashing.FIXED_POINT, 0), 255) for s in row] for row in sums]

    expected = np.transpose(narrowed(np.transpose(narrowed(picture, 13)), 13))
    np.testing.assert_array_equal(hashing.shrink(picture[None], 13)[0], expected)
    assert expected.min() == 0 and expected.max() == 255


@pytest.mark.parametrize(("source", "target"), [(64, 32), (36, 32), (20, 32), (50, 32)])
def test_each_small_pixel_is_a_mean_of_its_surroundings(source, target):
    weights = hashing.lanczos_weights(source, target) / hashing.FIXED_POINT
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=source / hashing.FIXED_POINT)
    np.testing.assert_array_equal(weights, weights[::-1, ::-1])  # left and right are alike
    centers = weights @ (np.arange(source) + 0.5) * target / source
    inner = slice(3, -3)  # the filter is cut at the borders
    np.testing.assert_allclose(centers[inner], np.arange(target)[inner] + 0.5, atol=0.1)


def test_an_even_picture_stays_even_and_one_of_the_right_size_stays():
    assert np.all(hashing.shrink(np.full((1, 36, 64), 93.7)) == 93)  # fractions are cut off
    picture = np.random.default_rng(0).integers(0, 256, (2, 32, 32), dtype=np.uint8)
    np.testing.assert_array_equal(hashing.shrink(picture), picture)


def test_frames_are_hashed_alike_one_by_one_and_all_at_once():
    frames = movie(0)[::7]
    at_once = hashing.hash_frames(frames)
    one_by_one = [hashing.hash_frames(frame[None])[0] for frame in frames]
    assert at_once.tolist() == one_by_one
    assert at_once.dtype == np.uint64


def test_a_hash_survives_contrast_and_noise_and_tells_films_apart():
    videos = [movie(seed).astype(float) for seed in range(6)]
    rng = np.random.default_rng(0)
    for video in videos:
        changed = 20 + 0.8 * video + rng.normal(0, 1, video.shape)
        same = hashing.hash_frames(video[::20]), hashing.hash_frames(changed[::20])
        assert max(bits_apart(*pair) for pair in zip(*same, strict=True)) <= 8
    firsts = [hashing.hash_frames(video[:1])[0] for video in videos]
    apart = [bits_apart(a, b) for i, a in enumerate(firsts) for b in firsts[:i]]
    assert min(apart) >= 10 and 24 < np.mean(apart) < 40


def test_half_of_the_bits_are_set_and_those_of_an_empty_screen_are_not():
    (picture,) = hashing.hash_frames(movie(1)[:1])
    assert int(picture).bit_count() == 32
    blank = hashing.hash_frames(np.stack([np.full((36, 64), grey) for grey in (0, 80, 127, 255)]))
    assert set(blank.tolist()) <= {0, 1 << 63}  # only the mean, which is the first bit


def test_short_videos_are_hashed_by_all_their_frames():
    assert hashing.used_frames(3).tolist() == [0, 1, 2]
    assert hashing.used_frames(7).tolist() == [0, 1, 2, 3, 4]
    video = movie(2)[:3]
    assert hashing.hash_video(video) == hashing.combine(hashing.hash_frames(video))
