"""Files of a data set, wherever they are, and the sessions they make up.

In go paths; out come `File`s, each with its path inside the data set and a way to open it. Files
behind an address have the same two (`tools/pile/archives.py`).
"""

from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from sensojax.errors import UserError
from sensojax.spikes.trains import name_of

# What libraries raise of damaged files, besides errors of their own.
FAILURES = (
    *(OSError, RuntimeError, KeyError, ValueError, TypeError),
    *(AttributeError, IndexError, OverflowError),
)


class File(Protocol):
    """path: inside the data set, with slashes. where: how to name it in sentences."""

    path: str
    where: str

    def open(self) -> BinaryIO:
        """A file to read from and seek in; the caller closes it."""
        ...


@dataclass(frozen=True)
class LocalFile:
    """A file of this machine."""

    path: str
    where: str

    def open(self) -> BinaryIO:
        try:
            return open(self.where, "rb")
        except OSError as error:
            raise UserError(
                f"found no way to read {self.where} ({error.strerror}), expected a readable file."
            ) from error


@dataclass(frozen=True)
class Found:
    """One session and its files, before any is opened. subject, session: as published."""

    subject: str
    session: str
    files: tuple[File, ...]

    @property
    def name(self) -> str:
        return name_of(self.subject, self.session)

    @property
    def where(self) -> str:
        return self.files[0].where


def local(paths: Iterable[str | Path], suffix: str) -> list[LocalFile]:
    """All files with this suffix at these paths and in the folders below, sorted by path.

    A file's path begins with the folder it lies in, which the published data sets name by subject.
    Raises UserError for a path that is not there and when there is no such file.
    """
    found = {}
    paths = [Path(path).expanduser() for path in paths]
    for path in paths:
        if not path.exists():
            raise UserError(f"found no {path}, expected a folder or a {suffix} file there.")
        top = path if path.is_dir() else path.parent
        inside = path.rglob(f"*{suffix}") if path.is_dir() else [path]
        for file in inside:
            if file.is_file() and not file.name.startswith("."):
                relative = Path(top.resolve().name, file.relative_to(top))
                found[str(file)] = LocalFile(relative.as_posix(), str(file))
    if not found:
        raise UserError(
            f"found no {suffix} file in {', '.join(map(str, paths))}, expected at least one."
        )
    return sorted(found.values(), key=lambda file: file.path)


def folder_and_stem(file: File) -> tuple[str, str]:
    """The folder a file lies in and its name without suffix: subject and session, as published."""
    *folders, name = file.path.split("/")
    return (folders[-1] if folders else ""), name.rpartition(".")[0] or name


def one_each(files: Sequence[File]) -> list[Found]:
    """Every file a session of its own."""
    return [Found(*folder_and_stem(file), (file,)) for file in files]


@contextmanager
def reading(file: File, what: str, *failures: type[Exception]):
    """Opens a file for a reader; what the reader's library says of a damaged one is a sentence."""
    with file.open() as stream:
        try:
            yield stream
        except UserError:
            raise
        except failures as error:
            # A stream that failed by itself (a lost connection) knows better what happened.
            if own := getattr(stream, "failure", None):
                raise own from error
            said = " ".join(str(error).split())[:200] or type(error).__name__
            raise UserError(
                f"{file.where} cannot be read as {what} ({said}); it is damaged or something else, "
                "get it again or leave it out."
            ) from error
