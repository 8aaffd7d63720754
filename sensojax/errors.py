"""How we refuse: one sentence that says what was found, what was expected, and what to do.

`UserError` carries such a sentence; `command_line` runs a command's main function and turns these
sentences (and a full disk, a path that cannot be used, and Ctrl-C) into a line on standard error
and a non-zero exit, without a traceback.
"""

import difflib
import errno
import functools
import sys
from collections.abc import Callable, Iterable

from absl import flags


class UserError(Exception):
    """Something the user can put right; the message is the sentence to show."""


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` when a known name is close, else ``."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def check_name(name: str, known: Iterable[str], what: str) -> None:
    """Refuses a name that is not among the known ones with a UserError that lists them."""
    if name not in known:
        near = nearest(name, known) or "."
        raise UserError(f"found {what} {name!r}, expected one of {', '.join(known)}{near}")


def is_full_disk(error: BaseException) -> bool:
    """Whether an error (also one that a C++ library words itself) means: no room left to write."""
    codes = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if isinstance(error, OSError) and error.errno in codes:
        return True
    words = ("no space left", "disk quota exceeded", "file too large")
    return any(word in str(error).lower() for word in words)


def parse_flags(arguments: list[str]) -> list[str]:
    """Reads a command line of absl flags; UserError for what the command does not know."""
    try:
        rest = flags.FLAGS(arguments)
    except flags.Error as error:
        raise UserError(f"found a wrong argument: {error}") from error
    if rest[1:]:
        raise UserError(
            f"found {' '.join(rest[1:])}, expected only --name=value; --help lists all."
        )
    return rest


def command_line(main: Callable[..., None]) -> Callable[..., None]:
    """Wraps a command's main so that a user's mistake ends in one sentence and exit code 1."""

    @functools.wraps(main)
    def guarded(*args, **kwargs):
        try:
            return main(*args, **kwargs)
        except UserError as error:
            sys.exit(f"error: {error}")
        except KeyboardInterrupt:
            sys.exit("interrupted: the same command again continues where this one stopped.")
        except Exception as error:
            if not is_full_disk(error) and getattr(error, "filename", None) is None:
                raise
            sys.exit(f"error: {_of_the_system(error)}")

    return guarded


def _of_the_system(error: Exception) -> str:
    """What the operating system refused, in a sentence: no room, no right, no such path."""
    where = getattr(error, "filename", None)
    if is_full_disk(error):
        place = f" {where}" if where else ""
        said = " ".join(str(error).split())[:300]
        return (
            f"the disk is full: writing{place} failed ({said}); nothing finished was lost. "
            "Free some space and give the same command again."
        )
    return f"{where} cannot be used ({error.strerror}); check the path and its permissions."
