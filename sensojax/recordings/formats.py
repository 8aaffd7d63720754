"""Sessions of whichever format: what a path holds is found out for each session by itself.

In goes a session, a folder of sessions or a .zip of them; out comes a `types.Recording`, read by
`sensorium2023` where the session has videos, by `sensorium2022` where it has images, and by
`colliculus2017` where it is a .mat.
"""

from pathlib import Path

from sensojax.errors import UserError, nearest
from sensojax.recordings import colliculus2017, competition, files, sensorium2022, sensorium2023
from sensojax.types import Recording

FORMATS = (sensorium2023, sensorium2022)


def sessions(path: str | Path) -> list[str]:
    """Names of the sessions at a path, of whichever format; at least one, else UserError."""
    names = colliculus2017.sessions(path)
    if names and not Path(path).expanduser().is_dir():
        return names
    found = files.find(path, competition.TIERS_FILE) if names else competition.find(path)
    return sorted({*names, *(source.name for source in found)})


def read(
    path: str | Path, mouse: str | None = None, *, holes: str = "refuse", split: str = ""
) -> Recording:
    """The recording of one mouse, as the module of its format gives it.

    split: of `colliculus2017.SPLITS`, "" for that format's own. Raises UserError also for a session
    that has neither videos nor images, or both.
    """
    names = colliculus2017.sessions(path)
    if names:
        every = sessions(path)
        mouse = every[0] if mouse is None and len(every) == 1 else mouse
        if mouse not in every:
            raise UserError(
                f"{path} has {len(every)} sessions, {', '.join(every)}, expected "
                f"{f'one called {mouse!r}' if mouse else 'one, or the name of one'}"
                f"{nearest(mouse or '', every) or '.'}"
            )
    if mouse in names:
        more = {"split": split} if split else {}
        return colliculus2017.read(path, mouse, holes=holes, **more)
    if split:
        raise UserError(
            f"found split {split!r} for {mouse or path}, expected none: its tiers are in its files."
        )
    source = competition.choose(path, mouse)
    return of(source).of(source, path, holes=holes)


def of(source):
    """The module that reads a session of one of the two competitions of mice."""
    folders = {format.LAYOUT.folder("videos"): format for format in FORMATS}
    found = [folder for folder in folders if source.listing(folder)]
    if len(found) != 1:
        raise UserError(
            f"{source.name} has {'both' if found else 'neither'} "
            f"{(' and ' if found else ' nor ').join(folders)}, expected files in one of the two; "
            "copy the session again from its source."
        )
    return folders[found[0]]
