"""Some neurons and some trials of a recording: the right ones, nested, and read as recorded."""

import itertools
import pickle

import numpy as np
import pytest

from sensojax import build, conversion
from sensojax.errors import UserError
from sensojax.pipeline import subsets
from sensojax.pipeline.transforms import Statistics
from sensojax.store import TrialStore
from tests import handmade, runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the store of one handmade mouse."""
    folder = tmp_path_factory.mktemp("stores")
    conversion.write(folder, handmade.recording(rates=True))
    return folder


@pytest.fixture(scope="module")
def whole(folder):
    return TrialStore.open(next(folder.glob("dynamic*")))


def data(folder, **changes):
    config = runs.config(folder, {f"data.{name}": value for name, value in changes.items()})
    return config["data"] | {"recordings": "sensorium2023"}


def same(found, expected):
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


def test_smaller_choices_lie_within_larger_ones_and_depend_on_mouse_and_seed():
    sizes = (1, 4, 17, 39, 40)
    found = [set(subsets.chosen(40, size, "a", 0)) for size in sizes]
    assert [len(each) for each in found] == list(sizes)
    assert all(small < large for small, large in itertools.pairwise(found))
    assert found[-1] == set(range(40))
    assert found[2] == set(subsets.chosen(40, 17, "a", 0))
    assert found[2] != set(subsets.chosen(40, 17, "b", 0))
    assert found[2] != set(subsets.chosen(40, 17, "a", 1))


def test_every_neuron_is_as_likely_as_any_other():
    draws = [subsets.chosen(10, 3, "a", seed) for seed in range(2000)]
    counts = np.bincount(np.concatenate(draws), minlength=10)
    assert np.abs(counts - 600).max() < 5 * np.sqrt(600 * 0.7)  # five standard deviations


@pytest.mark.parametrize("columns", [[0], [1, 2, 4], [0, 1, 2, 3, 4]])
def test_a_subset_reads_the_columns_of_the_whole_store(whole, columns):
    some = subsets.NeuronSubset.of(whole, np.array(columns))
    for row, (start, stop) in enumerate([(0, None), (17, 59), (3, 4)]):
        recorded, found = whole.read(row, start, stop), some.read(row, start, stop)
        same(found, recorded | {"responses": recorded["responses"][:, columns]})
        rates = whole.read_rates(row, start, stop)
        np.testing.assert_array_equal(some.read_rates(row, start, stop), rates[:, columns])
    assert some.empty((2, 7))["responses"].shape == (2, 7, len(columns))


def test_all_that_is_known_of_neurons_is_that_of_the_chosen_ones(whole):
    columns = np.array([1, 3])
    some = subsets.NeuronSubset.of(whole, columns)
    np.testing.assert_array_equal(some.neurons.ids, whole.neurons.ids[columns])
    np.testing.assert_array_equal(some.neurons.position_um, whole.neurons.position_um[columns])
    np.testing.assert_array_equal(some.truth["center"], whole.truth["center"][columns])
    for kind in ("official", "per_neuron"):
        found, every = getattr(some.statistics, kind), getattr(whole.statistics, kind)
        for modality, of_all in every.items():
            cut = modality == "responses"
            same(found[modality], {k: v[..., columns] if cut else v for k, v in of_all.items()})
        made = Statistics.of(some, kind)
        assert made.response_multiplier.shape[1] == 2
    assert len(whole.neurons) == 5 and whole.statistics.per_neuron["responses"]["std"].shape == (5,)


def test_a_subset_is_the_same_recording_also_elsewhere(whole):
    some = subsets.NeuronSubset.of(whole, np.array([1, 3]))
    again = pickle.loads(pickle.dumps(some))
    assert again.fingerprint == some.fingerprint == whole.fingerprint
    same(again.read(1), some.read(1))
    np.testing.assert_array_equal(subsets.columns(again), [1, 3])
    np.testing.assert_array_equal(subsets.columns(whole), range(5))
    np.testing.assert_array_equal(some.rows("oracle"), whole.rows("oracle"))


def test_config_opens_stores_with_at_most_so_many_neurons(folder):
    found = {}
    for wanted, count in ((0, 5), (2, 2), (4, 4), (5, 5), (99, 5)):
        (store,) = build.stores(data(folder, max_neurons=wanted), {}).values()
        assert len(store.neurons) == store.read(0)["responses"].shape[1] == count
        assert build.described({"m": store})["m"]["neurons"] == count
        found[wanted] = set(store.neurons.ids)
    assert found[2] < found[4] < found[0]


def test_config_trains_on_a_share_of_the_trials_and_no_other(folder, whole):
    """Train rows of the handmade mouse: 0, 2, 5, 7."""
    rows = {}
    for share, count in ((1.0, 4), (0.75, 3), (0.5, 2), (0.25, 1), (0.01, 1)):
        wanted = data(folder, train_share=share)
        opened = build.stores(wanted, {})
        (found,) = build.training_rows(wanted, opened).values()
        assert len(found) == count and set(found) <= set(whole.rows("train"))
        rows[share] = set(found)
    assert rows[0.25] < rows[0.5] < rows[0.75] < rows[1.0]
    stream = build.batches(data(folder, train_share=0.5), opened, seed=0)
    allowed = [whole.read(row)["behavior"] for row in rows[0.5]]
    for step in range(6):
        (batch,) = stream[step].values()
        for start, behavior in zip(batch.start, batch.behavior, strict=True):
            assert any(np.array_equal(behavior, each[start : start + 12]) for each in allowed)


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5])
def test_an_impossible_share_is_refused(whole, share):
    with pytest.raises(UserError, match="more than 0 and at most 1"):
        subsets.some_rows(whole, whole.rows("train"), share, 0)
