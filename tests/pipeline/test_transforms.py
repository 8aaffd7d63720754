"""Normalisation inside jit, against float64 numpy written from the published formulas."""

import dataclasses

import jax
import numpy as np
import pytest
from scipy import ndimage

from sensojax.errors import UserError
from sensojax.pipeline import batches, transforms
from sensojax.pipeline.transforms import Statistics
from sensojax.pipeline.windows import Window
from tests.goldens import assert_close
from tests.pipeline import fakes
from tests.pipeline.fakes import MemoryStore

TOLERANCE = 1e-6  # float32 against float64, one division
NOBODYS = ("behavior", "pupil_center")


def raw(store, samples, normalization="official", skip_frames=0):
    frames = getattr(
        store.trials, "official_frames" if normalization == "official" else "num_frames"
    )
    shape = (len(samples), samples[0].length)
    return batches.read_batch(store, samples, frames, skip_frames, shape)


def by_numpy(store, batch, normalization):
    """Each example and frame on its own, in float64."""
    statistics = getattr(store.statistics, normalization)
    names = dict(zip(("video", "responses", "behavior", "pupil_center"), statistics, strict=True))
    out = {}
    for field, key in names.items():
        x = np.asarray(getattr(batch, field), dtype=np.float64)
        mean, std = statistics[key]["mean"], statistics[key]["std"]
        if field == "responses":
            threshold = 0.01 * np.nanmean(std)
            std = np.where(std > threshold, std, threshold)
        result = np.zeros_like(x)
        for i, t in np.argwhere(batch.valid):
            at = batch.start[i] + t if normalization == "official" else ...
            m, s = mean[at], std[at]
            result[i, t] = (x[i, t] - m) / s if field in ("video", "pupil_center") else x[i, t] / s
        out[field] = result
    out["video"] = out["video"][..., None]
    return out


@pytest.mark.parametrize("normalization", ["official", "per_neuron"])
def test_normalizing_in_jit_equals_float64_numpy(normalization):
    store = MemoryStore()
    store.statistics.official["responses"]["std"][3, 2] = np.nan
    store.statistics.official["responses"]["std"][4, 1] = 1e-4
    store.statistics.per_neuron["responses"]["std"][2] = 1e-5
    batch = raw(store, [Window(0, 2, 5), Window(1, 7, 5), Window(2, 0, 5)], normalization)
    found = jax.jit(transforms.normalize)(batch, Statistics.of(store, normalization))
    for field, expected in by_numpy(store, batch, normalization).items():
        assert getattr(found, field).dtype == np.float32
        assert_close(getattr(found, field), expected, TOLERANCE, field)


def test_window_past_the_statistics_is_padded_not_shifted():
    store = MemoryStore(lengths=(12, 12))
    inside, past = raw(store, [Window(0, 6, 6)]), raw(store, [Window(0, 6, 11)])
    statistics = Statistics.of(store, "official")
    inside, past = (transforms.normalize(b, statistics) for b in (inside, past))
    for field in fakes.FIELDS:
        np.testing.assert_array_equal(getattr(past, field)[:, :6], getattr(inside, field))
        assert not np.any(getattr(past, field)[:, 6:])


def test_padding_is_zero_and_warm_up_is_shown():
    store = MemoryStore()
    statistics = Statistics.of(store, "per_neuron")
    shown = transforms.normalize(raw(store, [Window(1, 0, 12)]), statistics)
    warm = raw(store, [Window(1, 0, 12)], skip_frames=4)
    assert not warm.valid[0, :4].any()
    np.testing.assert_array_equal(transforms.normalize(warm, statistics).video, shown.video)
    nothing = dataclasses.replace(warm, valid=np.zeros_like(warm.valid))
    for field in fakes.FIELDS:
        assert not np.any(getattr(transforms.normalize(nothing, statistics), field))


@pytest.mark.parametrize("bad", [0.0, np.nan])
def test_frames_without_a_spread_come_out_finite(bad):
    store = MemoryStore(lengths=(9, 12), official=(9, 9))
    for key in ("videos", "behavior", "pupil_center", "responses"):
        store.statistics.official[key]["std"][8:] = bad
        store.statistics.official[key]["mean"][10:] = np.nan
    batch = dataclasses.replace(
        raw(store, [Window(1, 2, 10)], "per_neuron"), valid=np.ones((1, 10), bool)
    )
    found = transforms.normalize(batch, Statistics.of(store, "official"))
    for field in fakes.FIELDS:
        assert np.isfinite(getattr(found, field)).all(), field
    assert not np.any(found.video[:, 6:])

    def brightness(video):
        raw_pixels = dataclasses.replace(batch, video=video)
        return transforms.normalize(raw_pixels, Statistics.of(store, "official")).video.sum()

    gradient = jax.grad(brightness)(batch.video.astype(np.float32))
    assert np.isfinite(gradient).all()
    assert np.any(gradient)


