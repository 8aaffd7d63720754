"""How cost grows with size: which points each figure has, and measuring those that are missing.

In: a folder and which figures; out: one JSON file for each figure, which grows point by point, so
an interrupted run goes on where it stopped. Each point is measured in a process of its own
(`scaling_points`) and keeps its settings, its date and how busy the machine was otherwise.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from scripts.benchmarks import machine, session
from sensojax.errors import UserError
from sensojax.progress import track
from sensojax.writing import write_atomically

REPOSITORY = Path(__file__).resolve().parents[2]
NEURONS = 7863  # of a session of Sensorium 2023, on average
# Sections `train` of a step that fits a card, from the fastest to the smallest.
FITTING = {
    "as published": dict(),
    "bfloat16": dict(compute="bfloat16"),
    "layers again": dict(recompute=True),
    "five mice at once": dict(mice_at_once=5),
    "two mice at once": dict(mice_at_once=2),
    "two at once, layers again": dict(mice_at_once=2, recompute=True),
}


@dataclass(frozen=True)
class Study:
    """What is measured: of which model, how often, and at which sizes.

    clips: of each mouse, where they do not vary. folder: of a simulated session for the loader.
    """

    model: str = "factorised"
    clips: int = 2
    repeats: int = 3
    tiny: bool = False
    folder: Path | None = None

    def points(self, figure: str) -> list[dict]:
        """The settings of every point of a figure."""
        return list(getattr(self, f"_{figure}")())

    def _mice(self) -> Iterator[dict]:
        for mice in (1, 2) if self.tiny else (1, 2, 3, 5, 7, 10):
            yield self._step(mice=mice)

    def _neurons(self) -> Iterator[dict]:
        for neurons in (10, 40) if self.tiny else (1000, 3000, 8000, 20_000, 40_000, 80_000):
            yield self._step(neurons=neurons)

    def _batch(self) -> Iterator[dict]:
        for clips in (1, 2) if self.tiny else (1, 2, 4, 8, 16):
            yield self._step(clips=clips)

    def _devices(self) -> Iterator[dict]:
        for devices in (1, 2) if self.tiny else (1, 2, 4, 8):
            yield self._step(devices=devices, clips=8)

    def _step(self, **changed) -> dict:
        few = 20 if self.tiny else NEURONS
        same = dict(kind="step", model=self.model, devices=1, mice=1, neurons=few)
        return same | dict(clips=self.clips, repeats=self.repeats, tiny=self.tiny) | changed

    def _memory(self) -> Iterator[dict]:
        for name in ("as published", "bfloat16", "layers again"):
            for clips in (1, 2) if self.tiny else (1, 2, 4, 8, 16, 32):
                yield self._compiled(name, mice=1, clips=clips, lowered="")

    def _card(self) -> Iterator[dict]:
        for name in FITTING:
            yield self._compiled(name, mice=2 if self.tiny else 10, clips=8, lowered="gpu")

    def _compiled(self, name, **sizes) -> dict:
        few = 20 if self.tiny else NEURONS
        return dict(
            kind="compiled", model=self.model, name=name, train=FITTING[name], neurons=few, **sizes
        ) | dict(tiny=self.tiny)

    def _loader(self) -> Iterator[dict]:
        lengths, threads = (
            ((10, 40), (1, 2)) if self.tiny else ((10, 40, 80, 150, 300), (1, 2, 4, 8))
        )
        for frames in lengths:
            for number in threads:
                windows = 16 if self.tiny else 800
                yield dict(kind="loader", threads=number, frames=frames, windows=windows) | dict(
                    repeats=self.repeats
                )


FIGURES = ("mice", "neurons", "batch", "devices", "memory", "card", "loader")


def measure(study: Study, figure: str, path: Path) -> dict:
    """All points of a figure; those in the file at `path` are not measured again."""
    known = _read(path)
    points, places = study.points(figure), {_key(each["at"]): each for each in known["points"]}
    missing = [each for each in points if _key(each) not in places]
    if missing and "rates" not in known:
        known["machine"] = machine.described(None)
        known["rates"] = machine.rates(study.repeats, "float32", tiny=study.tiny)
    more = _store(study) if figure == "loader" and missing else {}
    done = len(points) - len(missing)
    for settings in track(missing, f"scaling: {figure}", total=len(points), done=done):
        known["points"].append(dict(at=settings, **_measured(settings | more)))
        write_atomically(path, json.dumps(known, indent=1) + "\n")
    wanted = {_key(each) for each in points}
    return known | dict(points=[each for each in known["points"] if _key(each["at"]) in wanted])


def _read(path: Path) -> dict:
    if not path.exists():
        return dict(points=[])
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"found {path} damaged ({error}), expected JSON; delete it.") from error


def _key(settings: Mapping) -> str:
    """How often it was measured makes no other point."""
    return json.dumps({k: v for k, v in settings.items() if k != "repeats"}, sort_keys=True)


def _store(study: Study) -> dict:
    made = session.Session(study.folder, session.TINY if study.tiny else session.Sizes())
    return dict(store=str(made.store.path))


def _measured(settings: Mapping) -> dict:
    """What the process of one point says; `refused` when it was killed, for lack of memory."""
    flags = os.environ.get("XLA_FLAGS", "")
    if settings.get("devices", 1) > 1:
        flags += f" --xla_force_host_platform_device_count={settings['devices']}"
    done = subprocess.run(
        [sys.executable, "-m", "scripts.benchmarks.scaling_points", json.dumps(settings)],
        cwd=REPOSITORY,
        env=os.environ | dict(XLA_FLAGS=flags),
        stdout=subprocess.PIPE,
        text=True,
    )
    about = dict(date=time.strftime("%Y-%m-%d %H:%M", time.gmtime()))
    if done.returncode == -9:
        return about | dict(refused="was killed, probably for lack of memory")
    if done.returncode:
        raise UserError(
            f"the point {json.dumps(settings)} failed with exit code {done.returncode}; its words "
            "are above. The same command again goes on with it."
        )
    return about | json.loads(done.stdout.splitlines()[-1])
