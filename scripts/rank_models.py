"""Rank all models on simulated mice: one table, in and out of the domain of movies.

    python scripts/rank_models.py --out docs/ranking.md

Trains every model of the table from every seed (an hour on two quiet CPU cores; the same line again
continues), scores single models and the mean prediction of the last model's seeds, and writes the
table as Markdown. Scores are kept beside it as JSON: a model of a seed that is there with the same
config is not trained again, on no machine. All models see the same mice and trials. Each takes as
many steps as ours and, if its steps are cheaper, more of them, until it has done as much arithmetic
(matrix products and convolutions, counted as direct ones) or taken twice as many.
"""

import argparse
import functools
import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from configs import (
    dynamic,
    dynamic_dwiseneuro,
    dynamic_frames,
    dynamic_gru,
    dynamic_sensojax,
    dynamic_viv1t,
)
from scripts.benchmarks import counting, programs
from sensojax import ensemble, errors
from sensojax.evaluation import tables
from sensojax.evaluation.measures import SINGLE_TRIAL
from sensojax.experiments.scoring import IN_DOMAIN, OUT_OF_DOMAIN, Scorer
from sensojax.main import run as main_run
from sensojax.types import STIMULUS_KINDS
from sensojax.writing import plain, write_atomically

# From the simplest to ours: {name: (config page, its preset of that size)}.
MODELS = {
    "frame-wise linear": (dynamic_frames, "simulated"),
    "frame-wise CNN": (dynamic_frames, "cnn"),
    "2-D core + GRU": (dynamic_gru, "simulated"),
    "factorised 3-D": (dynamic, "simulated"),
    "DwiseNeuro": (dynamic_dwiseneuro, "simulated"),
    "ViV1T": (dynamic_viv1t, "simulated"),
    "sensojax": (dynamic_sensojax, "simulated"),
}
OURS = list(MODELS)[-1]
LONGEST = 2  # times as many steps as ours


@errors.command_line
def main(arguments: list[str] | None = None) -> None:
    args = _parser().parse_args(arguments)
    for name in args.models:
        errors.check_name(name, MODELS, "--models")
    configs = budgeted({name: configured(*model, args.tiny) for name, model in MODELS.items()})
    scores, rows = Scores(args.out.with_suffix(".json") if args.out else None), []
    for name, (config, steps, done) in configs.items():
        if args.models and name not in args.models:
            continue
        folder = args.workdir / name.replace(" ", "_").replace("+", "and")
        of_seeds = []
        for seed in args.seeds:
            member = folder / ensemble.member(seed)
            train = functools.partial(main_run, {**config, "seed": seed}, member)
            of_seeds.append(scores.of(f"{name}, seed {seed}", config, train, member))
        rows.append((name, steps, done, of_seeds))
        if name == OURS and len(args.seeds) > 1:
            train = functools.partial(ensemble.run, config, args.seeds, folder)
            seeds = " ".join(map(str, args.seeds))
            together = scores.of(f"{name}, ensemble of seeds {seeds}", config, train, folder)
            words = f"{name}, ensemble of {len(args.seeds)}"
            rows.append((words, steps, done * len(args.seeds), [together]))
    text = page_of(rows, args)
    print(text)
    if args.out:
        write_atomically(args.out, text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=Path, default=Path("runs/ranking"))
    parser.add_argument("--seeds", type=lambda x: [int(s) for s in x.split(",")], default=[0, 1])
    parser.add_argument("--models", nargs="*", default=(), help=f"of {', '.join(MODELS)}; or all")
    parser.add_argument("--tiny", action="store_true", help="meaningless sizes, to try it out")
    parser.add_argument("--out", type=Path, help="the Markdown file to write")
    return parser


def configured(page, preset: str, tiny: bool) -> dict:
    """A model's config as plain values; all models are shown the mice of ours."""
    config = page.get_config("tiny" if tiny else preset)
    ours = dynamic_sensojax.get_config("tiny" if tiny else "simulated")
    config.simulation = ours.simulation
    config.data.folder = ours.data.folder
    return plain(config.to_dict())


def budgeted(configs: Mapping[str, dict]) -> dict[str, tuple[dict, int, float]]:
    """{name: (config, steps, operations of all of them)}, each with the steps that it may take."""
    costs = {name: operations(config) for name, config in configs.items()}
    steps = configs[OURS]["schedule"]["steps"]
    budget, found = costs[OURS] * steps, {}
    for name, config in configs.items():
        taken = int(min(max(budget / costs[name], steps), LONGEST * steps))
        config["schedule"]["steps"] = taken
        found[name] = (config, taken, taken * costs[name])
    return found


