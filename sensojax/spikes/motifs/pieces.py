"""How sessions are cut: into rows, where patches begin anew, and into pieces that fit in memory.

In go a session and what a row is; out come stretches of bins. By the published rule a row is a
chunk of about 10 M tokens; a row of a whole session has no seams.
"""

from dataclasses import dataclass

import numpy as np

from sensojax.spikes.binning import BIN_S
from sensojax.spikes.motifs.patches import Patch
from sensojax.spikes.session import Session, chunk_borders

ROWS = ("chunk", "session")
PIECE_TOKENS = 16_000_000  # of neurons x bins looked at together: a published chunk in one piece


@dataclass(frozen=True)
class Piece:
    """Bins start..stop of a session, cut where patches end; first: number of its first patch."""

    start: int
    stop: int
    first: int


def pieces_of(
    session: Session, patch: Patch, bin_s: float, rows: str, tokens: int = PIECE_TOKENS
) -> tuple[list[Piece], int]:
    """The pieces of a session and the number of all its patches."""
    pieces, first = [], 0
    for row in rows_of(session, bin_s, rows):
        for start, stop in cut(*row, session.num_neurons, patch, tokens):
            pieces.append(Piece(start, stop, first))
            first += int(np.prod(patch.grid(session.num_neurons, stop - start)))
    return pieces, first


def cut(
    start: int, stop: int, num_neurons: int, patch: Patch, tokens: int = PIECE_TOKENS
) -> list[tuple[int, int]]:
    """Bins start..stop of a row in stretches of about so many tokens, cut between patches."""
    longest = max(tokens // max(num_neurons, 1), 1)
    step = -(-longest // patch.bins) * patch.bins
    return [(begin, min(begin + step, stop)) for begin in range(start, stop, step)]


def rows_of(session: Session, bin_s: float, rows: str) -> list[tuple[int, int]]:
    """First and last bin + 1 of each row: chunks by the published rule, or all in one.

    A table's own rows are its chunks, whatever their size.
    """
    num_bins = session.num_bins(bin_s)
    if rows == "session":
        return [(0, num_bins)] if num_bins else []
    if bin_s == getattr(session, "bin_s", BIN_S):  # the bins of `chunks`; only tables have others
        return session.chunks
    return chunk_borders(session.num_neurons, num_bins)
