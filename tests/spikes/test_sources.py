"""What laboratories publish is read as it is, lazily; what is wrong with it is one sentence."""

import io

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from sensojax.errors import UserError
from sensojax.spikes import event_writing, trains
from sensojax.spikes.events import EventStore
from sensojax.spikes.sources import components, gonzalez, lemerre, nwb, steinmetz2
from sensojax.spikes.sources.files import LocalFile, local
from sensojax.spikes.trains import NoSpikes
from tests import runs
from tests.spikes import recorded
from tests.spikes.recorded import write_nwb

TIMES = recorded.units(1, 4, 10.0)


def only(module, folder, **about) -> trains.Trains:
    (found,) = module.sessions(local([folder], module.SUFFIX))
    return module.read(found, "made", **about)


def times_of(made: trains.Trains) -> list[np.ndarray]:
    return np.split(made.times, made.offsets[1:-1])


# Trains -------------------------------------------------------------------------------------------


def of_units(*units) -> trains.Trains:
    about = {"component": "", "subject": "sub-a", "session": "b", "columns": {}}
    return trains.of_units([np.array(each, float) for each in units], "a file", **about)


def test_unsorted_units_are_sorted_and_empty_ones_stay_and_both_are_told():
    made = of_units([3.0, 1.0, 2.0], [], [0.5, 0.7], [0.1, 0.05])
    np.testing.assert_array_equal(made.times, [1, 2, 3, 0.5, 0.7, 0.05, 0.1])
    assert made.offsets.tolist() == [0, 3, 3, 5, 7] and made.end_s == 3.0
    assert made.notes == (
        "a file: the times of 2 units (0, 3) are now sorted.",
        "a file: 1 of 4 units have no spike; they stay.",
    )
    assert of_units([1.0, 2.0], [0.5, 0.5]).notes == ()


@pytest.mark.parametrize(
    ("units", "kind", "sentence"),
    [
        ([], NoSpikes, "a file has no units; it is passed over"),
        ([[], []], NoSpikes, "has no spike in its 2 units; it is passed over"),
        ([[-3.0, -1.0]], NoSpikes, "no spike after time zero; it is passed over"),
        ([[-3.0], [0.0]], NoSpikes, "no spike after time zero; it is passed over"),
        ([[1.0], [2.0, np.nan, np.nan]], UserError, "found 2 times that are no numbers.* unit 1"),
        ([[1.0, np.inf]], UserError, "no numbers in a file, first inf in unit 0"),
        ([[1.0, 1.6e9]], UserError, r"found a spike at 1\.6e\+09 in a file, expected seconds"),
    ],
)
def test_trains_that_cannot_be_are_one_sentence(units, kind, sentence):
    with pytest.raises(kind, match=sentence) as raised:
        of_units(*units)
    assert raised.type is kind and "\n" not in str(raised.value)


def test_names_of_folders_come_from_subject_and_session():
    assert trains.name_of("sub-1", "sub-1_ses-2_ecephys") == "sub-1_ses-2_ecephys"
    assert trains.name_of("data", "ses 2/b:c") == "data_ses-2-b-c"
    assert trains.name_of("", "..") == "session"


# NWB ----------------------------------------------------------------------------------------------


