"""Train the same config from several seeds, or without one fold each, and score their mean.

    python -m sensojax.ensemble --config configs/dynamic.py --seeds 0,1,2 --workdir runs/ensemble

In: a config and seeds; out: one run folder for each seed, `seed0`, `seed1`, ..., and beside them
`ensemble.json`, which makes the folder one that `sensojax.evaluate` and `sensojax.submit` take like
that of a single run. The same line again continues; more seeds may be added later. `--together`
trains all of them in one program, which is faster where one alone leaves an accelerator idle.
With `--folds` (and --config.data.folds=7) the members are `fold0`, `fold1`, ...: each is trained
without its fold. The tier "held_out" is then scored out of fold, every trial by the member that has
not seen it, and other tiers by the mean of all.

    python -m sensojax.ensemble --members runs/basic/fold0,runs/distilled/fold0 --workdir runs/both

trains nothing, but makes an ensemble of runs that are there, also of imported ones and of other
architectures, as long as they are of the same mice, inputs and units.
"""

import functools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
from absl import app, flags
from ml_collections import config_flags

from sensojax import build, main
from sensojax.errors import UserError, command_line
from sensojax.evaluation.results import Score
from sensojax.experiments import side_by_side
from sensojax.experiments.scoring import Scorer
from sensojax.pipeline.folds import HELD_OUT
from sensojax.training import mesh
from sensojax.writing import write_atomically


def run(
    config: Mapping, seeds: Sequence[int], workdir: str | Path, *, together: bool = False
) -> dict[str, Score]:
    """Trains what is missing of the members; returns the scores of their mean by tier.

    together: side by side in one program, which needs the memory of all of them.
    """
    check_seeds(seeds)
    workdir = Path(workdir)
    folders = [workdir / member(seed) for seed in seeds]
    if together:
        side_by_side.run(config, seeds, folders)
    else:
        for number, (seed, of_member) in enumerate(zip(seeds, folders, strict=True), start=1):
            if jax.process_index() == 0:
                print(f"member {number} of {len(seeds)}: seed {seed}")
            main.run({**config, "seed": seed}, of_member)
    if jax.process_index() == 0:
        described = {"members": [member(seed) for seed in seeds]}
        write_atomically(workdir / build.ENSEMBLE, json.dumps(described))
    return Scorer().score(workdir, config["evaluation"]["tiers"])


def run_folds(config: Mapping, workdir: str | Path) -> dict[str, Score]:
    """Trains what is missing of one member for each fold; returns the scores by tier.

    That of "held_out" first, out of fold; then of the mean of all on the other tiers that the
    config scores. The members' seeds are those from the config's on. Raises UserError for a config
    without folds.
    """
    workdir, count, first = Path(workdir), config["data"]["folds"], config["seed"]
    if count < 2:
        raise UserError(
            f"found data.folds {count}, expected two or more for --folds; give them as "
            "--config.data.folds=7."
        )
    names = [f"fold{fold}" for fold in range(count)]
    for fold, name in enumerate(names):
        if jax.process_index() == 0:
            print(f"member {fold + 1} of {count}: without fold {fold}, seed {first + fold}")
        data = {**config["data"], "fold": fold}
        main.run({**config, "seed": first + fold, "data": data}, workdir / name)
    if jax.process_index() == 0:
        write_atomically(workdir / build.ENSEMBLE, json.dumps({"members": names}))
    others = [tier for tier in config["evaluation"]["tiers"] if tier != HELD_OUT]
    return Scorer().score(workdir, (HELD_OUT, *others))


def gather(folders: Sequence[str | Path], workdir: str | Path) -> None:
    """Makes `workdir` the ensemble of runs that are there, which stay where they are.

    Raises UserError for fewer than two, and for runs that cannot be members of one ensemble.
    """
    if len(set(folders)) < 2 or len(set(folders)) < len(folders):
        raise UserError(
            f"found --members {', '.join(map(str, folders))}, expected two or more different run "
            "folders, separated by commas."
        )
    listing = Path(workdir) / build.ENSEMBLE
    listing.parent.mkdir(parents=True, exist_ok=True)
    here = listing.parent.resolve()
    members = [os.path.relpath(Path(folder).resolve(), here) for folder in folders]
    write_atomically(listing, json.dumps({"members": members}))
    try:
        build.load_members(workdir)
    except UserError:
        listing.unlink()
        raise


def member(seed: int) -> str:
    """Name of the run folder of one seed."""
    return f"seed{seed}"


def check_seeds(seeds: Sequence[int]) -> None:
    """UserError unless there are several, all different."""
    if len(seeds) < 2 or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise UserError(
            f"found seeds {', '.join(map(str, seeds)) or 'none'}, expected two or more different "
            "numbers from 0 on; give them as --seeds 0,1,2."
        )


@command_line
def _main(argv: list[str]) -> None:
    del argv
    mesh.join_processes()
    config, workdir = CONFIG.value.to_dict(), WORKDIR.value
    if MEMBERS.value:
        gather(MEMBERS.value, workdir)
        print(f"{workdir} is an ensemble of {len(MEMBERS.value)}: evaluate takes it like a run.")
        return
    if FOLDS.value and TOGETHER.value:
        raise UserError("found --folds and --together, expected one of them; leave out --together.")
    if FOLDS.value:
        scores = run_folds(config, workdir)
    else:
        scores = run(config, main.seeds(SEEDS.value), workdir, together=TOGETHER.value)
    if jax.process_index() == 0:
        for score in scores.values():
            print(score.describe())


if __name__ == "__main__":  # defined here, so that importing this module reads no config
    CONFIG = config_flags.DEFINE_config_file("config", "configs/dynamic.py", lock_config=True)
    SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "One member for each, separated by commas.")
    MEMBERS = flags.DEFINE_list("members", [], "Runs that are there, to be the members instead.")
    FOLDS = flags.DEFINE_bool("folds", False, "One member for each fold of data.folds instead.")
    TOGETHER = flags.DEFINE_bool("together", False, "Train all seeds in one program.")
    WORKDIR = flags.DEFINE_string("workdir", "runs/ensemble", "Folder of the members.")
    app.run(_main, flags_parser=functools.partial(main.parse_flags, CONFIG))
