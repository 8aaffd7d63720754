import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sensojax.errors import UserError
from sensojax.recordings import sensorium2023
from sensojax.types import MODALITIES
from tests.goldens import GOLDEN
from tests.recordings import tiny

MINI = GOLDEN / "mini_sensorium2023_A.zip"


@pytest.fixture
def session(tmp_path):
    return tiny.write(tmp_path)


def assert_same_trial(left, right):
    assert (left.tier, left.checksum, left.official_frames) == (
        *(right.tier, right.checksum, right.official_frames),
    )
    for name in ("video", "responses", "behavior", "pupil_center"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name))


def test_time_comes_first_and_the_padding_is_gone(session):
    trial = sensorium2023.read(session).read(2)
    raw = {key: np.load(session / "data" / key / "2.npy") for key in MODALITIES}
    assert trial.num_frames == 6
    assert trial.video[5, 1, 3] == raw["videos"][1, 3, 5]
    np.testing.assert_array_equal(trial.responses, raw["responses"][:, :6].T)
    np.testing.assert_array_equal(trial.behavior, raw["behavior"][:, :6].T)
    np.testing.assert_array_equal(trial.pupil_center, raw["pupil_center"][:, :6].T)
    assert trial.video.shape == (6, 4, 5)


def test_statistics_and_neurons_are_those_of_the_files(session):
    recording = sensorium2023.read(session)
    std = np.load(session / "meta/statistics/videos/all/std.npy")
    np.testing.assert_array_equal(recording.statistics["videos"]["std"][3], std[:, :, 3])
    assert recording.neurons.ids.tolist() == [7, 9, 4]
    assert recording.neurons.position_um[1].tolist() == [3, 4, 5]
    assert recording.frame_rate_hz == 25.0
    assert recording.tiers == tiny.TIERS
    assert not recording.simulated


def test_a_trial_ends_where_the_first_signal_ends(session):
    path = session / "data/pupil_center/1.npy"
    signal = np.load(path)
    signal[1, 4:] = np.nan
    np.save(path, signal)
    recording = sensorium2023.read(session)
    assert [recording.read(index).num_frames for index in range(4)] == [6, 4, 6, 6]


def test_published_loader_stops_where_scaling_gives_no_number(session):
    for key in ("videos", "pupil_center"):
        path = session / f"meta/statistics/{key}/all"
        mean, std = np.load(path / "mean.npy"), np.load(path / "std.npy")
        # 0/0 for trial 0 only; another value over 0 is infinite, which is a number there.
        mean[..., 4] = np.load(session / f"data/{key}/0.npy")[..., 4]
        std[..., 4] = 0
        np.save(path / "mean.npy", mean)
        np.save(path / "std.npy", std)
        recording = sensorium2023.read(session)
        first, second = recording.read(0), recording.read(1)
        assert (first.official_frames, first.num_frames) == (4, 6)
        assert second.official_frames in ((6,) if key == "pupil_center" else (4, 6))
        std[..., 4] = 1
        np.save(path / "std.npy", std)


def test_behavior_of_zero_over_zero_stops_the_published_loader(session):
    path = session / "meta/statistics/behavior/all/std.npy"
    std = np.load(path)
    std[0, 3] = 0
    np.save(path, std)
    behavior = np.load(session / "data/behavior/0.npy")
    assert behavior[0, 3] != 0
    assert sensorium2023.read(session).read(0).official_frames == 6
    behavior[0, 3] = 0
    np.save(session / "data/behavior/0.npy", behavior)
    assert sensorium2023.read(session).read(0).official_frames == 3


def test_zip_and_folder_give_the_same_trials(tmp_path):
    with zipfile.ZipFile(MINI) as archive:
        archive.extractall(tmp_path)
    assert sensorium2023.sessions(tmp_path) == sensorium2023.sessions(MINI)
    for mouse in sensorium2023.sessions(MINI):
        packed, plain = sensorium2023.read(MINI, mouse), sensorium2023.read(tmp_path / mouse)
        assert (packed.mouse, packed.tiers) == (plain.mouse, plain.tiers)
        np.testing.assert_array_equal(packed.neurons.position_um, plain.neurons.position_um)
        for key in MODALITIES:
            for name, array in plain.statistics[key].items():
                np.testing.assert_array_equal(packed.statistics[key][name], array)
        for index in range(len(plain.tiers)):
            assert_same_trial(packed.read(index), plain.read(index))


