"""Recordings of images: many of them share a file, and nothing else is different."""

import pickle
import random
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from scripts import convert
from sensojax import conversion, errors, store
from sensojax.conversion import arrays
from sensojax.pipeline import batches, features, subsets
from sensojax.pipeline.windows import Window
from sensojax.recordings import formats, sensorium2023
from sensojax.stimuli import textures
from tests import disasters, handmade
from tests.goldens import GOLDEN, REPOSITORY
from tests.recordings.tiny import save
from tests.test_convert import Stop, assert_same, interrupted

ROWS = len(handmade.TIERS)
SIGNALS = ("video", "responses", "behavior", "pupil_center")


@pytest.fixture(autouse=True)
def small_files(request, monkeypatch):
    if "session" not in request.fixturenames:
        monkeypatch.setattr(arrays, "FILE_IMAGES", 3)


def images(**changes):
    """Eight trials, of which the second and the fifth and others show the same image."""
    recording = handmade.recording(rates=True, still=True, **changes)
    for index in range(ROWS):
        recording = handmade.cut(recording, index, 1)
        recording = handmade.altered(recording, index, rates=lambda rates: rates[:1])
    return recording


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "FILE_IMAGES", 3)
        return conversion.write(tmp_path_factory.mktemp("undisturbed"), images())


@pytest.fixture
def copy(undisturbed, tmp_path) -> Path:
    return shutil.copytree(undisturbed, tmp_path / undisturbed.name)


def test_images_share_files(undisturbed):
    conversion.verify(undisturbed, images())
    opened = store.TrialStore.open(undisturbed)
    assert tuple(opened.trials.clip) == handmade.CLIPS and opened.max_frames == 1
    for name, files in {"responses": 3, "rates": 3, "clips_uint8": 2}.items():
        assert len(list((undisturbed / name).glob("c.*"))) == files
        text = (undisturbed / name / "zarr.json").read_text()
        assert '"chunk_shape":[3,' in text and '"chunk_shape":[1,' in text


@pytest.mark.parametrize("at", range(ROWS))
def test_stopping_at_any_trial_and_going_on_changes_nothing(undisturbed, tmp_path, at):
    with pytest.raises(Stop):
        conversion.write(tmp_path, interrupted(images(), at), workers=2)
    assert store.stores_in(tmp_path) == []
    assert_same(conversion.write(tmp_path, images(), workers=1), undisturbed)


@pytest.mark.parametrize("lines", range(1, ROWS))
def test_a_journal_cut_within_a_file_is_continued(undisturbed, tmp_path, lines, monkeypatch):
    with monkeypatch.context() as patched, pytest.raises(Stop):
        patched.setattr(conversion.writing.finishing, "finish", lambda *_: interrupted_end())
        conversion.write(tmp_path, images())
    partial = tmp_path / f"{images().mouse}.partial"
    noted = (partial / "trials.jsonl").read_bytes().splitlines(keepends=True)
    assert len(noted) == 1 + ROWS
    (partial / "trials.jsonl").write_bytes(b"".join(noted[: 1 + lines]) + noted[-1][:9])
    assert_same(conversion.write(tmp_path, images()), undisturbed)


def interrupted_end():
    raise Stop


def test_a_stopped_conversion_does_few_images_again(tmp_path):
    reads = []
    whole = images()

    def read(index):
        reads.append(index)
        if len(reads) == ROWS:
            raise Stop
        return whole.read(index)

    recording = images(read=read)
    with pytest.raises(Stop):
        conversion.write(tmp_path, recording, workers=1)
    noted = (tmp_path / f"{whole.mouse}.partial" / "trials.jsonl").read_bytes().count(b"\n") - 1
    assert noted % 3 == 0
    reads[:] = [None] * ROWS
    conversion.write(tmp_path, recording)
    assert reads[ROWS:] == list(range(noted, ROWS))


def test_what_a_killed_writer_left_does_not_end_up_in_a_file(undisturbed, tmp_path):
    with pytest.raises(Stop):
        conversion.write(tmp_path, interrupted(images(), 5), workers=1)
    partial = tmp_path / f"{images().mouse}.partial"
    for name in ("clips_uint8/c.0.0.0.0", "clips_uint8/c.1.0.0.0", "responses/c.1.0.0"):
        (partial / f"{name}.__lock").write_bytes(b"x" * 100_000)
    assert_same(conversion.write(tmp_path, images()), undisturbed)


# Reading ------------------------------------------------------------------------------------------


