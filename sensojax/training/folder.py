"""The work folder of a run: it belongs to one config, and says so in `config.json`.

`claimed` takes an empty folder or recognises the run that lives in it; giving the same command
again continues that run. Another config is refused, because two runs in one folder would end in a
model that no config describes, and so is a second process while the first still runs. Until its
first checkpoint a run has nothing to lose, and another config may take its place.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from sensojax.errors import UserError
from sensojax.training import checkpoints
from sensojax.writing import plain, write_atomically

CONFIG, LOCK, REPORT = "config.json", "run.lock", "report.json"
# Settings that change how a run is carried out, but not what comes out.
MAY_CHANGE = (
    "data.folder",
    "data.read_threads",
    "data.prefetch_steps",
    "train.log_every",
    "train.checkpoint_every",
    "evaluation.tiers",
    "evaluation.measures",
    "evaluation.batch_size",
)


@contextlib.contextmanager
def claimed(workdir: str | Path, config: Mapping, *, writes: bool = True) -> Iterator[None]:
    """Keeps `workdir` as the folder of this config; UserError when it is that of another one.

    writes: False on all but one process of a run.
    """
    path = Path(workdir) / CONFIG
    refuse_another(path, config)
    if not writes:
        yield
        return
    with _locked(Path(workdir)):
        write_atomically(path, json.dumps(plain(config), indent=2))
        yield


def refuse_another(path: Path, config: Mapping) -> None:
    """UserError when the folder of `path` holds results of a run of another config."""
    workdir = path.parent
    if not path.exists() or not (checkpoints.finished(workdir) or (workdir / REPORT).exists()):
        return
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(
            f"{path} cannot be read ({error}); restore it, or use another --workdir."
        ) from error
    differences = _differences(known, plain(config))
    if differences:
        raise UserError(
            f"{workdir} holds a run of another config: {'; '.join(differences)}. Use another "
            "--workdir, or give the settings that the run was started with."
        )


@contextlib.contextmanager
def _locked(workdir: Path) -> Iterator[None]:
    """Keeps a second run out; the system lets go of the lock when this process ends, however."""
    workdir.mkdir(parents=True, exist_ok=True)
    with open(workdir / LOCK, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError(
                f"found another run at work in {workdir} (process {file.read().strip()}), expected "
                "none; wait for it, stop it, or use another --workdir."
            ) from None
        except OSError:
            pass  # a file system without locks
        file.truncate(0)
        file.write(f"{os.getpid()} on {os.uname().nodename}")
        file.flush()
        yield


def _differences(old: Mapping, new: Mapping, prefix: str = "") -> list[str]:
    found = []
    for key in sorted(set(old) | set(new)):
        name = f"{prefix}{key}"
        before, now = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            found += _differences(before, now, f"{name}.")
        elif before != now and name not in MAY_CHANGE:
            found.append(f"{name} was {before} and is {now}")
    return found
