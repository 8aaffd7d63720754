"""A store gives back what was recorded, window by window, and refuses what is not a whole store."""

import io
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorstore as ts

from sensojax import conversion, errors, store, types
from tests import handmade


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A finished store; tests that damage one copy it first."""
    return conversion.write(tmp_path_factory.mktemp("stores"), handmade.recording(rates=True))


@pytest.fixture
def copy(made, tmp_path) -> Path:
    return shutil.copytree(made, tmp_path / made.name)


@pytest.mark.parametrize("row", range(len(handmade.TIERS)))
def test_every_trial_comes_back_as_recorded(made, row):
    opened, recorded = store.TrialStore.open(made), handmade.trial(row, rates=True)
    found = opened.read(row)
    assert found["video"].dtype == np.uint8
    np.testing.assert_array_equal(found["video"], recorded.video)
    for name in ("responses", "behavior", "pupil_center"):
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], getattr(recorded, name).astype(np.float32))
    np.testing.assert_array_equal(opened.read_rates(row), recorded.rates.astype(np.float32))


def test_a_window_is_the_same_frames_of_the_whole_trial(made):
    opened = store.TrialStore.open(made)
    whole, window = opened.read(5), opened.read(5, 17, 59)
    for name, values in whole.items():
        np.testing.assert_array_equal(window[name], values[17:59])
    np.testing.assert_array_equal(opened.read_rates(5, 17, 59), opened.read_rates(5)[17:59])


@pytest.mark.parametrize(("start", "stop"), [(0, 46), (-1, 5), (7, 7), (45, None)])
def test_frames_outside_a_trial_are_refused_and_not_padded(made, start, stop):
    with pytest.raises(ValueError, match="row 0, which has 45"):
        store.TrialStore.open(made).read(0, start, stop)


def test_the_trial_table_says_what_was_recorded(made):
    opened = store.TrialStore.open(made)
    table = opened.trials
    assert len(table) == len(handmade.TIERS)
    assert tuple(table.tier) == handmade.TIERS
    assert tuple(table.num_frames) == handmade.FRAMES
    assert tuple(table.clip) == handmade.CLIPS
    recorded = [handmade.trial(row) for row in range(len(table))]
    assert table.official_frames.tolist() == [each.official_frames for each in recorded]
    assert table.checksum.tolist() == [each.checksum for each in recorded]
    assert table.has_responses.tolist() == [tier != "live_test_main" for tier in handmade.TIERS]
    assert table.columns["trial_idx"].tolist() == list(range(len(table)))[::-1]
    assert table.columns["kind"].tolist() == list(handmade.TIERS)


def test_neurons_truth_and_published_statistics_come_back_exactly(made):
    opened, recorded = store.TrialStore.open(made), handmade.recording(rates=True)
    np.testing.assert_array_equal(opened.neurons.ids, recorded.neurons.ids)
    np.testing.assert_array_equal(opened.neurons.position_um, recorded.neurons.position_um)
    np.testing.assert_array_equal(opened.truth["center"], recorded.truth["center"])
    for modality, published in recorded.statistics.items():
        for name in ("mean", "std"):
            found = opened.statistics.official[modality][name]
            np.testing.assert_array_equal(found, published[name])


def test_statistics_per_neuron_are_those_of_all_valid_train_frames_together(made):
    rows = [row for row, tier in enumerate(handmade.TIERS) if tier == "train"]
    recorded = [handmade.trial(row) for row in rows]
    expected = {
        "videos": np.concatenate([each.video.ravel() for each in recorded]),
        "responses": np.concatenate([each.responses.astype(np.float32) for each in recorded]),
        "behavior": np.concatenate([each.behavior.astype(np.float32) for each in recorded]),
        "pupil_center": np.concatenate([each.pupil_center.astype(np.float32) for each in recorded]),
    }
    found = store.TrialStore.open(made).statistics.per_neuron
    for name, values in expected.items():
        values = values.astype(np.float64)
        assert found[name]["std"].dtype == np.float64
        # float64 sums over some hundred values
        np.testing.assert_allclose(found[name]["mean"], values.mean(axis=0), rtol=1e-13)
        np.testing.assert_allclose(found[name]["std"], values.std(axis=0), rtol=1e-12)
        np.testing.assert_array_equal(found[name]["min"], values.min(axis=0))
        np.testing.assert_array_equal(found[name]["max"], values.max(axis=0))


def test_rows_of_tiers_are_ascending_and_an_absent_tier_is_named(made):
    opened = store.TrialStore.open(made)
    assert opened.rows("train").tolist() == [0, 2, 5, 7]
    assert opened.rows("train", "oracle").tolist() == [0, 1, 2, 4, 5, 7]
    with pytest.raises(errors.UserError, match=r"no trial of tier 'orcale'.*did you mean 'oracle'"):
        opened.rows("train", "orcale")


def test_a_pickled_store_reads_the_same(made):
    opened = store.TrialStore.open(made)
    opened.read(0)
    again = pickle.loads(pickle.dumps(opened))
    np.testing.assert_array_equal(again.read(3)["video"], opened.read(3)["video"])
    assert again.fingerprint == opened.fingerprint


# Only its own pieces ----------------------------------------------------------------------------


def pieces(shard: Path) -> np.ndarray:
    """Offset and size of every piece of a shard, from the index at its end, [piece 2]."""
    index = np.frombuffer(shard.read_bytes()[-50 * 16 - 4 : -4], np.uint64).reshape(50, 2)
    return index[index[:, 1] < 2**63].astype(int)


def test_a_window_reads_the_bytes_of_its_own_pieces_and_the_indices(made):
    opened = store.TrialStore.open(made)
    opened.read(5, 0, 1)
    metric = "/tensorstore/kvstore/file/bytes_read"

    def count():
        return ts.experimental_collect_matching_metrics(metric)[0]["values"][0]["value"]

    before = count()
    opened.read(5, 20, 40)
    shards = made / "responses" / "c.5.0.0", made / "clips_uint8" / "c.1.0.0.0"
    expected = sum(pieces(shard)[1, 1] + 50 * 16 + 4 for shard in shards)
    assert count() - before == expected
    assert expected < sum(shard.stat().st_size for shard in shards)


def test_a_damaged_piece_spoils_only_the_windows_that_touch_it(copy):
    shard = copy / "responses" / "c.5.0.0"
    offset, size = pieces(shard)[1]  # frames 20 to 40
    damaged = bytearray(shard.read_bytes())
    damaged[offset + size // 2] ^= 1
    shard.write_bytes(damaged)
    opened, recorded = store.TrialStore.open(copy), handmade.trial(5).responses.astype(np.float32)
    np.testing.assert_array_equal(opened.read(5, 40, 70)["responses"], recorded[40:])
    np.testing.assert_array_equal(opened.read(5, 0, 20)["responses"], recorded[:20])
    with pytest.raises(errors.UserError, match=f"{copy} is damaged .*convert the recording again"):
        opened.read(5, 0, 21)


@pytest.mark.parametrize("array", ["responses/c.2.0.0", "clips_uint8/c.2.0.0.0"])
@pytest.mark.parametrize("harm", ["cut", "lost"])
def test_a_truncated_or_lost_shard_is_an_error_and_not_zeros(copy, array, harm):
    shard = copy / array
    if harm == "cut":
        shard.write_bytes(shard.read_bytes()[:-100])
    else:
        shard.unlink()
    opened = store.TrialStore.open(copy)
    opened.read(1)
    with pytest.raises(errors.UserError, match=r"is damaged .*convert the recording again") as info:
        opened.read(2)
    assert "\n" not in str(info.value)


# What is not a store ----------------------------------------------------------------------------


def test_an_unknown_folder_is_refused_with_the_stores_that_are_there(made):
    with pytest.raises(errors.UserError, match=f"no store at .*{made.name}"):
        store.TrialStore.open(made.parent / "dynamic1-2-3-Video-handmad")


def test_the_folder_above_the_stores_is_refused_with_their_names(made):
    with pytest.raises(errors.UserError, match=f"folder of stores: {made.name}"):
        store.TrialStore.open(made.parent)


@pytest.mark.parametrize("named", ["as its mouse", "as it lies"])
def test_an_unfinished_store_is_refused_and_says_how_to_go_on(copy, named):
    partial = copy.rename(copy.with_name(copy.name + ".partial"))
    with pytest.raises(errors.UserError, match=r"incomplete.*same scripts/convert.py command"):
        store.TrialStore.open(copy if named == "as its mouse" else partial)
    assert store.stores_in(copy.parent) == []


def test_a_store_without_description_is_refused(copy):
    (copy / "store.json").unlink()
    with pytest.raises(errors.UserError, match=r"has no store\.json"):
        store.TrialStore.open(copy)


def test_a_store_of_another_format_is_refused_with_both_versions(copy):
    described = json.loads((copy / "store.json").read_text())
    (copy / "store.json").write_text(json.dumps(described | {"format": store.FORMAT + 1}))
    with pytest.raises(errors.UserError, match=r"has format 2.*reads format 1.*convert"):
        store.TrialStore.open(copy)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: (path / "store.json").write_text('{"format": 1, "mou'),
        lambda path: (path / "store.json").write_text('{"format": 1}'),
        lambda path: (path / "store.json").write_bytes(b"\xff\xfe"),
        lambda path: (path / "trials.jsonl").write_text(""),
        lambda path: (path / "trials.jsonl").unlink(),
        lambda path: (path / "tables.npz").unlink(),
        lambda path: (path / "tables.npz").write_bytes(b"PK"),
        lambda path: (path / "tables.npz").write_bytes((path / "tables.npz").read_bytes()[:-30]),
        lambda path: (path / "tables.npz").write_bytes(b""),
        lambda path: flip_a_bit(path / "tables.npz"),
        lambda path: shutil.rmtree(path / "responses"),
        lambda path: (path / "rates" / "zarr.json").write_text("{"),
    ],
    ids=[
        "cut description", "empty description", "no text", "empty trials", "no trials",
        "no tables", "no zip", "cut tables", "empty tables",
        "altered tables", "no responses", "cut array description",
    ],
)  # fmt: skip
def test_a_store_with_a_missing_or_cut_file_is_refused_by_name(copy, harm):
    harm(copy)
    with pytest.raises(errors.UserError, match=f"{copy} is damaged .*convert the recording again"):
        opened = store.TrialStore.open(copy)
        _ = opened.trials, opened.neurons, opened.statistics, opened.read_rates(0)


def test_rates_of_a_mouse_without_truth_are_refused(tmp_path):
    opened = store.TrialStore.open(conversion.write(tmp_path, handmade.recording()))
    assert not opened.simulated and not opened.has_rates and opened.truth == {}
    with pytest.raises(errors.UserError, match="true rates are not known"):
        opened.read_rates(0)


def test_annotations_lie_beside_the_recording_and_change_nothing_else(copy):
    opened = store.TrialStore.open(copy)
    before, ids = opened.fingerprint, np.arange(len(opened.trials)) % 3
    np.testing.assert_array_equal(opened.video_ids, handmade.CLIPS)
    assert opened.annotation("video_id") is None
    opened.annotate("video_id", ids)
    opened.annotate("stimulus_kind", np.array(["movie"] * len(ids)))
    again = store.TrialStore.open(copy)
    np.testing.assert_array_equal(again.video_ids, ids)
    assert set(again.stimulus_kinds) == {"movie"} and again.fingerprint == before
    opened.annotate("video_id", ids + 1)
    np.testing.assert_array_equal(again.video_ids, ids + 1)
    with pytest.raises(ValueError, match="values for 8 trials"):
        opened.annotate("video_id", ids[1:])


def test_an_annotation_that_cannot_be_read_is_refused_by_name(copy):
    opened = store.TrialStore.open(copy)
    path = copy / "annotations" / "video_id.npy"
    path.parent.mkdir()
    for content, said in ((b"", "damaged"), (npy(np.arange(3)), r"shape \(3,\)")):
        path.write_bytes(content)
        with pytest.raises(errors.UserError, match=said):
            _ = opened.video_ids


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_kinds_of_stimuli_are_annotated_or_published_or_asked_for(tmp_path):
    plain = store.TrialStore.open(conversion.write(tmp_path, handmade.recording()))
    with pytest.raises(errors.UserError, match=r"assign_stimulus_ids\.py"):
        _ = plain.stimulus_kinds
    published = np.array([0, 0, -1, 4, 5, 1, 2, 3])
    made = handmade.recording(mouse="other", trial_columns={"stimulus_ids": published})
    kinds = store.TrialStore.open(conversion.write(tmp_path, made)).stimulus_kinds
    assert [kind and types.STIMULUS_KINDS.index(kind) for kind in kinds] == [
        0,
        0,
        "",
        4,
        5,
        1,
        2,
        3,
    ]
