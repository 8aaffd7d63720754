"""The pipeline on a store converted from a recording as published (the goldens' small one)."""

import jax
import numpy as np
import pytest

from sensojax import conversion
from sensojax.errors import UserError
from sensojax.pipeline import transforms
from sensojax.pipeline.batches import Batches, trial_batches
from sensojax.pipeline.transforms import Statistics
from sensojax.recordings import sensorium2023
from sensojax.store import TrialStore
from tests.goldens import GOLDEN
from tests.pipeline import fakes


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    (source,) = GOLDEN.glob("mini_sensorium2023_A.zip")
    folder = tmp_path_factory.mktemp("stores")
    paths = [
        conversion.write(folder, sensorium2023.read(source, mouse))
        for mouse in sensorium2023.sessions(source)
    ]
    return {path.name: TrialStore.open(path) for path in paths}


def make(stores, tier="train", **changes):
    settings = {
        "window_frames": 60,
        "batch_size": 2,
        "rule": "uniform",
        "normalization": "official",
        "remainder": "wrap",
        "seed": 3,
    }
    rows = {mouse: store.rows(tier) for mouse, store in stores.items()}
    return Batches(stores, rows, **{**settings, **changes})


def all_trials(store, tier, normalization):
    """The whole tier as one normalised batch."""
    rows = store.rows(tier)
    ((_, batch),) = trial_batches(
        store, rows, len(rows), store.max_frames, normalization=normalization, skip_frames=0
    )
    return transforms.normalize(batch, Statistics.of(store, normalization)), batch.valid


def test_windows_are_slices_of_training_trials(stores):
    for _, step in make(stores).iterate(0, 4, num_threads=2, prefetch_steps=2):
        for mouse, store in stores.items():
            train = [store.read(row) for row in store.rows("train")]
            batch = step[mouse]
            for i, start in enumerate(batch.start):
                cut = [{k: v[start : start + 60] for k, v in trial.items()} for trial in train]
                same = [all(np.array_equal(t[k], getattr(batch, k)[i]) for k in t) for t in cut]
                assert sum(same) == 1


def test_two_mice_with_different_neurons_make_one_step(stores):
    step = make(stores)[0]
    assert list(step) == list(stores)
    for mouse, batch in step.items():
        assert batch.video.dtype == stores[mouse].video_dtype
        assert batch.responses.dtype == np.float32
        assert batch.responses.shape == (2, 60, len(stores[mouse].neurons))


def test_per_neuron_normalization_standardizes_the_train_tier(stores):
    for store in stores.values():
        batch, valid = all_trials(store, "train", "per_neuron")
        shown = {k: np.asarray(getattr(batch, k), np.float64)[valid] for k in fakes.FIELDS}
        shown["video"] = shown["video"].ravel()
        for name in ("video", "pupil_center"):
            np.testing.assert_allclose(shown[name].mean(axis=0), 0, atol=1e-4)
        for name in ("video", "pupil_center", "behavior"):
            np.testing.assert_allclose(shown[name].std(axis=0), 1, rtol=1e-4)
        # A neuron with less than 1 % of the mean spread stays small.
        std = store.statistics.per_neuron["responses"]["std"]
        expected = np.minimum(std / transforms.response_threshold(std), 1)
        np.testing.assert_allclose(shown["responses"].std(axis=0), expected, rtol=1e-4)


def test_withheld_tiers_can_be_shown_but_not_trained_on(stores):
    store = next(iter(stores.values()))
    batch, _ = all_trials(store, "live_test_main", "official")
    assert not np.any(batch.responses)
    assert np.any(batch.video)
    with pytest.raises(UserError, match="withheld"):
        make({store.mouse: store}, tier="live_test_main")


def test_processes_together_read_the_batch_of_one(stores):
    parts = [make(stores, process_index=i, process_count=2)[5] for i in range(2)]
    joined = jax.tree.map(lambda *x: np.concatenate(x), *parts)
    jax.tree.map(np.testing.assert_array_equal, joined, make(stores)[5])