def test_units_of_an_nwb_file_are_read_with_their_columns(tmp_path):
    path = tmp_path / "sub-7" / "sub-7_ses-1.nwb"
    table = {
        "location": np.array(["VISp", "", "CA1", "CA1"]),
        "quality": np.array(["good", "noise", "good", "mua"]),
        "snr": np.array([1.5, 2.5, np.nan, 4.0]),
        "waveform_mean": np.zeros((4, 82)),
    }
    write_nwb(path, TIMES, "of the file", **table)
    made = only(nwb, tmp_path, columns=["snr"])
    for found, expected in zip(times_of(made), TIMES, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert (made.subject, made.session, made.component) == ("sub-7", "sub-7_ses-1", "made")
    assert made.name == "sub-7_ses-1" and made.source == f"{tmp_path.name}/sub-7/sub-7_ses-1.nwb"
    assert list(made.columns) == ["id", "brain_area", "quality", "snr"]
    assert made.columns["brain_area"].tolist() == ["VISp", "", "CA1", "CA1"]
    np.testing.assert_array_equal(made.columns["snr"], table["snr"])
    with pytest.raises(UserError, match=r"found no column 'snrr' .*did you mean 'snr'"):
        only(nwb, tmp_path, columns=["snrr"])


def test_the_subject_is_that_of_the_file_where_no_folder_names_it(tmp_path):
    write_nwb(tmp_path / "data" / "a.nwb", TIMES, "506940")
    made = only(nwb, tmp_path / "data" / "a.nwb")
    assert (made.subject, made.session, made.name) == ("sub-506940", "a", "data_a")
    write_nwb(tmp_path / "data" / "a.nwb", TIMES)
    assert only(nwb, tmp_path).subject == "data"  # as published


@pytest.mark.parametrize("how", ["peak channel", "electrodes", "references"])
def test_probe_and_area_are_found_through_the_electrodes(tmp_path, how):
    path = write_nwb(tmp_path / "a.nwb", TIMES)
    with h5py.File(path, "a") as file:
        table = file.create_group(nwb.ELECTRODES)
        table["id"] = np.array([50, 10, 30])
        table["location"] = np.array(["VISp", "CA1", "LGd"], "S")
        table["group_name"] = np.array(["A", "B", "B"], "S")
        units = file["units"]
        if how == "peak channel":
            units["peak_channel_id"] = np.array([10, 30, 50, 99])
        elif how == "electrodes":
            units["electrodes"] = np.array([1, 0, 2, 0])
            units["electrodes_index"] = np.array([2, 3, 4, 4])
        else:
            for name in "AB":
                file.create_group(f"general/extracellular_ephys/{name}")
            kind = h5py.special_dtype(ref=h5py.Reference)
            groups = [file[f"general/extracellular_ephys/{name}"].ref for name in "BBA"]
            units.create_dataset("electrode_group", (4,), kind)[:3] = groups
            units["brain_area"] = np.array([""] * 4, "S")  # says nothing
            units["location"] = np.array([b"", b"CA3", b"", b""])
    columns = only(nwb, tmp_path).columns
    assert columns["probe"].tolist() == ["B", "B", "A", ""]
    expected = {"references": ["", "CA3", "", ""]}.get(how, ["CA1", "LGd", "VISp", ""])
    assert columns["brain_area"].tolist() == expected


def test_a_table_of_no_electrodes_says_nothing_of_units(tmp_path):
    path = write_nwb(tmp_path / "a.nwb", TIMES)
    with h5py.File(path, "a") as file:
        table = file.create_group(nwb.ELECTRODES)
        table["id"] = np.zeros(0, int)
        table["location"] = np.zeros(0, "S4")
        file["units"]["peak_channel_id"] = np.array([10, 30, 50, 99])
    made = only(nwb, tmp_path)
    assert len(made.offsets) == len(TIMES) + 1 and "brain_area" not in made.columns


class Counting(io.BytesIO):
    """A file that counts what is read of it."""

    done = 0

    def readinto(self, buffer):
        found = super().readinto(buffer)
        Counting.done += found
        return found


def test_only_what_is_asked_for_is_read(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    path = write_nwb(tmp_path / "a.nwb", TIMES, waveforms=rng.random((4, 100_000)))
    with h5py.File(path, "a") as file:
        file["acquisition/voltage"] = rng.integers(0, 1000, (200_000, 4), np.int16)
    content = path.read_bytes()
    assert len(content) > 4_000_000
    monkeypatch.setattr(LocalFile, "open", lambda self: Counting(content))
    Counting.done = 0
    made = only(nwb, tmp_path)
    needed = made.times.nbytes
    assert needed <= Counting.done < needed + 60_000


def test_a_file_without_units_is_passed_over_and_said(tmp_path):
    with h5py.File(tmp_path / "a.nwb", "w") as file:
        file["acquisition/voltage"] = np.zeros(3)
    with pytest.raises(NoSpikes, match=r"a\.nwb has no sorted units; it is passed over"):
        only(nwb, tmp_path)
    write_nwb(tmp_path / "a.nwb", [])
    with pytest.raises(NoSpikes, match="has no units"):
        only(nwb, tmp_path)


@pytest.mark.parametrize("how", [*runs.DAMAGES, "index", "text"])
def test_a_damaged_nwb_file_is_one_sentence(tmp_path, how):
    path = write_nwb(tmp_path / "a.nwb", TIMES)
    if how == "index":
        with h5py.File(path, "a") as file:
            file["units/spike_times_index"][1] = 3
    elif how == "text":
        path.write_text("not found")
    else:
        path.write_bytes(runs.DAMAGES[how](path.read_bytes()))
    with pytest.raises(UserError, match=r"a\.nwb cannot be read as NWB \(.*get it again") as raised:
        only(nwb, tmp_path)
    assert "\n" not in str(raised.value) and not isinstance(raised.value, NoSpikes)


def test_nothing_to_read_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"found no \.nwb file in"):
        local([tmp_path], ".nwb")
    with pytest.raises(UserError, match=r"found no .*absent"):
        local([tmp_path / "absent"], ".nwb")


# Several probes -----------------------------------------------------------------------------------


def test_probes_of_a_session_are_stacked_and_end_together(tmp_path):
    folder = tmp_path / "sub-P1"
    names = ["ses-P1-2020-probe0_b+e", "ses-P1-2020_probe1_b+e", "ses-P1-2021-probe0_e"]
    quality = np.array(["good", "noise"])
    write_nwb(folder / f"sub-P1_{names[0]}.nwb", TIMES[:2], quality=quality)
    write_nwb(folder / f"sub-P1_{names[1]}.nwb", TIMES[3:], depth=np.array([7.0]))
    write_nwb(folder / f"sub-P1_{names[2]}.nwb", TIMES[:1])
    with h5py.File(folder / "sub-P1_ses-P1-2021-probe1_e.nwb", "w"):
        pass
    first, second = lemerre.sessions(local([folder], ".nwb"))
    assert (first.session, second.session) == ("ses-P1-2020", "ses-P1-2021")
    made = lemerre.read(first, "lemerre")
    assert [len(each) for each in times_of(made)] == [len(TIMES[i]) for i in (0, 1, 3)]
    assert made.columns["probe"].tolist() == ["probe0", "probe0", "probe1"]
    assert made.columns["quality"].tolist() == ["good", "noise", ""]
    assert made.end_s == max(times.max() for times in (TIMES[0], TIMES[1], TIMES[3]))
    assert made.name == "sub-P1_ses-P1-2020"
    single = lemerre.read(second)
    assert single.num_neurons == 1 and single.notes == (
        "sub-P1/sub-P1_ses-P1-2021-probe1_e.nwb has no sorted units; it is passed over.",
    )
    (folder / f"sub-P1_{names[2]}.nwb").write_bytes(b"cut")
    with pytest.raises(UserError, match="cannot be read as NWB"):
        lemerre.read(second)


# Firing rates -------------------------------------------------------------------------------------


def test_rates_become_the_published_counts(tmp_path):
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.2, (500, 5))
    counts[-20:] = 0  # silence at the end is a part of the session
    counts[3, 1] = 300
    with h5py.File(tmp_path / "a.nwb", "w") as file:
        file[gonzalez.SERIES] = counts * 50.0 + rng.uniform(-20, 20, counts.shape).clip(
            -50 * counts
        )
    store = EventStore.open(event_writing.write(tmp_path / "out", only(gonzalez, tmp_path)))
    np.testing.assert_array_equal(store.counts(0.02).dense(), counts.T)
    coarse = counts[:500].reshape(100, 5, 5).sum(axis=1).T
    np.testing.assert_array_equal(store.counts(0.1).dense(), coarse)
    assert store.num_bins(0.02) == 500 and store._description["residuals"] is False
    with pytest.raises(UserError, match=r"expected a multiple of 0\.02 s"):
        store.counts(0.01)


