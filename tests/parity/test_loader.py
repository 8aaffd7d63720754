"""Samples of the published 2023 loader against a store of the same recording, normalised in jit."""

import jax
import numpy as np
import pytest

from sensojax import conversion
from sensojax.pipeline import batches, transforms, windows
from sensojax.pipeline.transforms import Statistics
from sensojax.recordings import sensorium2023
from sensojax.store import TrialStore
from tests.goldens import Golden, golden_files

# The kit divides in float64 and rounds once; we divide numbers that are rounded to float32 already.
FLOAT32 = 1e-6
CHANNELS = {
    "full": lambda batch: transforms.behavior_as_channels(batch),
    "crop": lambda batch: transforms.behavior_as_channels(batch),
    "plain": lambda batch: batch,
    "pupil_channels": lambda batch: transforms.behavior_as_channels(batch, pupil_center=True),
}


@pytest.fixture(scope="module", params=golden_files("12_loader_2023"))
def golden(request):
    return Golden(request.param)


@pytest.fixture(scope="module")
def stores(golden, tmp_path_factory):
    """The recording the samples were taken from, converted."""
    source = golden.path.parent / golden.config["recording"]
    folder = tmp_path_factory.mktemp("stores")
    mice = golden.config["mice_order"]
    paths = [conversion.write(folder, sensorium2023.read(source, mouse)) for mouse in mice]
    return {mouse: TrialStore.open(path) for mouse, path in zip(mice, paths, strict=True)}


def raw(store, mode, crop):
    """All trials of a mouse as one batch: cut like the mode, or whole and padded."""
    frames = windows.usable_frames(store.trials, "official")
    if mode == "crop":
        length, start = crop["frames"], crop["offset"]
        samples = [windows.fixed(i, frames[i], length, start) for i in range(len(frames))]
    else:
        length = max(frames)
        samples = [windows.whole(i, frames[i], length) for i in range(len(frames))]
    return batches.read_batch(store, samples, frames, 0, (len(frames), length))


def as_published(batch, example):
    """One example in the loader's axes, without its padding."""
    kept = batch.valid[example]
    video = np.moveaxis(np.asarray(batch.video[example])[kept], -1, 0)
    return {
        "videos": video,
        "videos_strided": video[:, ::4, ::5, ::7],
        "videos_frame_mean": video.mean(axis=(2, 3), dtype=np.float64),
        "responses": np.asarray(batch.responses[example])[kept].T,
        "behavior": np.asarray(batch.behavior[example])[kept].T,
        "pupil_center": np.asarray(batch.pupil_center[example])[kept].T,
    }


def compare(found, expected, rounding, what):
    """One field; `rounding` [2 time] is what the pupil may differ by beyond the tolerance."""
    assert found.shape == expected.shape, what
    difference, scale = np.abs(found - expected), np.abs(expected).max()
    if what.endswith("pupil_center"):
        difference = difference - rounding
    elif what.endswith("videos_strided"):
        difference[3:] -= rounding[:, ::4, None, None][: len(expected[3:])]  # pupil as channels
    assert difference.max() <= FLOAT32 * scale, f"{what}: {difference.max() / scale:.2e}"


def rounding_of_pupil(store, start, frames):
    """What rounding position and mean to float32 may change in the normalised position, [2 time].

    The mean is some 30 times std, and 1000 times in late frames that only few trials reach.
    """
    pupil = store.statistics.official["pupil_center"]
    used = slice(start, start + frames)
    return (2.0**-23 * np.abs(pupil["mean"][used]) / pupil["std"][used]).T


@pytest.mark.parametrize("mode", CHANNELS)
def test_normalized_samples_are_the_loaders(golden, stores, mode):
    outputs, compared = golden.part(f"output/{mode}"), 0
    for mouse, store in stores.items():
        statistics = Statistics.of(store, "official")
        prepare = jax.jit(lambda b, s: CHANNELS[mode](transforms.normalize(b, s)))
        batch = prepare(raw(store, mode, golden.config["crop"]), statistics)
        row_of = {int(number): row for row, number in enumerate(store.trials.index)}
        for key, expected in outputs.items():
            of_mouse, number, field = key.split("/")
            if of_mouse == mouse:
                row = row_of[int(number)]
                found = as_published(batch, row)
                start, frames = batch.start[row], found["responses"].shape[1]
                compare(found[field], expected, rounding_of_pupil(store, start, frames), key)
                compared += 1
    assert compared == len(outputs) > 0


def test_clips_end_where_the_normalized_data_end(golden, stores):
    for mouse, store in stores.items():
        kept = golden[f"output/kept_frames/{mouse}"][store.trials.index]
        np.testing.assert_array_equal(windows.usable_frames(store.trials, "official"), kept)


def test_response_multipliers_and_threshold(golden, stores):
    for mouse, store in stores.items():
        std = store.statistics.official["responses"]["std"]
        threshold = golden[f"output/response_threshold/{mouse}"]
        np.testing.assert_allclose(transforms.response_threshold(std), threshold, rtol=1e-12)
        expected = golden[f"output/response_multiplier/{mouse}"].T
        found = transforms.response_multiplier(std, mouse)
        np.testing.assert_allclose(found, expected, rtol=1e-12)
