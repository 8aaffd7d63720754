"""The rows of a table of counts, planned: which chunk of which session goes into which file.

In go sessions and settings; out come rows (chunks by the published rule), and files of them of at
most the published size. Nothing is read but sizes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sensojax.errors import UserError
from sensojax.spikes.binning import BIN_S
from sensojax.spikes.session import TOKEN_LIMIT, Session, chunk_borders

FORMATS = ("parquet", "arrow")
DTYPES = ("uint8", "uint16", "uint32")
SHARD_TOKENS = 1_000_000_000  # the published limit: 1 GB of counts


@dataclass(frozen=True)
class Row:
    """One chunk: bins start..stop of a session, by its number among the sessions."""

    session: int
    segment: int
    start: int
    stop: int

    def tokens(self, sessions: Sequence[Session]) -> int:
        return sessions[self.session].num_neurons * (self.stop - self.start)


@dataclass(frozen=True)
class Shard:
    """One file of a split, `<split>-00000-of-00003.parquet`, and its rows."""

    name: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Settings:
    """bin_s: width of a bin. tokens: about the most of a row. dtype: of a count. format: of files.

    shard_tokens: the most of a file.
    """

    bin_s: float
    tokens: int
    dtype: str = "uint8"
    format: str = "parquet"
    shard_tokens: int = SHARD_TOKENS


def rows_of(sessions: Sequence[Session], settings: Settings) -> list[Row]:
    """The chunks of all sessions in order: the published ones, unless the settings differ."""
    rows = []
    for number, session in enumerate(sessions):
        if settings.bin_s == BIN_S and settings.tokens == TOKEN_LIMIT:
            chunks = session.chunks
        else:
            num_bins = session.num_bins(settings.bin_s)
            chunks = chunk_borders(session.num_neurons, num_bins, settings.tokens)
        rows += [Row(number, segment, *chunk) for segment, chunk in enumerate(chunks)]
    if not rows:
        raise UserError(f"found no bins in {len(sessions)} sessions, expected some to export.")
    return rows


def pack(split: str, rows: Sequence[Row], sizes: Sequence[int], settings: Settings) -> list[Shard]:
    """Puts rows, in their order, into files. sizes: tokens of each row."""
    groups: list[list[Row]] = []
    room = 0
    for row, size in zip(rows, sizes, strict=True):
        if not groups or size > room:
            groups.append([])
            room = settings.shard_tokens
        groups[-1].append(row)
        room -= size
    name = f"{split}-{{:05d}}-of-{len(groups):05d}.{settings.format}"
    return [Shard(name.format(number), tuple(group)) for number, group in enumerate(groups)]
