"""The work folder of a run: it belongs to one config, and says so in `config.json`.

`claim` takes an empty folder or recognises the run that lives in it; giving the same command again
continues that run, giving another config is refused, because two runs in one folder would end in
a model that no config describes.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from sensojax.errors import UserError

# Settings that change how a run is carried out, but not what comes out.
MAY_CHANGE = (
    "data.folder",
    "data.read_threads",
    "data.prefetch_steps",
    "train.log_every",
    "train.checkpoint_every",
    "evaluation.tiers",
    "evaluation.batch_size",
)


def plain(config: Mapping) -> dict:
    """A config as JSON holds it: tuples are lists."""
    return json.loads(json.dumps(dict(config)))


def claim(workdir: str | Path, config: Mapping, *, writes: bool = True) -> None:
    """Makes `workdir` the folder of this config, or UserError when it is that of another one.

    writes: False on all but one process of a run.
    """
    path = Path(workdir) / "config.json"
    if path.exists():
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
    elif writes:
        write_atomically(path, json.dumps(plain(config), indent=2))


def write_atomically(path: Path, text: str) -> None:
    """Writes a small file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.partial")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


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