def test_responses_are_scaled_and_scaled_back():
    store = MemoryStore()
    statistics = Statistics.of(store, "official")
    batch = raw(store, [Window(0, 2, 5), Window(1, 7, 5)])
    scaled = transforms.scale_responses(batch.responses, batch.start, statistics)
    np.testing.assert_array_equal(scaled, transforms.normalize(batch, statistics).responses)
    back = transforms.unscale_responses(scaled, batch.start, statistics)
    np.testing.assert_allclose(back, batch.responses, rtol=1e-6)
    # A core that returns only the last 3 frames: their start is 2 frames later.
    late = transforms.unscale_responses(scaled[:, 2:], batch.start + 2, statistics)
    np.testing.assert_array_equal(late, back[:, 2:])


def test_behavior_channels_are_constant_over_space_and_in_order():
    store = MemoryStore()
    batch = transforms.normalize(raw(store, [Window(0, 2, 5)]), Statistics.of(store, "official"))
    video = transforms.behavior_as_channels(batch, pupil_center=True).video
    assert video.shape == (1, 5, 4, 6, 5)
    np.testing.assert_array_equal(video[..., :1], batch.video)
    for pixel in (video[:, :, 0, 0], video[:, :, 3, 5]):
        np.testing.assert_array_equal(pixel[..., 1:3], batch.behavior)
        np.testing.assert_array_equal(pixel[..., 3:], batch.pupil_center)
    assert transforms.behavior_as_channels(batch).video.shape[-1] == 3
    speed = transforms.behavior_as_channels(batch, pupil_center=True, scale=2.0, columns=(1,)).video
    np.testing.assert_array_equal(speed, np.delete(video, 1, -1) * np.array([1, 2, 2, 2], "f4"))


def test_pooling_averages_squares_of_pixels():
    store = MemoryStore()
    batch = transforms.normalize(raw(store, [Window(0, 2, 5)]), Statistics.of(store, "official"))
    pooled = transforms.pool(batch, 2).video
    assert pooled.shape == (1, 5, 2, 3, 1)
    np.testing.assert_allclose(pooled[0, 3, 1, 2], batch.video[0, 3, 2:, 4:].mean(), rtol=1e-5)
    assert transforms.pool(batch, 1) is batch
    with pytest.raises(UserError, match="pooling by 4 for a video of 4x6"):
        transforms.pool(batch, 4)


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5, 6])
def test_the_bilinear_rule_is_interpolation_between_the_centres_of_pixels(factor):
    height, width = 3 * factor, 2 * factor
    video = np.random.default_rng(0).normal(size=(2, 1, height, width, 1)).astype(np.float32)
    batch = dataclasses.replace(raw(MemoryStore(), [Window(0, 2, 5)]), video=video)
    found = transforms.pool(batch, factor, "bilinear").video
    # Where the centre of a large pixel lies, counted in small ones from the centre of the first.
    rows, columns = ((np.arange(n) + 0.5) * factor - 0.5 for n in (3, 2))
    places = np.meshgrid(rows, columns, indexing="ij")
    expected = [ndimage.map_coordinates(image, places, order=1) for image in video[:, 0, ..., 0]]
    np.testing.assert_allclose(found[:, 0, ..., 0], np.stack(expected), rtol=1e-6, atol=1e-6)
    mean = transforms.pool(batch, factor, "mean").video
    assert np.allclose(mean, found, atol=1e-6) == (factor < 3)


def test_an_unknown_pool_rule_is_refused():
    batch = raw(MemoryStore(), [Window(0, 2, 5)])
    with pytest.raises(UserError, match=r"inputs.pool_rule 'bilinaer'.*did you mean 'bilinear'"):
        transforms.pool(batch, 2, "bilinaer")


def test_without_normalization_everything_is_as_recorded():
    store = MemoryStore()
    batch = raw(store, [Window(0, 2, 5), Window(1, 7, 5)], "none")
    found = transforms.normalize(batch, Statistics.of(store, "none"))
    for field in ("responses", "behavior", "pupil_center"):
        recorded = np.where(batch.valid[..., None], getattr(batch, field), 0)
        np.testing.assert_array_equal(getattr(found, field), recorded.astype(np.float32))
    np.testing.assert_array_equal(found.video[0, ..., 0], batch.video[0])
    assert found.video.dtype == np.float32
    units = Statistics.of(store, "none"), Statistics.of(store, "per_neuron")
    scaled = transforms.scale_responses(found.responses, batch.start, units[1])
    assert_close(scaled, transforms.normalize(batch, units[1]).responses, TOLERANCE)


