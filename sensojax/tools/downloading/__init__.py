"""From an address to recordings on disk: fetched piece by piece, checked, and only then there.

`fetching` brings one file, through cut connections and kills; `unpacking` tests a zip or takes it
apart without trusting it; `obtaining` does both for one session; `display` shows several of them
going on at once. Nothing here knows which sessions there are (`recordings/published.py` does).
"""

from sensojax.tools.downloading.fetching import (
    Damaged,
    Untrusted,
    Watch,
    check_space,
    fetch,
    size_of,
)
from sensojax.tools.downloading.obtaining import obtain
from sensojax.tools.downloading.unpacking import test, unpack

__all__ = [
    "Damaged",
    "Untrusted",
    "Watch",
    "check_space",
    "fetch",
    "obtain",
    "size_of",
    "test",
    "unpack",
]
