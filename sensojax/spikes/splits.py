"""What is trained on and what is tested on: whole sessions or whole animals, never pieces of one.

In go sessions, a share and a seed; out comes the split of each. A session's split depends on its
own names and the seed alone (a hash of them), so adding a data set moves nothing. The published
split cuts by chunk, so that the minutes next to a test chunk are trained on; it is to be had by its
name only.
"""

import hashlib
import math
from collections.abc import Sequence

import numpy as np

from sensojax.errors import UserError, check_name
from sensojax.spikes.rows import Row
from sensojax.spikes.session import Session

LEVELS = ("session", "subject", "chunk_leaking")
TRAIN, TEST = "train", "test"


def split(
    sessions: Sequence[Session], rows: Sequence[Row], level: str, share: float, seed: int
) -> dict[str, list[Row]]:
    """The rows of each split, in a random order that the seed decides.

    level: `session`, `subject`, or `chunk_leaking` (the published one: rows at random, of which
    ceil(share * rows) are tested on). share: of the test split, about; 0 for no such split.
    """
    check_name(level, LEVELS, "split")
    if not 0 <= share < 1:
        raise UserError(f"found a test share of {share}, expected at least 0 and less than 1.")
    order = np.random.default_rng(seed).permutation(len(rows))
    shuffled = [rows[place] for place in order]
    if level == "chunk_leaking":
        number = math.ceil(share * len(rows))
        return _named(shuffled[number:], shuffled[:number])
    tested = [is_tested(session, level, share, seed) for session in sessions]
    return _named(
        [row for row in shuffled if not tested[row.session]],
        [row for row in shuffled if tested[row.session]],
    )


def is_tested(session: Session, level: str, share: float, seed: int) -> bool:
    """Whether a session is tested on; at the level `subject` all of an animal together."""
    names = [str(seed), session.component, session.subject]
    names += [session.session] if level == "session" else []
    digest = hashlib.sha256("\n".join(names).encode()).digest()
    return int.from_bytes(digest[:8]) < share * 2.0**64


def _named(train: list[Row], test: list[Row]) -> dict[str, list[Row]]:
    return {name: rows for name, rows in ((TRAIN, train), (TEST, test)) if rows}
