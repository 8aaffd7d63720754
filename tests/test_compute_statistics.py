"""The statistics are numpy's on the whole tier, need little memory, and survive what happens."""

import dataclasses
import os
import sys
import threading
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from scripts import compute_statistics
from sensojax import conversion
from sensojax.errors import UserError
from sensojax.recordings import competition, frame_statistics, sensorium2023, simulated
from sensojax.tools import sources, tier_statistics
from sensojax.types import MODALITIES, Neurons, Trial
from tests import disasters, handmade, real_data

SCRIPT = Path(compute_statistics.__file__)
MOUSE = "dynamic1-1-1-Video-a"
# numpy sums whole arrays pairwise, we merge trials: both are within rounding of float64.
ROUNDING = 1e-12


def assert_equal_to_numpy(found, trials):
    for variable, name in tier_statistics.VARIABLES.items():
        values = np.concatenate([getattr(trial, name) for trial in trials]).astype(np.float64)
        axis = None if variable == "video" else 0
        for statistic, given in found[variable].items():
            expected = getattr(np, f"nan{statistic}")(values, axis=axis)
            assert given.dtype == np.float64 and given.shape == expected.shape
            exact = statistic in ("min", "max", "median")
            rounding = 0 if exact else ROUNDING
            np.testing.assert_allclose(given, expected, rtol=rounding, err_msg=statistic)


def changed_videos(session: Path, numbers, change) -> None:
    for number in numbers:
        path = session / "data" / "videos" / f"{number}.npy"
        np.save(path, change(np.load(path)))


def computed(folder: Path, mouse: str = MOUSE) -> dict:
    return {
        variable: {
            name: np.load(folder / mouse / variable / f"{name}.npy")
            for name in tier_statistics.STATISTICS
        }
        for variable in tier_statistics.VARIABLES
    }


@pytest.mark.parametrize(
    ("kind", "videos"),
    [
        ("session", "whole"),
        ("session", "fractions"),
        ("session", "one fraction"),
        ("zip", "whole"),
        ("store", "one fraction"),
        ("folder of stores", "whole"),
    ],
)
def test_statistics_are_those_of_numpy_on_whole_arrays(tmp_path, kind, videos):
    source = handmade.write_session(tmp_path, MOUSE, 24)
    if videos != "whole":
        numbers = range(24) if videos == "fractions" else [18]
        changed_videos(source, numbers, lambda video: video + 0.37)
    opened = next(iter(sources.find([source]).values()))()
    if kind == "zip":
        source = zipped(source)
    elif kind != "session":
        source = conversion.write(tmp_path / "stores", sensorium2023.read(source))
        opened = next(iter(sources.find([source]).values()))()
        source = source if kind == "store" else source.parent
    compute_statistics.main([str(source), "--out", str(tmp_path / "out")])
    trials = [opened.read(row) for row in opened.rows(["train"])]
    assert len(trials) == 12
    assert_equal_to_numpy(computed(tmp_path / "out"), trials)


def zipped(session: Path) -> Path:
    path = session.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(session.rglob("*.npy")):
            archive.write(file, file.relative_to(session.parent))
    return path


# Memory, threads -------------------------------------------------------------------------------


def made_up(num_trials: int, withheld=()) -> sources.Source:
    """A mouse whose trials are made when they are read."""

    def read(row):
        rng = np.random.default_rng(row)
        responses = rng.exponential(size=(40, 300)) * (row not in withheld)
        signals = rng.random((40, 12, 16)), responses, rng.random((40, 2)), rng.random((40, 2))
        return Trial(row, "train", *signals, official_frames=40, checksum="")

    neurons = Neurons(np.arange(300), np.zeros((300, 3)))
    return sources.Source("made up", "nowhere", ("train",) * num_trials, neurons, 30.0, read)


def test_memory_does_not_grow_with_the_number_of_trials():
    """100 trials are 11 MB of numbers; a method that keeps them would need them."""
    peaks = []
    for num_trials in (25, 100):
        tracemalloc.start()
        tier_statistics.compute(made_up(num_trials), range(num_trials), workers=1)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # What may grow: a sample of up to 16 trials, the gathered values (one in 300).
    assert peaks[1] < 1.15 * peaks[0] and peaks[1] < 12e6