def test_counts_stay_as_recorded_and_everything_else_does_not():
    store = MemoryStore()
    batch = raw(store, [Window(0, 2, 5), Window(1, 0, 5)], "counts")
    found = jax.jit(transforms.normalize)(batch, Statistics.of(store, "counts"))
    np.testing.assert_array_equal(found.responses, batch.responses)
    other = by_numpy(store, batch, "per_neuron")
    for field in ("video", "behavior", "pupil_center"):
        assert_close(getattr(found, field), other[field], TOLERANCE, field)
    silent = {**store.statistics.per_neuron, "responses": dict(mean=np.zeros(5), std=np.zeros(5))}
    store.statistics.per_neuron = silent
    assert np.asarray(Statistics.of(store, "counts").response_multiplier) == 1


def test_a_mouse_of_which_nobody_recorded_behavior_is_normalized_like_others():
    store = MemoryStore()
    for trial in store.content:
        trial |= {name: np.zeros((len(trial["video"]), 0), "f4") for name in NOBODYS}
    none = dict(mean=np.zeros(0), std=np.zeros(0))
    store.statistics.per_neuron |= dict.fromkeys(NOBODYS, none)
    batch = raw(store, [Window(0, 2, 5)], "counts")
    batch = dataclasses.replace(batch, **{name: np.zeros((1, 5, 0), "f4") for name in NOBODYS})
    found = jax.jit(transforms.normalize)(batch, Statistics.of(store, "counts"))
    assert found.behavior.shape == found.pupil_center.shape == (1, 5, 0)
    np.testing.assert_array_equal(transforms.behavior_as_channels(found).video, found.video)


def test_rows_are_cut_out_before_anything_else_sees_them():
    batch = raw(MemoryStore(), [Window(0, 0, 3)])
    batch = dataclasses.replace(batch, video=batch.video[..., None])
    found = transforms.crop_rows(batch, (1, 3))
    np.testing.assert_array_equal(found.video, batch.video[:, :, 1:3])
    assert transforms.crop_rows(batch, ()) is batch
    for wrong in ((1, 5), (3, 3), (1,), (-1, 2)):
        with pytest.raises(UserError, match=r"found inputs.rows .* for a video of 4 rows"):
            transforms.crop_rows(batch, wrong)


def test_a_frame_lies_in_the_middle_of_its_canvas():
    store = MemoryStore()
    batch = transforms.normalize(raw(store, [Window(0, 2, 5)]), Statistics.of(store, "official"))
    video = np.asarray(transforms.center(batch, (9, 6)).video)
    assert video.shape == (1, 5, 9, 6, 1)
    np.testing.assert_array_equal(video[:, :, 2:6], batch.video)
    assert not video[:, :, :2].any() and not video[:, :, 6:].any()
    assert transforms.center(batch, (0, 0)) is batch
    with pytest.raises(UserError, match=r"found inputs.canvas \(4, 5\) for a video of 4x6"):
        transforms.center(batch, (4, 5))


def test_every_other_frame_of_a_window_ends_with_its_last():
    store = MemoryStore()
    batch = transforms.normalize(raw(store, [Window(0, 2, 6)]), Statistics.of(store, "official"))
    seen = transforms.every(batch, 2)
    for field in (*fakes.FIELDS, "valid"):
        np.testing.assert_array_equal(getattr(seen, field), getattr(batch, field)[:, 1::2])
    assert transforms.every(batch, 3).valid.shape == (1, 2)
    assert transforms.every(batch, 1) is batch


def test_negative_responses_can_be_cut():
    store = MemoryStore()
    batch = raw(store, [Window(0, 2, 5)])
    shifted = dataclasses.replace(batch, responses=batch.responses - batch.responses.mean())
    found = transforms.without_negatives(shifted).responses
    assert (shifted.responses < 0).any() and (found >= 0).all()
    np.testing.assert_array_equal(found, np.maximum(shifted.responses, 0))


def test_missing_official_statistics_are_refused_with_the_way_on():
    store = MemoryStore()
    store.statistics.official = {}
    with pytest.raises(UserError, match=r"no official statistics of videos.*'per_neuron'"):
        Statistics.of(store, "official")


def test_a_mouse_whose_responses_are_all_constant_is_refused():
    store = MemoryStore()
    store.statistics.per_neuron["responses"]["std"][:] = 0
    with pytest.raises(UserError, match="constant responses in every neuron of mouse m"):
        Statistics.of(store, "per_neuron")


def test_statistics_cross_jit_without_a_second_trace():
    store = MemoryStore()
    step = jax.jit(lambda b, s: transforms.normalize(b, s).responses.sum())
    for row in (0, 1):
        step(raw(store, [Window(row, 1, 5)]), Statistics.of(store, "official"))
    assert step._cache_size() == 1
