"""The scripts measure each different video once and write the published layout, however stopped."""

import functools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from scripts import estimate_dot_features, estimate_gabor_features, extract_flashed_images
from sensojax import conversion
from sensojax.recordings import sensorium2023, simulated
from sensojax.stimuli import features
from sensojax.store import TrialStore
from sensojax.types import STIMULUS_KINDS
from tests import handmade

# Of the simulated mice the first is shown dots, the second Gabors and images.
SETTINGS = simulated.Settings(mice=2, neurons=1, trials=40, frames=60, height=12, width=20)
DOTS, GABORS = simulated.name(0), simulated.name(1)
SCRIPTS = {
    "drifting_gabor": (estimate_gabor_features.main, "drifting_gabor", GABORS),
    "gaussian_dots": (estimate_dot_features.main, "gaussian_dots", DOTS),
    "flashed_images": (extract_flashed_images.main, "flashing_images", GABORS),
}
EACH = pytest.mark.parametrize("kind", SCRIPTS)


@pytest.fixture(scope="module")
def sessions(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sessions")
    simulated.write(folder, SETTINGS)
    return folder


@pytest.fixture(scope="module")
def stores(sessions, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("stores")
    for mouse in (DOTS, GABORS):
        conversion.write(folder, sensorium2023.read(sessions, mouse))
    return folder


def run(kind: str, source: Path, out: Path, *words: str) -> dict[int, np.ndarray]:
    """The files that a script wrote, by number of the trial."""
    script, folder, mouse = SCRIPTS[kind]
    script([str(source), "--out", str(out), "--workers", "2", *words])
    return written(out / folder / mouse)


def written(folder: Path) -> dict[int, np.ndarray]:
    return {int(path.stem): np.load(path) for path in folder.glob("*.npy")}


def expected(kind: str, sessions: Path) -> dict[int, np.ndarray]:
    """What each trial of a kind should get, measured trial by trial."""
    images = features.Images()
    how = {
        "drifting_gabor": functools.partial(features.gabors, bank=features.Bank()),
        "gaussian_dots": features.dots,
        "flashed_images": images.identify,
    }[kind]
    recording = sensorium2023.read(sessions, SCRIPTS[kind][2])
    kinds = recording.trial_columns["true_kind"]
    rows = [row for row in np.flatnonzero(kinds == kind) if recording.tiers[row] != "none"]
    return {int(row): how(recording.read(row).video) for row in rows}


def assert_same(found: dict, wanted: dict) -> None:
    assert sorted(found) == sorted(wanted)
    for trial, values in wanted.items():
        np.testing.assert_array_equal(found[trial], values, err_msg=str(trial), strict=True)


@EACH
def test_sessions_and_stores_get_the_same_file_for_every_trial(
    sessions, stores, tmp_path, kind, capsys
):
    wanted = expected(kind, sessions)
    assert len(wanted) >= 3
    assert_same(run(kind, sessions, tmp_path / "of_sessions"), wanted)
    assert_same(run(kind, stores, tmp_path / "of_stores"), wanted)
    said = capsys.readouterr().out
    other = DOTS if kind != "gaussian_dots" else GABORS
    assert f"{other}: was shown no {kind.replace('_', ' ')}" in said
    assert f"{len(wanted)} trials, different videos measured: " in said
    assert not (tmp_path / "of_stores" / SCRIPTS[kind][1] / other).exists()


def test_every_different_video_is_measured_once(stores, tmp_path, monkeypatch):
    seen = []

    def counted(video, bank, blank):
        seen.append(video.tobytes())
        return np.zeros((len(video), 3))

    monkeypatch.setattr(features, "gabors", counted)
    found = run("drifting_gabor", stores, tmp_path)
    opened = TrialStore.open(stores / GABORS)
    clips = {opened.trials.clip[trial] for trial in found}
    assert len(seen) == len(set(seen)) == len(clips) < len(found)


@EACH
def test_a_stopped_run_goes_on_and_what_is_done_stays(
    sessions, stores, tmp_path, kind, monkeypatch, capsys
):
    wanted = expected(kind, sessions)
    before = run(kind, stores, tmp_path)
    folder = tmp_path / SCRIPTS[kind][1] / SCRIPTS[kind][2]
    run(kind, stores, tmp_path)
    assert "already there" in capsys.readouterr().out
    times = {path: path.stat().st_mtime_ns for path in folder.glob("*.npy")}
    lost = folder / f"{min(before)}.npy"
    lost.unlink()
    assert_same(run(kind, stores, tmp_path), wanted)
    again = {path for path, time in times.items() if path.stat().st_mtime_ns != time}
    if kind == "flashed_images":  # whose numbers hang together
        assert again == set(times)
    else:
        clips = TrialStore.open(stores / SCRIPTS[kind][2]).trials.clip
        assert {clips[int(path.stem)] for path in again} == {clips[min(before)]}


def test_an_interrupt_leaves_only_whole_files(stores, sessions, tmp_path, monkeypatch):
    original, done = features.dots, []

    def stopped(video, two_dots):
        if done:
            raise KeyboardInterrupt
        done.append(True)
        return original(video, two_dots)

    with monkeypatch.context() as patched, pytest.raises(SystemExit, match="interrupted"):
        patched.setattr(features, "dots", stopped)
        run("gaussian_dots", stores, tmp_path)
    there = written(tmp_path / "gaussian_dots" / DOTS)
    wanted = expected("gaussian_dots", sessions)
    assert 0 < len(there) < len(wanted)
    assert_same(run("gaussian_dots", stores, tmp_path), wanted)


def test_files_of_other_settings_are_never_mixed(stores, tmp_path):
    before = run("drifting_gabor", stores / GABORS, tmp_path)
    about = json.loads((tmp_path / "drifting_gabor" / GABORS / "about.json").read_text())
    assert about["block_frames"] == 25 and about["wavelengths"] == [0.18, 0.38, 0.65]
    assert about["columns"] == ["direction_deg", "wavelength", "frequency"]
    words = ("--block-frames", "20", "--wavelengths", "0.2,0.4", "--blank", "nan")
    with pytest.raises(SystemExit, match=r"other wavelengths, block_frames, blank; .*--again"):
        run("drifting_gabor", stores / GABORS, tmp_path, *words)
    after = run("drifting_gabor", stores / GABORS, tmp_path, *words, "--again")
    assert after.keys() == before.keys()
    for values in after.values():
        assert set(np.unique(values[:60, 1])) <= {np.float32(0.2), np.float32(0.4)}
        assert np.isfinite(values[:60]).all()


@pytest.mark.parametrize(
    "words", [("--block-frames", "0"), ("--wavelengths", ""), ("--sigma", "-1")]
)
def test_gabors_that_cannot_be_are_refused(stores, tmp_path, words):
    with pytest.raises(SystemExit, match=r"expected one or more directions, .*above zero"):
        run("drifting_gabor", stores, tmp_path, *words)


def test_a_folder_of_somebody_else_is_left_alone(stores, tmp_path):
    path = tmp_path / "gaussian_dots" / DOTS / "0.npy"
    handmade.save(path, np.zeros(3))
    for words in ((), ("--again",)):
        with pytest.raises(SystemExit, match=r"has no readable about\.json"):
            run("gaussian_dots", stores / DOTS, tmp_path, *words)
    assert path.is_file()


def test_trials_can_be_named(stores, sessions, tmp_path):
    wanted = expected("gaussian_dots", sessions)
    some = sorted(wanted)[1:3]
    words = ("--trials", ",".join(map(str, some)))
    found = run("gaussian_dots", stores / DOTS, tmp_path, *words)
    assert_same(found, {trial: wanted[trial] for trial in some})
    assert_same(run("gaussian_dots", stores / DOTS, tmp_path), wanted)
    with pytest.raises(SystemExit, match=f"no trial 99 of mouse {DOTS}.*numbered 0 to 39"):
        run("gaussian_dots", stores / DOTS, tmp_path, "--trials", "99")
    with pytest.raises(SystemExit, match="found --trials 'a', expected numbers"):
        run("gaussian_dots", stores / DOTS, tmp_path, "--trials", "a")


def without_kinds(sessions: Path, folder: Path) -> Path:
    """A session as a laboratory has it: nobody knows the kinds of its stimuli."""
    session = shutil.copytree(sessions / DOTS, folder / DOTS)
    (session / "truth" / "trials" / "kind.npy").unlink()
    return session


def test_kinds_are_asked_for_and_taken_from_a_folder(sessions, tmp_path):
    session = without_kinds(sessions, tmp_path / "lab")
    with pytest.raises(SystemExit, match=r"are not known; .*scripts/assign_stimulus_ids\.py"):
        run("gaussian_dots", session, tmp_path / "out")
    with pytest.raises(SystemExit, match="found no stimulus ids of mouse"):
        run("gaussian_dots", session, tmp_path / "out", "--ids", str(tmp_path / "ids"))
    kinds = sensorium2023.read(sessions, DOTS).trial_columns["true_kind"]
    codes = np.array([STIMULUS_KINDS.index(kind) for kind in kinds])
    handmade.save(tmp_path / "ids" / f"{DOTS}.npy", codes)
    found = run("gaussian_dots", session, tmp_path / "out", "--ids", str(tmp_path / "ids"))
    assert_same(found, expected("gaussian_dots", sessions))
    handmade.save(tmp_path / "ids" / f"{DOTS}.npy", codes[1:])
    with pytest.raises(SystemExit, match=r"shape \(39,\), expected a number for each of 40"):
        run("gaussian_dots", session, tmp_path / "out", "--ids", str(tmp_path / "ids"))


def test_sources_without_this_kind_are_an_error(sessions, tmp_path):
    with pytest.raises(SystemExit, match=r"found no drifting gabor in .*--trials"):
        run("drifting_gabor", sessions / DOTS, tmp_path)


def test_a_damaged_session_gets_one_sentence_and_the_others_go_on(sessions, tmp_path, capsys):
    """One trial of the mouse of dots is cut; the same mouse is also there undamaged."""
    damaged = shutil.copytree(sessions / DOTS, tmp_path / "lab" / "dynamic1-1-1-Video-damaged")
    shutil.copytree(sessions / DOTS, tmp_path / "lab" / DOTS)
    trial = min(expected("gaussian_dots", sessions))
    path = damaged / "data" / "videos" / f"{trial}.npy"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(SystemExit, match="1 of 2 mice could not be measured"):
        run("gaussian_dots", tmp_path / "lab", tmp_path / "out")
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(told) == 1 and f"videos/{trial}.npy is not a complete .npy" in told[0]
    found = written(tmp_path / "out" / "gaussian_dots" / DOTS)
    assert_same(found, expected("gaussian_dots", sessions))


def test_clips_too_short_for_a_block_are_named_with_their_trial(stores, tmp_path):
    with pytest.raises(SystemExit, match=r"trial \d+: found a video of \d+ frames, expected a blo"):
        run("drifting_gabor", stores / GABORS, tmp_path, "--block-frames", "99")


def test_frames_without_an_answer_are_counted(stores, tmp_path, capsys):
    """60 frames hold two blocks of 25 and ten frames more, which get no Gabor."""
    found = run("drifting_gabor", stores, tmp_path)
    clips = {values.tobytes(): np.isnan(values[:, 0]).sum() for values in found.values()}
    said = f"{sum(clips.values())} frames without an answer"
    assert sum(clips.values()) > 0 and said in capsys.readouterr().out


def test_repeats_that_were_cut_earlier_keep_their_own_length(tmp_path):
    """In the handmade recording one video is shown in 60, 48 and 70 frames; its first was 60."""
    opened = TrialStore.open(conversion.write(tmp_path / "stores", handmade.recording()))
    opened.annotate("stimulus_kind", np.full(len(opened.trials), "drifting_gabor"))
    script, folder, _ = SCRIPTS["drifting_gabor"]
    script([str(tmp_path / "stores"), "--out", str(tmp_path / "out"), "--block-frames", "20"])
    found = written(tmp_path / "out" / folder / opened.mouse)
    assert {trial: len(values) for trial, values in found.items()} == {
        row: frames for row, frames in enumerate(handmade.FRAMES) if handmade.TIERS[row] != "none"
    }
    np.testing.assert_array_equal(found[4], found[5][:48])
    assert np.isfinite(found[4]).all() and np.isnan(found[5][60:]).all()
