"""Tools for sessions of videos, given sessions of images or stores of them."""

import shutil

import numpy as np
import pytest

from scripts import (
    assign_stimulus_ids,
    assign_video_ids,
    compute_statistics,
    convert,
    save_responses,
)
from sensojax.errors import UserError
from sensojax.recordings import formats, frame_statistics
from sensojax.store import TrialStore
from sensojax.tools import response_files, sources
from tests.recordings import tiny_images


@pytest.fixture(params=["sessions", "stores"])
def source(request, tmp_path):
    session = tiny_images.write(tmp_path / "sessions")
    if request.param == "stores":
        convert.main([str(session), "--out", str(tmp_path / "stores")])
    return tmp_path / request.param


def test_images_are_found_and_read_alike(source):
    ((mouse, opening),) = sources.find([source]).items()
    found = opening()
    assert mouse == tiny_images.NAME and found.tiers == tiny_images.TIERS
    assert found.read(2).video.shape == (1, tiny_images.HEIGHT, tiny_images.WIDTH)
    assert found.neurons.columns["area"].tolist() == ["V1", "LM", "V1"]


def test_equal_images_get_one_id_without_a_word_on_how_often_they_are_shown(source, capsys):
    assign_video_ids.main([str(source), "--out", str(source / "ids")])
    said = capsys.readouterr()
    assert "5 trials, 4 different videos" in said.out and "warning" not in said.err
    found = np.load(source / "ids" / f"{tiny_images.NAME}.npy")
    assert len(set(found)) == 4 and found[2] == found[3]


def test_images_have_no_kinds(source):
    with pytest.raises(SystemExit, match=r"found images in mouse static.*expected videos"):
        assign_stimulus_ids.main([str(source), "--out", str(source / "kinds")])
    if source.name == "stores":
        store = TrialStore.open(source / tiny_images.NAME)
        with pytest.raises(UserError, match="looked at images, expected videos"):
            _ = store.stimulus_kinds


def test_responses_to_images_are_saved_when_all_frames_are_asked_for(source):
    command = [str(source), "--out", str(source / "h5"), "--tiers", "test", "--frames"]
    with pytest.raises(SystemExit, match="trials are too short"):
        save_responses.main([*command, "kit"])
    save_responses.main([*command, "all"])
    path = source / "h5" / f"{tiny_images.NAME}.h5"
    (found,) = response_files.read_responses(path, [3])
    recorded = formats.read(source.parent / "sessions").read(3)
    np.testing.assert_array_equal(found, recorded.responses.T.astype(np.float32))


def test_statistics_of_the_train_tier_are_those_of_numpy(source):
    compute_statistics.main([str(source), "--out", str(source / "stats"), "--tiers", "test"])
    recording = formats.read(source.parent / "sessions")
    images = np.concatenate([recording.read(row).video for row in (2, 3)])
    folder = source / "stats" / tiny_images.NAME
    assert np.load(folder / "video" / "mean.npy") == pytest.approx(images.mean())
    responses = np.concatenate([recording.read(row).responses for row in (2, 3)])
    np.testing.assert_allclose(np.load(folder / "response/std.npy"), responses.std(axis=0))


def test_a_session_gets_the_statistics_it_lacks(tmp_path, monkeypatch):
    """Of every pixel, in blocks of one row of the image, and not of what was withheld."""
    session = tiny_images.write(tmp_path)
    shutil.rmtree(session / frame_statistics.FOLDER)
    for row, tier in enumerate(tiny_images.TIERS):
        if tier == "final_test":
            np.save(session / f"data/responses/{row}.npy", np.zeros(tiny_images.NEURONS))
    np.save(session / "data/responses/2.npy", np.zeros(tiny_images.NEURONS))  # silent, not withheld
    monkeypatch.setattr(frame_statistics, "BLOCK_BYTES", 1)
    tiers = ["--tiers", "test", "train", "final_test"]
    compute_statistics.main([str(tmp_path), "--out", str(tmp_path), "--official", *tiers])
    found = formats.read(session).statistics
    rows = [0, 2, 3, 4]
    for key, files in {
        "videos": "images",
        "responses": "responses",
        "behavior": "behavior",
    }.items():
        kept = rows[:3] if key == "responses" else rows
        values = np.stack([np.load(session / f"data/{files}/{row}.npy") for row in kept])
        for name in ("mean", "std", "min", "max", "median"):
            expected = getattr(np, name)(values.astype(float), axis=0)
            given = found[key][name] if key == "videos" else found[key][name][0]
            np.testing.assert_allclose(given, expected, rtol=1e-12, err_msg=f"{key} {name}")
