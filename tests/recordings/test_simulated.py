import dataclasses
import hashlib

import numpy as np
import pytest

from scripts import simulate
from sensojax.errors import UserError
from sensojax.recordings import sensorium2023, simulated
from sensojax.recordings.simulation import anatomy, session

SMALL = simulated.Settings(
    mice=1, neurons=5, trials=24, frames=40, padded_frames=46, height=10, width=12, seed=3
)
TEST_TIERS = {"live_test_main", "final_test_main", "live_test_bonus", "final_test_bonus"}


@pytest.fixture(autouse=True)
def quick_calibration(monkeypatch):
    monkeypatch.setattr(anatomy, "CALIBRATION", (2, 60))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anatomy, "CALIBRATION", (2, 60))
        return simulated.write(tmp_path_factory.mktemp("mice"), SMALL)[0]


@pytest.fixture(scope="module")
def trials(folder):
    recording = sensorium2023.read(folder)
    return recording, [recording.read(index) for index in range(len(recording.tiers))]


def digests(folder):
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_same_seed_gives_the_same_bytes_with_any_number_of_workers(folder, tmp_path):
    again = simulated.write(tmp_path, SMALL, workers=2)[0]
    alone = simulated.write(tmp_path / "alone", SMALL, workers=1)[0]
    assert digests(again) == digests(alone) == digests(folder)
    assert len(digests(folder)) > 5 * SMALL.trials


def test_another_seed_or_mouse_gives_other_neurons_and_clips():
    mice = [
        session.Mouse(SMALL, 0),
        session.Mouse(SMALL, 1),
        session.Mouse(dataclasses.replace(SMALL, seed=4), 0),
    ]
    for one, other in zip(mice, mice[1:] + mice[:1], strict=True):
        assert not np.array_equal(one.neurons.center, other.neurons.center)
        assert one.clip(0).tobytes() != other.clip(0).tobytes()


def test_interrupted_writing_continues_to_the_same_bytes(folder, tmp_path, monkeypatch):
    calls = []
    write_trial = session.write_trial

    def interrupted(*arguments):
        if len(calls) == 9:
            raise KeyboardInterrupt
        calls.append(arguments)
        write_trial(*arguments)

    monkeypatch.setattr(session, "write_trial", interrupted)
    with pytest.raises(KeyboardInterrupt):
        simulated.write(tmp_path, SMALL, workers=1)
    assert [path.suffix for path in tmp_path.iterdir()] == [".partial"]
    assert sensorium2023_sessions(tmp_path) == 0
    calls.clear()
    monkeypatch.setattr(session, "write_trial", lambda *a: calls.append(a) or write_trial(*a))
    path = simulated.write(tmp_path, SMALL, workers=2)[0]
    assert len(calls) == SMALL.trials - 9
    assert digests(path) == digests(folder)


def sensorium2023_sessions(folder):
    try:
        return len(sensorium2023.sessions(folder))
    except UserError:
        return 0


def test_finished_session_is_left_alone_and_other_settings_are_refused(tmp_path):
    path = simulated.write(tmp_path, SMALL)[0]
    marker = path / "data" / "videos" / "0.npy"
    before = marker.stat().st_mtime_ns
    more = simulated.write(tmp_path, dataclasses.replace(SMALL, mice=2))
    assert more[0] == path and more[1].is_dir()
    assert marker.stat().st_mtime_ns == before
    with pytest.raises(UserError, match=r"other settings .*neurons 5 instead of 6"):
        simulated.write(tmp_path, dataclasses.replace(SMALL, neurons=6))
    (path / simulated.TRUTH_FILE).unlink()
    with pytest.raises(UserError, match="is not a simulated session"):
        simulated.write(tmp_path, SMALL)


def test_written_session_reads_as_a_simulated_recording(trials):
    recording, read = trials
    assert recording.simulated
    assert recording.mouse == simulated.name(0)
    assert recording.truth["fields"].shape == (5, 2, 10, 12)
    assert recording.statistics["videos"]["std"].shape == (46, 10, 12)
    for trial in read:
        assert trial.rates.shape == trial.responses.shape == (trial.num_frames, 5)
        assert trial.video.shape[1:] == (10, 12)
        assert np.isfinite(trial.rates).all() and (trial.rates > 0).all()
        assert (trial.responses >= 0).all()
        assert trial.behavior.min() >= 0
        assert np.array_equal(trial.video, np.rint(trial.video)) and np.ptp(trial.video) > 50
    assert len({trial.num_frames for trial in read}) > 1
    assert max(trial.num_frames for trial in read) <= 46