def one_by_one(opened, rows):
    found = [opened.read(row) for row in rows]
    return {name: np.stack([each[name] for each in found]) for name in SIGNALS}


@pytest.mark.parametrize("kind", ["whole", "half of them float32", "some neurons", "pickled"])
def test_a_batch_of_images_is_what_each_reads_alone(tmp_path, undisturbed, kind):
    path = undisturbed
    if kind == "half of them float32":
        recording = images()
        for index in (0, 2, 7):
            recording = handmade.altered(recording, index, video=lambda video: video + 0.5)
        path = conversion.write(tmp_path, recording)
    opened = store.TrialStore.open(path)
    if kind == "some neurons":
        opened = subsets.NeuronSubset.of(opened, np.array([0, 3]))
    if kind == "pickled":
        opened = pickle.loads(pickle.dumps(opened))
    rows = [5, 0, 3, 3, 7, 1]
    windows = [Window(row, 0, 1) for row in rows]
    batch = batches.read_batch(opened, windows, opened.trials.num_frames, 0, (8, 1))
    for name, expected in one_by_one(opened, rows).items():
        found = getattr(batch, name)
        np.testing.assert_array_equal(found[:6], expected, strict=True)
        assert not found[6:].any()
    assert batch.valid[:, 0].tolist() == [True] * 6 + [False] * 2
    assert batch.video.dtype == (np.float32 if kind.startswith("half") else np.uint8)


def test_features_of_images_are_read_in_their_place(undisturbed, tmp_path):
    opened = store.TrialStore.open(undisturbed)
    of_rows = np.random.default_rng(0).random((ROWS, 1, 2, 3, 4)).astype(features.DTYPE)
    for row, array in enumerate(of_rows):
        save(tmp_path / f"{row}.npy", array)
    opened = features.FeatureStore(opened, tmp_path, 0, (2, 3, 4))
    windows = [Window(row, 0, 1) for row in (6, 2, 2)]
    batch = batches.read_batch(opened, windows, opened.trials.num_frames, 0, (3, 1))
    np.testing.assert_array_equal(batch.video, of_rows[[6, 2, 2]], strict=True)
    np.testing.assert_array_equal(batch.responses, one_by_one(opened, [6, 2, 2])["responses"])


def test_an_empty_trial_keeps_its_row(tmp_path):
    recording = handmade.altered(images(), 1, rates=lambda rates: rates[:0])
    path = conversion.write(tmp_path, handmade.cut(recording, 1, 0))
    opened = store.TrialStore.open(path)
    assert opened.trials.num_frames.tolist() == [1, 0, *[1] * (ROWS - 2)]
    windows = [Window(row, 0, 1) for row in range(3)]
    batch = batches.read_batch(opened, windows, opened.trials.num_frames, 0, (3, 1))
    assert batch.valid[:, 0].tolist() == [True, False, True] and not batch.responses[1].any()
    np.testing.assert_array_equal(batch.video[[0, 2]], one_by_one(opened, [0, 2])["video"])
    with pytest.raises(ValueError, match="row 1, which has 0"):
        opened.read(1)


DAMAGES = {
    "lost": lambda file: file.unlink(),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-20]),
    "altered": lambda file: file.write_bytes(bytes(b ^ 0xFF for b in file.read_bytes())),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["clips_uint8", "responses"])
def test_a_damaged_file_is_an_error_and_not_zeros(copy, name, damage):
    DAMAGES[damage](copy / name / ("c.0.0.0.0" if name == "clips_uint8" else "c.0.0.0"))
    opened = store.TrialStore.open(copy)
    windows = [Window(row, 0, 1) for row in range(ROWS)]
    for read in (
        lambda: opened.read(0),
        lambda: batches.read_batch(opened, windows, opened.trials.num_frames, 0, (ROWS, 1)),
    ):
        with pytest.raises(errors.UserError, match=r"is damaged .*convert the recording again"):
            read()


# What a store keeps and refuses -------------------------------------------------------------------


@pytest.mark.parametrize("name", [*SIGNALS, "rates"])
def test_verify_finds_one_changed_number_and_names_its_place(undisturbed, name):
    def change(values):
        values = values.copy()
        values[0, *[1] * (values.ndim - 1)] = 5.0
        return values

    place = ", ".join(["0"] + ["1"] * (getattr(images().read(4), name).ndim - 1))
    with pytest.raises(errors.UserError, match=rf"trial 4: {name} at .*\({place}\) is 5"):
        conversion.verify(undisturbed, handmade.altered(images(), 4, **{name: change}))


