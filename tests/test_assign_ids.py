"""The two tools give the same ids on folders, zips and stores, whatever happens on the way."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from scripts import assign_stimulus_ids, assign_video_ids
from sensojax import conversion
from sensojax.recordings import sensorium2023, simulated
from sensojax.stimuli import identity, kinds
from sensojax.stimuli.identity import NUMBERING
from sensojax.store import TrialStore
from sensojax.tools import sources
from sensojax.tools.annotating import shown, stimulus_ids, video_ids
from sensojax.types import STIMULUS_KINDS
from tests import handmade

A, B, C = (f"dynamic{n}-1-1-Video-x" for n in (1, 2, 3))


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """Three sessions: 2 was shown all films of 1 and more, 3 the same in another order."""
    folder = tmp_path_factory.mktemp("sessions")
    for name, trials in ((A, 8), (B, 13), (C, 8)):
        handmade.write_session(folder, name, num_trials=trials)
    for changed in (folder / C / "data").iterdir():
        for one, other in ((0, 2), (1, 4)):
            (changed / f"{one}.npy").rename(changed / "kept.npy")
            (changed / f"{other}.npy").rename(changed / f"{one}.npy")
            (changed / "kept.npy").rename(changed / f"{other}.npy")
    return folder


@pytest.fixture
def sessions(original, tmp_path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "sessions"))


def stores_of(sessions: Path, folder: Path) -> Path:
    for mouse in sensorium2023.sessions(sessions):
        conversion.write(folder, sensorium2023.read(sessions, mouse))
    return folder


def ids_in(folder: Path) -> dict[str, list[int]]:
    return {path.stem: np.load(path).tolist() for path in sorted(folder.glob("*.npy"))}


def run(tool, capsys, *arguments) -> tuple[str, str]:
    """(what was said, what was said of errors), the last line being how it ended, if badly."""
    ended = ""
    try:
        tool.main([str(argument) for argument in arguments])
    except SystemExit as error:
        ended = str(error.code)
    said = capsys.readouterr()
    return said.out, said.err + ended


# The handmade trials show films 0, 1, 2, 3, 1, 1, 4, 0 (cut at several lengths), the first of tier
# train, and every trial of tier train has a number of its own.
PUBLISHED = [0, 1, 2, 3, 4, 5, -1, 6]


def test_ids_are_numbered_within_each_mouse_as_published(sessions, tmp_path, capsys):
    said, errors = run(assign_video_ids, capsys, sessions, "--out", tmp_path / "ids")
    found = ids_in(tmp_path / "ids")
    assert found[A] == PUBLISHED  # of 48 and 60 frames less than 85 % agree
    assert f"{A}: 8 trials, 7 different videos" in said
    assert f"warning: {A} shows video 1 1 times" in errors and "Traceback" not in errors
    assert set(found) == {A, B, C} and len(found[B]) == 13


def test_zips_and_stores_have_the_ids_of_their_sessions(sessions, tmp_path, capsys):
    run(assign_video_ids, capsys, sessions, "--out", tmp_path / "ids")
    archive = tmp_path / f"{A}.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in (sessions / A).rglob("*.npy"):
            file.write(path, path.relative_to(sessions))
    run(assign_video_ids, capsys, archive, "--out", tmp_path / "zipped")
    stores = stores_of(sessions, tmp_path / "stores")
    run(assign_video_ids, capsys, stores, "--out", tmp_path / "stored")
    expected = ids_in(tmp_path / "ids")
    assert ids_in(tmp_path / "zipped") == {A: expected[A]}
    assert ids_in(tmp_path / "stored") == expected
    for mouse, ids in expected.items():
        assert TrialStore.open(stores / mouse).video_ids.tolist() == ids


def test_the_same_film_has_one_number_in_all_mice(sessions, tmp_path, capsys):
    stores = stores_of(sessions, tmp_path / "stores")
    for source, out in ((sessions, "ids"), (stores, "stored")):
        said, _ = run(assign_video_ids, capsys, source, "--out", tmp_path / out, "--across")
        found = ids_in(tmp_path / out)
        assert found[B][:8] == found[A]
        assert [found[C][trial] for trial in (2, 4, 0, 3, 1, 5)] == found[A][:6]
        assert f"{A} shares 5 with {B}" in said
        table = (tmp_path / out / video_ids.SHARED).read_text().splitlines()
        assert table[0] == f"mouse,{A},{B},{C}" and table[1].startswith(f"{A},5,5,5")
        assert not list((tmp_path / out).glob("*.npz"))
    numberings = {TrialStore.open(stores / m).annotation(NUMBERING)[0] for m in (A, B, C)}
    assert len(numberings) == 1
    run(assign_video_ids, capsys, stores, "--out", tmp_path / "alone")
    numberings = {TrialStore.open(stores / m).annotation(NUMBERING)[0] for m in (A, B, C)}
    assert len(numberings) == 3


def test_ids_go_into_session_folders_only_when_asked_for(sessions, tmp_path, capsys):
    column = sessions / A / video_ids.COLUMN
    run(assign_video_ids, capsys, sessions / A, "--out", tmp_path / "ids")
    assert not column.exists()
    run(assign_video_ids, capsys, sessions / A, "--out", tmp_path / "ids", "--write")
    assert np.load(column).tolist() == ids_in(tmp_path / "ids")[A]
    columns = sensorium2023.read(sessions / A).trial_columns
    np.testing.assert_array_equal(columns["video_ids"], np.load(column))
    stores = stores_of(sessions, tmp_path / "stores")
    _, errors = run(assign_video_ids, capsys, stores / A, "--out", tmp_path / "ids", "--write")
    assert "expected a session folder for --write" in errors


DAMAGES = {
    "a missing trial": lambda session: (session / "data/videos/3.npy").unlink(),
    "a renamed trial": lambda session: (session / "data/videos/3.npy").rename(
        session / "data/videos/three.npy"
    ),
    "a cut trial": lambda session: (session / "data/videos/3.npy").write_bytes(
        (session / "data/videos/3.npy").read_bytes()[:3000]
    ),
    "other pixels": lambda session: handmade.save(
        session / "data/videos/3.npy", np.zeros((5, 6, 74))
    ),
    "cut tiers": lambda session: (session / "meta/trials/tiers.npy").write_bytes(b"\x93NUMPY"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    ("tool", "more"),
    [(assign_video_ids, []), (assign_video_ids, ["--across"]), (assign_stimulus_ids, [])],
)
def test_a_damaged_session_is_told_in_a_sentence_and_the_others_go_on(
    sessions, tmp_path, capsys, damage, tool, more
):
    DAMAGES[damage](sessions / B)
    _, errors = run(tool, capsys, sessions, "--out", tmp_path / "ids", *more)
    told = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(told) == 2 and B in told[0] and "1 of 3 mice" in told[1], errors
    assert "Traceback" not in errors
    assert set(ids_in(tmp_path / "ids")) == {A, C}


def test_a_session_without_tiers_and_a_damaged_zip_do_not_hide_the_others(
    sessions, tmp_path, capsys
):
    (sessions / B / "meta/trials/tiers.npy").rename(sessions / B / "meta/trials/tier.npy")
    (sessions / "dynamic4-1-1-Video-x.zip").write_bytes(b"PK and nothing more")
    (sessions / "notes").mkdir()
    _, errors = run(assign_video_ids, capsys, sessions, "--out", tmp_path / "ids")
    told = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(told) == 3 and "2 of 4 mice" in told[2], errors
    assert f"{B} is neither a session" in told[0] and "meta/trials/tiers.npy" in told[0]
    assert "dynamic4-1-1-Video-x.zip is not a readable zip" in told[1]
    assert set(ids_in(tmp_path / "ids")) == {A, C}


def test_what_is_done_is_passed_over_and_what_has_changed_is_not(sessions, tmp_path, capsys):
    for tool, more in (
        (assign_video_ids, ()),
        (assign_video_ids, ("--across",)),
        (assign_stimulus_ids, ()),
    ):
        call = (tool, capsys, sessions, "--out", tmp_path / tool.__name__, *more)
        run(*call)
        first = ids_in(tmp_path / tool.__name__)
        said, _ = run(*call)
        assert said.count("already there") == (1 if more else 3) and "trials" not in said
        assert "already there" not in run(*call, "--again")[0]
        assert ids_in(tmp_path / tool.__name__) == first
        (tmp_path / tool.__name__ / f"{A}.npy").unlink()
        assert run(*call)[0].count("already there") == (0 if more else 2)
        handmade.save(sessions / A / "data/videos/1.npy", np.zeros((4, 6, 74)))
        assert run(*call)[0].count("already there") == (0 if more else 2)


def test_a_numbering_that_was_stopped_reads_no_mouse_twice(sessions, tmp_path, capsys, monkeypatch):
    call = (assign_video_ids, capsys, sessions, "--out", tmp_path / "ids", "--across")
    see = video_ids.see

    def stop_at_last(videos, *args, **kwargs):
        if videos.mouse == C:
            raise KeyboardInterrupt
        return see(videos, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(video_ids, "see", stop_at_last)
        assert "interrupted" in run(*call)[1]
    assert not ids_in(tmp_path / "ids")
    kept = tmp_path / "ids" / f"{B}.sketches.npz"
    kept.write_bytes(kept.read_bytes()[:-2000])  # and one of the two was not written to its end
    looked, sketch_of = [], identity.Sketch.of
    monkeypatch.setattr(identity.Sketch, "of", lambda video: looked.append(1) or sketch_of(video))
    run(*call)
    assert len(looked) == 13 + 8  # of B and C
    stopped = ids_in(tmp_path / "ids")
    run(assign_video_ids, capsys, sessions, "--out", tmp_path / "once", "--across")
    assert stopped == ids_in(tmp_path / "once")


# Kinds of stimuli --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def simulated_mice(tmp_path_factory) -> Path:
    """A mouse that is shown noise and dots beside movies, as a session and as a store."""
    folder = tmp_path_factory.mktemp("simulated")
    settings = simulated.Settings(
        mice=1, neurons=1, trials=16, train_share=0.1, frames=45, height=28, width=50
    )
    (path,) = simulated.write(folder / "mice", settings)
    conversion.write(folder / "stores", sensorium2023.read(path))
    return folder


@pytest.mark.parametrize("kind", ["mice", "stores"])
def test_kinds_of_simulated_mice_are_found(simulated_mice, tmp_path, capsys, kind):
    name = simulated.name(0)
    out = tmp_path / "kinds"
    source = simulated_mice / kind / name
    said, errors = run(assign_stimulus_ids, capsys, source, "--out", out, "--check")
    recording = sensorium2023.read(simulated_mice / "mice", name)
    true = recording.trial_columns["true_kind"]
    expected = [
        -1 if tier == "none" else STIMULUS_KINDS.index(kind)
        for kind, tier in zip(true, recording.tiers, strict=True)
    ]
    assert set(expected) == {-1, 0, 1, 2, 3}
    assert ids_in(out)[name] == expected
    assert "15 of 15 trials are as known (100.0%)" in said and "looks like" not in errors
    confusion = (out / "confusion.csv").read_text().splitlines()
    assert confusion[0].split(",")[1:] == [*STIMULUS_KINDS, "unknown"]
    counts = np.array([line.split(",")[1:] for line in confusion[1:]], int)
    assert counts.sum() == np.trace(counts) == 15
    lines = (out / f"{name}.csv").read_text().splitlines()
    assert len(lines) - 1 == len(set(videos_of(recording)))
    assert lines[0].startswith("first_trial,trials,tier,kind,score_movie")
    if kind == "stores":
        kinds = TrialStore.open(source).stimulus_kinds
        assert np.all((kinds == true) | (np.array(recording.tiers) == "none"))


def videos_of(recording):
    """The bytes of all videos outside tier none."""
    for trial, tier in enumerate(recording.tiers):
        if tier != "none":
            yield recording.read(trial).video.tobytes()


class Made(dict):
    """Videos by trial that count how often they are read."""

    def __init__(self, videos):
        super().__init__(enumerate(videos))
        self.reads = []

    def __call__(self, trial):
        self.reads.append(trial)
        return self[trial]


def shown_videos(tiers, read, columns=None):
    return shown.Shown(
        mouse="m",
        tiers=tuple(tiers),
        frame_rate_hz=30.0,
        columns=columns or {},
        padded_frames=20,
        version="1",
        read=read,
    )


def test_each_video_is_looked_at_once_and_its_repeats_share_the_answer(monkeypatch):
    looked, classify = [], kinds.classify
    monkeypatch.setattr(kinds, "classify", lambda *given: looked.append(1) or classify(*given))
    rng = np.random.default_rng(0)
    still = np.repeat(rng.integers(0, 256, (1, 8, 9)), 20, axis=0)
    moving = rng.integers(0, 256, (20, 8, 9))
    read = Made([moving, still, moving, still, np.zeros((20, 8, 9)), still])
    tiers = ["train", "none", "oracle", "live_test_bonus", "oracle", "oracle"]
    for columns, reads in (({}, 5), ({"video_ids": np.array([0, -1, 0, 1, 2, 1])}, 3)):
        read.reads.clear()
        looked.clear()
        found = stimulus_ids.look(shown_videos(tiers, read, columns), workers=2)
        assert found.codes().tolist() == [0, -1, 0, 5, -1, 5]
        assert found.codes(trust_tiers=True).tolist() == [0, -1, 0, 5, 0, 0]
        assert found.video[[0, 2]].tolist() == [0, 0] and found.video[[3, 5]].tolist() == [3, 3]
        assert len(read.reads) == reads and len(looked) == 3 and set(found.evidence) == {0, 3, 4}
        assert [(trial, tier) for trial, tier, _ in found.surprises()] == [(4, "oracle")]


def test_known_kinds_come_from_the_simulation_or_from_published_numbers():
    true = shown_videos(["train"], None, {"true_kind": np.array(["random_dots"])})
    published = shown_videos(["train"], None, {"stimulus_ids": np.array([2])})
    assert stimulus_ids.known_codes(true).tolist() == [3]
    assert stimulus_ids.known_codes(published).tolist() == [2]
    assert stimulus_ids.known_codes(shown_videos(["train"], None)) is None
    counts = stimulus_ids.confusion(np.array([0, 0, 3, -1]), np.array([0, -1, 2, 5]))
    assert counts[0, 0] == counts[0, 6] == counts[3, 2] == 1 and counts.sum() == 3


def test_videos_that_surprise_are_reported(sessions, tmp_path, capsys):
    still = np.repeat(np.random.default_rng(0).integers(0, 256, (4, 6, 1)), 74, axis=2)
    still[..., :30] = 128  # a blank first
    handmade.save(sessions / A / "data/videos/0.npy", still.astype(float))
    call = (assign_stimulus_ids, capsys, sessions / A, "--out", tmp_path / "kinds")
    _, errors = run(*call)
    assert f"{A} trial 0 of tier train looks like flashed images (score 1.00)" in errors
    assert ids_in(tmp_path / "kinds")[A][0] == 5
    run(*call, "--trust-tiers")
    assert ids_in(tmp_path / "kinds")[A][0] == 0
    _, errors = run(*call, "--trust-tiers", "--check")
    assert "found no known kinds" in errors


def test_videos_are_read_alike_from_sessions_and_stores(sessions, tmp_path):
    stores = stores_of(sessions, tmp_path / "stores")
    for path in (sessions, stores):
        videos = shown.of(sources.find([path / A])[A]())
        assert videos.padded_frames in (74, 70)  # a store without statistics only knows the frames
        for trial in range(8):
            expected = handmade.trial(trial).video
            found = videos.read(trial)
            assert found.dtype == np.uint8
            np.testing.assert_array_equal(found, expected)


def test_a_description_that_cannot_be_read_is_no_description(tmp_path):
    shown.finish(tmp_path, "m", np.arange(3), {"videos": "1"})
    assert shown.is_done(tmp_path, "m", {"videos": "1"})
    assert not shown.is_done(tmp_path, "m", {"videos": "2"})
    assert json.loads((tmp_path / "m.json").read_text()) == {"videos": "1"}
    (tmp_path / "m.json").write_text("{")
    assert not shown.is_done(tmp_path, "m", {"videos": "1"})