def test_the_number_of_threads_changes_no_bit():
    found = [tier_statistics.compute(made_up(23), range(23), workers)[0] for workers in (1, 5)]
    for variable, statistics in found[0].items():
        for name, values in statistics.items():
            np.testing.assert_array_equal(values, found[1][variable][name])


def test_withheld_responses_do_not_count():
    source = made_up(9, withheld=(2, 5, 8))
    found, frames = tier_statistics.compute(source, range(9))
    assert frames == 9 * 40
    kept = [source.read(row) for row in range(9) if row not in (2, 5, 8)]
    expected = np.concatenate([trial.responses for trial in kept])
    np.testing.assert_array_equal(found["response"]["median"], np.median(expected, axis=0))
    assert found["response"]["min"].min() > 0


def test_two_passes_over_the_trials_are_enough():
    source, reads, lock = made_up(40), [], threading.Lock()

    def read(row):
        with lock:
            reads.append(row)
        return source.read(row)

    tier_statistics.compute(dataclasses.replace(source, read=read), range(40))
    assert len(reads) <= tier_statistics.SAMPLED_TRIALS + 2 * 40


def test_only_zeros_or_infinite_numbers_are_refused():
    with pytest.raises(UserError, match="found no response in the 4 chosen trials"):
        tier_statistics.compute(made_up(4, withheld=range(4)), range(4))
    source = made_up(3)

    def read(row):
        trial = source.read(row)
        trial.behavior[5, 1] = np.inf if row == 1 else 0
        return trial

    with pytest.raises(UserError, match="trial 1 of made up has a behavior that is not a finite"):
        tier_statistics.compute(dataclasses.replace(source, read=read), range(3))


# Again, and after a stop ------------------------------------------------------------------------


class Stop(Exception):
    """Stands for whatever ends the work on the way."""


def test_what_is_whole_is_passed_over_and_the_rest_made_anew(tmp_path, monkeypatch):
    source = made_up(5)
    assert tier_statistics.write(tmp_path, source, ["train"])
    expected = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*.npy"))}
    assert len(expected) == 20
    unreadable = dataclasses.replace(source, read=None)
    assert not tier_statistics.write(tmp_path, unreadable, ["train"])

    def assert_made_again():
        assert tier_statistics.write(tmp_path, source, ["train"])
        assert {path: path.read_bytes() for path in sorted(tmp_path.rglob("*.npy"))} == expected

    next(iter(expected)).unlink()
    assert_made_again()
    assert tier_statistics.write(tmp_path, made_up(4), ["train"])  # other trials
    assert_made_again()
    description = tmp_path / "made up" / tier_statistics.DESCRIPTION
    written = []

    def write(path, array):
        written.append(path)
        if len(written) > 7:
            raise Stop
        original(path, array)

    original = tier_statistics.write_array_atomically
    with monkeypatch.context() as patched, pytest.raises(Stop):
        patched.setattr(tier_statistics, "write_array_atomically", write)
        description.write_text("{}")
        tier_statistics.write(tmp_path, made_up(4), ["train"])
    assert not description.exists()
    assert_made_again()


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> Path:
    return handmade.write_session(tmp_path_factory.mktemp("session"), MOUSE, 60, repeats=3)


def line(session: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, str(SCRIPT), str(session), "--out", str(out), *more]


def contents(folder: Path) -> dict:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.slow
def test_a_full_disk_and_kill_9_leave_nothing_half_and_the_same_line_completes(session, tmp_path):
    compute_statistics.main([str(session), "--out", str(tmp_path / "whole")])
    whole = contents(tmp_path / "whole")

    disasters.on_a_full_disk(line(session, tmp_path / "full"), kib=0)
    assert not any(name.endswith(".npy") for name in contents(tmp_path / "full"))
    compute_statistics.main([str(session), "--out", str(tmp_path / "full")])
    assert contents(tmp_path / "full") == whole

    begun = tmp_path / "killed" / MOUSE / "response"
    assert disasters.killed_when(line(session, tmp_path / "killed"), begun.exists)
    assert not (tmp_path / "killed" / MOUSE / tier_statistics.DESCRIPTION).exists()
    compute_statistics.main([str(session), "--out", str(tmp_path / "killed")])
    assert contents(tmp_path / "killed") == whole


