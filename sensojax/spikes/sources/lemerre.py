"""Sessions recorded with several probes, an NWB file each (Le Merre and others, dandiset 001260).

Files of one subject whose names differ only in `-probe<k>` or `_probe<k>` are one session: their
units are stacked in the order of the files, and the last spike of all ends it.
"""

import re
from collections.abc import Iterable, Sequence

import numpy as np

from sensojax.spikes import trains
from sensojax.spikes.sources import nwb
from sensojax.spikes.sources.files import File, Found, folder_and_stem

SUFFIX = nwb.SUFFIX
RESOLUTION_S = nwb.RESOLUTION_S
PROBE = re.compile(r"[-_]probe(\d+)")


def sessions(files: Sequence[File]) -> list[Found]:
    """The files grouped by subject and session, which are read off their names.

    A name is `<subject>_<session>[-probe<k>]_<what was recorded>.nwb` in the subject's folder.
    """
    groups: dict[tuple[str, str], list[File]] = {}
    for file in files:
        subject, stem = folder_and_stem(file)
        session = stem.removeprefix(f"{subject}_").split("_")[0]
        groups.setdefault((subject, re.sub(r"[-_]probe\d+$", "", session)), []).append(file)
    return [Found(*key, tuple(group)) for key, group in groups.items()]


def read(found: Found, component: str = "", columns: Iterable[str] = ()) -> trains.Trains:
    """The units of all probes; NoSpikes when none has any, UserError when a file is damaged."""
    columns = tuple(columns)
    probes, notes = [], []
    for file in found.files:
        try:
            probes.append((file, nwb.units_of(file, columns)))
        except trains.NoSpikes as reason:
            if len(found.files) == 1:
                raise
            notes.append(str(reason).replace(file.where, file.path))
    if not probes:
        raise trains.NoSpikes(f"{found.where} and the other probes of its session have no units.")
    units = [each for _, each in probes]
    lengths = np.concatenate([np.diff(each.offsets) for each in units])
    return trains.of_flat(
        np.concatenate([each.times for each in units]),
        np.append(0, np.cumsum(lengths)),
        found.where,
        component=component,
        subject=found.subject,
        session=found.session,
        columns=_stacked([_named(file, each) for file, each in probes]),
        source=", ".join(file.path for file, _ in probes),
        notes=notes,
    )


def _named(file: File, units: nwb.Units) -> dict[str, np.ndarray]:
    """The columns of one file; each file is a probe, whatever it says of its own."""
    match = PROBE.search(folder_and_stem(file)[1])
    count = len(units.offsets) - 1
    return units.columns | {"probe": np.full(count, f"probe{match[1]}" if match else "probe")}


def _stacked(tables: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Columns one below the other; where a table lacks one, "" or not-a-number."""
    names = dict.fromkeys(name for table in tables for name in table)
    stacked = {}
    for name in names:
        known = [table[name] for table in tables if name in table]
        texts = any(each.dtype.kind == "U" for each in known)
        parts = []
        for table in tables:
            empty = np.full(len(next(iter(table.values()))), "" if texts else np.nan)
            part = table.get(name, empty)
            parts.append(part.astype(np.str_) if texts else part)
        stacked[name] = np.concatenate(parts)
    return stacked
