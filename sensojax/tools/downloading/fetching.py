"""One address becomes one file: in pieces that survive a cut connection, and whole or not at all.

In go an address (http or https) and a path; out comes the file. Until it is whole and checked its
bytes are in `<path>.partial`, and `<path>.partial.json` says which version of the address they are
from, so that the same call continues where a kill or a cut stopped the last one, and never joins
the pieces of two different files.
"""

import http.client
import shutil
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

from sensojax.errors import UserError, nearest
from sensojax.tools.downloading import answers
from sensojax.tools.downloading.partial import Partial

CHUNK = 1 << 20  # bytes asked for at once
ATTEMPTS = 6  # in a row without progress; with the waits below half a minute
WAIT_SECONDS = 1.0  # before the second attempt, twice as long before each further one
LONGEST_WAIT = 300.0  # however long a server asks us to wait
TIMEOUT_SECONDS = 30.0  # of silence
PROGRESS = 1 << 16  # bytes that make an attempt count as progress
BUSY = (408, 425, 429, 500, 502, 503, 504)  # answers that may be others next time


class Damaged(UserError):
    """What arrived is not what it should be; fetching it anew may help."""


class Untrusted(UserError):
    """What arrived must not be used, and fetching it anew would not help."""


class Watch:
    """Whom a transfer tells how it goes; this one does not listen. `at` may raise to stop it."""

    def begin(self, what: str) -> None:
        """What is done from here on: "fetching", "testing" or "unpacking"."""

    def at(self, done: int, total: int | None) -> None:
        """So many bytes of so many (None: the server does not say) are there."""

    def say(self, sentence: str) -> None:
        """Something a person should know, and that does not end the transfer."""


class Again(Exception):
    """An attempt failed for a reason that may pass; `wait`: seconds the server asks for."""

    def __init__(self, reason: object, wait: float = 0.0):
        super().__init__(str(reason).strip() or type(reason).__name__)
        self.wait = wait


def fetch(
    address: str, path: Path, check: Callable[[Path], object], watch: Watch | None = None
) -> Path:
    """Brings the file at an address to a path; returns the path.

    check: looks at the whole file before it gets its name, and raises Damaged when it is not what
    it should be; then it is fetched once more from nothing. Raises UserError when the server has no
    such file or cannot be reached, when the disk is too small, or when another process is at it.
    """
    watch = watch or Watch()
    check_address(address)
    with Partial(path, address) as partial:
        for last in (False, True):
            watch.begin("fetching")
            _complete(partial, watch)
            try:
                check(partial.path)
                break
            except Untrusted:
                partial.restart()
                raise
            except Damaged as error:
                partial.restart()
                if last:
                    raise Damaged(
                        f"{address} arrived damaged twice ({error}); try again later, or tell its "
                        "publishers."
                    ) from error
                watch.say(f"{path.name} arrived damaged ({error}); fetching it once more.")
        partial.finish()
    return path


def size_of(address: str) -> int | None:
    """Bytes of the file at an address; None when the server does not say.

    Not every server that has a file answers such questions, so no answer means nothing.
    """
    check_address(address)
    request = urllib.request.Request(address, method="HEAD")
    try:
        with open_address(request) as answer:
            return answers.length(answer)
    except (Again, urllib.error.HTTPError):
        return None


def check_space(folder: Path, needed: int, what: str) -> None:
    """UserError when fewer than the needed bytes are free where the folder is or will be."""
    existing = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise UserError(
            f"{what} needs {needed / 1e9:.2f} GB in {folder}, which has {free / 1e9:.2f} GB free; "
            "free some space, take fewer mice, or choose another folder with --out."
        )


def _complete(partial: Partial, watch: Watch) -> None:
    """Fetches until the partial file is complete; UserError after too many attempts in vain."""
    best, failures = partial.have, 0
    while not partial.complete:
        try:
            _receive(partial, watch)
        except Again as error:
            # A server that always begins anew makes progress only beyond what was reached before.
            failures = 1 if partial.have >= best + PROGRESS else failures + 1
            best = max(best, partial.have)
            if failures >= ATTEMPTS:
                kept = f"; the {partial.have} bytes so far are kept" if partial.have else ""
                raise UserError(
                    f"gave up {partial.address} after {failures} attempts without progress "
                    f"({error}){kept}: check the network and give the same command again."
                ) from error
            wait = max(WAIT_SECONDS * 2 ** (failures - 1), min(error.wait, LONGEST_WAIT))
            watch.say(f"{partial.name}: {error}; trying again in {wait:.0f} s.")
            _wait(wait, partial, watch)


