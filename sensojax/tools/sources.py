"""Where a tool finds its mice: recordings as published or stores, whichever a path turns out to be.

In go the paths that a user gave (sessions, folders of sessions, zips of them; a store, a folder of
stores); out comes a `Source` for each mouse, whose trials read alike. Tools that go over several
mice do it with `for_each`, so that one bad session does not keep the others from being worked on.
"""

import functools
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from sensojax import store, types
from sensojax.errors import UserError, nearest
from sensojax.recordings import colliculus2017, competition, files, formats


@dataclass(frozen=True)
class Source:
    """One mouse. read(row): a `types.Trial`, of a store with its float32 numbers.

    where: the path it was found at. tiers: [trial]. fingerprint: of a store, else "".
    """

    mouse: str
    where: str
    tiers: tuple[str, ...]
    neurons: types.Neurons
    frame_rate_hz: float
    read: Callable[[int], types.Trial]
    fingerprint: str = ""

    def rows(self, tiers: Iterable[str] = ()) -> list[int]:
        """The trials of these tiers, ascending; of none in particular: all but tier `none`.

        Raises UserError when there is no trial of a tier.
        """
        tiers = tuple(tiers) or tuple(set(self.tiers) - {"none"})
        for tier in tiers:
            if tier not in self.tiers:
                present = sorted(set(self.tiers))
                raise UserError(
                    f"mouse {self.mouse} has no trial of tier {tier!r}; it has "
                    f"{', '.join(present)}{nearest(tier, present)}"
                )
        return [row for row, tier in enumerate(self.tiers) if tier in tiers]


def find(paths: Iterable[str | Path]) -> dict[str, Callable[[], Source]]:
    """How to open every mouse at these paths, by name; nothing of a mouse is read yet.

    Raises UserError for a path without mice, and when two paths hold the same mouse.
    """
    found: dict[str, tuple[Path, Callable[[], Source]]] = {}
    for path in map(Path, paths):
        for mouse, opening in _at(path.expanduser()).items():
            if mouse in found:
                raise UserError(
                    f"mouse {mouse} is in {found[mouse][0]} and in {path}; give one of them."
                )
            found[mouse] = path, opening
    return {mouse: opening for mouse, (_, opening) in found.items()}


def for_each(mice: Iterable[str], act: Callable[[str], None], done: str) -> None:
    """act(mouse) for every mouse; what one of them cannot is said, and the others go on.

    done: what could not be done, as in "could not be converted". Raises UserError at the end when
    any mouse failed; of a single mouse its own.
    """
    mice, failed = list(mice), []
    for mouse in mice:
        try:
            act(mouse)
        except UserError as error:
            if len(mice) == 1:
                raise
            print(f"error: {error}", file=sys.stderr, flush=True)
            failed.append(mouse)
    if failed:
        raise UserError(
            f"{len(failed)} of {len(mice)} mice could not be {done} (reasons above); put that "
            "right and give the same command again, what is done stays."
        )


def read_ahead(items: Iterable, make: Callable, workers: int) -> Iterable:
    """Yields make(item) in order, made by so many threads, no more ahead than twice as many."""
    ahead, items = [], iter(items)
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                ahead.append(pool.submit(make, item))
                if len(ahead) > 2 * workers:
                    yield ahead.pop(0).result()
            while ahead:
                yield ahead.pop(0).result()
        finally:
            for future in ahead:
                future.cancel()


def _at(path: Path) -> dict[str, Callable[[], Source]]:
    if (path / store.DESCRIPTION).is_file():
        return {path.resolve().name: lambda: _of_store(path)}
    stores = store.stores_in(path)
    if stores:
        return {mouse: lambda mouse=mouse: _of_store(path / mouse) for mouse in stores}
    if path.is_dir() and not (path / competition.TIERS_FILE).is_file() and (apart := _in(path)):
        return apart
    sessions = formats.sessions(path)
    return {mouse: functools.partial(_of_recording, path, mouse) for mouse in sessions}


def _in(folder: Path) -> dict[str, Callable[[], Source]]:
    """All that looks like a session in a folder, each by itself: a damaged one hides no other."""
    found = {}
    for entry in sorted(folder.iterdir()):
        if entry.suffix != ".partial" and any((entry / part).is_dir() for part in ("data", "meta")):
            found[entry.name] = functools.partial(_of_recording, entry, entry.name)
    for archive in sorted(folder.glob("*.zip")):
        try:
            inside = [session.name for session in files.find(archive, competition.TIERS_FILE)]
        except UserError:  # told when its turn comes
            inside = [archive.stem]
        for mouse in inside:
            found.setdefault(mouse, functools.partial(_of_recording, archive, mouse))
    for file in colliculus2017.find(folder):
        found.setdefault(file.stem, functools.partial(_of_recording, file, file.stem))
    return found


def _of_store(path: Path) -> Source:
    opened = store.TrialStore.open(path)
    trials = opened.trials

    def read(row: int) -> types.Trial:
        arrays = opened.read(row) if trials.num_frames[row] else opened.empty((0,))
        return types.Trial(
            index=int(trials.index[row]),
            tier=str(trials.tier[row]),
            official_frames=int(trials.official_frames[row]),
            checksum=str(trials.checksum[row]),
            **arrays,
        )

    return Source(
        mouse=opened.mouse,
        where=str(path),
        tiers=tuple(trials.tier.tolist()),
        neurons=opened.neurons,
        frame_rate_hz=opened.frame_rate_hz,
        read=read,
        fingerprint=opened.fingerprint,
    )


def _of_recording(path: Path, mouse: str) -> Source:
    recording = formats.read(path, mouse)
    return Source(
        mouse=mouse,
        where=recording.source,
        tiers=recording.tiers,
        neurons=recording.neurons,
        frame_rate_hz=recording.frame_rate_hz,
        read=recording.read,
    )