@pytest.mark.parametrize(("value", "sentence"), [(np.nan, "no numbers"), (-50.0, "negative")])
def test_rates_that_are_none_are_one_sentence(tmp_path, value, sentence):
    with h5py.File(tmp_path / "a.nwb", "w") as file:
        file[gonzalez.SERIES] = np.array([[50.0, 0.0], [value, 0.0]])
    with pytest.raises(UserError, match=rf"found rates that are .*{sentence}"):
        only(gonzalez, tmp_path)
    with h5py.File(tmp_path / "a.nwb", "w") as file:
        file["units"] = 1
    with pytest.raises(NoSpikes, match="has no acquisition/firing_rates"):
        only(gonzalez, tmp_path)
    with h5py.File(tmp_path / "a.nwb", "w") as file:
        file[gonzalez.SERIES] = np.zeros((0, 3))
    with pytest.raises(NoSpikes, match="no spike"):
        only(gonzalez, tmp_path)


# Eight probes -------------------------------------------------------------------------------------


def records(*probes) -> dict:
    spks = np.empty((1, len(probes)), [("st", object), ("clu", object), ("Wheights", object)])
    for number, probe in enumerate(probes):
        spks[0, number] = tuple(np.array(each, float)[:, None] for each in probe)
    return {"spks": spks}


