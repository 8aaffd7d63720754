"""How we refuse: one sentence that says what was found, what was expected, and what to do.

`UserError` carries such a sentence; `command_line` runs a command's main function and turns these
sentences (and a full disk, and Ctrl-C) into a line on standard error and a non-zero exit, without
a traceback.
"""

import difflib
import errno
import functools
import sys
from collections.abc import Callable, Iterable


class UserError(Exception):
    """Something the user can put right; the message is the sentence to show."""


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` when a known name is close, else ``."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def check_name(name: str, known: Iterable[str], what: str) -> None:
    """Refuses a name that is not among the known ones with a UserError that lists them."""
    if name not in known:
        raise UserError(
            f"found {what} {name!r}, expected one of {', '.join(known)}{nearest(name, known)}."
        )


def is_full_disk(error: BaseException) -> bool:
    """Whether an error (also one that a C++ library words itself) means: no room left to write."""
    codes = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if isinstance(error, OSError) and error.errno in codes:
        return True
    words = ("no space left", "disk quota exceeded", "file too large")
    return any(word in str(error).lower() for word in words)


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
            if not is_full_disk(error):
                raise
            where = getattr(error, "filename", None)
            place = f" {where}" if where else ""
            sys.exit(
                f"error: the disk is full: writing{place} failed ({error}); nothing finished was "
                "lost. Free some space and give the same command again."
            )

    return guarded