def operations(config: Mapping) -> float:
    """Of one training step of all mice."""
    simulated, data = config["simulation"], config["data"]
    sizes = programs.Sizes.of_mice(
        simulated["mice"],
        simulated["neurons"],
        clips=data["batch_size"],
        frames=data["window_frames"],
        trial_frames=simulated["frames"],
        height=simulated.get("height", 36),
        width=simulated.get("width", 64),
    )
    made = programs.Programs(config, sizes)
    return counting.work(made.step, *made.step_arguments).operations


class Scores:
    """What was scored so far, {run: config, cells}, in a JSON file (in none, if path is None)."""

    def __init__(self, path: Path | None):
        self.path, self.scorer, self.known = path, Scorer(), {}
        if path and path.exists():
            try:
                self.known = json.loads(path.read_text())
            except ValueError as error:
                raise errors.UserError(
                    f"found {path} damaged ({error}), expected JSON; delete it."
                ) from error

    def of(self, name: str, config: Mapping, train: Callable, folder: Path) -> list[list[float]]:
        """The cells of a run of a config, which is trained and scored if they are not known."""
        digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]
        if self.known.get(name, {}).get("config") != digest:
            train()
            found = [[float(value) for value in pair] for pair in cells(self.scorer, folder)]
            self.known[name] = dict(config=digest, cells=found)
            if self.path:
                lines = (f"{json.dumps(run)}: {json.dumps(of)}" for run, of in self.known.items())
                write_atomically(self.path, "{\n" + ",\n".join(lines) + "\n}\n")
        return self.known[name]["cells"]


def cells(scorer: Scorer, folder: Path) -> list[tuple[float, float]]:
    """(correlation, fraction of the ceiling) by column, of a run or an ensemble."""
    scores = scorer.score(folder, (IN_DOMAIN[0], OUT_OF_DOMAIN))
    of_all = scores[OUT_OF_DOMAIN]
    table = tables.by_kind(scores, SINGLE_TRIAL)
    columns = [table.cells[tables.ALL_MICE, column] for column in table.columns]
    values = [(cell.value, cell.fraction_of_ceiling) for cell in columns]
    return [*values, (of_all.correlation, of_all.fraction_of_ceiling)]


def cell(of_seeds: list[tuple[float, float]]) -> str:
    """The mean of all seeds, half of their range, and the mean fraction of the ceiling."""
    scores, parts = np.array(of_seeds).T
    spread = f" ± {np.ptp(scores) / 2:.3f}" if len(scores) > 1 else ""
    return f"{scores.mean():.3f}{spread} ({parts.mean():.2f})"


def page_of(rows, args) -> str:
    """The table in Markdown: correlation, and in brackets the fraction of the ceiling."""
    kinds = [tables.words_of(kind) for kind in STIMULUS_KINDS[1:]]
    counted = ["steps", "10^12 operations"]
    head = ["model", *counted, tables.IN_DOMAIN, *kinds, "all out-of-domain"]
    lines = [head, ["---", *("---:" for _ in head[1:])]]
    for name, steps, done, of_seeds in rows:
        shown = (cell([each[i] for each in of_seeds]) for i in range(len(of_seeds[0])))
        lines.append([name, f"{steps:,}", f"{done / 1e12:.2g}", *shown])
    seeds = ",".join(map(str, args.seeds))
    return "\n".join(
        [
            "# All models on simulated mice",
            "",
            "Mean single-trial correlation over the neurons of all simulated mice and, in brackets,"
            " the part of the ceiling that the noiseless rates reach: means over seeds"
            f" {', '.join(map(str, args.seeds))}, ± half of their range. In-domain: movies of the"
            " tiers live_test_main and final_test_main; out-of-domain: the bonus tiers. Protocol"
            " strict (trained on tier train only), normalization per_neuron, first 50 frames of"
            " each trial skipped.",
            "",
            "Every model sees the same mice and trials, takes at least as many steps as ours (the"
            f" last one) and, if they are cheaper, up to {LONGEST} times as many, until it has done"
            " as much arithmetic: operations are those of all matrix products and convolutions of"
            " training, counted as direct ones. Sizes are those of the preset of each config page"
            " that learns these mice in minutes on a CPU; so the table does not say which model is"
            " best on a hundred times as many clips of real mice, where the published order of"
            " DwiseNeuro and ViV1T is another.",
            "",
            *("| " + " | ".join(line) + " |" for line in lines),
            "",
            "Made by",
            "",
            f"    python scripts/rank_models.py --seeds {seeds} --out {args.out}",
            "",
        ]
    )


if __name__ == "__main__":
    main()
