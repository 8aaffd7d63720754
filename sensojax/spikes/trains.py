"""The spikes of one session as a source gives them: times by neuron, and what is known of neurons.

In go arrays from a reader (`sources/`), in whatever state the files are; out comes `Trains`, whose
times are finite and sorted within each neuron, or one sentence that says what is wrong. Readers
say what they had to put right in `notes`, a sentence each.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sensojax.errors import UserError
from sensojax.spikes import binning, clocks

LONGEST_S = 1e7  # nearly four months; larger numbers are no seconds since the recording began


class NoSpikes(UserError):
    """A file that holds no spikes and need not: it is passed over, and nothing is wrong."""


@dataclass(frozen=True)
class Trains:
    """One session. Made by `of_units`, which checks and sorts.

    component: the data set it belongs to; subject, session: as the source names them; name: of its
    folder (made from the two, when it is not given). times: [spike] float64 seconds, sorted within
    each neuron. offsets: [neuron + 1] int64, where each neuron's times begin. columns: what is
    known of neurons, by name, [neuron]. end_s: the last spike of all, or where the recording ends.
    rule: of `binning`. resolution_s: 0 for exact times, else times are the middles of bins this
    wide, and counts can only be had in multiples of it. source: what it was read from. notes:
    sentences on what was put right.
    """

    component: str
    subject: str
    session: str
    times: np.ndarray
    offsets: np.ndarray
    columns: Mapping[str, np.ndarray]
    end_s: float
    rule: str = "edges"
    resolution_s: float = 0.0
    source: str = ""
    notes: tuple[str, ...] = ()
    name: str = ""

    def __post_init__(self):
        object.__setattr__(self, "name", self.name or name_of(self.subject, self.session))

    @property
    def num_neurons(self) -> int:
        return len(self.offsets) - 1

    def at_resolution(self, seconds: float) -> "Trains":
        """The same spikes at the middles of bins this wide: smaller on disk, no exact times.

        Counts stay equal to the exact ones at the published 20 ms where that is a multiple of the
        width, and at other multiples of it but for spikes within a rounding step of an edge.
        """
        if self.resolution_s or not seconds > 0:
            raise UserError(
                f"found a resolution of {seconds} s for times at {self.resolution_s} s, expected "
                "one above zero, and exact times; build from the source."
            )
        fine = np.floor(self.times / seconds)
        parts = round(binning.BIN_S / seconds)
        if parts and np.isclose(parts * seconds, binning.BIN_S):
            total = binning.num_bins(self.end_s, binning.BIN_S, self.rule)
            coarse = binning.bins_of(self.times, binning.BIN_S, total, self.rule)
            first = np.where(coarse < 0, fine, coarse * parts)
            fine = np.clip(fine, first, first + np.where(coarse < 0, 0, parts - 1))
        middles = clocks.Clock.of_bins(seconds).seconds(fine)
        return dataclasses.replace(self, times=middles, resolution_s=seconds)


def of_units(units: Sequence[np.ndarray], where: str, **about) -> Trains:
    """Trains of one array of times per neuron; see `of_flat`."""
    times = np.concatenate([np.zeros(0), *units]).astype(np.float64)
    return of_flat(times, np.cumsum([0, *map(len, units)]), where, **about)


def of_flat(times: np.ndarray, offsets: np.ndarray, where: str, **about) -> Trains:
    """Checks and sorts; about: the other fields of `Trains`, of which end_s may be left out.

    where: how to name the source in sentences. Unsorted neurons are sorted, and a note says so;
    neurons without spikes stay. Raises UserError for times that are no numbers or no seconds,
    NoSpikes when there are no neurons or no spike at all.
    """
    times = np.asarray(times, np.float64) + 0.0  # the sum makes -0.0 the one zero
    offsets = np.asarray(offsets, np.int64)
    notes = list(about.pop("notes", ()))
    source = about.get("source") or where  # a store is the same wherever its source was read
    if len(offsets) == 1 or not len(times):
        what = "units" if len(offsets) == 1 else f"spike in its {len(offsets) - 1} units"
        raise NoSpikes(f"{where} has no {what}; it is passed over.")
    _check(times, offsets, where)
    times, unsorted = _sorted(times, offsets)
    if unsorted:
        units = ", ".join(map(str, unsorted[:5])) + (" ..." if len(unsorted) > 5 else "")
        notes.append(f"{source}: the times of {len(unsorted)} units ({units}) are now sorted.")
    if empty := int((np.diff(offsets) == 0).sum()):
        notes.append(f"{source}: {empty} of {len(offsets) - 1} units have no spike; they stay.")
    about.setdefault("end_s", float(times.max()))
    if about["end_s"] <= 0:
        raise NoSpikes(f"{where} has no spike after time zero; it is passed over.")
    return Trains(times=times, offsets=offsets, notes=tuple(notes), **about)


def name_of(subject: str, session: str) -> str:
    """The name of a session's folder: subject and session, what is no letter or digit replaced."""
    name = session if session.startswith(subject) else f"{subject}_{session}"
    return re.sub(r"[^A-Za-z0-9._+-]", "-", name).strip(".") or "session"


def _check(times: np.ndarray, offsets: np.ndarray, where: str) -> None:
    # A long session has 100 M spikes: no more arrays of that size than need be.
    longest = max(-float(times.min()), float(times.max()))
    if not np.isfinite(longest):
        bad = ~np.isfinite(times)
        place = int(np.argmax(bad))
        unit = int(np.searchsorted(offsets, place, "right")) - 1
        raise UserError(
            f"found {int(bad.sum())} times that are no numbers in {where}, first {times[place]} in "
            f"unit {unit}, expected seconds; the file is damaged or was written wrongly, leave it "
            "out or have it corrected."
        )
    if longest > LONGEST_S:
        raise UserError(
            f"found a spike at {longest:.6g} in {where}, expected seconds since the recording "
            "began; the times are samples or dates, have the file corrected."
        )


def _sorted(times: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """The times sorted within each neuron, and which neurons were not."""
    falls = np.flatnonzero(times[1:] < times[:-1]) + 1
    falls = falls[~np.isin(falls, offsets)]  # from one neuron to the next they may fall
    unsorted = np.unique(np.searchsorted(offsets, falls, "right") - 1).tolist()
    if unsorted:
        times = times.copy()
    for unit in unsorted:
        times[offsets[unit] : offsets[unit + 1]].sort()
    return times, unsorted
