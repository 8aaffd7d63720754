"""Orders on disk, one file per session, and sessions whose neurons stand in a stored order.

In go sessions; out come files `<session>.order.npz`, each there whole or not at all, from which
`reordered` makes a session that every other command takes. A file knows the counts it was made
from: for others it is refused.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np

from sensojax.errors import UserError
from sensojax.spikes.counts import Counts
from sensojax.spikes.order import ordering
from sensojax.spikes.order.ordering import Order
from sensojax.spikes.session import Session
from sensojax.spikes.sorting import order_of
from sensojax.writing import write_bytes_atomically

ARRAYS = ("starts", "order", "silent", "costs")


@dataclass(frozen=True)
class Task:
    """One session to be ordered into `folder`."""

    session: Session
    bin_s: float
    linkage: str
    folder: Path


def order_session(task: Task) -> Order:
    """Finds and stores the order of a session, unless it is there.

    Raises UserError when another one is there, or the session cannot be read.
    """
    path = path_of(task.folder, task.session)
    if path.exists():
        found = load(path, task.session)
        for name in ("linkage", "bin_s"):
            if getattr(found, name) != getattr(task, name):
                raise UserError(
                    f"{path} was made with {name} {getattr(found, name)}, expected "
                    f"{getattr(task, name)}; delete the file, or choose another --out."
                )
        return found
    order = ordering.of_session(task.session, task.bin_s, task.linkage)
    save(path, order, task.session)
    return order


def path_of(folder: Path, session: Session) -> Path:
    return folder / f"{quote(session.name, safe='')}.order.npz"


def save(path: Path, order: Order, session: Session) -> None:
    """Writes an order and what it belongs to."""
    about = dict(name=session.name, fingerprint=session.fingerprint, neurons=session.num_neurons)
    about |= dict(linkage=order.linkage, bin_s=order.bin_s)
    arrays = {name: getattr(order, name) for name in ARRAYS}
    file = io.BytesIO()
    np.savez_compressed(file, about=np.array(json.dumps(about)), **arrays)
    write_bytes_atomically(path, file.getvalue())


def load(path: Path, session: Session) -> Order:
    """Reads the order of a session; UserError when it is missing, damaged, or of other counts."""
    try:
        with path.open("rb") as opened, np.load(opened) as file:
            about = json.loads(str(file["about"]))
            arrays = {name: file[name] for name in ARRAYS}
        of = (about["neurons"], about["fingerprint"])
        order = Order(**arrays, linkage=about["linkage"], bin_s=about["bin_s"])
    except FileNotFoundError as error:
        raise UserError(
            f"found no order of {session.name} at {path}, expected one; find it with python "
            "scripts/pile_order.py."
        ) from error
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"the order {path} is damaged ({error}); delete the file and find it again with "
            "scripts/pile_order.py."
        ) from error
    if of != (session.num_neurons, session.fingerprint):
        raise UserError(
            f"the order {path} was found for other counts than those of {session.name} here; "
            "delete the file and find it again with scripts/pile_order.py."
        )
    return order


def reordered(session: Session, folder: Path) -> "OrderedSession":
    """The session with its neurons in the order that is stored in the folder."""
    return OrderedSession(session, load(path_of(folder, session), session))


def in_order(sessions: Sequence[Session], folder: Path | None) -> list[Session]:
    """All sessions `reordered`; as they are when there is no folder."""
    return list(sessions) if folder is None else [reordered(each, folder) for each in sessions]


class OrderedSession(Session):
    """A session whose neurons stand in another order; otherwise as it was."""

    def __init__(self, session: Session, order: Order):
        self.session_as_recorded, self.order = session, order
        self.name, self.subject, self.session = session.name, session.subject, session.session
        self.component, self.num_neurons = session.component, session.num_neurons
        self.fingerprint = f"{session.fingerprint}:{_digest(order)}"
        if len(order.order) == 1:
            self.columns = {name: each[order.order[0]] for name, each in session.columns.items()}

    def num_bins(self, bin_s: float) -> int:
        return self.session_as_recorded.num_bins(bin_s)

    @property
    def chunks(self) -> list[tuple[int, int]]:
        return self.session_as_recorded.chunks

    def counts(self, bin_s: float, start: int = 0, stop: int | None = None) -> Counts:
        counts = self.session_as_recorded.counts(bin_s, start, stop)
        if len(self.order.order) > 1 and bin_s != self.order.bin_s:
            raise UserError(
                f"found orders of chunks of {self.order.bin_s} s bins for {self.name}, expected "
                f"the same bins, not {bin_s} s; order whole sessions (--linkage average)."
            )
        row = np.searchsorted(self.order.starts, counts.bin + start, "right") - 1
        neuron = self.order.inverse[row, counts.neuron]
        sort = order_of(neuron * np.int64(counts.num_bins) + counts.bin)
        sizes = (counts.num_neurons, counts.num_bins, counts.bin_s)
        return Counts(neuron[sort].astype(np.int32), counts.bin[sort], counts.count[sort], *sizes)


def _digest(order: Order) -> str:
    return hashlib.sha256(order.starts.tobytes() + order.order.tobytes()).hexdigest()[:16]