def test_zip_of_the_session_itself_is_named_after_the_zip(session, tmp_path):
    packed = shutil.make_archive(tmp_path / "dynamic5-1-1-Video-a", "zip", session)
    assert sensorium2023.sessions(packed) == ["dynamic5-1-1-Video-a"]
    assert_same_trial(sensorium2023.read(packed).read(3), sensorium2023.read(session).read(3))


def test_folder_of_zips_and_folders_lists_each_session_once(session, tmp_path):
    shutil.make_archive(tmp_path / "same", "zip", tmp_path, session.name)
    shutil.make_archive(tmp_path / "other", "zip", session)
    (tmp_path / "unfinished.partial" / "meta" / "trials").mkdir(parents=True)
    shutil.copy(session / "meta/trials/tiers.npy", tmp_path / "unfinished.partial/meta/trials")
    assert sensorium2023.sessions(tmp_path) == [session.name, "other"]
    assert sensorium2023.sessions(session) == [session.name]


def test_many_threads_read_the_same_trials_as_one():
    mouse = sensorium2023.sessions(MINI)[0]
    recording = sensorium2023.read(MINI, mouse)
    indices = list(range(len(recording.tiers))) * 3
    with ThreadPoolExecutor(8) as pool:
        for index, trial in zip(indices, pool.map(recording.read, indices), strict=True):
            assert_same_trial(trial, sensorium2023.read(MINI, mouse).read(index))


def test_optional_files_may_be_missing(session):
    whole = sensorium2023.read(session).read(1)
    for name in ("meta/statistics", "meta/neurons"):
        shutil.rmtree(session / name)
    (session / "meta/trials/target_fps.npy").unlink()
    recording = sensorium2023.read(session)
    assert recording.frame_rate_hz == 30.0
    assert recording.neurons.ids.tolist() == [0, 1, 2]
    assert np.isnan(recording.neurons.position_um).all()
    assert recording.statistics == {}
    assert_same_trial(recording.read(1), whole)


def test_pickled_meta_columns_are_passed_over(session):
    np.save(session / "meta/trials/notes.npy", np.array(["a", 1, None, 2], object))
    assert list(sensorium2023.read(session).trial_columns) == ["target_fps"]


def test_reading_the_meta_data_touches_no_later_trial(session):
    (session / "data/videos/2.npy").write_bytes(b"")
    recording = sensorium2023.read(session)
    assert recording.read(1).num_frames == 6
    with pytest.raises(UserError, match=r"videos/2\.npy"):
        recording.read(2)


def test_hole_can_be_cut_on_request(session):
    make_hole(session)
    assert sensorium2023.read(session, holes="cut").read(1).num_frames == 2


def test_checksum_tells_files_apart(session):
    before = [sensorium2023.read(session).read(index).checksum for index in range(4)]
    assert len(set(before)) == 4
    path = session / "data/behavior/1.npy"
    np.save(path, np.load(path) + 1)
    after = [sensorium2023.read(session).read(index).checksum for index in range(4)]
    assert [a == b for a, b in zip(after, before, strict=True)] == [True, False, True, True]


def make_hole(session):
    responses = np.load(session / "data/responses/1.npy")
    responses[2, 2] = np.nan
    np.save(session / "data/responses/1.npy", responses)


def change(path, function):
    def damage(session):
        np.save(session / path, function(np.load(session / path)))

    return damage


def truncate(path):
    def damage(session):
        data = (session / path).read_bytes()
        (session / path).write_bytes(data[: len(data) - 20])

    return damage


def remove(path):
    return lambda session: (session / path).unlink()


def fill(path, data):
    return lambda session: (session / path).write_bytes(data)


def broken_header(path):
    path.write_bytes(path.read_bytes().replace(b"), }", b"(, }", 1))