# The command -------------------------------------------------------------------------------------


def test_bad_sessions_are_told_and_the_others_done(tmp_path, capsys):
    """Truncated, missing and renamed files: one sentence each."""
    folder = tmp_path / "sessions"
    for letter in "abcd":
        handmade.write_session(folder, f"dynamic1-1-1-Video-{letter}", 8)
    bad = {letter: folder / f"dynamic1-1-1-Video-{letter}" / "data" for letter in "abc"}
    os.truncate(bad["a"] / "responses" / "2.npy", 300)
    (bad["b"] / "videos" / "5.npy").unlink()
    (bad["c"] / "behavior" / "7.npy").rename(bad["c"] / "behavior" / "77.npy")
    command = [str(folder), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as ended:
        compute_statistics.main(command)
    assert "3 of 4 mice could not be done" in ended.value.code
    said = [text for text in capsys.readouterr().err.splitlines() if text.startswith("error: ")]
    assert len(said) == 3
    for text, part in zip(
        said, ("2.npy is not a complete", "5.npy is missing", "7.npy"), strict=True
    ):
        assert part in text
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["dynamic1-1-1-Video-d"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--tiers", "trian"], "found --tiers 'trian', .*did you mean 'train'"),
        (["--tiers", "validation"], f"mouse {MOUSE} has no trial of tier 'validation'"),
        (["--workers", "-1"], "expected 0 .* or more"),
    ],
)
def test_a_mistaken_command_ends_in_one_sentence(session, tmp_path, arguments, sentence):
    with pytest.raises(SystemExit, match=sentence) as ended:
        compute_statistics.main([str(session), "--out", str(tmp_path), *arguments])
    assert "\n" not in ended.value.code and not list(tmp_path.iterdir())


# Statistics for every frame ---------------------------------------------------------------------


def published(session: Path) -> dict[str, np.ndarray]:
    folder = session / frame_statistics.FOLDER
    return {str(path.relative_to(folder)): np.load(path) for path in sorted(folder.rglob("*.npy"))}


def test_statistics_for_every_frame_are_those_of_numpy(tmp_path):
    session = handmade.write_session(tmp_path, MOUSE, 16)
    assert sensorium2023.read(session).statistics == {}
    compute_statistics.main([str(tmp_path), "--out", str(tmp_path), "--official"])
    found = published(session)
    assert len(found) == 20
    rows = np.flatnonzero(np.load(session / "meta/trials/tiers.npy") == "train")
    for key in MODALITIES:
        arrays = [np.load(session / "data" / key / f"{row}.npy") for row in rows]
        values = np.stack(arrays)
        some = ~np.isnan(values).all(axis=0)
        for name in competition.STATISTICS:
            given = found[f"{key}/all/{name}.npy"]
            assert given.shape == values.shape[1:]
            np.testing.assert_array_equal(~np.isnan(given), some)
            expected = getattr(np, f"nan{name}")(values[:, some], axis=0)
            np.testing.assert_allclose(given[some], expected, rtol=ROUNDING, atol=1e-12)
    # The session is complete now: it is read with them and can be converted and normalized so.
    completed = sensorium2023.read(session)
    assert set(completed.statistics) == set(MODALITIES)
    assert completed.read(0).official_frames <= completed.read(0).num_frames
    before = contents(session)
    compute_statistics.main([str(tmp_path), "--out", str(tmp_path), "--official"])
    assert contents(session) == before


