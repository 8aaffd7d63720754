"""Eight probes in three mice during spontaneous behaviour, as MATLAB files (figshare 7739750).

A file holds the array `spks`, a record per probe with spike times (s), cluster numbers and the
height of each cluster on the probe. Numbers begin at 1 and have gaps where clusters were rejected;
as published, the rejected ones stay as silent neurons, and the column `quality` marks them. Time
zero is the earliest spike. Brain areas come from `probeLocations.mat`, where that lies beside.
"""

import re
import zlib
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from sensojax.errors import UserError
from sensojax.spikes import trains
from sensojax.spikes.sources.files import FAILURES, File, Found, folder_and_stem, reading

SUFFIX = ".mat"
RESOLUTION_S = 0.0  # times are exact
KEY, LOCATIONS = "spks", "probeLocations"
MICE = ("Krebs", "Waksman", "Robbins")  # in the order of the table of locations
DAMAGES = (*FAILURES, MatReadError, zlib.error)


def sessions(files: Sequence[File]) -> list[Found]:
    """A session per file but the table of locations, which goes with each of them.

    The subject is the mouse that the file's name has (`spksKrebs_Feb18.mat`), or the folder.
    """
    tables = [file for file in files if folder_and_stem(file)[1] == LOCATIONS]
    found = []
    for file in files:
        folder, stem = folder_and_stem(file)
        if file not in tables:
            mouse = re.match(r"spks([A-Za-z]+)_", stem)
            found.append(Found(mouse[1] if mouse else folder, stem, (file, *tables[:1])))
    return found


def read(found: Found, component: str = "", columns: Iterable[str] = ()) -> trains.Trains:
    """The clusters of all probes; there are no columns to ask for.

    Raises NoSpikes when the file has no `spks`, UserError when it is damaged.
    """
    file, *tables = found.files
    if columns := tuple(columns):
        raise UserError(
            f"found the columns {', '.join(columns)} asked of {file.where}, expected none: all "
            "that is known of clusters is read."
        )
    probes = _probes(file)
    borders = _borders(tables[0], found.subject, len(probes)) if tables else None
    # Passing over not-a-number, so that the sentence about it names the one unit that has it.
    start = min((np.fmin.reduce(times) for times, _, _ in probes if len(times)), default=0.0)
    units, known = [], []
    for number, (times, clusters, heights) in enumerate(probes):
        total = int(clusters.max(initial=0))
        order = np.argsort(clusters, kind="stable")
        ends = np.searchsorted(clusters[order], np.arange(1, total + 1), "right")
        # The difference in double precision, as published: bins are taken from it.
        units += np.split(times[order] - start, ends[:-1]) if total else []
        known.append(_columns(number, total, np.diff(ends, prepend=0), heights, borders))
    return trains.of_units(
        units,
        file.where,
        component=component,
        subject=found.subject,
        session=found.session,
        columns={name: np.concatenate([each[name] for each in known]) for name in known[0]},
        rule="quotient",
        source=file.path,
    )


def _probes(file: File) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Times (float64), cluster numbers (int64) and heights of each probe."""
    with reading(file, "MATLAB up to version 7.2", *DAMAGES) as stream:
        content = loadmat(stream, variable_names=[KEY])
        if KEY not in content:
            raise trains.NoSpikes(f"{file.where} has no {KEY!r}; it is passed over.")
        probes = []
        for record in content[KEY].ravel():
            fields = [np.asarray(each, np.float64).ravel() for each in list(record)[:3]]
            times, clusters = fields[:2]
            if len(times) != len(clusters) or not (clusters >= 1).all():
                raise ValueError("times and cluster numbers from 1 on do not belong together")
            clusters = clusters.astype(np.int64)
            probes.append((times, clusters, fields[2] if len(fields) > 2 else np.zeros(0)))
        if not probes:
            raise trains.NoSpikes(f"{file.where} has no probe; it is passed over.")
        return probes


def _columns(number: int, total: int, spikes: np.ndarray, heights: np.ndarray, borders) -> dict:
    height = np.full(total, np.nan)
    height[: min(total, len(heights))] = heights[:total]
    known = {
        "id": np.arange(1, total + 1),
        "probe": np.full(total, f"probe{number}"),
        "quality": np.where(spikes > 0, "kept", "rejected"),
        "height_um": height,
    }
    if borders is not None:
        area = np.full(total, "", dtype="<U32")
        for lower, upper, acronym in borders[number]:
            area[(height >= lower) & (height < upper)] = acronym
        known["brain_area"] = area
    return known


def _borders(file: File, mouse: str, num_probes: int) -> list[list[tuple[float, float, str]]]:
    """Lower and upper border (height on the probe) and acronym of the areas of each probe."""
    with reading(file, "a MATLAB table of probe locations", *DAMAGES) as stream:
        table = loadmat(stream, variable_names=[LOCATIONS], squeeze_me=True, struct_as_record=False)
        probes = np.atleast_1d(np.atleast_1d(table[LOCATIONS])[MICE.index(mouse)].probe)
        found = []
        for probe in probes[:num_probes]:
            borders = np.atleast_1d(probe.borders)
            rows = [
                np.concatenate([np.atleast_1d(getattr(each, name)) for each in borders])
                for name in ("lowerBorder", "upperBorder", "acronym")
            ]
            found.append(
                [(float(low), float(up), str(name)) for low, up, name in zip(*rows, strict=True)]
            )
        if len(found) < num_probes:
            raise ValueError(f"it has {len(found)} probes, the spikes have {num_probes}")
        return found