TIERS = "meta/trials/tiers.npy"
DAMAGES = {
    "truncated trial": (truncate("data/videos/1.npy"), r"videos/1\.npy is not a complete"),
    "empty trial": (fill("data/behavior/1.npy", b""), r"behavior/1\.npy is not a complete"),
    "broken header": (
        lambda session: broken_header(session / "data/videos/1.npy"),
        r"videos/1\.npy is not a complete",
    ),
    "no npy at all": (fill("data/responses/1.npy", b"hello" * 9), r"responses/1\.npy is not"),
    "first trial unreadable": (fill("data/videos/0.npy", b"x"), r"videos/0\.npy is not a complete"),
    "pickled trial": (
        change("data/behavior/1.npy", lambda a: a.astype(object)),
        r"behavior/1\.npy is not a complete .npy file of numbers",
    ),
    "text trial": (change("data/behavior/1.npy", lambda a: a.astype(str)), "expected numbers"),
    "other neuron count": (
        change("data/responses/1.npy", lambda a: a[:2]),
        r"responses/1\.npy has responses of 2 neurons but the session has 3",
    ),
    "neuron table of another session": (
        change("meta/neurons/unit_ids.npy", lambda a: a[:2]),
        r"unit_ids of shape \(2,\) and cell_motor_coordinates of shape \(3, 3\)",
    ),
    "an axis too few": (
        change("data/videos/1.npy", lambda a: a[0]),
        r"videos/1\.npy has 2 axes .* expected \(height, width, time\)",
    ),
    "another size": (change("data/videos/1.npy", lambda a: a[:3]), r"shape \(3, 5, 8\)"),
    "a shorter signal": (
        change("data/behavior/1.npy", lambda a: a[:, :7]),
        r"behavior/1\.npy has 7 frames but the video of this trial has 8",
    ),
    "hole": (make_hole, r"responses/1\.npy is NaN from frame 2 but has numbers again from frame 3"),
    "nothing recorded": (
        change("data/videos/1.npy", lambda a: a * np.nan),
        "trial 1 of .* has no frame",
    ),
    "unknown tier": (
        change(TIERS, lambda a: np.where(a == "oracle", "orcale", a)),
        "names a tier 'orcale'; did you mean 'oracle'",
    ),
    "numbers for tiers": (change(TIERS, lambda a: np.arange(4)), "expected one tier name"),
    "too few tiers": (change(TIERS, lambda a: a[:3]), "has 4 trials .* names 3 tiers"),
    "too many tiers": (change(TIERS, lambda a: np.append(a, "train")), "names 5 tiers"),
    "missing trial file": (
        remove("data/pupil_center/1.npy"),
        r"pupil_center/1\.npy is missing \(1 of 4 trials have no pupil_center\)",
    ),
    "statistics of another length": (
        change("meta/statistics/responses/all/std.npy", lambda a: a[:, :5]),
        "statistics of responses .* cover 5 frames .* but trial 1 has 8",
    ),
    "two frame rates": (
        change("meta/trials/target_fps.npy", lambda a: np.array([30.0, 25, 30, 30])),
        "has the frame rates 25, 30 Hz",
    ),
    "column of another length": (
        change("meta/trials/target_fps.npy", lambda a: a[:2]),
        "expected 4 entries",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_damaged_session_is_refused_in_one_sentence(session, tmp_path, name, packed):
    damage, sentence = DAMAGES[name]
    damage(session)
    path = shutil.make_archive(tmp_path / "packed", "zip", session) if packed else session
    with pytest.raises(UserError, match=sentence) as refusal:
        sensorium2023.read(path).read(1)
    assert "\n" not in str(refusal.value)
    assert ": " in str(refusal.value) or ";" in str(refusal.value)


def test_missing_path_names_what_is_near(session, tmp_path):
    with pytest.raises(UserError, match=f"did you mean '{session.name}'"):
        sensorium2023.read(tmp_path / session.name.replace("Video", "Vidoe"))
    with pytest.raises(UserError, match=r"there is no folder or \.zip"):
        sensorium2023.read(tmp_path / "no" / "where")


def test_folder_without_sessions_names_what_it_holds(session, tmp_path):
    with pytest.raises(UserError, match=f"neither a session .* did you mean {session}"):
        sensorium2023.read(session / "data")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="it is empty"):
        sensorium2023.sessions(tmp_path / "empty")


def test_several_sessions_ask_for_a_name():
    first, second = sensorium2023.sessions(MINI)
    with pytest.raises(UserError, match=f"holds 2 sessions.*{first}, {second}"):
        sensorium2023.read(MINI)
    with pytest.raises(UserError, match=f"did you mean {first!r}"):
        sensorium2023.read(MINI, first[:-1] + "x")


def test_damaged_zip_is_refused(session, tmp_path):
    packed = tmp_path / "packed.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(session.rglob("*.npy")):
            archive.write(file, file.relative_to(session))
        place = archive.getinfo("data/responses/1.npy").header_offset
    whole = packed.read_bytes()
    packed.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"packed\.zip is not a readable zip"):
        sensorium2023.read(packed)
    flipped = bytearray(whole)
    flipped[place + 250] ^= 0xFF
    packed.write_bytes(flipped)
    with pytest.raises(UserError, match=r"responses/1\.npy is damaged .*download the zip again"):
        sensorium2023.read(packed).read(1)