def test_a_trial_of_images_with_two_frames_is_refused(tmp_path):
    longer = dict.fromkeys((*SIGNALS, "rates"), lambda values: np.concatenate([values] * 2))
    with pytest.raises(errors.UserError, match="has 2 frames, expected one"):
        conversion.write(tmp_path, handmade.altered(images(), 4, **longer))
    assert store.stores_in(tmp_path) == []


def test_neuron_and_trial_columns_come_back_and_images_with_one_id_are_repeats(tmp_path):
    source = sorted(GOLDEN.glob("mini_sensorium2022*.zip"))[0]
    convert.main([str(source), "--out", str(tmp_path), "--verify"])
    for mouse in formats.sessions(source):
        opened, recording = store.TrialStore.open(tmp_path / mouse), formats.read(source, mouse)
        assert opened.neurons.columns.keys() == recording.neurons.columns.keys() > {"area"}
        for name, column in recording.neurons.columns.items():
            np.testing.assert_array_equal(opened.neurons.columns[name], column, strict=True)
        half = subsets.NeuronSubset.of(opened, np.arange(1, len(opened.neurons), 2))
        area = recording.neurons.columns["area"][1::2]
        np.testing.assert_array_equal(half.neurons.columns["area"], area)
        ids = recording.trial_columns["frame_image_id"]
        np.testing.assert_array_equal(opened.video_ids, ids)
        assert len(set(opened.trials.clip)) == len(set(ids))
        for key, found in opened.statistics.official.items():
            np.testing.assert_array_equal(found["std"], recording.statistics[key]["std"])


def test_names_of_images_are_repeats_too(tmp_path):
    names = np.array(["a", "c", "b", "a", "c", "c", "d", "a"])
    path = conversion.write(tmp_path, images(trial_columns={"frame_image_id": names}))
    found = store.TrialStore.open(path).video_ids
    assert found.tolist() == [0, 2, 1, 0, 2, 2, 3, 0]


def test_stores_of_videos_have_the_fingerprints_they_always_had(tmp_path):
    """A store that was made before there were images is still the store of its recording."""
    source = REPOSITORY / "tests" / "parity" / "golden" / "mini_sensorium2023_A.zip"
    known = ("8cfc31f7455c4ea4", "7a2a5a5aeef6dbf4")
    for mouse, expected in zip(sensorium2023.sessions(source), known, strict=True):
        path = conversion.write(tmp_path, formats.read(source, mouse))
        assert store.TrialStore.open(path).fingerprint.startswith(expected)


# Kills: another process ---------------------------------------------------------------------------

MANY = 1500


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> Path:
    """A session of many small images, of which each fifth was shown before."""
    session = tmp_path_factory.mktemp("session") / "static3-1-1-GrayImageNet-c"
    rng = np.random.default_rng(0)
    shown = [textures.to_levels(textures.pink_image(rng, 8, 10)) for _ in range(MANY)]
    for index in range(MANY):
        image = shown[index - 5 if index % 5 == 0 and index else index]
        save(session / "data" / "images" / f"{index}.npy", image[None])
        for key, size in {"responses": 20, "behavior": 3, "pupil_center": 2}.items():
            save(session / "data" / key / f"{index}.npy", rng.gamma(1.0, 5.0, size))
    save(session / "meta" / "trials" / "tiers.npy", np.full(MANY, "train"))
    return session


@pytest.fixture(scope="module")
def whole(session, tmp_path_factory) -> Path:
    return conversion.write(tmp_path_factory.mktemp("whole"), formats.read(session))


def kill_after(session: Path, out: Path, more_trials: int) -> bool:
    """Starts the conversion and kills it -9 when its journal has grown; False when it was done."""
    noted = out / f"{session.name}.partial" / "trials.jsonl"

    def count():
        return noted.read_bytes().count(b"\n") if noted.exists() else 0

    enough = min(count() + more_trials, MANY + 1)
    line = [sys.executable, str(Path(convert.__file__)), str(session), "--out", str(out)]
    return disasters.killed_when(line, lambda: count() >= enough)


@pytest.mark.slow
def test_kill_9_again_and_again_gives_the_same_store(session, whole, tmp_path):
    hits = [kill_after(session, tmp_path, random.randrange(1, 300)) for _ in range(4)]
    assert hits[0] and store.stores_in(tmp_path) == []
    hits.append(kill_after(session, tmp_path, MANY))  # while it finishes
    assert sum(hits) >= 3
    convert.main([str(session), "--out", str(tmp_path), "--verify"])
    assert_same(tmp_path / session.name, whole)
