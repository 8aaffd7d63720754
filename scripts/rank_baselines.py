"""Rank the published baselines on simulated mice: one table, in and out of the domain of movies.

    python scripts/rank_baselines.py --out docs/ranking.md

Trains every model of the table from the first seed and the best one from all (twenty minutes on two
quiet CPU cores; the same line again continues), scores single models and the mean prediction of the
best model's seeds, and writes the table as Markdown. All models see the same mice, trials and
number of steps.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from configs import dynamic, dynamic_frames, dynamic_gru
from sensojax import ensemble, errors
from sensojax.evaluation import tables
from sensojax.evaluation.measures import SINGLE_TRIAL
from sensojax.experiments.scoring import IN_DOMAIN, OUT_OF_DOMAIN, Scorer
from sensojax.main import run as main_run
from sensojax.types import STIMULUS_KINDS
from sensojax.writing import plain, write_atomically

# From the least to the best, as on recorded mice: {name: (config page, changes)}.
MODELS = {
    "frame-wise linear": (dynamic_frames, {}),
    "2-D core + GRU": (dynamic_gru, {}),
    "factorised 3-D, video only": (
        dynamic,
        {"inputs.behavior": False, "shifter.name": ""},
    ),
    "factorised 3-D": (dynamic, {}),
}
BEST = list(MODELS)[-1]


@errors.command_line
def main(arguments: list[str] | None = None) -> None:
    args = _parser().parse_args(arguments)
    scorer, rows = Scorer(), []
    for name, (page, changes) in MODELS.items():
        config = configured(page, args.preset, changes)
        folder = args.workdir / name.replace(" ", "_").replace(",", "").replace("+", "and")
        if name != BEST:
            only = folder / ensemble.member(args.seeds[0])
            main_run({**config, "seed": args.seeds[0]}, only)
            rows.append((f"{name}, seed {args.seeds[0]}", cells(scorer, only)))
            continue
        ensemble.run(config, args.seeds, folder)
        for seed in args.seeds:
            rows.append((f"{name}, seed {seed}", cells(scorer, folder / ensemble.member(seed))))
        rows.append((f"{name}, ensemble of {len(args.seeds)}", cells(scorer, folder)))
    text = page_of(rows, args)
    print(text)
    if args.out:
        write_atomically(args.out, text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=Path, default=Path("runs/ranking"))
    parser.add_argument("--seeds", type=lambda x: [int(s) for s in x.split(",")], default=[0, 1, 2])
    parser.add_argument("--preset", default="simulated", help="of every config page")
    parser.add_argument("--out", type=Path, help="the Markdown file to write")
    return parser


def configured(page, preset: str, changes: Mapping) -> dict:
    """A config page's preset with some settings changed, as plain values."""
    config = page.get_config(preset)
    config.update_from_flattened_dict(changes)
    return plain(config.to_dict())


def cells(scorer: Scorer, folder: Path) -> list[tuple[float, float]]:
    """(correlation, fraction of the ceiling) by column, of a run or an ensemble."""
    scores = scorer.score(folder, (IN_DOMAIN[0], OUT_OF_DOMAIN))
    of_all = scores[OUT_OF_DOMAIN]
    table = tables.by_kind(scores, SINGLE_TRIAL)
    columns = [table.cells[tables.ALL_MICE, column] for column in table.columns]
    values = [(cell.value, cell.fraction_of_ceiling) for cell in columns]
    return [*values, (of_all.correlation, of_all.fraction_of_ceiling)]


def page_of(rows, args) -> str:
    """The table in Markdown: correlation, and in brackets the fraction of the ceiling."""
    kinds = [tables.words_of(kind) for kind in STIMULUS_KINDS[1:]]
    head = ["model", tables.IN_DOMAIN, *kinds, "all out-of-domain"]
    lines = [head, ["---", *("---:" for _ in head[1:])]]
    lines += [[name, *(f"{value:.3f} ({part:.2f})" for value, part in row)] for name, row in rows]
    seeds = ",".join(map(str, args.seeds))
    return "\n".join(
        [
            "# The baselines on simulated mice",
            "",
            "Mean single-trial correlation over the neurons of all simulated mice and, in brackets,"
            " the part of the ceiling that the noiseless rates reach. In-domain: movies of the"
            " tiers live_test_main and final_test_main; out-of-domain: the bonus tiers. Protocol"
            " strict (trained on tier train only), normalization per_neuron, first 50 frames of"
            " each trial skipped.",
            "",
            *("| " + " | ".join(line) + " |" for line in lines),
            "",
            "Made by",
            "",
            f"    python scripts/rank_baselines.py --preset {args.preset} --seeds {seeds} --out"
            f" {args.out}",
            "",
        ]
    )


if __name__ == "__main__":
    main()
