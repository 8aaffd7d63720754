"""A web server in a thread that misbehaves as it is told, for tests of what is fetched from it.

`Server.files` are served by path or by name, each with an ETag; every GET takes the next of
`Server.tricks` (none left: it behaves) and is noted in `Server.requests`.
"""

import hashlib
import io
import random
import threading
import time
import types
import warnings
import zipfile
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from sensojax.tools.downloading import fetching
from sensojax.tools.downloading.display import Stopped


@dataclass
class Trick:
    """How one answer differs from a good one.

    status, headers: another answer, without the file. cut: ends after so many bytes. lie: added to
    the stated length. body: in place of the file. ranges, etag, length: False leaves them out.
    keep_range: serves the range whatever If-Range says. pause: seconds before every 4 kB. hang:
    seconds before the answer. chunked: in HTTP chunks. limit: no more bytes than these of a range.
    """

    status: int = 0
    headers: dict = field(default_factory=dict)
    cut: int | None = None
    lie: int = 0
    body: bytes | None = None
    ranges: bool = True
    etag: bool = True
    length: bool = True
    keep_range: bool = False
    pause: float = 0.0
    hang: float = 0.0
    chunked: bool = False
    limit: int | None = None


@dataclass
class Request:
    """path, first and last byte asked for (None: not stated), and body bytes that were sent."""

    path: str
    first: int | None
    sent: int = 0
    last: int | None = None


class Server:
    """Use as a context. always: how it answers when no trick is left."""

    def __init__(self, files: dict[str, bytes]):
        self.files = dict(files)
        self.tricks: list[Trick] = []
        self.always = Trick()
        self.requests: list[Request] = []
        self.heads = 0
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> "Server":
        self._thread.start()
        return self

    def __exit__(self, *raised) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/files"

    @property
    def sent(self) -> int:
        return sum(request.sent for request in self.requests)


class _Handler(BaseHTTPRequestHandler):
    owner: Server

    def log_message(self, *words) -> None:
        pass

    def do_HEAD(self) -> None:
        self.owner.heads += 1
        content = self._content()
        if content is not None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()

    def do_GET(self) -> None:
        owner = self.owner
        if self.path == "/files/":
            return self._listing()
        trick = owner.tricks.pop(0) if owner.tricks else owner.always
        asked = self.headers.get("Range", "").removeprefix("bytes=").partition("-")
        first, last = (int(each) if each else None for each in asked[::2])
        owner.requests.append(Request(self.path, first, last=last))
        time.sleep(trick.hang)
        if trick.status:
            self.send_response(trick.status)
            for name, value in trick.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        content = self._content() if trick.body is None else trick.body
        if content is not None:
            self._send(content, first, trick, owner.requests[-1])

    def _content(self) -> bytes | None:
        files = self.owner.files
        whole, last = self.path.removeprefix("/files/"), self.path.rsplit("/", 1)[-1]
        content = files.get(whole, files.get(last))
        if content is None:
            self.send_error(404)
        return content

    def _listing(self) -> None:
        page = "".join(f'<a href="{name}">{name}</a>' for name in self.owner.files).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def _send(self, content: bytes, first: int | None, trick: Trick, request: Request) -> None:
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        condition = self.headers.get("If-Range")
        current = condition is None or condition == etag or trick.keep_range
        part = trick.ranges and first is not None and current
        if part and first >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        end = request.last + 1 if part and request.last is not None else len(content)
        end = end if not part or trick.limit is None else min(end, first + trick.limit)
        body = content[first if part else 0 : end]
        self.send_response(206 if part else 200)
        if part:
            stated = f"bytes {first}-{first + len(body) - 1}/{len(content)}"
            self.send_header("Content-Range", stated)
        if trick.etag:
            self.send_header("ETag", etag)
        if trick.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif trick.length:
            self.send_header("Content-Length", str(len(body) + trick.lie))
        self.end_headers()
        self._write(body[: trick.cut], trick, request)

    def _write(self, body: bytes, trick: Trick, request: Request) -> None:
        size = 4096 if trick.pause or trick.chunked else max(len(body), 1)
        try:
            for start in range(0, len(body), size):
                time.sleep(trick.pause)
                piece = body[start : start + size]
                if trick.chunked:
                    self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                else:
                    self.wfile.write(piece)
                request.sent += len(piece)
            if trick.chunked and trick.cut is None:
                self.wfile.write(b"0\r\n\r\n")
        except ConnectionError:
            pass  # whoever asked is gone


CONTENT = random.Random(0).randbytes(200_000)
FILES = {
    "data/videos/0.npy": bytes(5000),
    "data/videos/1.npy": CONTENT[:3000],
    "meta/trials/tiers.npy": b"train",
    "meta/empty": b"",
}


class Listening(fetching.Watch):
    """Keeps what it is told, and stops the transfer at so many bytes."""

    def __init__(self, stop_at: int | None = None):
        self.said, self.done, self.stop_at = [], [], stop_at

    def at(self, done, total):
        self.done.append((done, total))
        if self.stop_at is not None and done >= self.stop_at:
            raise Stopped

    def say(self, sentence):
        self.said.append(sentence)


def no_room(monkeypatch, free: int) -> None:
    monkeypatch.setattr(
        fetching.shutil, "disk_usage", lambda path: types.SimpleNamespace(free=free)
    )


def zipped(files: dict, compression=zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of these files; keys are names or ZipInfos."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # names that come twice are meant so
        for name, each in files.items():
            archive.writestr(name, each)
    return content.getvalue()
