"""All sessions of a data set built, one after the other or in several processes.

In go the files of a data set, wherever they are, and settings; out comes a folder of event stores.
A session that cannot be built does not keep the others from it; what is done is passed over, so the
same call goes on where one was stopped.
"""

import importlib
import pkgutil
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from sensojax.errors import UserError, check_name
from sensojax.spikes import event_writing, layout, sources
from sensojax.spikes.binning import BIN_S
from sensojax.spikes.events import EventStore
from sensojax.spikes.sources.files import File, Found
from sensojax.spikes.trains import NoSpikes
from sensojax.spikes.workers import Workers


@dataclass(frozen=True)
class Settings:
    """out: folder of the stores. component: name of the data set. reader: module of `sources`.

    columns: of the neurons, besides the usual ones. resolution_s: 0 to keep exact times. verify:
    read every store, and its source, once more and compare.
    """

    out: Path
    component: str
    reader: str = "nwb"
    columns: tuple[str, ...] = ()
    resolution_s: float = 0.0
    verify: bool = False


def build(files: Sequence[File], settings: Settings, workers: Workers, match: str = "") -> None:
    """Builds every session that the files hold, and says of each what became of it.

    match: what the names of the sessions to build contain. Raises UserError at the end when one
    could not be built, and when there is none.
    """
    found = [each for each in reader(settings.reader).sessions(files) if match in each.name]
    _check_names(found, match)
    tasks = [(each, settings) for each in found]
    results = workers.run(build_one, tasks, f"building {settings.component or 'sessions'}")
    skipped = [each for each in results if isinstance(each, NoSpikes)]
    wrong = [each for each in results if isinstance(each, UserError)]
    failed = [each for each in wrong if each not in skipped]
    for result in results:
        if result in failed:
            print(f"error: {result}", file=sys.stderr, flush=True)
        else:
            print(result, flush=True)
    built = [each.name for each, result in zip(found, results, strict=True) if result not in wrong]
    print(_sum(settings.out, built), flush=True)
    if failed:
        raise UserError(
            f"{len(failed)} of {len(found)} sessions could not be built (reasons above); put that "
            "right and give the same command again, what is done stays."
        )
    if len(skipped) == len(found):
        raise UserError(f"found spikes in none of {len(found)} sessions, expected some.")


def reader(name: str) -> ModuleType:
    """The module that reads a format: it has `SUFFIX`, `RESOLUTION_S`, `sessions` and `read`."""
    known = [module.name for module in pkgutil.iter_modules(sources.__path__)]
    modules = {each: importlib.import_module(f"{sources.__name__}.{each}") for each in known}
    readers = {each: module for each, module in modules.items() if hasattr(module, "SUFFIX")}
    check_name(name, readers, "format")
    return readers[name]


def build_one(task: tuple[Found, Settings]) -> str:
    """Builds one session, unless it is there; returns what to say of it."""
    found, settings = task
    path = settings.out / found.name
    if (path / layout.DESCRIPTION).is_file():
        store = EventStore.open(path)
        _check_same(store, settings)
        said = "already built"
    else:
        event_writing.write(settings.out, _read(found, settings))
        store = EventStore.open(path)
        said = "built"
    if settings.verify:
        store.verify()
        _compare(store, _read(found, settings))
        said += ", verified"
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    tokens = store.num_neurons * store.num_bins(max(BIN_S, store.resolution_s))
    notes = "".join(f"\n  note: {note}" for note in store.notes)
    return (
        f"{store.name}: {said}, {store.num_neurons} neurons, {store.num_spikes} spikes, "
        f"{store.end_s:.0f} s, {size / 1e6:.2f} MB ({size / max(store.num_spikes, 1):.2f} bytes "
        f"per spike, {size / max(tokens, 1):.3f} of a table of bytes){notes}"
    )


def _read(found: Found, settings: Settings):
    trains = reader(settings.reader).read(found, settings.component, settings.columns)
    return trains.at_resolution(settings.resolution_s) if settings.resolution_s else trains


def _check_same(store: EventStore, settings: Settings) -> None:
    """UserError when a store was built with other settings."""
    resolution_s = settings.resolution_s or reader(settings.reader).RESOLUTION_S
    lacking = [name for name in settings.columns if name not in store.columns]
    if lacking:
        difference = f"without {', '.join(lacking)}"
    elif store.component != settings.component:
        difference = f"as a part of {store.component or 'no data set'}"
    elif store.resolution_s != resolution_s:
        difference = f"with a resolution of {store.resolution_s} s"
    else:
        return
    raise UserError(
        f"found {store.path} built {difference}, expected what this command says; delete that "
        "folder to build it anew, or choose another --out."
    )


def _compare(store: EventStore, trains) -> None:
    """UserError unless a store gives back what its source holds, to the last bit."""
    kept = store.trains()
    for name in ("times", "offsets"):
        if not np.array_equal(getattr(kept, name), getattr(trains, name)):
            raise layout.damaged(store.path, f"its {name} differ from {trains.source}")
    for name, column in trains.columns.items():
        if not np.array_equal(kept.columns[name], column, equal_nan=column.dtype.kind == "f"):
            raise layout.damaged(store.path, f"its column {name} differs from {trains.source}")


def _check_names(found: Sequence[Found], match: str) -> None:
    if not found:
        like = f" whose name has {match!r}" if match else ""
        raise UserError(f"found no session{like}, expected at least one.")
    name, times = Counter(each.name for each in found).most_common(1)[0]
    if times > 1:
        raise UserError(
            f"found {times} files that make a session {name}, expected one; put them in folders "
            "named by subject, or build them into different folders."
        )


def _sum(out: Path, names: Sequence[str]) -> str:
    done = [EventStore.open(out / name) for name in names]
    neurons = sum(store.num_neurons for store in done)
    spikes = sum(store.num_spikes for store in done)
    return f"{out}: {len(done)} sessions, {neurons} neurons, {spikes} spikes"
