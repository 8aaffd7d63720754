"""The superior colliculus's file: what is read is what it holds, and what it lacks is said."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from scripts import convert
from sensojax.errors import UserError
from sensojax.recordings import colliculus2017, formats, matlab
from sensojax.store import TrialStore
from sensojax.tools import sources
from sensojax.tools.annotating import shown
from tests.recordings import tiny, tiny_colliculus
from tests.recordings.tiny_colliculus import FRAMES, HEIGHT, NEURONS, REPEATS, SEGMENTS, WIDTH

TRIALS = SEGMENTS * REPEATS


@pytest.fixture
def path(tmp_path):
    return tiny_colliculus.write(tmp_path)


WRITERS = {
    "version 7.3": tiny_colliculus.write,
    "version 5": tiny_colliculus.write_old,
    "version 5 by Python": lambda folder: tiny_colliculus.write_old(folder, by="python"),
}


@pytest.mark.parametrize("version", WRITERS)
def test_a_trial_is_what_the_file_holds(tmp_path, version):
    recording = colliculus2017.read(WRITERS[version](tmp_path))
    made = tiny_colliculus.arrays()
    assert recording.mouse == tiny_colliculus.NAME and not recording.simulated
    assert recording.frame_rate_hz == 30 and len(recording.neurons) == NEURONS
    for index in range(TRIALS):
        trial = recording.read(index)
        film = made["trainingmovie_mini"][index].reshape(FRAMES, HEIGHT, WIDTH)
        np.testing.assert_array_equal(trial.video, film)
        np.testing.assert_array_equal(trial.responses, made["FRhist_tr"][index])
        assert trial.behavior.shape == trial.pupil_center.shape == (FRAMES, 0)
        assert trial.tier == recording.tiers[index] and trial.official_frames == FRAMES


def test_tiers_and_times_go_by_segment(path):
    recording = colliculus2017.read(path)
    assert recording.tiers == ("train",) * 8 + ("validation",) * 2
    columns = recording.trial_columns
    assert columns["video_ids"].tolist() == [0, 0, 2, 2, 3, 3, 4, 4, 5, 5]  # 1 and 6 are hidden
    assert columns["repeat"].tolist() == [0, 1] * 5
    film_s = 7 * FRAMES / 30
    np.testing.assert_allclose(columns["start_s"][:4], [0, film_s, 0.4, film_s + 0.4])
    assert columns["beside_hidden"].tolist() == [True] * 4 + [False] * 4 + [True] * 2


def test_the_published_file_has_228_trials_to_train_on_and_the_template_leaks_one_segment(tmp_path):
    hidden = (13, 21, 36, 31, 33, 17, 24, 35, 6, 30)
    made = tiny_colliculus.arrays(48, 6, 2, (3, 4), 54, hidden)
    path = tiny_colliculus.write(tmp_path, made)
    recording = colliculus2017.read(path)
    assert (recording.tiers.count("train"), recording.tiers.count("validation")) == (228, 60)
    segment = recording.trial_columns["video_ids"]
    assert segment.max() == 57 and not set(segment) & {number - 1 for number in hidden}
    tiers = np.array(recording.tiers)
    assert not set(segment[tiers == "train"]) & set(segment[tiers == "validation"])
    leaky = colliculus2017.read(path, split="template")
    tiers = np.array(leaky.tiers)
    assert (tiers == "train").sum() == 230
    both = set(segment[tiers == "train"]) & set(segment[tiers == "leaky_validation"])
    assert both == {segment[6 * 38]}


def test_only_the_asked_trial_is_read(path, monkeypatch):
    recording, asked, read = colliculus2017.read(path), [], matlab.File.read

    def noted(self, name, part=...):
        asked.append((name, part))
        return read(self, name, part)

    monkeypatch.setattr(matlab.File, "read", noted)
    recording.read(7)
    assert asked == [("trainingmovie_mini", 7), ("FRhist_tr", 7)]


def test_many_threads_read_what_one_reads(path):
    recording = colliculus2017.read(path)
    indices = list(range(TRIALS)) * 4
    with ThreadPoolExecutor(6) as pool:
        for index, trial in zip(indices, pool.map(recording.read, indices), strict=True):
            alone = colliculus2017.read(path).read(index)
            assert trial.checksum == alone.checksum and (trial.video == alone.video).all()


def test_frames_of_other_sides_need_their_size(tmp_path):
    path = tiny_colliculus.write(tmp_path, tiny_colliculus.arrays(size=(5, 8)))
    with pytest.raises(UserError, match=r"found frames of 40 pixels .*expected sides of 3 to 4"):
        colliculus2017.read(path)
    assert colliculus2017.read(path, frame_size=(5, 8)).read(0).video.shape == (FRAMES, 5, 8)
    with pytest.raises(UserError, match=r"found frames of 40 pixels in .*, expected 5 x 9"):
        colliculus2017.read(path, frame_size=(5, 9))


def test_the_picture_is_rows_16_to_79_of_96():
    assert colliculus2017.picture_rows(96) == (16, 80)


def test_a_file_without_hidden_segments_counts_from_the_first(tmp_path):
    made = tiny_colliculus.arrays()
    del made["hiddendata"]
    recording = colliculus2017.read(tiny_colliculus.write(tmp_path, made))
    assert recording.trial_columns["video_ids"].tolist() == np.repeat(range(5), 2).tolist()


def test_a_clip_with_a_gap_ends_there_when_asked_to(tmp_path):
    made = tiny_colliculus.arrays()
    made["FRhist_tr"][3, 4:, 1] = np.nan
    path = tiny_colliculus.write(tmp_path, made)
    with pytest.raises(UserError, match=r"trial 3 of .* is NaN in frame 4"):
        colliculus2017.read(path).read(3)
    assert colliculus2017.read(path, holes="cut").read(3).num_frames == 4


# What is wrong, in a sentence ---------------------------------------------------------------------


def changed(name, how):
    def damage(folder):
        made = tiny_colliculus.arrays()
        values = how(made.pop(name))
        return tiny_colliculus.write(folder, made | ({} if values is None else {name: values}))

    return damage


def cut(folder):
    path = tiny_colliculus.write(folder)
    path.write_bytes(path.read_bytes()[:3000])
    return path


def written(content):
    def damage(folder):
        path = folder / "file.mat"
        path.write_bytes(content)
        return path

    return damage


def cut_old(folder):
    path = tiny_colliculus.write_old(folder)
    path.write_bytes(path.read_bytes()[:400])
    return path


def with_value(value, *place):
    def change(values):
        values[place] = value
        return values

    return change


DAMAGES = {
    "no film": (
        changed("trainingmovie_mini", lambda film: None),
        r"with FRhist_tr \(10, 6, 3\), hiddendata .*expected trainingmovie_mini \[trial time pixel",
    ),
    "two axes": (
        changed("FRhist_tr", lambda counts: counts[0]),
        r"FRhist_tr \(6, 3\).*expected .*FRhist_tr \[trial time neuron\]",
    ),
    "other trials": (
        changed("FRhist_tr", lambda counts: counts[:9]),
        r"FRhist_tr \(9, 6, 3\).*expected as many trials and frames",
    ),
    "no trials": (
        lambda folder: tiny_colliculus.write(
            folder, {k: v[:0] for k, v in tiny_colliculus.arrays().items()}
        ),
        "and no empty one",
    ),
    "text for numbers": (
        changed("FRhist_tr", lambda counts: np.array([b"text"])),
        "expected trainingmovie_mini",
    ),
    "a repeat that is another film": (
        changed("trainingmovie_mini", with_value(1.0, 3)),
        r"trial 3 of .* does not show the film of the other repeats of segment 1, expected 2",
    ),
    "a half segment": (
        lambda folder: tiny_colliculus.write(
            folder,
            {k: v[:9] if len(v) == 10 else v for k, v in tiny_colliculus.arrays().items()},
        ),
        r"found 9 trials in .* the first 2 of which show the same film, expected a multiple of 2",
    ),
    "a negative count": (
        changed("FRhist_tr", with_value(-1.0, 2, 0, 0)),
        "trial 2 of .* has a spike count of -1, expected none below 0",
    ),
    "a gap in the film": (
        changed("trainingmovie_mini", with_value(np.nan, slice(2, 4), 5, 0)),
        "trial 2 of .* is NaN in frame 5, expected numbers",
    ),
    "a hidden segment that cannot be": (
        changed("hiddendata", lambda hidden: hidden + 1),
        "hiddendata in .* names the segments 8, 3, expected 2 different ones of 1 to 7",
    ),
    "cut short": (cut, "is damaged"),
    "an old one cut short": (cut_old, r"is damaged \(its end is missing\)"),
    "no HDF5 after the header": (
        written(b"MATLAB 7.3 MAT-file".ljust(600)),
        "file.mat is damaged .*HDF5 part is missing",
    ),
    "a page of HTML": (
        written(b"<html>not found</html>"),
        r"begins with b'<html>not ', expected a MATLAB file of version 5 to 7\.3",
    ),
    "nothing": (written(b""), "begins with b'', expected a MATLAB file"),
    "no file": (lambda folder: folder / "SCNeuron.mat", "there is no file .*SCNeuron.mat"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_file_is_refused_in_one_sentence(tmp_path, name):
    damage, sentence = DAMAGES[name]
    path = damage(tmp_path)
    with pytest.raises(UserError, match=sentence) as refusal:
        recording = formats.read(path)
        for index in range(len(recording.tiers)):
            recording.read(index)
    assert "\n" not in str(refusal.value)


# Beside other formats, and as a store -------------------------------------------------------------


def test_files_are_found_beside_sessions_and_other_matlab_files_are_not(tmp_path):
    session = tiny.write(tmp_path)
    tiny_colliculus.write(tmp_path)
    tiny_colliculus.write(tmp_path, {"other": np.zeros(3)}, "other")
    (tmp_path / "broken.mat").write_bytes(b"MATLAB 7.3")
    every = ["SCNeuronModelCompetition", "broken", session.name]
    assert formats.sessions(tmp_path) == every
    assert formats.read(tmp_path, session.name).read(0).behavior.shape[1] == 2
    assert len(formats.read(tmp_path, every[0]).tiers) == TRIALS
    with pytest.raises(UserError, match=r"has 3 sessions, .*expected one, or the name of one"):
        formats.read(tmp_path)
    with pytest.raises(UserError, match=r"expected one called 'SCNeuron'"):
        formats.read(tmp_path, "SCNeuron")
    with pytest.raises(UserError, match=r"found split 'template' for .*, expected none"):
        formats.read(tmp_path, session.name, split="template")
    assert set(sources.find([tmp_path])) == {*every}


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """A file and the folder of its store."""
    folder = tmp_path_factory.mktemp("colliculus")
    path = tiny_colliculus.write(folder)
    convert.main([str(path), "--out", str(folder / "stores"), "--verify"])
    return path, folder / "stores" / tiny_colliculus.NAME


def test_a_store_keeps_every_film_once_and_counts_as_they_are(converted):
    store, made = TrialStore.open(converted[1]), tiny_colliculus.arrays()
    assert store.video_dtype == "uint8" and len(set(store.trials.clip)) == SEGMENTS
    assert not store.has_pupil and store.video_ids.tolist() == [0, 0, 2, 2, 3, 3, 4, 4, 5, 5]
    assert not list(converted[1].glob("behavior")) + list(converted[1].glob("pupil_center"))
    for row in range(TRIALS):
        read = store.read(row, 1, 5)
        film = made["trainingmovie_mini"][row, 1:5].reshape(4, HEIGHT, WIDTH)
        np.testing.assert_array_equal(read["video"], film)
        np.testing.assert_array_equal(read["responses"], made["FRhist_tr"][row, 1:5])
        assert read["behavior"].shape == read["pupil_center"].shape == (4, 0)
    known = store.statistics.per_neuron
    np.testing.assert_allclose(known["responses"]["mean"], made["FRhist_tr"][:8].mean((0, 1)))
    assert known["behavior"]["std"].shape == (0,) and not store.statistics.official


def test_the_leaking_split_is_converted_by_name_only(converted, tmp_path, capsys):
    path, _ = converted
    convert.main([str(path), "--out", str(tmp_path), "--split", "template"])
    assert "10 trials, 5 distinct clips" in capsys.readouterr().out
    tiers = TrialStore.open(tmp_path / path.stem).trials.tier
    assert set(tiers) == {"train", "leaky_validation"}
    wrong = {"--split=templat": "did you mean 'template'", "--format=sensorium2023": "--split"}
    for argument, sentence in wrong.items():
        arguments = [str(path), f"--out={tmp_path / 'other'}", "--split=template", argument]
        with pytest.raises(SystemExit, match=sentence):
            convert.main(arguments)


def test_tools_see_the_same_film_in_the_file_and_in_its_store(converted):
    found = []
    for place in converted:
        (opening,) = sources.find([place]).values()
        found.append(shown.of(opening()))
    assert found[0].padded_frames == found[1].padded_frames == FRAMES
    for row in range(TRIALS):
        films = [each.read(row) for each in found]
        assert films[0].dtype == films[1].dtype == np.uint8
        np.testing.assert_array_equal(*films)
