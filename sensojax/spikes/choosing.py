"""Which neurons of a session are used: conditions on what the source says of them.

In go a session and conditions as on the command line (`quality=good,mua`, `presence_ratio>=0.9`);
out comes a session of the neurons that meet all of them. By default every unit is used, as in the
published data sets.
"""

import operator
import re
from collections.abc import Sequence

import numpy as np

from sensojax.errors import UserError, nearest
from sensojax.spikes.counts import Counts
from sensojax.spikes.session import Session

COMPARED = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}


class Subset(Session):
    """Some neurons of a session, in their order; rows: their numbers, [neuron], ascending."""

    def __init__(self, whole: Session, rows: np.ndarray):
        self.whole, self.rows = whole, np.asarray(rows, np.int64)
        self.name, self.subject, self.session = whole.name, whole.subject, whole.session
        self.component, self.num_neurons = whole.component, len(self.rows)
        self.columns = {name: column[self.rows] for name, column in whole.columns.items()}
        self.fingerprint = f"{whole.fingerprint} {self.rows.tolist()}"

    def num_bins(self, bin_s: float) -> int:
        return self.whole.num_bins(bin_s)

    def counts(self, bin_s: float, start: int = 0, stop: int | None = None) -> Counts:
        every = self.whole.counts(bin_s, start, stop)
        place = np.full(self.whole.num_neurons, -1, np.int32)
        place[self.rows] = np.arange(len(self.rows))
        neuron = place[every.neuron]
        kept = neuron >= 0
        return Counts(
            neuron[kept],
            every.bin[kept],
            every.count[kept],
            self.num_neurons,
            every.num_bins,
            bin_s,
        )


def choose(sessions: Sequence[Session], conditions: Sequence[str]) -> list[Session]:
    """The sessions with only the neurons that meet all conditions; those with none are left out.

    Raises UserError for a condition that cannot be read, when a session lacks its column, and when
    nothing is left.
    """
    parsed = [_parse(condition) for condition in conditions]
    chosen = []
    for session in sessions if parsed else []:
        kept = np.ones(session.num_neurons, bool)
        for name, sign, wanted in parsed:
            kept &= _meets(session, name, sign, wanted)
        if kept.any():
            chosen.append(Subset(session, np.flatnonzero(kept)))
    if parsed and not chosen:
        raise UserError(
            f"found no neuron with {' and '.join(conditions)} in {len(sessions)} sessions, "
            "expected some; choose other conditions."
        )
    return chosen if parsed else list(sessions)


def _parse(condition: str) -> tuple[str, str, str]:
    found = re.fullmatch(r"\s*(\w+)\s*(<=|>=|<|>|=)\s*(.+?)\s*", condition)
    if not found:
        raise UserError(
            f"found the condition {condition!r}, expected a column, a sign (=, <, >, <=, >=) and a "
            "value, as in quality=good or presence_ratio>=0.9."
        )
    return found[1], found[2], found[3]


def _meets(session: Session, name: str, sign: str, wanted: str) -> np.ndarray:
    """Which neurons meet one condition, [neuron] bool."""
    if name not in session.columns:
        known = ", ".join(session.columns) or "none"
        raise UserError(
            f"found no column {name!r} for the neurons of {session.name}, expected one of {known}"
            f"{nearest(name, session.columns) or '; build it with --columns.'}"
        )
    column = session.columns[name]
    if sign == "=":
        words = [word.strip() for word in wanted.split(",")]
        if column.dtype.kind in "US":
            return np.isin(column, words)
        return np.isin(column, [_number(word, name) for word in words])
    if column.dtype.kind in "US":
        raise UserError(
            f"found {name}{sign}{wanted} for a column of texts, expected {name}=... there."
        )
    return COMPARED[sign](column, _number(wanted, name))


def _number(word: str, name: str) -> float:
    try:
        return float({"true": "1", "false": "0"}.get(word.lower(), word))
    except ValueError as error:
        raise UserError(
            f"found {name} compared with {word!r}, expected a number: the column holds numbers."
        ) from error
