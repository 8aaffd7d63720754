"""Files of responses hold what was recorded or predicted, whole, whatever happens to the writer."""

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from scripts import save_responses as script
from sensojax import build, conversion
from sensojax.errors import UserError
from sensojax.experiments import predicting
from sensojax.pipeline import transforms
from sensojax.recordings import sensorium2023
from sensojax.tools import response_files
from sensojax.tools.response_files import read_responses
from tests import disasters, handmade, runs, untrained

SCRIPT = Path(script.__file__)
MOUSE = "dynamic1-1-1-Video-a"


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> Path:
    return handmade.write_session(tmp_path_factory.mktemp("session"), MOUSE, 24, repeats=6)


def recorded(session: Path, first: int, last: int, drop: int = 0) -> dict[int, np.ndarray]:
    """Responses [neuron time] of every trial that has some in these frames."""
    recording = sensorium2023.read(session)
    found = {}
    for row in range(len(recording.tiers)):
        responses = recording.read(row).responses[:last].T
        responses = responses[:, first : responses.shape[1] - drop]
        if recording.tiers[row] != "none" and responses.any():
            found[row] = responses.astype(np.float32)
    return found


# Recorded ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frames", "window"),
    [("viv1t_local", (50, 300)), ("kit", (50, None)), ("dwiseneuro", (50, 300, 1))],
)
@pytest.mark.parametrize("kind", ["session", "stores"])
def test_file_holds_the_responses_of_every_trial_that_has_some(
    session, tmp_path, capsys, frames, window, kind
):
    """Trials have 198 to 420 frames here; three of them were withheld, three are of tier none."""
    source = session
    if kind == "stores":
        source = conversion.write(tmp_path / "stores", sensorium2023.read(session)).parent
    command = [str(source), "--out", str(tmp_path), "--frames", frames]
    script.main(command)
    path = tmp_path / f"{MOUSE}.h5"
    expected = recorded(session, *window)
    assert f"{MOUSE}: {len(expected)} trials, 3 withheld" in capsys.readouterr().out
    tiers = response_files.tiers(path)
    assert list(tiers) == [str(row) for row in expected] and len(tiers) == 18
    assert set(tiers.values()) == {"train", "oracle"}
    for row, found in zip(expected, read_responses(path, list(expected)), strict=True):
        np.testing.assert_array_equal(found, expected[row], strict=True)
    with h5py.File(path) as file:
        assert file["0"].compression == "gzip" and file.attrs["units"] == "as recorded"
    before = path.read_bytes()
    script.main(command)
    assert "already there" in capsys.readouterr().out and path.read_bytes() == before


def test_trials_are_read_in_the_order_asked_and_others_refused(session, tmp_path):
    script.main([str(session), "--out", str(tmp_path), "--tiers", "oracle"])
    path = tmp_path / f"{MOUSE}.h5"
    expected = recorded(session, 50, 300)
    for found, row in zip(read_responses(path, ["9", 1, 4]), (9, 1, 4), strict=True):
        np.testing.assert_array_equal(found, expected[row])
    with pytest.raises(UserError, match=r"has no trial '0'.*; it has 6 trials"):
        read_responses(path, [0])
    with pytest.raises(UserError, match=r"cannot read responses from .*nowhere"):
        read_responses(tmp_path / "nowhere.h5", [0])
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["0"] = np.zeros(3)
    with pytest.raises(UserError, match=r"was not written by scripts/save_responses\.py"):
        response_files.about(other)


def test_a_short_trial_is_left_out_and_nothing_but_short_ones_is_refused(tmp_path, capsys):
    session = handmade.write_session(tmp_path, MOUSE, 8)  # 33 to 70 frames
    script.main([str(session), "--out", str(tmp_path / "out")])
    assert "2 trials, 5 too short" in capsys.readouterr().out
    assert list(response_files.tiers(tmp_path / "out" / f"{MOUSE}.h5")) == ["1", "5"]
    with pytest.raises(SystemExit, match="found no responses to write"):
        script.main([str(session), "--out", str(tmp_path / "no"), "--tiers", "live_test_main"])
    assert not (tmp_path / "no" / f"{MOUSE}.h5").exists()


@pytest.mark.parametrize("neurons", [1, 511, 512, 513, 1100])
@pytest.mark.parametrize("smooth", [True, False])
def test_any_number_of_neurons_fills_the_chunks(tmp_path, neurons, smooth):
    values = np.random.default_rng(0).random((7, neurons)).astype(np.float32)
    packed = [response_files.pack(row, "train", values + row, smooth=smooth) for row in range(2)]
    path = tmp_path / "a.h5"
    response_files.write(path, packed, {"some": "thing"})
    assert response_files.about(path) == {"some": "thing"}
    assert response_files.tiers(path) == {"0": "train", "1": "train"}
    for row, found in enumerate(read_responses(path, [0, 1])):
        np.testing.assert_array_equal(found, values.T + np.float32(row), strict=True)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "found neither sources nor --predictions"),
        (["here", "--predictions", "there"], "expected one of them"),
        (["here", "--tiers", "trian"], "found --tiers 'trian', .*did you mean 'train'"),
        (["here", "--frames", "kitt"], "found --frames 'kitt', .*did you mean 'kit'"),
        (["here", "--workers", "-2"], "expected 0 .* or more"),
        (["nowhere"], r"no folder or \.zip nowhere"),
    ],
)
def test_a_mistaken_command_ends_in_one_sentence(tmp_path, arguments, sentence):
    with pytest.raises(SystemExit, match=sentence) as ended:
        script.main([*arguments, "--out", str(tmp_path)])
    assert "\n" not in ended.value.code and not list(tmp_path.iterdir())