def test_a_simulated_session_gets_the_statistics_that_it_lost(tmp_path, monkeypatch):
    """In several blocks of rows, by threads; these were made by other code over all trials."""
    small = simulated.Settings(mice=1, neurons=20, trials=16, frames=20, height=8, width=10)
    (session,) = simulated.write(tmp_path, small)
    expected = published(session)
    (session / frame_statistics.FOLDER).rename(tmp_path / "lost")
    monkeypatch.setattr(frame_statistics, "BLOCK_BYTES", 16 * 44 * 8 * 2)
    tiers = sorted(set(sensorium2023.read(session).tiers))
    command = [str(tmp_path), "--out", str(tmp_path), "--official", "--tiers", *tiers]
    compute_statistics.main(command)
    found = published(session)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        # Videos were summarised in float32 there.
        rounding = 1e-6 if name.startswith("videos") else 1e-14
        np.testing.assert_allclose(found[name], values, rtol=rounding, atol=1e-6, err_msg=name)


def test_statistics_for_every_frame_appear_at_once_or_not_at_all(tmp_path, monkeypatch):
    for name in ("whole", "stopped"):
        handmade.write_session(tmp_path / name, MOUSE, 8)
    frame_statistics.write(tmp_path / "whole", tmp_path / "whole", MOUSE)
    write, written = frame_statistics.write_array_atomically, []

    def stopping(path, array):
        written.append(path)
        if len(written) > 7:
            raise Stop
        write(path, array)

    stopped = tmp_path / "stopped"
    with monkeypatch.context() as patched, pytest.raises(Stop):
        patched.setattr(frame_statistics, "write_array_atomically", stopping)
        frame_statistics.write(stopped, stopped, MOUSE)
    assert sensorium2023.read(stopped / MOUSE).statistics == {}
    assert frame_statistics.write(stopped, stopped, MOUSE)
    assert contents(stopped) == contents(tmp_path / "whole")


def test_what_cannot_get_statistics_for_every_frame_is_told(tmp_path):
    session = handmade.write_session(tmp_path / "sessions", MOUSE, 8)
    store = conversion.write(tmp_path / "stores", sensorium2023.read(session))

    def refused(source, out=tmp_path / "out"):
        with pytest.raises(SystemExit) as ended:
            compute_statistics.main([str(source), "--out", str(out), "--official"])
        assert not list((tmp_path / "out").rglob("*.npy"))
        return ended.value.code

    assert "is a store, expected the session folder" in refused(store)
    path = zipped(session)
    assert "unzip it and give the folder" in refused(path)
    path.unlink()
    handmade.save(session / frame_statistics.FOLDER / "videos" / "all" / "mean.npy", np.zeros(3))
    (session / "meta/statistics").rename(tmp_path / "odd")
    (session / "meta/statistics").mkdir()
    assert "and 19 more are missing" in refused(session, session.parent)
    (session / "meta/statistics").rmdir()
    for key in MODALITIES:
        file = session / "data" / key / "3.npy"
        np.save(file, np.load(file)[..., :60])
    assert "padded to 60 up to 74 frames" in refused(session)


def test_real_published_statistics_have_the_layout_that_we_write(tmp_path):
    """Same files, shapes and relations; of the recordings themselves nothing is there."""
    real = real_data.found("sensorium2023_metadata")
    tier_statistics.write(tmp_path, made_up(5), ["train"])
    ours = {str(path.relative_to(tmp_path / "made up")) for path in tmp_path.rglob("*.npy")}
    mice = sorted((real / "statistics").iterdir())
    assert mice
    for mouse in mice:
        files = {str(path.relative_to(mouse)): np.load(path) for path in mouse.rglob("*.npy")}
        assert files.keys() <= ours and len(files) >= 17
        neurons = len(np.load(real / "neuron_coordinates" / f"{mouse.name}.npy"))
        shapes = {"video": (), "response": (neurons,), "behavior": (2,), "pupil_center": (2,)}
        for name, values in files.items():
            assert values.shape == shapes[name.split("/")[0]], name
        for variable in ("video", "behavior", "pupil_center"):
            least, most = files[f"{variable}/min.npy"], files[f"{variable}/max.npy"]
            for name in ("median", "mean"):
                between = files[f"{variable}/{name}.npy"]
                assert np.all((least <= between) & (between <= most))
            assert np.all(files[f"{variable}/std.npy"] <= (most - least) / 2)
        assert np.all(files["response/std.npy"] > files["response/mean.npy"])  # heavy tails
