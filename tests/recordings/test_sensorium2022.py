import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sensojax.errors import UserError
from sensojax.recordings import formats, sensorium2022
from sensojax.types import MODALITIES
from tests.goldens import GOLDEN
from tests.recordings import tiny, tiny_images

MINI = GOLDEN / "mini_sensorium2022_A.zip"
STD = "meta/statistics/images/all/std.npy"


@pytest.fixture
def session(tmp_path):
    return tiny_images.write(tmp_path)


def assert_same_trial(left, right):
    assert (left.tier, left.checksum) == (right.tier, right.checksum)
    for name in ("video", "responses", "behavior", "pupil_center"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_trial_is_a_video_of_one_frame(tmp_path, dtype):
    session = tiny_images.write(tmp_path, dtype)
    recording = sensorium2022.read(session)
    trial = recording.read(2)
    raw = {key: np.load(session / "data" / key / "2.npy") for key in tiny_images.SHAPES}
    assert recording.still and trial.num_frames == trial.official_frames == 1
    assert trial.video.dtype == dtype
    np.testing.assert_array_equal(trial.video, raw["images"])
    for key in ("responses", "behavior", "pupil_center"):
        np.testing.assert_array_equal(getattr(trial, key), raw[key][None])
    assert recording.tiers == tiny_images.TIERS and trial.tier == "test"


def test_tables_are_those_of_the_files(session):
    recording = sensorium2022.read(session)
    assert recording.neurons.ids.tolist() == [7, 9, 4]
    assert recording.neurons.position_um[1].tolist() == [3, 4, 5]
    columns = recording.neurons.columns
    assert sorted(columns) == ["area", "layer", "sessions"]
    assert columns["area"].tolist() == ["V1", "LM", "V1"]
    assert recording.trial_columns["frame_image_id"].tolist() == list(tiny_images.IMAGES)
    ids = recording.trial_columns["trial_idx"]
    assert ids.dtype.kind == "U" and ids[4] == f"{4:032x}"
    assert recording.frame_rate_hz == 2.0 and not recording.simulated


def test_statistics_are_those_of_the_files_with_one_frame(session):
    std = np.load(session / STD)
    found = sensorium2022.read(session).statistics
    np.testing.assert_array_equal(found["videos"]["std"], std)
    for key in ("responses", "behavior", "pupil_center"):
        mean = np.load(session / f"meta/statistics/{key}/all/mean.npy")
        np.testing.assert_array_equal(found[key]["mean"], mean[None])
    other = sensorium2022.read(session, statistics="stimulus_frame").statistics
    np.testing.assert_array_equal(other["videos"]["std"], std + 1)
    with pytest.raises(UserError, match=r"statistics 'stimulus'.*did you mean 'stimulus_frame'"):
        sensorium2022.read(session, statistics="stimulus")


@pytest.mark.parametrize("number", [np.float64(5.5), np.array([5.5]), np.array([[[5.5]]], "f4")])
def test_one_number_for_all_pixels_counts_for_each(session, number):
    np.save(session / STD, number)
    found = sensorium2022.read(session).statistics["videos"]["std"]
    np.testing.assert_array_equal(found, np.full(tiny_images.SHAPES["images"], 5.5))


def test_the_published_loader_of_images_cuts_nothing(session):
    """The mouse of track SENSORIUM has zeros for behavior and pupil: nothing over nothing."""
    for key in ("behavior", "pupil_center"):
        for folder in (f"data/{key}", f"meta/statistics/{key}/all"):
            for path in (session / folder).iterdir():
                np.save(path, np.zeros_like(np.load(path)))
    assert sensorium2022.read(session).read(0).official_frames == 1


def test_zip_and_folder_give_the_same_trials(tmp_path):
    with zipfile.ZipFile(MINI) as archive:
        archive.extractall(tmp_path)
    mice = sensorium2022.sessions(MINI)
    assert sensorium2022.sessions(tmp_path) == mice == formats.sessions(MINI) and len(mice) == 2
    for mouse in mice:
        packed, plain = sensorium2022.read(MINI, mouse), sensorium2022.read(tmp_path / mouse)
        assert (packed.mouse, packed.tiers) == (plain.mouse, plain.tiers)
        assert packed.neurons.columns.keys() == plain.neurons.columns.keys() > {"area", "layer"}
        for key in MODALITIES:
            for name, array in plain.statistics[key].items():
                np.testing.assert_array_equal(packed.statistics[key][name], array)
        for index in range(len(plain.tiers)):
            assert_same_trial(packed.read(index), plain.read(index))


def test_many_threads_read_the_same_trials_as_one(session):
    recording = sensorium2022.read(session)
    indices = list(range(len(recording.tiers))) * 20
    alone = {index: sensorium2022.read(session).read(index) for index in set(indices)}
    with ThreadPoolExecutor(8) as pool:
        for index, trial in zip(indices, pool.map(recording.read, indices), strict=True):
            assert_same_trial(trial, alone[index])


def test_optional_files_may_be_missing(session):
    for name in ("meta/statistics", "meta/neurons"):
        shutil.rmtree(session / name)
    (session / "meta/trials/frame_image_id.npy").unlink()
    recording = sensorium2022.read(session)
    assert recording.neurons.ids.tolist() == [0, 1, 2] and recording.neurons.columns == {}
    assert recording.statistics == {}


def test_a_trial_without_a_number_is_refused_or_stays_empty(session):
    path = session / "data/behavior/1.npy"
    np.save(path, np.array([1.0, np.nan, 2.0]))
    with pytest.raises(UserError, match=r"trial 1 of .* \(.*behavior/1\.npy is NaN"):
        sensorium2022.read(session).read(1)
    empty = sensorium2022.read(session, holes="cut").read(1)
    assert empty.num_frames == 0 and empty.video.shape == (0, 4, 6)


def change(name, how):
    return lambda session: np.save(session / name, how(np.load(session / name)))


DAMAGES = {
    "a column of colors": (
        change("data/images/1.npy", lambda a: np.repeat(a, 3, 0)),
        r"images/1\.npy has shape \(3, 4, 6\), expected \(1, height, width\)",
    ),
    "no first axis": (
        change("data/images/1.npy", lambda a: a[0]),
        r"images/1\.npy has 2 axes .* expected \(1, height, width\)",
    ),
    "another size": (
        change("data/images/1.npy", lambda a: a[:, :3]),
        r"images/1\.npy has shape \(1, 3, 6\) but images/0\.npy of this session has \(4, 6\)",
    ),
    "a time axis": (
        change("data/responses/1.npy", lambda a: a[:, None]),
        r"responses/1\.npy has 2 axes .* expected \(neuron\)",
    ),
    "other neuron count": (
        change("data/responses/1.npy", lambda a: a[:2]),
        r"responses/1\.npy has responses of 2 neurons but the session has 3",
    ),
    "other behavior": (
        change("data/behavior/1.npy", lambda a: a[:2]),
        r"behavior/1\.npy has shape \(2,\) but behavior/0\.npy of this session has \(3,\)",
    ),
    "text for numbers": (
        change("data/responses/1.npy", lambda a: a.astype(str)),
        "responses/1.npy holds <U.*expected numbers",
    ),
    "missing image": (
        lambda session: (session / "data/images/1.npy").unlink(),
        r"images/1\.npy is missing \(1 of 5 trials have no images\)",
    ),
    "half an image": (
        lambda session: (session / "data/images/1.npy").write_bytes(b"\x93NUMPY"),
        r"images/1\.npy is not a complete \.npy",
    ),
    "statistics of another size": (
        change(STD, lambda a: a[:, :2]),
        r"images/all/std\.npy has shape \(1, 2, 6\), expected one number or \(1, 4, 6\)",
    ),
    "statistics of other neurons": (
        change("meta/statistics/responses/all/std.npy", lambda a: a[:2]),
        r"responses/all/std\.npy has shape \(2,\), expected one number or \(3,\)",
    ),
    "areas of other neurons": (
        change("meta/neurons/area.npy", lambda a: a[:2]),
        r"neurons/area\.npy has shape \(2,\), expected 3 entries",
    ),
    "image ids of other trials": (
        change("meta/trials/frame_image_id.npy", lambda a: a[:2]),
        r"frame_image_id\.npy has shape \(2,\), expected 5 entries",
    ),
    "unknown tier": (
        change("meta/trials/tiers.npy", lambda a: np.where(a == "validation", "validaton", a)),
        "names a tier 'validaton'; did you mean 'validation'",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_damaged_session_is_refused_in_one_sentence(session, tmp_path, name, packed):
    damage, sentence = DAMAGES[name]
    damage(session)
    path = shutil.make_archive(tmp_path / "packed", "zip", session) if packed else session
    with pytest.raises(UserError, match=sentence) as refusal:
        sensorium2022.read(path).read(1)
    assert "\n" not in str(refusal.value)


# Whichever format ---------------------------------------------------------------------------------


def test_each_session_is_read_by_the_format_it_has(session, tmp_path):
    videos = tiny.write(tmp_path)
    assert formats.sessions(tmp_path) == [videos.name, session.name]
    assert not formats.read(tmp_path, videos.name).still
    assert formats.read(tmp_path, videos.name).read(0).num_frames == 6
    assert formats.read(tmp_path, session.name).read(0).num_frames == 1
    with pytest.raises(UserError, match=f"has no session 'dynamic1'.*{session.name}"):
        formats.read(tmp_path, "dynamic1")


def test_a_session_of_neither_or_both_formats_is_refused(session):
    images = session / "data/images"
    shutil.copytree(images, session / "data/videos")
    with pytest.raises(UserError, match="has both data/videos and data/images, expected"):
        formats.read(session)
    for folder in (images, session / "data/videos"):
        shutil.rmtree(folder)
    with pytest.raises(UserError, match="has neither data/videos nor data/images, expected"):
        formats.read(session)