def test_a_file_of_other_frames_is_not_replaced(session, tmp_path):
    script.main([str(session), "--out", str(tmp_path)])
    before = (tmp_path / f"{MOUSE}.h5").read_bytes()
    with pytest.raises(SystemExit, match="was written with another most_frames, expected that"):
        script.main([str(session), "--out", str(tmp_path), "--frames", "kit"])
    assert (tmp_path / f"{MOUSE}.h5").read_bytes() == before


def test_bad_sessions_are_told_and_the_others_done(session, tmp_path, capsys):
    folder = tmp_path / "sessions"
    for letter in "abc":
        handmade.write_session(folder, f"dynamic1-1-1-Video-{letter}", 8)
    bad = folder / "dynamic1-1-1-Video-b" / "data" / "responses" / "5.npy"
    bad.write_bytes(bad.read_bytes()[:200])
    with pytest.raises(SystemExit, match="1 of 3 mice could not be done"):
        script.main([str(folder), "--out", str(tmp_path / "out")])
    assert f"error: {bad} is not a complete" in capsys.readouterr().err
    assert len(list((tmp_path / "out").glob("*.h5"))) == 2


def contents(path: Path) -> list[np.ndarray]:
    return read_responses(path, list(response_files.tiers(path)))


@pytest.mark.slow
def test_a_full_disk_and_kill_9_leave_no_half_file_and_the_same_line_completes(session, tmp_path):
    def line(out: Path) -> list[str]:
        return [sys.executable, str(SCRIPT), str(session), "--out", str(out), "--workers", "1"]

    script.main(line(tmp_path / "whole")[2:])
    whole = contents(tmp_path / "whole" / f"{MOUSE}.h5")
    for kib in (0, 20):
        path = tmp_path / f"full{kib}" / f"{MOUSE}.h5"
        disasters.on_a_full_disk(line(path.parent), kib)
        assert not path.exists()
        script.main(line(path.parent)[2:])
        for found, expected in zip(contents(path), whole, strict=True):
            np.testing.assert_array_equal(found, expected)
    path = tmp_path / "killed" / f"{MOUSE}.h5"
    begun = path.with_name(f"{path.name}.partial")
    assert disasters.killed_when(line(path.parent), begun.exists)
    assert not path.exists()
    script.main(line(path.parent)[2:])
    assert not begun.exists()
    for found, expected in zip(contents(path), whole, strict=True):
        np.testing.assert_array_equal(found, expected)


# Predicted ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("normalization", ["official", "per_neuron"])
def test_predictions_are_saved_in_the_units_of_the_recording(
    data, cache, tmp_path, normalization, capsys
):
    """Of every trial, those of tier none excepted, next to what was recorded of them."""
    with runs.cached(cache):
        changes = {"data.normalization": normalization, "data.mice": ()}
        run = untrained.run(tmp_path / "run", data, changes)
        out = tmp_path / "out"
        command = ["--predictions", str(run), "--out", str(out), "--frames", "run"]
        script.main(command)
        said = capsys.readouterr().out
        predictor = predicting.Predictor(run, frames="run", units=normalization)
    for mouse, store in build.stores(runs.config(data)["data"], runs.SIMULATION).items():
        path = out / f"{mouse}.h5"
        rows = np.flatnonzero(store.trials.tier != "none")
        assert f"{mouse}: {len(rows)} trials" in said
        assert response_files.tiers(path) == {
            str(store.trials.index[row]): store.trials.tier[row] for row in rows
        }
        std = getattr(store.statistics, normalization)["responses"]["std"]
        multiplier = transforms.response_multiplier(std, mouse)
        with runs.cached(cache):
            _, normalized = predictor.trials(mouse, ["oracle"])
            for row, predicted in normalized:
                (found,) = read_responses(path, [int(store.trials.index[row])])
                scale = multiplier[8 : 8 + len(predicted)] if multiplier.ndim > 1 else multiplier
                np.testing.assert_allclose(found.T * scale, predicted, rtol=1e-5)
                assert found.shape == (6, store.trials.official_frames[row] - 8)
    assert len(list(out.iterdir())) == 2
    script.main(command)
    assert capsys.readouterr().out.count("already there") == 2
