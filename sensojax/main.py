"""Fit a digital twin of the visual system and say how well it predicts.

    python -m sensojax.main --config configs/dynamic.py --workdir runs/dynamic

In: a config (one page, see configs/); out: a run folder with journal, checkpoints, report and
figures. The same line again continues from the newest checkpoint, bit-equal. Without recordings
the default preset invents mice whose neurons are known, and says so.
"""

import argparse
import functools
import importlib.machinery
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
from absl import app, flags
from ml_collections import config_flags

from sensojax import errors
from sensojax.errors import UserError, command_line
from sensojax.evaluation.results import Score
from sensojax.experiments.experiment import Experiment
from sensojax.training import checkpoints, folder, journal, mesh


def run(config: Mapping, workdir: str | Path) -> dict[str, Score]:
    """Trains until the schedule says stop, evaluates, reports; returns the score of each tier."""
    placement = mesh.Placement()
    leads = jax.process_index() == 0
    with jax.set_mesh(placement.mesh), folder.claimed(workdir, config, writes=leads):
        experiment = Experiment(config, placement)
        with checkpoints.Checkpoints(workdir) as saved:
            finished = experiment.restore(saved)
            with journal.Journal(
                Path(workdir), **experiment.described, step=experiment.step, writes=leads
            ) as notes:
                if experiment.step == 0:
                    experiment.evaluate(notes)
                while not finished:
                    experiment.train_to_next_evaluation(notes, saved)
                    finished = experiment.evaluate(notes)
                    experiment.save(saved, finished)
        return experiment.report(workdir, writes=leads)


@command_line
def parse_flags(config: flags.FlagHolder, arguments: list[str]) -> list[str]:
    """Reads the command line; UserError for no such config and for settings that it lacks."""
    let_pages_import_each_other(arguments)
    try:
        rest = errors.parse_flags(arguments)
        config.value.lock()  # a config file that cannot be read is only noticed when it is used
    except (AttributeError, KeyError) as error:
        cause = error.args[0]  # of a locked config: the name, and a near one when there is one
        said = " ".join(str(cause.args[0] if isinstance(cause, Exception) else cause).split())
        raise UserError(f"found a setting that the config does not have: {said}") from error
    except OSError as error:
        raise UserError(f"found no readable config: {' '.join(str(error).split())}") from error
    return rest


def let_pages_import_each_other(arguments: list[str]) -> None:
    """Makes `from configs import dynamic` in a config mean the page in the same folder `configs`.

    arguments: a command line with --config, which may be started from anywhere.
    """
    reader = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    reader.add_argument("--config", "-config", nargs="?", default="")
    page = reader.parse_known_args(arguments[1:])[0].config or ""
    for above in Path(page.partition(":")[0]).resolve().parents:
        if above.name == "configs":
            spec = importlib.machinery.ModuleSpec("configs", None, is_package=True)
            spec.submodule_search_locations = [str(above)]
            sys.modules["configs"] = importlib.util.module_from_spec(spec)
            return


def seeds(words: Sequence[str]) -> list[int]:
    """The numbers of --seeds; UserError for anything else."""
    try:
        return [int(word) for word in words]
    except ValueError as error:
        raise UserError(f"found --seeds {','.join(words)}, expected numbers.") from error


@command_line
def main(argv: list[str]) -> None:
    del argv
    mesh.join_processes()
    scores = run(CONFIG.value.to_dict(), WORKDIR.value)
    if jax.process_index() == 0:
        for score in scores.values():
            print(score.describe())
        print(f"report: {Path(WORKDIR.value) / 'report.html'}")


if __name__ == "__main__":  # defined here, so that importing this module reads no config
    CONFIG = config_flags.DEFINE_config_file("config", "configs/dynamic.py", lock_config=True)
    WORKDIR = flags.DEFINE_string("workdir", "runs/dynamic", "Folder of all that this run writes.")
    app.run(main, flags_parser=functools.partial(parse_flags, CONFIG))
