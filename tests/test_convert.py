"""A conversion ends in the same store, whatever happens to it on the way, or in one sentence."""

import dataclasses
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from scripts import convert
from sensojax import conversion, errors, store
from sensojax.conversion import journal, trials
from sensojax.pipeline import batches, transforms, windows
from sensojax.recordings import sensorium2023
from tests import handmade
from tests.goldens import GOLDEN

NUM_TRIALS = 100
SCRIPT = Path(convert.__file__)


def contents(path: Path) -> dict[str, np.ndarray]:
    """Everything that a store holds, and the names of its files."""
    opened = store.TrialStore.open(path)
    found = {"fingerprint": np.array(opened.fingerprint)}
    for array in sorted(path.glob("*/zarr.json")):
        if not array.parent.name.startswith("clips"):  # not every row is full
            found[array.parent.name] = np.zeros(0)
    for row, frames in enumerate(opened.trials.num_frames):
        for name, values in opened.read(row).items() if frames else ():
            found[f"{row} {name}"] = values
    with np.load(path / "tables.npz") as tables:
        found |= dict(tables)
    files = sorted(str(file.relative_to(path)) for file in path.rglob("*"))
    return found | {"files": np.array(files)}


def assert_same(found: Path, expected: Path) -> None:
    found, expected = contents(found), contents(expected)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name, strict=True)


# The same store whatever happens -----------------------------------------------------------------


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    return conversion.write(tmp_path_factory.mktemp("undisturbed"), handmade.recording(rates=True))


@pytest.mark.parametrize("workers", [1, 5])
def test_the_number_of_threads_changes_nothing(undisturbed, tmp_path, workers):
    recording = handmade.recording(rates=True)
    assert_same(conversion.write(tmp_path, recording, workers=workers), undisturbed)


class Stop(Exception):
    """Stands for whatever ends a conversion on the way."""


def interrupted(recording, at: int):
    def read(index):
        if index >= at:
            raise Stop
        return recording.read(index)

    return dataclasses.replace(recording, read=read)


@pytest.mark.parametrize("at", range(len(handmade.TIERS)))
def test_stopping_at_any_trial_and_going_on_changes_nothing(undisturbed, tmp_path, at):
    recording = handmade.recording(rates=True)
    with pytest.raises(Stop):
        conversion.write(tmp_path, interrupted(recording, at), workers=2)
    assert not (tmp_path / recording.mouse).exists()
    assert_same(conversion.write(tmp_path, recording), undisturbed)


def test_every_source_trial_is_read_once_and_finished_ones_never_again(tmp_path):
    recording = handmade.recording()
    reads = []

    def read(index):
        reads.append(index)
        return recording.read(index)

    counted = dataclasses.replace(recording, read=read)
    with pytest.raises(Stop):
        conversion.write(tmp_path, interrupted(counted, 6), workers=1)
    noted = len(
        (tmp_path / f"{recording.mouse}.partial" / "trials.jsonl").read_bytes().split(b"\n")
    )
    noted -= 2  # the first line, and what comes after the last
    assert sorted(reads) == list(range(6))
    assert noted >= 6 - 1 - 2  # only what was under way is not noted
    reads.clear()
    conversion.write(tmp_path, counted)
    assert sorted(reads) == list(range(noted, len(handmade.TIERS)))
    reads.clear()
    conversion.write(tmp_path, counted)
    assert reads == []


@pytest.mark.parametrize("torn", [b'{"index":3,"num_fr', b'{"index": 3\n', b"\x00\x00\x00\n"])
def test_a_torn_journal_is_cut_back_to_what_holds(undisturbed, tmp_path, torn):
    recording = handmade.recording(rates=True)
    with pytest.raises(Stop):
        conversion.write(tmp_path, interrupted(recording, 5), workers=1)
    partial = tmp_path / f"{recording.mouse}.partial"
    lines = (partial / "trials.jsonl").read_bytes().splitlines(keepends=True)
    (partial / "trials.jsonl").write_bytes(b"".join(lines[:3]) + torn)
    with open(partial / journal.TRACES, "ab") as traces:
        traces.write(b"half a frame and more")
    assert_same(conversion.write(tmp_path, recording), undisturbed)


