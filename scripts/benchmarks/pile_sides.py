"""Both sides of the rows of `pile_rows`, and how a process of its own does them on one core.

In go folders, sizes and names, so that everything can be asked of another process; out come CPU
seconds, peak memory, or what was found. The published side is written here by the rule of the
published scripts, as they work: motifs are counted in a dictionary, patch by patch, from rows that
are read as lists; neurons are ordered anew in every chunk, with SciPy.
"""

import contextlib
import io
import itertools
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.cluster import hierarchy
from scipy.spatial import distance

from scripts.benchmarks.pile import Synthetic
from sensojax.spikes import sessions
from sensojax.spikes.binning import BIN_S
from sensojax.spikes.counts import Counts
from sensojax.spikes.motifs import counting
from sensojax.spikes.motifs.patches import Patch
from sensojax.spikes.order import ordering, similarity
from sensojax.spikes.session import Session

COMMON = 4  # chunks that both sides count; ours is timed with all, theirs with these


def cpu_seconds(work: Callable, *arguments) -> float:
    """CPU seconds that this process takes for it: other work on the machine does not count."""
    began = time.process_time()
    work(*arguments)
    return time.process_time() - began


def peak_bytes(work: Callable, *arguments) -> int:
    """Largest resident size of this process until it is done."""
    work(*arguments)
    status = Path("/proc/self/status")
    if status.exists():  # of Linux; getrusage there begins with the size of the parent process
        (line,) = (each for each in status.read_text().splitlines() if each.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


# --- motifs ---------------------------------------------------------------------------------------


class Kept(Session):
    """The first chunks of a session, or all of them (None), in memory."""

    def __init__(self, session: Session, chunks: int | None):
        self.name, self.num_neurons = session.name, session.num_neurons
        chosen = session.chunks[:chunks]
        self.parts = {chunk: session.counts(BIN_S, *chunk) for chunk in chosen}
        self.bins = chosen[-1][1]

    @property
    def chunks(self) -> list[tuple[int, int]]:
        return list(self.parts)

    def num_bins(self, bin_s: float) -> int:
        return self.bins

    def counts(self, bin_s: float, start: int = 0, stop: int | None = None) -> Counts:
        return self.parts[start, stop]


@cache
def kept(stores: Path, chunks: int | None = None) -> Kept:
    return Kept(sessions.open_sessions(stores)[0], chunks)


@cache
def tables_of(folder: Path) -> list[pa.Table]:
    """The common chunks as rows of the published table."""
    return list(_rows(folder))


def _rows(folder: Path) -> Iterator[pa.Table]:
    """The common chunks, one after the other."""
    return itertools.islice(_every_row(folder), COMMON)


def _every_row(folder: Path) -> Iterator[pa.Table]:
    for path in sorted(folder.rglob("*.parquet")):
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group, columns=["spike_counts"])


def count_kept(stores: Path, size: str, out: Path, chunks: int | None = None) -> Path:
    """Ours, from counts in memory to the table on disk, in one process."""
    return _count([kept(stores, chunks)], size, out)


def count_stores(stores: Path, size: str, out: Path) -> Path:
    """Ours, from event stores."""
    return _count(sessions.open_sessions(stores), size, out)


def _count(found: list[Session], size: str, out: Path) -> Path:
    out.unlink(missing_ok=True)
    with contextlib.redirect_stderr(io.StringIO()):
        counting.count(found, Patch.parse(size), out, workers=1)
    return out


def count_rows(folder: Path, size: str) -> Counter:
    """Theirs, from rows of the published table in memory."""
    return by_dictionary(tables_of(folder), Patch.parse(size))


def count_tables(folder: Path, size: str) -> Counter:
    """Theirs, from the published table of the common chunks on disk, a row at a time."""
    return by_dictionary(_rows(folder), Patch.parse(size))


def by_dictionary(tables: Iterable[pa.Table], patch: Patch) -> Counter:
    """The published rule as it is published: rows as lists, patches as bytes, one by one."""
    counts: Counter = Counter()
    for table in tables:
        for row in table.to_pylist():
            for each in _patches(np.array(row["spike_counts"], np.uint8), patch):
                counts[each.tobytes()] += 1
    return counts


def _patches(matrix: np.ndarray, patch: Patch) -> np.ndarray:
    """All patches of a padded row, time first, [patch neuron bin]."""
    n, t = matrix.shape
    padded = np.pad(matrix, ((0, -n % patch.neurons), (0, -t % patch.bins)))
    groups, slices = patch.grid(n, t)
    apart = padded.reshape(groups, patch.neurons, slices, patch.bins)
    return apart.transpose(2, 0, 1, 3).reshape(-1, patch.neurons, patch.bins)


# --- order ----------------------------------------------------------------------------------------


@cache
def chunks(neurons: int, bins: int, number: int) -> list[Counts]:
    session, step = Synthetic("synthetic", neurons, bins), bins // number
    return [session.counts(BIN_S, start, start + step) for start in range(0, bins, step)]


def order_once(*session: int) -> list[float]:
    """Ours, one order for the whole session; its costs."""
    return ordering.of_products(similarity.products(chunks(*session), session[0]), "average")[2]


def order_each(*session: int) -> list[float]:
    """Theirs, an order for each chunk; the cost of each."""
    return [published_order(chunk) for chunk in chunks(*session)]


def published_order(counts: Counts) -> float:
    """The cost of the order of one chunk that the published script means to give it."""
    with np.errstate(invalid="ignore"):
        distances = distance.pdist(counts.dense().astype(float), "cosine")
    distances = np.nan_to_num(distances, nan=2.0)
    tree = hierarchy.linkage(distances, "ward", optimal_ordering=True)
    found, square = hierarchy.leaves_list(tree), distance.squareform(distances)
    return float(square[found[:-1], found[1:]].sum())