def test_every_tier_is_there_with_its_structure(trials):
    recording, _ = trials
    tiers, clips = np.array(recording.tiers), recording.trial_columns["true_clip"]
    kinds = recording.trial_columns["true_kind"]
    assert set(tiers) == {"train", "oracle", "none"} | TEST_TIERS
    assert not np.array_equal(tiers, np.sort(tiers))
    assert len(set(clips[tiers == "train"])) == np.sum(tiers == "train") == 11
    for tier in ("oracle", *TEST_TIERS):
        shown = clips[tiers == tier]
        assert len(shown) > len(set(shown))
        assert not set(shown) & set(clips[tiers != tier])
    assert set(kinds[np.isin(tiers, ["train", "oracle", "none"])]) == {"movie"}
    assert len(set(kinds[tiers == "live_test_bonus"]) - {"movie"}) == 1
    assert len(set(kinds[tiers == "final_test_bonus"]) - {"movie"}) == 2


def test_repeats_show_equal_clips_to_a_mouse_that_behaves_differently(trials):
    recording, read = trials
    clips = recording.trial_columns["true_clip"]
    repeated = [group for clip in set(clips) if len(group := np.flatnonzero(clips == clip)) > 1]
    assert repeated
    for first, second, *_ in repeated:
        one, other = read[first], read[second]
        assert np.array_equal(one.video, other.video)
        assert not np.array_equal(one.behavior, other.behavior)
        assert not np.array_equal(one.pupil_center, other.pupil_center)
        assert not np.array_equal(one.rates, other.rates)
        assert not np.array_equal(one.responses, other.responses)


def test_statistics_are_over_all_trials_per_frame(folder):
    for key in ("videos", "responses", "behavior", "pupil_center"):
        files = [folder / "data" / key / f"{index}.npy" for index in range(SMALL.trials)]
        raw = np.stack([np.load(file) for file in files])[..., :38]
        for name in ("mean", "std", "min", "max", "median"):
            written = np.load(folder / "meta/statistics" / key / "all" / f"{name}.npy")[..., :38]
            np.testing.assert_allclose(written, getattr(np, name)(raw, axis=0), rtol=1e-9)


def test_statistics_do_not_depend_on_the_blocks_they_are_computed_in(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(session, "BLOCK_BYTES", 1.0)
    again = simulated.write(tmp_path, SMALL, workers=2)[0]
    assert digests(again) == digests(folder)


def test_padding_is_nan_and_its_length_varies(folder):
    ends = {
        (key, int(np.isnan(np.load(file)).reshape(-1, 46).any(0).argmax() or 46))
        for key in ("videos", "behavior")
        for file in (folder / "data" / key).iterdir()
    }
    assert len({end for key, end in ends if key == "videos"}) > 1
    assert {end for key, end in ends if key == "behavior"} - {
        end for key, end in ends if key == "videos"
    }


def test_withheld_responses_are_zeros_in_the_test_tiers_only(tmp_path, trials):
    path = simulated.write(tmp_path, dataclasses.replace(SMALL, withhold=True))[0]
    recording = sensorium2023.read(path)
    for index, tier in enumerate(recording.tiers):
        trial = recording.read(index)
        assert (not trial.responses.any()) == (tier in TEST_TIERS)
        np.testing.assert_array_equal(trial.rates, trials[1][index].rates)
        assert trial.num_frames == trials[1][index].num_frames


def test_noise_off_leaves_the_rates(tmp_path):
    path = simulated.write(tmp_path, dataclasses.replace(SMALL, noise=0.0))[0]
    trial = sensorium2023.read(path).read(0)
    np.testing.assert_allclose(trial.responses, trial.rates, rtol=1e-3)


@pytest.mark.parametrize(
    "wrong",
    [{"neurons": 0}, {"trials": 15}, {"train_share": 1.0}, {"padded_frames": 39}, {"noise": -1.0}],
    ids=str,
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        dataclasses.replace(SMALL, **wrong)


def test_command_says_that_the_mice_are_simulated_and_refuses_in_one_line(tmp_path, capsys):
    size = {"mice": 1, "neurons": 2, "trials": 16, "frames": 12, "height": 8, "width": 8}
    command = [f"--{name}={value}" for name, value in size.items()] + [f"--folder={tmp_path}"]
    simulate.main(command)
    assert "1 simulated mice (no animal was recorded)" in capsys.readouterr().out
    assert sensorium2023.sessions(tmp_path) == [simulated.name(0)]
    with pytest.raises(SystemExit, match=r"^error: .*seed 0 instead of 1.*$"):
        simulate.main([*command, "--seed=1"])
    with pytest.raises(SystemExit, match=r"^error: trials is 3"):
        simulate.main([*command, "--trials=3"])