def test_traces_lost_with_the_power_are_written_again(undisturbed, tmp_path):
    recording = handmade.recording(rates=True)
    with pytest.raises(Stop):
        conversion.write(tmp_path, interrupted(recording, 7), workers=1)
    os.truncate(tmp_path / f"{recording.mouse}.partial" / journal.TRACES, 1000)
    assert_same(conversion.write(tmp_path, recording), undisturbed)


@pytest.mark.parametrize("after", ["cut", "write_traces", "train_statistics", "replace"])
def test_stopping_at_any_point_of_the_end_and_going_on_changes_nothing(
    undisturbed, tmp_path, monkeypatch, after
):
    recording = handmade.recording(rates=True)
    finishing = conversion.finishing
    place = {"train_statistics": finishing, "replace": conversion.writing.os}
    place = place.get(after, finishing.arrays)
    original = getattr(place, after)

    def stop(*args, **kwargs):
        original(*args, **kwargs)
        raise Stop

    with monkeypatch.context() as patched, pytest.raises(Stop):
        patched.setattr(place, after, stop)
        conversion.write(tmp_path, recording)
    assert_same(conversion.write(tmp_path, recording), undisturbed)


# What a store keeps -------------------------------------------------------------------------------


def test_a_clip_cut_earlier_or_later_is_still_the_same_clip():
    video = np.random.default_rng(0).integers(0, 256, (9, 2, 3)).astype(np.uint8)
    other = video.copy()
    other[5] += 1
    clips = trials.Clips()

    def place(frames):
        return clips.place(trials.prefixes(frames))

    assert place(video[:6]) == (0, True)
    assert place(video[:6]) == (0, False)
    assert place(video[:3]) == (0, False)
    assert place(video[1:]) == (1, True)  # begins elsewhere
    assert place(other) == (2, True)  # the same beginning, another end
    assert place(video) == (0, True)  # goes on: written again, in its row
    assert place(video[:8]) == (0, False)
    assert place(video[:0]) == (-1, False)
    assert place(video.astype(np.float32)) == (3, True)
    assert clips.count == 4


def test_a_clip_that_is_not_integer_valued_is_float32_and_the_others_stay_uint8(tmp_path):
    halves = handmade.altered(handmade.recording(), 3, video=lambda video: video + 0.5)
    negative = handmade.altered(halves, 6, video=lambda video: video - 300)
    path = conversion.write(tmp_path, negative)
    opened = store.TrialStore.open(path)
    assert opened.video_dtype == "float32"
    assert [line["video"] for line in opened.lines].count("uint8") == len(handmade.TIERS) - 2
    for row in range(len(handmade.TIERS)):
        found = opened.read(row)["video"]
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, negative.read(row).video)
    assert tuple(opened.trials.clip) == handmade.CLIPS
    assert len(list((path / "clips_uint8").glob("c.*"))) == 3
    assert len(list((path / "clips_float32").glob("c.*"))) == 2


def test_float16_responses_are_close_and_half_precision_overflow_is_refused(tmp_path):
    recording = handmade.recording(rates=True)
    opened = store.TrialStore.open(conversion.write(tmp_path, recording, response_dtype="float16"))
    recorded = recording.read(2)
    for found, expected in (
        (opened.read(2)["responses"], recorded.responses),
        (opened.read_rates(2), recorded.rates),
    ):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=2**-11)  # half a unit of the 11th bit
        assert not np.array_equal(found, expected.astype(np.float32))
    # On their way to the device they stay small: the step widens them as it normalises.
    frames = windows.usable_frames(opened.trials, "per_neuron")
    raw = batches.read_batch(opened, [windows.Window(2, 3, 8)], frames, 0, (1, 8))
    assert raw.responses.dtype == np.float16
    np.testing.assert_array_equal(raw.responses[0], opened.read(2, 3, 11)["responses"])
    seen = transforms.normalize(raw, transforms.Statistics.of(opened, "per_neuron")).responses
    assert seen.dtype == np.float32
    spread = opened.statistics.per_neuron["responses"]["std"]
    np.testing.assert_allclose(np.asarray(seen[0]) * spread, raw.responses[0], rtol=1e-6)
    loud = handmade.altered(recording, 4, responses=lambda responses: responses + 70_000)
    with pytest.raises(errors.UserError, match=r"trial 4 .* 70\d\d\d.*float16 holds at most 65504"):
        conversion.write(tmp_path / "loud", loud, response_dtype="float16")
    assert conversion.write(tmp_path / "as float32", loud).is_dir()


