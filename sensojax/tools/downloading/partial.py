"""A file that is on its way: its bytes so far, and which version of the address they are from.

In go a path and an address; the bytes lie in `<path>.partial` and the version in
`<path>.partial.json`, until `finish` gives the file its name. Only one process at a time.
"""

import fcntl
import json
import os
from pathlib import Path

from sensojax.errors import UserError
from sensojax.writing import write_atomically


class Partial:
    """have: bytes so far. size: of the whole file, None as long as nobody knows."""

    def __init__(self, path: Path, address: str):
        self.address = address
        self.name = path.name
        self.path = path.with_name(path.name + ".partial")
        self._final = path
        self._note = path.with_name(path.name + ".partial.json")

    def __enter__(self) -> "Partial":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self.path, "ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(self._file.fileno()), self.path.stat()):
                raise FileNotFoundError  # whoever had it has just finished it
        except OSError as error:
            self._file.close()
            raise UserError(
                f"{self.path} is being written by another process; wait for it, or stop it and "
                "give the same command again."
            ) from error
        self._version = self._noted()
        self.size: int | None = self._version.get("size")
        if not self._version:
            self._file.truncate(0)
        return self

    def __exit__(self, *raised) -> None:
        if self.path.exists() and not self.have:
            self.path.unlink()
            self._note.unlink(missing_ok=True)
        self._file.close()

    @property
    def have(self) -> int:
        return self._file.seek(0, os.SEEK_END)

    @property
    def complete(self) -> bool:
        return self.size is not None and self.have == self.size

    def headers(self) -> dict[str, str]:
        """What to ask of the server: all, or the rest of the version that we have."""
        if not self.have or not self._version:
            return {}
        etag, modified = self._version["etag"], self._version["modified"]
        # Only what identifies the bytes exactly may stand in If-Range (RFC 9110, 13.1.5).
        exact = etag if etag and not etag.startswith("W/") else modified
        condition = {"If-Range": exact} if exact else {}
        return {"Range": f"bytes={self.have}-"} | condition

    def continues(self, version: dict, total: int | None) -> bool:
        """Whether a part of this version, of a file of so many bytes, is of the file we have."""
        same = all(self._version.get(name) == stated for name, stated in version.items())
        return same and (total is None or self.size in (None, total))

    def append(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self._file.flush()  # so that a kill loses no more than the piece under way

    def restart(self, version: dict | None = None, size: int | None = None) -> None:
        """Drops all bytes; version and size: of those to come, when they are known."""
        self._file.truncate(0)
        self.size = size
        self._version = (version or {}) and {"address": self.address, **version, "size": size}
        if self._version:
            write_atomically(self._note, json.dumps(self._version))
        else:
            self._note.unlink(missing_ok=True)

    def finish(self) -> None:
        """The file gets its name, if whoever checked it left it there."""
        os.fsync(self._file.fileno())
        if self.path.exists():
            os.replace(self.path, self._final)
        self._note.unlink(missing_ok=True)

    def _noted(self) -> dict:
        """What is known of the bytes of an earlier call; nothing if they are of another address."""
        try:
            noted = json.loads(self._note.read_text())
            noted = {name: noted[name] for name in ("address", "etag", "modified", "size")}
            return noted if noted["address"] == self.address else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}
