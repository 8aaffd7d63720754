"""A file behind an address, read in parts as if it were here: only what is asked for is fetched.

In go an address (http or https) and what a reader such as h5py does with a file (seek, read); out
come bytes. Blocks are kept for a while, and reading on fetches more of them at a time. A cut
connection is taken up again; a file that changes while it is read is an error, never a mixture.
"""

import io
import json
import time
import urllib.error
import urllib.request
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from sensojax.errors import UserError
from sensojax.tools.downloading import answers, fetching

Result = TypeVar("Result")
BLOCK = 1 << 18  # bytes: a request for less takes hardly less time
KEPT = 256  # blocks in memory
AHEAD = 16  # the most blocks of one request
EXPIRED = (401, 403)  # what a redirected address answers when its time is over


class RemoteStream(io.RawIOBase):
    """A file behind an address, to read from and seek in.

    size: its bytes. fetched: bytes that came so far. failure: the UserError that ended it, for
    readers that hide what went wrong under them. Raises UserError when the server has no such
    file, gives no parts of it, or cannot be reached, and when the file changes.
    """

    def __init__(self, address: str):
        super().__init__()
        fetching.check_address(address)
        self.address, self.fetched, self.size = address, 0, 0
        self.failure: UserError | None = None
        self._now = address  # where redirects lead; they are followed once
        self._version: str | None = None
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._place, self._next, self._ahead = 0, 1, 1
        self._keep(0, self._fetch(0, BLOCK))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self.size}[whence]
        self._place = max(start + offset, 0)
        return self._place

    def readinto(self, buffer) -> int:
        view = memoryview(buffer).cast("B")
        done = 0
        while done < len(view) and self._place < self.size:
            number, offset = divmod(self._place, BLOCK)
            block = self._block(number, (offset + len(view) - done - 1) // BLOCK + 1)
            part = block[offset : offset + len(view) - done]
            view[done : done + len(part)] = part
            done += len(part)
            self._place += len(part)
        return done

    def _block(self, number: int, wanted: int) -> bytes:
        """One block; fetched with those after it when so many are wanted or read one by one."""
        if number not in self._blocks:
            self._ahead = min(2 * self._ahead, AHEAD) if number == self._next else 1
            start, self._next = number * BLOCK, number + min(max(wanted, self._ahead), AHEAD)
            self._keep(number, self._fetch(start, min(self._next * BLOCK, self.size)))
        self._blocks.move_to_end(number)
        return self._blocks[number]

    def _keep(self, first: int, content: bytes) -> None:
        for number in range(-(-len(content) // BLOCK)):
            self._blocks[first + number] = content[number * BLOCK : (number + 1) * BLOCK]
        while len(self._blocks) > max(KEPT, AHEAD):
            self._blocks.popitem(last=False)

    def _fetch(self, start: int, stop: int) -> bytes:
        """Bytes start..stop, in as many requests as that takes."""
        content = bytearray()

        def ask() -> None:
            while not self.size or start + len(content) < min(stop, self.size):
                self._ask(start, stop, content)

        try:
            persist(ask, self.address, progress=lambda: len(content))
        except UserError as error:
            self.failure = error
            raise
        return bytes(content)

    def _ask(self, start: int, stop: int, content: bytearray) -> None:
        """One request for what is missing; adds what comes back."""
        headers = {"Range": f"bytes={start + len(content)}-{stop - 1}"}
        try:
            answer = fetching.open_address(urllib.request.Request(self._now, headers=headers))
        except urllib.error.HTTPError as error:
            if error.code in EXPIRED and self._now != self.address:
                self._now = self.address
                raise fetching.Again("the redirected address has expired") from error
            raise fetching.refused(error, self.address) from error
        with answer:
            self._check(answer, start + len(content))
            self._now, before = answer.geturl(), len(content)
            while part := fetching.read_some(answer, fetching.CHUNK):
                content += part
                self.fetched += len(part)
        if len(content) == before:
            raise fetching.Again("the connection ended before anything came")

    def _check(self, answer, first: int) -> None:
        """UserError when an answer is not that part of the file that we are reading."""
        stated, total = answers.byte_range(answer)
        if answer.status != 206 or stated != first or total is None:
            raise UserError(
                f"found no way to read parts of {self.address} (the server answered "
                f"{answer.status}), expected ranges; fetch the whole file with --download."
            )
        version = f"{answer.headers.get('ETag')} {total}"
        if self._version not in (None, version):
            raise UserError(
                f"{self.address} was changed while it was read; give the same command again."
            )
        self._version, self.size = version, total


def persist(
    act: Callable[[], Result], address: str, progress: Callable[[], int] = lambda: 0
) -> Result:
    """act(), again after a while when it raises Again; UserError after too many times in vain.

    progress: how much is there; an attempt that adds to it was not in vain.
    """
    failures, best = 0, progress()
    while True:
        try:
            return act()
        except fetching.Again as error:
            failures = 1 if progress() > best else failures + 1
            best = max(best, progress())
            if failures >= fetching.ATTEMPTS:
                raise UserError(
                    f"gave up {address} after {failures} attempts without progress ({error}): "
                    "check the network and give the same command again."
                ) from error
            wait = max(fetching.WAIT_SECONDS * 2 ** (failures - 1), error.wait)
            time.sleep(min(wait, fetching.LONGEST_WAIT))


def read_text(address: str) -> str:
    """What is at an address, as text; UserError when it cannot be had."""
    fetching.check_address(address)

    def act() -> str:
        try:
            with fetching.open_address(urllib.request.Request(address)) as answer:
                expected, parts = answers.length(answer), []
                while part := fetching.read_some(answer, fetching.CHUNK):
                    parts.append(part)
        except urllib.error.HTTPError as error:
            raise fetching.refused(error, address) from error
        content = b"".join(parts)
        if expected not in (None, len(content)):
            raise fetching.Again(f"the connection ended at {len(content)} of {expected} bytes")
        return content.decode("utf-8", "replace")

    return persist(act, address)


def read_json(address: str) -> dict:
    """What is at an address, as JSON; UserError when it is none."""
    text = read_text(address)
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(
            f"found no JSON at {address}, expected what the archive's interface documents; try "
            "again later, or name another --archive."
        ) from error
