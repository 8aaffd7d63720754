"""The other side of a benchmark: starts `peer_worker.py` under an interpreter with torch, asks it.

In: the folder of the published checkouts and an interpreter; out: a `Peer` whose `ask` sends one
request and waits for its answer, so that either we compute or the peer does. `start` says in a
sentence why there is none.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

from sensojax.errors import UserError

WORKER = Path(__file__).with_name("peer_worker.py")
CHECKOUTS = ("neuralpredictors", "sensorium_2023")


class Peer:
    """A running worker; use it in `with`, which ends it."""

    def __init__(self, folder: Path, python: str):
        self._process = subprocess.Popen(
            [python, str(WORKER), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, request: str, **arguments) -> Any:
        """The answer to one request; UserError with the worker's words when it failed."""
        try:
            print(
                json.dumps({"do": request, "with": arguments}), file=self._process.stdin, flush=True
            )
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            code = self._process.wait()
            raise UserError(
                f"the published code ended with exit code {code} at {request!r} (-9 is usually too "
                "little memory); its last words are above. Leave out the row with --rows."
            )
        reply = json.loads(line)
        if "error" in reply:
            raise UserError(
                f"the published code failed at {request!r}: {reply['error']}; see the traceback "
                "above and correct --peer or --peer-python, or leave out the row with --rows."
            )
        return reply["answer"]

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


def start(folder: Path | None, python: str) -> tuple[Peer | None, str]:
    """The peer, or None and why there is none. UserError when the folder is not as it should be."""
    if folder is None:
        return None, "no --peer was given"
    for name in CHECKOUTS:
        if not (folder / name).is_dir():
            raise UserError(
                f"found no {name} in {folder}, expected checkouts of {' and '.join(CHECKOUTS)}; "
                "correct --peer."
            )
    try:
        has_torch = subprocess.run([python, "-c", "import torch"], capture_output=True)
    except OSError as error:
        raise UserError(
            f"cannot start {python} ({error.strerror}); correct --peer-python."
        ) from error
    if has_torch.returncode:
        return None, "the interpreter of --peer-python has no torch"
    return Peer(folder.absolute(), python), ""