def _wait(seconds: float, partial: Partial, watch: Watch) -> None:
    """Sleeps, but never long without asking whether to stop."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        watch.at(partial.have, partial.size)
        time.sleep(min(left, 1.0))


def _receive(partial: Partial, watch: Watch) -> None:
    """One request and what comes back from it; raises Again when that was not all."""
    request = urllib.request.Request(partial.address, headers=partial.headers())
    try:
        with open_address(request) as answer:
            expected = _place(answer, partial)
            missing = 0 if partial.size is None else partial.size - partial.have
            check_space(partial.path.parent, missing, partial.name)
            watch.at(partial.have, partial.size)
            while chunk := read_some(answer, CHUNK if expected is None else min(CHUNK, expected)):
                partial.append(chunk)
                expected = None if expected is None else expected - len(chunk)
                watch.at(partial.have, partial.size)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise refused(error, partial.address) from error
        # Nothing lies beyond what we have: either that is all, or the file has become shorter.
        if answers.byte_range(error)[1] == partial.have:
            partial.size = partial.have
            return
        partial.restart()
        raise Again("the file on the server has changed") from error
    if partial.size is None:
        partial.size = partial.have  # the server ended it and never said how long it would be
    if not partial.complete:
        raise Again(f"the connection ended at {partial.have} of {partial.size} bytes")


def _place(answer, partial: Partial) -> int | None:
    """Readies the partial file for what this answer brings; returns its length if known."""
    version = {"etag": answer.headers.get("ETag"), "modified": answer.headers.get("Last-Modified")}
    if answer.status == 206:
        first, total = answers.byte_range(answer)
        if first == partial.have and partial.continues(version, total):
            partial.size = total if partial.size is None else partial.size
            missing = None if partial.size is None else partial.size - partial.have
            return min(
                (n for n in (missing, answers.length(answer)) if n is not None), default=None
            )
        partial.restart()
        raise Again("the file on the server has changed")
    if answer.status != 200:
        raise Again(f"the server answered {answer.status} {answer.reason}")
    length = answers.length(answer)
    partial.restart(version, length)  # all of it comes, whether or not we asked for less
    return length


def open_address(request: urllib.request.Request):
    """The answer to a request; raises Again for what may pass, HTTPError for what will not."""
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()  # it is an answer too, with a connection of its own
        if error.code in BUSY:
            reason = f"the server answered {error.code} {error.reason}"
            raise Again(reason, answers.retry_after(error)) from error
        raise
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise UserError(
                f"the certificate of {request.host} cannot be trusted ({reason.verify_message}); "
                "check this machine's clock and certificates."
            ) from error
        raise Again(reason) from error


def read_some(answer, count: int) -> bytes:
    """What has arrived, up to so many bytes; nothing at the end, also at an early one."""
    try:
        return answer.read1(count) if count else b""
    except (OSError, http.client.HTTPException) as error:
        raise Again(error) from error


def refused(error: urllib.error.HTTPError, address: str) -> UserError:
    """What to tell of an answer that will not change."""
    if error.code in (404, 410):
        folder, _, name = address.rpartition("/")
        return UserError(
            f"found no {name} at {folder} ({error.code} {error.reason})"
            f"{nearest(name, _listed(folder)) or ''}; check the address with a browser, and name "
            "another place that has it with --base-address."
        )
    reason = " ".join(str(error.reason).split())
    return UserError(
        f"{address} was refused ({error.code} {reason}); check the address with a browser."
    )


def _listed(folder: str) -> list[str]:
    """The files that a plain web server lists in a folder; none from any other."""
    try:
        with open_address(urllib.request.Request(folder + "/")) as answer:
            page = read_some(answer, CHUNK).decode("utf-8", "replace")
    except (Again, urllib.error.HTTPError):
        return []
    return answers.listed(page)


def check_address(address: str) -> None:
    """Raises UserError unless it is a web address."""
    parts = urllib.parse.urlsplit(address)
    odd = any(letter <= " " for letter in address)
    if parts.scheme not in ("http", "https") or not parts.hostname or odd:
        raise UserError(
            f"found the address {address!r}, expected one that begins with https:// or http:// and "
            "names a server, without spaces; correct --base-address."
        )