def test_an_empty_trial_keeps_its_row(tmp_path):
    recording = handmade.cut(handmade.recording(), 1, 0)
    opened = store.TrialStore.open(conversion.write(tmp_path, recording))
    assert opened.trials.num_frames.tolist() == [45, 0, 33, 50, 48, 70, 20, 41]
    assert opened.trials.clip.tolist() == [0, -1, 1, 2, 3, 3, 4, 0]
    np.testing.assert_array_equal(opened.read(4)["video"], recording.read(4).video)
    with pytest.raises(ValueError, match="row 1, which has 0"):
        opened.read(1)


def test_single_images_read_one_piece_each(tmp_path):
    recording = handmade.recording(still=True)
    for index in range(len(handmade.TIERS)):
        recording = handmade.cut(recording, index, 1)
    path = conversion.write(tmp_path, recording)
    conversion.verify(path, recording)
    assert '"chunk_shape":[1,1,4,6]' in (path / "clips_uint8" / "zarr.json").read_text()


def test_a_trial_longer_than_a_file_is_stored_in_several(tmp_path):
    longer = {
        name: lambda values: np.concatenate([values] * 40)
        for name in ("video", "responses", "behavior", "pupil_center")
    }
    recording = handmade.altered(handmade.recording(), 5, **longer)
    path = conversion.write(tmp_path, recording)
    assert store.TrialStore.open(path).max_frames == 40 * 70
    assert len(list((path / "responses").glob("c.5.*"))) == 3
    conversion.verify(path, recording)


