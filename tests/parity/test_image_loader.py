"""Samples of the published 2022 loader against a store of the same recording, normalised in jit."""

import functools

import jax
import numpy as np
import pytest

from sensojax import conversion
from sensojax.pipeline import batches, transforms, windows
from sensojax.pipeline.transforms import Statistics
from sensojax.recordings import sensorium2022
from sensojax.store import TrialStore
from tests.goldens import Golden, assert_close, golden_files

# The kit divides in float64 and rounds once; we divide numbers that are rounded to float32 already.
FLOAT32 = 1e-6
SCALE = 0.25  # of the samples that do not say another one
# In which order behaviour becomes channels and the image smaller. Published: behaviour first. A
# constant plane stays what it is when its pixels are averaged, so ours, which is cheaper, is equal.
ORDERS = ("channels first", "pooled first")


@pytest.fixture(scope="module", params=golden_files("12_loader_2022"))
def golden(request):
    return Golden(request.param)


@pytest.fixture(scope="module")
def stores(golden, tmp_path_factory):
    """The recording the samples were taken from, converted; mice by the kit's short names."""
    source = golden.path.parent / golden.config["recording"]
    folder = tmp_path_factory.mktemp("stores")
    names = {mouse: about["directory"] for mouse, about in golden.config["mice"].items()}
    paths = {
        mouse: conversion.write(folder, sensorium2022.read(source, name))
        for mouse, name in names.items()
    }
    return {mouse: TrialStore.open(path) for mouse, path in paths.items()}


@functools.partial(jax.jit, static_argnames=("scale", "order"))
def prepared(raw, statistics, scale, order=""):
    batch = transforms.normalize(raw, statistics)
    if order == "channels first":
        batch = transforms.behavior_as_channels(batch)
    batch = transforms.pool(batch, round(1 / scale), "bilinear")
    return transforms.behavior_as_channels(batch) if order == "pooled first" else batch


@pytest.fixture(scope="module")
def samples(stores):
    """(mouse, settings of `prepared`) -> all trials of a mouse, in the loader's axes."""

    @functools.cache
    def of(mouse, scale, order=""):
        store = stores[mouse]
        frames = windows.usable_frames(store.trials, "official")
        whole = [windows.whole(row, 1, 1) for row in range(len(frames))]
        raw = batches.read_batch(store, whole, frames, 0, (len(frames), 1))
        batch = prepared(raw, Statistics.of(store, "official"), scale, order)
        return {
            "images": np.moveaxis(np.asarray(batch.video)[:, 0], -1, 1),
            "responses": np.asarray(batch.responses)[:, 0],
            "behavior": np.asarray(batch.behavior)[:, 0],
            "pupil_center": np.asarray(batch.pupil_center)[:, 0],
        }

    return of


def compared(golden, mode, found_of, stores=None):
    """Compares every stored sample of a mode; `found_of` gives (mouse, row, field)."""
    expected = golden.part(f"output/{mode}")
    assert expected
    for key, values in expected.items():
        mouse, number, field = key.split("/")
        found = found_of(mouse, int(number), field)
        if field == "pupil_center":  # rounding it and its mean, many times its std, to float32
            pupil = stores[mouse].statistics.official[field]
            rounding = 2.0**-23 * np.abs(pupil["mean"][0]) / pupil["std"][0]
            error = np.abs(found - values)
            assert (error <= rounding + FLOAT32 * np.abs(values).max()).all(), key
        else:
            assert_close(found, values, FLOAT32, key)


def test_images_alone_are_the_loaders(golden, samples):
    compared(golden, "image_only", lambda mouse, row, field: samples(mouse, SCALE)[field][row])


def test_another_scale_is_the_loaders(golden, samples):
    scale = golden.config["other_scale"]
    compared(golden, "other_scale", lambda mouse, row, field: samples(mouse, scale)[field][row])


@pytest.mark.parametrize("order", ORDERS)
def test_behavior_and_pupil_are_the_loaders_in_either_order(golden, stores, samples, order):
    def found(mouse, row, field):
        of_mouse = samples(mouse, SCALE, order)
        if field == "images_behavior_planes_corner":
            planes = of_mouse["images"][row, 1:]
            assert (planes == planes[:, :1, :1]).all() and len(planes) == 3
            return planes[:, :2, :2]
        return of_mouse[field][row]

    compared(golden, "with_behavior", found, stores)
    for mouse in golden.config["mice"]:
        alone, beside = samples(mouse, SCALE)["images"], samples(mouse, SCALE, order)["images"]
        np.testing.assert_array_equal(beside[:, :1], alone)


def test_tiers_and_images_are_the_loaders(golden, stores):
    for mouse, store in stores.items():
        about, tiers = golden.config["mice"][mouse], golden.config["tier_files"][mouse]
        assert store.trials.tier.tolist() == about["tiers"]
        assert store.video_ids.tolist() == about["image_ids"]
        for tier, rows in tiers.items():
            assert np.flatnonzero(store.trials.tier == tier).tolist() == rows
        assert len(store.neurons) == about["neurons"]
        assert store.trials.official_frames.tolist() == [1] * len(store.trials)


def test_response_multipliers(golden, stores):
    for mouse, store in stores.items():
        std = store.statistics.official["responses"]["std"]
        (found,) = transforms.response_multiplier(std, mouse)
        np.testing.assert_allclose(found, golden[f"output/response_multiplier/{mouse}"], rtol=1e-12)
