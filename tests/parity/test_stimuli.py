"""Perceptual hashes and video ids beside the published tools on the same videos."""

import numpy as np
import pytest

from sensojax.stimuli import hashing, identity
from tests.goldens import Golden, golden_files


def hashed_frames(golden: Golden) -> np.ndarray:
    """The frames that the published hash looked at, [video frame height width]."""
    return np.moveaxis(golden["input/hash_frames"], -1, 1)


@pytest.mark.parametrize("path", golden_files("dwiseneuro_data"))
def test_frames_become_the_same_small_pictures_and_coefficients(path):
    golden = Golden(path)
    small = hashing.shrink(hashed_frames(golden)[:, 0])
    np.testing.assert_array_equal(small, golden["output/hash_first_frame_resized_32x32"])
    found = hashing.low_frequencies(small)
    expected = golden["output64/hash_first_frame_low_dct"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("path", golden_files("dwiseneuro_data"))
def test_hashes_and_folds_are_the_published_ones_to_the_bit(path):
    golden = Golden(path)
    of_videos = golden["output/hash_video_then_frames"]
    folds = {
        int(key.rsplit("_", 1)[1]): values
        for key, values in golden.arrays.items()
        if key.startswith("output/hash_fold_of_")
    }
    assert folds
    for number, frames in enumerate(hashed_frames(golden)):
        hashes = hashing.hash_frames(frames)
        np.testing.assert_array_equal(hashes, of_videos[number, 1:])
        assert hashing.combine(hashes) == of_videos[number, 0]
        for count, expected in folds.items():
            assert hashing.combine(hashes) % count == expected[number]


@pytest.mark.parametrize("path", golden_files("dwiseneuro_data"))
def test_a_whole_video_is_hashed_by_the_published_frames_of_it(path):
    golden = Golden(path)
    told = zip(golden["input/hash_length_and_used_frames"], hashed_frames(golden), strict=True)
    for number, ((length, *used), frames) in enumerate(told):
        np.testing.assert_array_equal(hashing.used_frames(length), used)
        video = np.random.default_rng(0).uniform(0, 255, (length, *frames.shape[1:]))
        video[used] = frames
        assert hashing.hash_video(video) == golden["output/hash_video_then_frames"][number, 0]


@pytest.mark.parametrize("path", golden_files("analysis_features"))
def test_video_ids_are_those_of_the_published_tool(path):
    golden = Golden(path)
    padded = np.moveaxis(golden["input/video_id_clips"], -1, 1)
    videos = [clip[~np.isnan(clip).any(axis=(1, 2))] for clip in padded]
    sketches = [identity.Sketch.of(video) for video in videos]
    found = identity.within_mouse(
        sketches, golden.config["video_tiers"], padded.shape[1], videos.__getitem__
    )
    np.testing.assert_array_equal(found, golden["output/video_ids"])