@pytest.mark.parametrize(
    "change",
    [
        dict(frame_rate_hz=29.0),
        dict(mouse="another"),
        dict(tiers=("validation", *handmade.TIERS[1:])),
        dict(simulated=True),
        dict(statistics={}),
        dict(trial_columns={}),
        dict(read=lambda i: dataclasses.replace(handmade.trial(i), checksum=str(i))),
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_fingerprint_changes_with_the_source(tmp_path, change):
    path = conversion.write(tmp_path / "a", handmade.recording())
    other = conversion.write(tmp_path / "b", handmade.recording(**change))
    prints = {store.TrialStore.open(each).fingerprint for each in (path, other)}
    assert len(prints) == 2


def test_the_fingerprint_does_not_depend_on_where_the_source_lies(tmp_path):
    path = conversion.write(tmp_path / "a", handmade.recording(source="/here"))
    other = conversion.write(tmp_path / "b", handmade.recording(source="/there"))
    assert_same(other, path)


# What is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("changes", "settings", "difference"),
    [
        ({}, dict(response_dtype="float16"), "response_dtype 'float32', now it is 'float16'"),
        (dict(seed=1), {}, "other values of neurons/position_um, official/behavior/mean"),
        (dict(tiers=("test", *handmade.TIERS[1:])), {}, "other values of tiers"),
    ],
)
def test_going_on_with_another_source_or_setting_is_refused(
    tmp_path, finished, changes, settings, difference
):
    recording = handmade.recording()
    if finished:
        conversion.write(tmp_path, recording)
    else:
        with pytest.raises(Stop):
            conversion.write(tmp_path, interrupted(recording, 5))
    with pytest.raises(errors.UserError, match=f"{difference}.*delete that folder"):
        conversion.write(tmp_path, handmade.recording(**changes), **settings)
    assert conversion.write(tmp_path, recording).is_dir()


def test_two_conversions_of_one_mouse_at_once_are_refused(tmp_path):
    header = {"tables": {}}
    with (
        journal.Journal(tmp_path, header),
        pytest.raises(errors.UserError, match="being written by another process"),
        journal.Journal(tmp_path, header),
    ):
        pass
    with journal.Journal(tmp_path, header) as again:
        assert again.lines == [header]


def test_a_damaged_partial_store_is_refused_by_name(tmp_path):
    recording = handmade.recording()
    with pytest.raises(Stop):
        conversion.write(tmp_path, interrupted(recording, 6), workers=1)
    partial = tmp_path / f"{recording.mouse}.partial"
    (partial / "clips_uint8" / "c.0.0.0.0").write_bytes(b"")
    with pytest.raises(errors.UserError, match=r"partial is damaged .*delete the folder"):
        conversion.write(tmp_path, recording)


@pytest.mark.parametrize("name", ["video", "responses", "behavior", "pupil_center", "rates"])
def test_verify_finds_one_changed_number_and_names_its_place(undisturbed, name):
    def change(values):
        values = values.copy()
        values[7, *[1] * (values.ndim - 1)] = 5.0
        return values

    recording = handmade.recording(rates=True)
    conversion.verify(undisturbed, recording)
    place = ", ".join(["7"] + ["1"] * (handmade.trial(4, rates=True).__dict__[name].ndim - 1))
    with pytest.raises(errors.UserError, match=rf"trial 4: {name} at .*\({place}\) is 5"):
        conversion.verify(undisturbed, handmade.altered(recording, 4, **{name: change}))


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        (dict(responses=lambda values: values * (1 + 1e-12), checksum=lambda _: "1"), "checksum"),
        (dict(tier=lambda _: "test"), "tier"),
    ],
)
def test_verify_finds_what_the_numbers_as_stored_do_not_show(undisturbed, changes, difference):
    recording = handmade.altered(handmade.recording(rates=True), 2, **changes)
    with pytest.raises(errors.UserError, match=f"trial 2: {difference} is"):
        conversion.verify(undisturbed, recording)


# The command --------------------------------------------------------------------------------------


def test_the_command_converts_and_verifies_the_golden_zip(tmp_path, capsys):
    source = sorted(GOLDEN.glob("mini_sensorium2023*.zip"))[0]
    convert.main([str(source), "--out", str(tmp_path), "--verify"])
    said = capsys.readouterr().out.splitlines()
    mice = sensorium2023.sessions(source)
    assert store.stores_in(tmp_path) == mice
    for mouse, line in zip(mice, said, strict=True):
        assert line.startswith(f"{mouse}: ") and line.endswith("verified")
        share = float(line.split("(")[1].split(" of the source")[0])
        assert share < 0.25
    convert.main([str(source), "--out", str(tmp_path)])
    assert capsys.readouterr().out.count("already converted") == len(mice)


def test_one_bad_mouse_does_not_keep_the_others_from_being_converted(tmp_path, capsys):
    bad = handmade.write_session(tmp_path / "source", "dynamic1-1-1-Video-a")
    handmade.write_session(tmp_path / "source", "dynamic2-1-1-Video-b")
    signal_file = bad / "data" / "responses" / "5.npy"
    whole = signal_file.read_bytes()
    signal_file.write_bytes(whole[:-100])
    command = [str(tmp_path / "source"), "--out", str(tmp_path / "stores")]
    with pytest.raises(SystemExit) as exit_with:
        convert.main(command)
    assert "1 of 2 mice could not be converted" in exit_with.value.code
    assert f"error: {signal_file} is not a complete" in capsys.readouterr().err
    assert store.stores_in(tmp_path / "stores") == ["dynamic2-1-1-Video-b"]
    signal_file.write_bytes(whole)
    convert.main(command)
    assert len(store.stores_in(tmp_path / "stores")) == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], r"no folder or \.zip nowhere"),
        (["nowhere", "--format", "sensorium203"], "did you mean 'sensorium2023'"),
        (["nowhere", "--format", "trials"], "a format is a file in sensojax/recordings"),
        (["nowhere", "--workers", "-1"], "expected 0 .* or more"),
    ],
)
def test_a_mistaken_command_ends_in_one_sentence(tmp_path, arguments, sentence):
    with pytest.raises(SystemExit) as exit_with:
        convert.main([*arguments, "--out", str(tmp_path)])
    assert re.search(sentence, exit_with.value.code)
    assert "\n" not in exit_with.value.code
    assert store.stores_in(tmp_path) == []


