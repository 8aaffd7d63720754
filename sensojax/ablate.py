"""Ablations: the same experiment over and over, each time with something changed.

    python -m sensojax.ablate --config configs/ablations/behavior.py

In: a page with a base config, `get_config(preset)`, and named changes to it, `get_changes(base)`
(see configs/ablations/); out: in `runs/ablations/behavior` (or --workdir) one run folder of
`sensojax.main` for each name, and a table and a figure that compare them. The same line again
continues; finished runs are passed over. On a cluster `--index=array` does the run whose number
SLURM gives the job, and the last one to finish makes the table. `--list` numbers the runs;
`--table` compares those that are there.
"""

import contextlib
import fcntl
import functools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from absl import app, flags
from jax.experimental import multihost_utils
from ml_collections import config_flags

from sensojax import build, main
from sensojax.errors import UserError, command_line
from sensojax.evaluation import comparison_page
from sensojax.evaluation.comparison import Comparison
from sensojax.experiments import comparing, variants
from sensojax.experiments.variants import Variant
from sensojax.training import folder, journal, mesh
from sensojax.writing import plain


def run(
    base: Mapping,
    changes: Mapping[str, Mapping],
    workdir: str | Path,
    *,
    seeds: Sequence[int] = (),
    index: int | None = None,
    table: bool = False,
    say: Callable[[str], None] = print,
) -> Comparison | None:
    """Does the runs that are missing, or the one of an index; compares them when all are there.

    table: do nothing but compare what is there. Returns the comparison that was written, if one
    was. A run that fails is reported and the others go on; at the end UserError names how many.
    """
    workdir, every = Path(workdir), variants.of(base, changes, seeds)
    for variant in every:
        folder.refuse_another(workdir / variant.name / folder.CONFIG, variant.config)
    say = say if jax.process_index() == 0 else lambda line: None
    chosen = range(len(every)) if index is None else [_known(index, every)]
    failed = [] if table else _runs(every, chosen, workdir, say)
    found = None
    there = [variant for variant in every if _agreed(variant.finished(workdir))]
    if table and not there:
        raise UserError(f"found no finished run in {workdir}, expected some to compare; run them.")
    if table or len(there) == len(every):
        found = comparing.compare(
            [workdir / variant.name for variant in there],
            base["evaluation"]["tiers"],
            workdir,
            base=there[0].name,
        )
        say(comparison_page.to_text(found))
        say(f"comparison: {workdir / comparison_page.NAME}.html")
    if failed:
        raise UserError(
            f"{len(failed)} of {len(chosen)} runs failed: {', '.join(failed)}; the same command "
            "again continues with them."
        )
    return found


def _runs(every: Sequence[Variant], chosen: Sequence[int], workdir: Path, say) -> list[str]:
    """Does the chosen runs one after another; returns the names of those that failed."""
    failed, seconds = [], []
    todo = [number for number in chosen if not _agreed(every[number].finished(workdir))]
    for number in chosen:
        variant = every[number]
        which = f"run {number + 1} of {len(every)}, {variant.name}"
        if number not in todo:
            say(f"{which}: finished before")
            continue
        left = len(todo) - len(seconds) - len(failed)
        pace = f", about {journal.duration(np.mean(seconds) * left)} left" if seconds else ""
        say(f"{which}{pace}: {plain(variant.changes) or 'the base'}")
        started = time.monotonic()
        try:
            _make_data(variant.config, workdir)
            main.run(variant.config, workdir / variant.name)
            seconds.append(time.monotonic() - started)
        except (UserError, jax.errors.JaxRuntimeError) as error:
            say(f"{which}: failed: {' '.join(str(error).split())[:500]}")
            failed.append(variant.name)
    return failed


def _make_data(config: Mapping, workdir: Path) -> None:
    """Simulated mice, made by one of several jobs while the others wait."""
    if config["data"]["recordings"] != "simulated" or jax.process_count() > 1:
        return
    workdir.mkdir(parents=True, exist_ok=True)
    with open(workdir / "data.lock", "w", encoding="utf-8") as file:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        build.stores(config["data"], config["simulation"])


def _known(index: int, every: Sequence[Variant]) -> int:
    if not 0 <= index < len(every):
        raise UserError(
            f"found --index {index}, expected 0 to {len(every) - 1}; --list shows them all."
        )
    return index


def _agreed(answer: bool) -> bool:
    """The first process's answer, since all processes of a run must go the same way."""
    if jax.process_count() == 1:
        return answer
    return bool(multihost_utils.broadcast_one_to_all(np.array(answer)))


def numbered(text: str) -> int | None:
    """What --index says: a number, that of a job array's task, or None for all runs."""
    number = os.environ.get("SLURM_ARRAY_TASK_ID", "") if text == "array" else text
    if not number and text != "array":
        return None
    if not number.isdigit():
        raise UserError(
            f"found --index {text!r} with SLURM_ARRAY_TASK_ID {number!r}, expected a number from "
            "0 on; give one, or 'array' within a job array."
            if text == "array"
            else f"found --index {text!r}, expected a number from 0 on, or 'array'."
        )
    return int(number)


@command_line
def _main(argv: list[str]) -> None:
    del argv
    base, given = CONFIG.value, config_flags.get_config_filename(flags.FLAGS["config"])
    page = given.partition(":")[0]  # the rest is the preset
    changes = variants.get_changes(page, base)
    workdir = Path(WORKDIR.value or Path("runs/ablations") / Path(page).stem)
    seeds = main.seeds(SEEDS.value)
    if LIST.value:
        for number, variant in enumerate(variants.of(base.to_dict(), changes, seeds)):
            done = "finished" if variant.finished(workdir) else "-"
            print(f"{number}\t{variant.name}\t{done}\t{plain(variant.changes) or 'the base'}")
        return
    mesh.join_processes()
    how = dict(seeds=seeds, index=numbered(INDEX.value), table=TABLE.value)
    run(base.to_dict(), changes, workdir, **how)


if __name__ == "__main__":  # defined here, so that importing this module reads no config
    CONFIG = config_flags.DEFINE_config_file(
        "config", "configs/ablations/behavior.py", lock_config=True
    )
    WORKDIR = flags.DEFINE_string("workdir", "", "Folder of the runs and the table.")
    INDEX = flags.DEFINE_string("index", "", "Only this run: its number, or 'array' for SLURM's.")
    LIST = flags.DEFINE_bool("list", False, "Only print the numbers and names of the runs.")
    SEEDS = flags.DEFINE_list("seeds", [], "Every change with each of these, by commas.")
    TABLE = flags.DEFINE_bool("table", False, "Only compare the finished runs.")
    app.run(_main, flags_parser=functools.partial(main.parse_flags, CONFIG))
