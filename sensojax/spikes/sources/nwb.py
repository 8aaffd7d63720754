"""Sorted units of an NWB file: spike times, and of each unit its probe, brain area and quality.

HDF5 is read directly and lazily: of a file that may hold hundreds of GB of raw voltage, only the
spike times, their index and the columns asked for. Every unit is kept, also what the sorter calls
noise, as in the published data sets; the column `quality` says which is which, where it is known.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import h5py
import numpy as np

from sensojax.errors import UserError, nearest
from sensojax.spikes import trains
from sensojax.spikes.sources.files import FAILURES, File, Found, one_each, reading

SUFFIX = ".nwb"
RESOLUTION_S = 0.0  # times are exact
# Under which names laboratories keep these; the first one that is there counts.
PROBE = ("probe", "probe_name", "electrode_group", "group_name")
AREA = ("brain_area", "location", "structure_acronym", "brain_region", "region", "area")
QUALITY = ("quality", "label", "KSLabel", "ks2_label", "phy_annotations", "cluster_quality")
ELECTRODES = "general/extracellular_ephys/electrodes"


@dataclass(frozen=True)
class Units:
    """times: [spike], offsets: [unit + 1], columns: by name [unit], subject: "" if not stated."""

    times: np.ndarray
    offsets: np.ndarray
    columns: dict[str, np.ndarray]
    subject: str


def sessions(files: Sequence[File]) -> list[Found]:
    """One session per file; the subject is the folder it lies in, the session the file's name."""
    return one_each(files)


def read(found: Found, component: str = "", columns: Iterable[str] = ()) -> trains.Trains:
    """The units of one file; `columns` of its units table besides the usual ones.

    Where the folder is not named for a subject (`sub-...`), the subject is the one that the file
    states. Raises NoSpikes when it has no units, UserError when it is damaged.
    """
    (file,) = found.files
    units = units_of(file, columns)
    subject = found.subject
    if units.subject and not subject.startswith("sub-"):
        subject = f"sub-{units.subject.removeprefix('sub-')}"
    return trains.of_flat(
        units.times,
        units.offsets,
        file.where,
        component=component,
        name=found.name,
        subject=subject,
        session=found.session,
        columns=units.columns,
        source=file.path,
    )


def units_of(file: File, columns: Iterable[str] = ()) -> Units:
    """Everything that is read of one file."""
    with reading(file, "NWB", *FAILURES) as stream, h5py.File(stream, "r") as opened:
        table = opened.get("units")
        if table is None or "spike_times" not in table:
            raise trains.NoSpikes(f"{file.where} has no sorted units; it is passed over.")
        index = table["spike_times_index"][:].astype(np.int64)
        offsets = np.append(0, index)
        times = table["spike_times"]
        if (np.diff(offsets) < 0).any() or offsets[-1] != len(times):
            raise ValueError("the index of the spike times does not fit them")
        found = _columns(opened, table, len(index), columns, file.where)
        return Units(np.asarray(times[:], np.float64), offsets, found, _subject(opened))


def _columns(opened, table, num_units: int, wanted: Iterable[str], where: str) -> dict:
    """The usual columns, where they are, and those asked for."""
    every = {name: table[name] for name in table if _is_column(table[name], num_units)}
    electrodes = _of_electrodes(opened, table, num_units)
    found = {"id": every["id"][:]} if "id" in every else {}
    for name, known in (("probe", PROBE), ("brain_area", AREA), ("quality", QUALITY)):
        own = [_values(opened, every[each]) for each in known if each in every]
        own += [electrodes[name]] if name in electrodes else []
        # A column of empty texts says nothing; the next best may.
        telling = [each for each in own if each.dtype.kind != "U" or (each != "").any()]
        if telling:
            found[name] = telling[0]
    for name in wanted:
        if name not in every:
            raise UserError(
                f"found no column {name!r} in the units of {where}, expected one of "
                f"{', '.join(sorted(every))}{nearest(name, every)}"
            )
        found[name] = _values(opened, every[name])
    return found


def _is_column(dataset, num_units: int) -> bool:
    """Whether it has one plain value for each unit."""
    is_data = isinstance(dataset, h5py.Dataset)
    return is_data and dataset.shape == (num_units,) and dataset.dtype.kind in "iufbOS"


def _values(opened, dataset) -> np.ndarray:
    """Numbers as they are, texts as str; of references the name of what they point to."""
    if h5py.check_ref_dtype(dataset.dtype):
        names = [opened[each].name.rpartition("/")[2] if each else "" for each in dataset[:]]
        return np.array(names, np.str_)
    if dataset.dtype.kind in "OS":
        return np.array([_text(each) for each in dataset[:]], np.str_)
    return dataset[:]


def _text(value) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _of_electrodes(opened, table, num_units: int) -> dict[str, np.ndarray]:
    """Probe and area of each unit's peak channel, or else of its first electrode."""
    electrodes = opened.get(ELECTRODES)
    if electrodes is None or not num_units or not len(electrodes.get("id", [0])):
        return {}
    if "peak_channel_id" in table and "id" in electrodes:
        ids = electrodes["id"][:]
        order = np.argsort(ids, kind="stable")
        peak = table["peak_channel_id"][:]
        row = order[np.minimum(np.searchsorted(ids, peak, sorter=order), len(ids) - 1)]
        known = ids[row] == peak
    elif "electrodes" in table and "electrodes_index" in table:
        ends = table["electrodes_index"][:].astype(np.int64)
        first = np.append(0, ends[:-1])
        rows = np.append(table["electrodes"][:].astype(np.int64), 0)
        row, known = rows[first], ends > first
    else:
        return {}
    found = {}
    for name, source in (("probe", "group_name"), ("brain_area", "location")):
        if source in electrodes:
            values = _values(opened, electrodes[source])
            found[name] = np.where(known, values[row], "").astype(np.str_)
    return found


def _subject(opened) -> str:
    stated = opened.get("general/subject/subject_id")
    return _text(stated[()]) if isinstance(stated, h5py.Dataset) else ""