def test_clusters_keep_their_numbers_heights_and_areas(tmp_path):
    first = ([5.0, 4.0, 6.0], [3, 1, 3], [10.0, 400.0, 900.0])
    second = ([4.5], [2], [20.0, 30.0])
    savemat(tmp_path / "spksWaksman_Feb18.mat", records(first, second))
    borders = {"lowerBorder": [0.0, 500.0], "upperBorder": [500.0, 1000.0]}
    borders["acronym"] = np.array(["TH", "V1"], object)
    probe = np.array([{"borders": borders}] * 2, object)
    locations = np.array([{"probe": probe[:1]}, {"probe": probe}, {"probe": probe}], object)
    savemat(tmp_path / "probeLocations.mat", {"probeLocations": locations})
    made = only(steinmetz2, tmp_path)
    assert (made.subject, made.rule) == ("Waksman", "quotient")
    assert [each.tolist() for each in times_of(made)] == [[0.0], [], [1.0, 2.0], [], [0.5]]
    columns = {name: column.tolist() for name, column in made.columns.items()}
    assert columns["quality"] == ["kept", "rejected", "kept", "rejected", "kept"]
    assert columns["id"] == [1, 2, 3, 1, 2]
    assert columns["probe"] == ["probe0"] * 3 + ["probe1"] * 2
    assert columns["height_um"] == [10, 400, 900, 20, 30]
    assert columns["brain_area"] == ["TH", "TH", "V1", "TH", "TH"]
    (tmp_path / "probeLocations.mat").unlink()
    assert "brain_area" not in only(steinmetz2, tmp_path).columns


def test_a_time_that_is_no_number_is_said_of_its_own_cluster(tmp_path):
    probe = ([1.0, np.nan, 3.0], [1, 2, 2], [1.0, 2.0])
    savemat(tmp_path / "spksKrebs_Feb18.mat", records(probe))
    with pytest.raises(UserError, match=r"found 1 times that are no numbers .* in unit 1,"):
        only(steinmetz2, tmp_path)


@pytest.mark.parametrize("how", [*runs.DAMAGES, "zero", "none", "lengths", "other"])
def test_damaged_matlab_files_are_one_sentence(tmp_path, how):
    path = tmp_path / "spksKrebs_Feb18.mat"
    numbers = {"zero": [0, 1], "none": [1, np.nan], "lengths": [1]}.get(how, [1, 2])
    savemat(path, records(([1.0, 2.0], numbers, [1.0, 2.0])))
    if how in runs.DAMAGES:
        path.write_bytes(runs.DAMAGES[how](path.read_bytes()))
    elif how == "other":
        savemat(path, {"other": 1})
    kind, sentence = UserError, "cannot be read as MATLAB"
    if how == "other":
        kind, sentence = NoSpikes, "has no 'spks'; it is passed over"
    with pytest.raises(kind, match=sentence):
        only(steinmetz2, tmp_path)


# The table of data sets ---------------------------------------------------------------------------


def test_the_table_of_components_adds_up_to_the_published_totals():
    every = components.ALL
    assert len(every) == len(components.BY_NAME) == 25
    assert sum(each.tokens for each in every) == 452_793_851_799
    assert sum(each.subjects for each in every) == 528
    assert sum(each.sessions for each in every) == 1_908
    assert {each.reader for each in every} == {"nwb", "lemerre", "gonzalez", "steinmetz2"}
    assert all(len(each.identifier) == 6 for each in every if each.archive == "dandi")
    text = components.table()
    for each in every:
        assert each.page in text and each.rule in text
    with pytest.raises(UserError, match=r"found component 'vnc'.*did you mean 'vcn'"):
        components.named("vnc")