def test_a_mouse_in_two_sources_is_refused(tmp_path):
    for name in ("a", "b"):
        handmade.write_session(tmp_path / name, "dynamic1-1-1-Video-a", num_trials=1)
    with pytest.raises(SystemExit) as exit_with:
        convert.main([str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "out")])
    assert "is in" in exit_with.value.code and "give one of them" in exit_with.value.code


# Full disks and kills: another process ------------------------------------------------------------


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> Path:
    """Enough trials for a conversion to be killed in its midst."""
    folder = tmp_path_factory.mktemp("session")
    return handmade.write_session(folder, "dynamic3-1-1-Video-c", NUM_TRIALS, repeats=3)


@pytest.fixture(scope="module")
def whole(session, tmp_path_factory) -> Path:
    return conversion.write(tmp_path_factory.mktemp("whole"), sensorium2023.read(session))


def command(session: Path, out: Path) -> list[str]:
    return [sys.executable, str(SCRIPT), str(session), "--out", str(out)]


@pytest.mark.parametrize("limit_kib", [1, 8])  # the first array; the journal, later
def test_a_full_disk_ends_in_one_sentence_and_the_same_line_completes(
    session, whole, tmp_path, limit_kib
):
    limit = f'ulimit -f {limit_kib}; trap "" XFSZ; exec "$@"'
    limited = ["bash", "-c", limit, "bash", *command(session, tmp_path)]
    stopped = subprocess.run(limited, capture_output=True, text=True)
    assert stopped.returncode == 1
    assert stopped.stderr.count("\n") == 1 and "the disk is full" in stopped.stderr
    assert store.stores_in(tmp_path) == []
    convert.main([str(session), "--out", str(tmp_path)])
    assert_same(tmp_path / session.name, whole)


def kill_after(session: Path, out: Path, more_lines: int) -> bool:
    """Starts the conversion and kills it -9 when its journal has grown; False when it was done."""
    noted = out / f"{session.name}.partial" / "trials.jsonl"

    def count():
        return noted.read_bytes().count(b"\n") if noted.exists() else 0

    enough = min(count() + more_lines, NUM_TRIALS + 1)
    process = subprocess.Popen(command(session, out), stderr=subprocess.DEVNULL)
    while process.poll() is None:
        if count() >= enough:
            time.sleep(random.uniform(0, 0.004))  # about the time of a trial
            process.kill()
            break
        time.sleep(0.0005)
    return process.wait() == -signal.SIGKILL


def test_kill_9_and_the_same_line_again_give_the_same_store(session, whole, tmp_path):
    assert kill_after(session, tmp_path, random.randrange(1, NUM_TRIALS))
    convert.main([str(session), "--out", str(tmp_path)])
    assert_same(tmp_path / session.name, whole)


@pytest.mark.slow
def test_kill_9_at_ten_random_moments_gives_the_same_store(session, whole, tmp_path):
    hits = [kill_after(session, tmp_path, random.randrange(1, 10)) for _ in range(9)]
    hits.append(kill_after(session, tmp_path, NUM_TRIALS))  # while it finishes
    assert sum(hits) >= 9
    convert.main([str(session), "--out", str(tmp_path)])
    assert_same(tmp_path / session.name, whole)
