"""Whole runs for tests: the smallest config, in this process or as a command to be killed.

A run here takes seconds, most of them compilation, which a shared cache saves from the second run
on. `command` writes its config as a file, so that also what the command line cannot say (another
schedule) can be tested as a user would run it.
"""

import copy
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import jax
import numpy as np

from sensojax import main
from sensojax.training import checkpoints, journal
from sensojax.writing import plain

REPOSITORY = Path(__file__).resolve().parent.parent
SIMULATION = dict(mice=2, neurons=6, trials=24, frames=40, height=12, width=14, seed=0, noise=1.0)
SMALLEST = {
    "simulation": SIMULATION,
    "data.window_frames": 12,
    "data.batch_size": 2,
    "data.read_threads": 1,
    "core.channels": (3,),
    "core.spatial_kernels": (5,),
    "core.temporal_kernels": (3,),
    "core.strides": (2,),
    "readout.hidden_features": 4,
    "shifter.num_layers": 2,
    "schedule.steps": 8,
    "schedule.warmup_steps": 2,
    "train.evaluate_every": 4,
    "train.log_every": 1,
    "train.checkpoint_every": 2,
    "evaluation.skip_frames": 8,
}
PLATEAU = dict(
    name="plateau",
    initial_rate=0.05,
    patience=1,
    factor=0.3,
    minimal_rate=1e-4,
    phases=50,
    epoch_limit=8,
)
COMPILED = "/jax/core/compile/jaxpr_to_mlir_module_duration"
NONE = MappingProxyType({})
DAMAGES = {
    "cut": lambda content: content[: len(content) // 2],
    "altered": lambda content: bytes(byte ^ 0xFF for byte in content),
    "emptied": lambda content: b"",
}


def preset(name: str, page: str = "dynamic") -> dict:
    """A preset of a config page as plain nested dictionaries."""
    path = REPOSITORY / "configs" / f"{page}.py"
    spec = importlib.util.spec_from_file_location(page, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(name).to_dict()


def config(data: Path, changes: Mapping = NONE, page: str = "dynamic") -> dict:
    """The smallest config, reading or making its mice in `data`; changes by dotted name."""
    made = preset("tiny", page)
    for name, value in {**SMALLEST, "data.folder": str(data), **changes}.items():
        *sections, last = name.split(".")
        where = made
        for section in sections:
            where = where[section]
        where[last] = copy.deepcopy(value)  # SMALLEST stays as it is, whatever a test changes
    return made


def run(workdir: Path, data: Path, changes: Mapping = NONE) -> dict:
    return main.run(config(data, changes), workdir)


def command(workdir: Path, data: Path, changes: Mapping = NONE) -> list[str]:
    """The same as a command line."""
    page = workdir.with_name(workdir.name + "_config.py")
    page.write_text(
        "from ml_collections import ConfigDict\n"
        f"def get_config():\n    return ConfigDict({plain(config(data, changes))!r})\n"
    )
    module = [sys.executable, "-m", "sensojax.main"]
    return [*module, "--config", str(page), "--workdir", str(workdir)]


def environment(cache: Path | None, **more: str) -> dict[str, str]:
    """Of a subprocess: the CPU, and compiled programs kept in `cache`."""
    kept = {} if cache is None else {f"JAX_{k}".upper(): str(v) for k, v in settings(cache).items()}
    return {**os.environ, "JAX_PLATFORMS": "cpu", **kept, **more}


def settings(cache: Path | None) -> dict:
    """How JAX is told to keep even the smallest compiled program."""
    return dict(
        compilation_cache_dir=None if cache is None else str(cache),
        persistent_cache_min_compile_time_secs=0,
        persistent_cache_min_entry_size_bytes=-1,
    )


@contextmanager
def cached(cache: Path) -> Iterator[None]:
    """Keeps compiled programs of this process in `cache` for a while."""
    names = [f"jax_{name}" for name in settings(cache)]
    before = {name: getattr(jax.config, name) for name in names}
    try:
        for name, value in zip(names, settings(cache).values(), strict=True):
            jax.config.update(name, value)
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        from jax.experimental.compilation_cache import compilation_cache

        compilation_cache.reset_cache()


@contextmanager
def compilations() -> Iterator[Counter]:
    """Counts the programs that are made for XLA, by name (also those the cache then gives)."""
    made = Counter()

    def count(event, duration, **about):
        if event == COMPILED:
            made[about.get("fun_name", "unknown").removeprefix("jit(").removesuffix(")")] += 1

    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        yield made
    finally:
        jax.monitoring.unregister_event_duration_listener(count)


def finish(
    line: list[str], cache: Path | None, timeout: float = 300, **more
) -> subprocess.CompletedProcess:
    """Runs a command to its end; more: keywords of subprocess.run."""
    more.setdefault("env", environment(cache))
    return subprocess.run(
        line, capture_output=True, text=True, cwd=REPOSITORY, timeout=timeout, **more
    )


def start(line: list[str], cache: Path, log: Path) -> subprocess.Popen:
    """Starts a command whose output goes to `log`."""
    with open(log, "w") as file:
        return subprocess.Popen(
            line, stdout=file, stderr=file, cwd=REPOSITORY, env=environment(cache)
        )


def wait_for_step(workdir: Path, step: int, process: subprocess.Popen, timeout: float = 240):
    """Returns when the journal holds a training step of at least `step`."""
    end = time.monotonic() + timeout
    while time.monotonic() < end and process.poll() is None:
        path = workdir / journal.NAME
        text = path.read_text() if path.exists() else ""
        steps = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
        if any(line["kind"] == "step" and line["step"] >= step for line in steps):
            return
        time.sleep(0.02)
    raise AssertionError(f"no step {step} in {workdir}: exit code {process.poll()}")


def final(workdir: Path) -> tuple[int, str, dict]:
    """The newest checkpoint: its step, the digest of all arrays, and its schedule."""
    with checkpoints.Checkpoints(workdir, read_only=True) as saved:
        about = saved.about(saved.steps()[0])
    return about["step"], about["digest"], about["schedule"]


def state(workdir: Path, like) -> dict[str, np.ndarray]:
    """All arrays of the newest checkpoint by name; like: a state with their shapes."""
    with checkpoints.Checkpoints(workdir, read_only=True) as saved:
        found, _ = saved.restore_newest(lambda about: like)
    return {name: np.asarray(leaf) for name, leaf in checkpoints.flatten(found).items()}


def history(workdir: Path) -> list[tuple]:
    """What a journal says of training, without times and remarks on how it was run."""
    told = []
    for line in journal.read(workdir / journal.NAME):
        if line["kind"] == "step":
            told.append(("step", line["step"], line["loss"], line["learning_rate"]))
        elif line["kind"] == "evaluation":
            told.append(("evaluation", line["step"], line["correlation"]))
        elif line["kind"] == "note":
            told.append(("note", line["step"], line["text"]))
    return told


def damage(workdir: Path, step: int, how: str) -> None:
    """Spoils the arrays of one checkpoint."""
    folder = workdir / checkpoints.FOLDER / str(step) / "arrays"
    for path in (path for path in folder.rglob("d/*") if path.is_file()):
        path.write_bytes(DAMAGES[how](path.read_bytes()))
