"""Which stretches of which sessions are shown, and the picture of each data set.

In go sessions and what was asked for; out come panels for `spikes.pictures`: random rows of the
published table, the same ones for the same seed, or rows that are named.
"""

from collections.abc import Sequence

import numpy as np

from sensojax.errors import UserError, nearest
from sensojax.spikes.pictures import Panel
from sensojax.spikes.rows import Row
from sensojax.spikes.session import Session


def some(rows: Sequence[Row], number: int, seed: int) -> list[Row]:
    """So many different rows at random, or all there are, in their order."""
    chosen = np.random.default_rng(seed).permutation(len(rows))[:number]
    return [rows[place] for place in sorted(chosen)]


def named(sessions: Sequence[Session], rows: Sequence[Row], words: Sequence[str]) -> list[Row]:
    """The rows of words such as `sub-1_ses-2` (its first row) or `sub-1_ses-2:5` (its sixth)."""
    found = []
    numbers = {session.name: number for number, session in enumerate(sessions)}
    for word in words:
        name, _, segment = (
            word.rpartition(":") if word.rpartition(":")[2].isdecimal() else (word, "", "0")
        )
        if name not in numbers:
            raise UserError(
                f"found no session {name!r}{nearest(name, numbers) or ''}, expected one of the "
                f"{len(numbers)} there are, such as {sessions[0].name}."
            )
        own = {row.segment: row for row in rows if row.session == numbers[name]}
        if int(segment) not in own:
            raise UserError(
                f"found no segment {segment} of {name}, expected 0 to {max(own)}; it has "
                f"{len(own)} rows."
            )
        found.append(own[int(segment)])
    return found


def panel(
    session: Session, row: Row, last: int, bin_s: float, seconds: float, seed: int, group: str
) -> Panel:
    """A window of so many seconds of a row (all of it for 0), placed by the seed.

    last: number of the session's last segment. group: the column that neurons are grouped by.
    """
    length = row.stop - row.start
    wanted = min(round(seconds / bin_s), length) if seconds else length
    key = [seed, row.session, row.segment]
    start = row.start + int(np.random.default_rng(key).integers(length - wanted + 1))
    counts = session.counts(bin_s, start, start + wanted)
    title = f"{session.name}, row {row.segment + 1} of {last + 1}, {session.num_neurons} neurons"
    groups = session.columns.get(group)
    return Panel(title, counts, start * bin_s, None if groups is None else groups.astype(str))
