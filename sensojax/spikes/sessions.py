"""Finding sessions, wherever they are kept: a folder goes in, a list of `Session`s comes out.

The folder holds event stores (`scripts/pile_build.py`), which give counts at any bin width, or
shards of the published table of counts (Arrow or Parquet), whose counts are in bins of 20 ms.
"""

import os
from collections import Counter
from pathlib import Path

from sensojax.errors import UserError
from sensojax.spikes import layout, tables
from sensojax.spikes.binning import BIN_S
from sensojax.spikes.events import EventStore
from sensojax.spikes.session import TOKEN_LIMIT, CountsSession, Session, chunk_borders

__all__ = ["BIN_S", "TOKEN_LIMIT", "CountsSession", "Session", "chunk_borders", "open_sessions"]


def open_sessions(path: str | Path) -> list[Session]:
    """Every session at this path and in the folders below, sorted by name.

    Where two have the same name, the names of their data sets are put before them. Raises UserError
    when there is no session, when there are both kinds, when two still have the same name, or when
    a store or shard is damaged.
    """
    path = Path(path).expanduser()
    stores, shards = _look(path)
    if stores and shards:
        raise UserError(
            f"found event stores and shards of tables in {path} ({stores[0]}, {shards[0]}), "
            "expected one or the other; name the folder of either."
        )
    if not stores and not shards:
        raise UserError(
            f"found no event store and no shard of spike counts at {path}, expected one or the "
            "other; build them with python scripts/pile_build.py."
        )
    found: list[Session] = [EventStore.open(store) for store in stores] or tables.sessions(shards)
    for session in _of_equal_names(found):
        session.name = f"{session.component}_{session.name}" if session.component else session.name
    if twice := _of_equal_names(found):
        raise UserError(
            f"found more than one session named {twice[0].name} in {path}, expected names that "
            "differ; name the folders of their data sets one by one."
        )
    return sorted(found, key=lambda session: session.name)


def _of_equal_names(found: list[Session]) -> list[Session]:
    """The sessions whose name another one has too."""
    times = Counter(session.name for session in found)
    return [session for session in found if times[session.name] > 1]


def _look(path: Path) -> tuple[list[Path], list[Path]]:
    """The finished stores and the shards at a path and in the folders below."""
    if path.is_file():
        return [], [path] if tables.is_shard(path) else []
    stores, shards = [], []
    for folder, below, names in os.walk(path):
        place = Path(folder)
        if layout.DESCRIPTION in names and not place.name.endswith(layout.PARTIAL):
            stores.append(place)
        if layout.DESCRIPTION in names or place.name.endswith(layout.PARTIAL):
            below.clear()
        shards += [place / name for name in names if tables.is_shard(place / name)]
    return sorted(stores), sorted(shards)
