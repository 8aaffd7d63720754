"""Score a run or an ensemble, finished or still going, on any tier, and break the score down.

    python -m sensojax.evaluate --workdir runs/dynamic --tier oracle,live_test_main
    python -m sensojax.evaluate --workdir runs/dynamic --by kind
    python -m sensojax.evaluate --runs 'runs/*' --tier oracle

In: a run folder (its checkpoint says everything else) and the stores it was trained on; out: one
line per tier with the score and everything it depends on, and `scores/<tier>.json` in the run
folder. `--by kind` scores movies and the five kinds of stimuli out of their domain, `--by tier` all
tiers, `--by depth`, `area`, `layer` and `mouse` what `--tier` says; each is printed as a table and
written to `scores/by_<what>.csv`, `.json`, `.html` and a figure. With `--runs` many runs, ensembles
too, are scored in one process and compared in one table, with intervals and a test between them.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
from absl import app, flags
from rich.console import Console

from sensojax import errors
from sensojax.errors import UserError, check_name, command_line
from sensojax.evaluation import comparison_page, tables, tables_page
from sensojax.evaluation.measures import ALL, MEASURES, SINGLE_TRIAL
from sensojax.evaluation.mouse_score import GROUPS
from sensojax.evaluation.results import Score, short_name
from sensojax.evaluation.tables import Table
from sensojax.experiments import comparing
from sensojax.experiments.scoring import EVERY_TIER, Scorer, tiers_by_kind
from sensojax.pipeline.windows import NORMALIZATIONS, SCORED_FRAMES
from sensojax.training import mesh
from sensojax.writing import write_atomically

BY = ("kind", "tier", "depth", *GROUPS, "mouse")


class Evaluated(NamedTuple):
    """Scores by tier, tables of them, and what else is to be said: which mice were left out."""

    scores: dict[str, Score]
    tables: list[Table]
    remarks: list[str]


WORKDIR = flags.DEFINE_string(
    "workdir", "runs/dynamic", "Run folder of sensojax.main.", allow_override=True
)
TIERS = flags.DEFINE_list(
    "tier", [], 'Tiers to score, separated by commas; "one+other" together; "all". Default: oracle.'
)
RUNS = flags.DEFINE_list("runs", [], "Run folders to compare, or patterns such as 'runs/*'.")
OUT = flags.DEFINE_string("out", "runs", "Folder of the files that --runs writes.")
WEIGHTS = flags.DEFINE_enum("weights", "best", ["best", "newest"], "Which weights to score.")
STORES = flags.DEFINE_string("stores", "", "Folder of the stores, when they have been moved.")
BROKEN_DOWN = flags.DEFINE_enum("by", None, BY, "Also print and write a table by this.")
MEASURED = flags.DEFINE_list(
    "measures",
    [],
    f"Beside single-trial correlation: {', '.join(MEASURES)}, or {ALL}. Default: those of the run.",
)
FRAMES = flags.DEFINE_enum(
    "frames", None, list(SCORED_FRAMES), "Which frames to score; default: as the run's config says."
)
NORMALIZATION = flags.DEFINE_enum(
    "normalization",
    None,
    NORMALIZATIONS,
    "Units to score in, predictions are rescaled to; default: those of the training.",
)


def evaluate(
    workdir: str | Path,
    tiers: Sequence[str] = (),
    *,
    by: str = "",
    weights: str = "best",
    stores: str = "",
    measures: Iterable[str] = (),
    frames: str = "",
    normalization: str = "",
) -> Evaluated:
    """The scores of a run's weights by tier, and tables of them.

    by: one of `BY`, "" for no table. tiers: () for those that the table needs, or that of
    validation. measures: () for those of the run's config. The others: see `Scorer.score`. Raises
    UserError when run, stores, tiers or the kinds of stimuli are not there or do not fit.
    """
    scorer = Scorer()
    about = scorer.members(workdir, weights)[0][2]
    trained_on = about["config"]["data"]["tiers"]
    measures = measures or about["config"]["evaluation"]["measures"]
    if by == "kind":
        tiers = tiers or tiers_by_kind(scorer.opened(about, stores), trained_on)
    scores = scorer.score(
        workdir,
        tiers or (EVERY_TIER if by == "tier" else about["config"]["evaluation"]["validation"],),
        weights,
        stores,
        measures=measures,
        frames=frames,
        normalization=normalization,
    )
    made = broken_down(scores, by, trained_on) if by else []
    return Evaluated(scores, made, left_out(scores, about["mice"]))


def broken_down(scores: Mapping[str, Score], by: str, trained_on: Sequence[str]) -> list[Table]:
    """The tables of scores by one of `BY`: one for each measure, or each tier."""
    names = dict.fromkeys(name for score in scores.values() for name in score.measures)
    made = {
        "kind": lambda: [tables.by_kind(scores, name, trained_on) for name in names],
        "tier": lambda: [tables.by_tier(scores, name) for name in names],
        "depth": lambda: [tables.by_depth(s, name) for s in scores.values() for name in names],
        "mouse": lambda: [tables.by_mouse(score) for score in scores.values()],
    }
    if by in GROUPS:
        made[by] = lambda: [tables.by_group(s, by, name) for s in scores.values() for name in names]
    made = made[by]()
    return [table for table in made if table.cells]


def left_out(scores: Mapping[str, Score], mice: Iterable[str]) -> list[str]:
    """Which mice of a run have no score on a tier, in a sentence for each such tier."""
    mice, said = list(mice), []
    for tier, score in scores.items():
        missing = [short_name(mouse) for mouse in mice if mouse not in score.mice]
        if missing:
            said.append(f"Without responses in tier {tier}, and left out: {', '.join(missing)}.")
    return said


def say(workdir: str | Path, found: Evaluated, by: str = "") -> None:
    """Prints scores and tables and writes their files."""
    scores, made, remarks = found
    for tier, score in scores.items():
        path = Path(workdir) / "scores" / f"{tier}.json"
        write_atomically(path, json.dumps(score.to_json()))
        print(score.describe())
        for name, why in score.left_out.items():
            print(f"{tier}: no {MEASURES[name].words}: {why}")
    for remark in remarks:
        print(remark)
    if made:
        console = Console()
        console = console if console.is_terminal else Console(width=200)
        console.print(*tables_page.printed(made), sep="\n")
        simulated = any(score.simulated for score in scores.values())
        written = tables_page.write(
            Path(workdir), f"by_{by}", made, simulated=simulated, remarks=remarks
        )
        print(f"table: {written['html']}")


def compare_runs(patterns: Sequence[str], out: str | Path, by: str) -> None:
    """Scores many runs in one process, prints a table that compares them, and writes it."""
    if by not in ("", "kind"):
        raise UserError(f"found --by {by} with --runs, expected kind or nothing; score one run.")
    measure = (MEASURED.value or [SINGLE_TRIAL])[0]
    check_name(measure, MEASURES, "--measures")
    found = comparing.compare(
        patterns,
        TIERS.value,
        out,
        weights=WEIGHTS.value,
        stores=STORES.value,
        measure=measure,
        by_kind=by == "kind",
        frames=FRAMES.value or "",
        normalization=NORMALIZATION.value or "",
    )
    if jax.process_index() == 0:
        print(comparison_page.to_text(found))
        print(f"table: {Path(out) / comparison_page.NAME}.html")


@command_line
def main(argv: list[str]) -> None:
    del argv
    mesh.join_processes()
    by = BROKEN_DOWN.value or ""
    if RUNS.value:
        compare_runs(RUNS.value, OUT.value, by)
        return
    found = evaluate(
        WORKDIR.value,
        TIERS.value,
        by=by,
        weights=WEIGHTS.value,
        stores=STORES.value,
        measures=MEASURED.value,
        frames=FRAMES.value or "",
        normalization=NORMALIZATION.value or "",
    )
    if jax.process_index() == 0:
        say(WORKDIR.value, found, by)


if __name__ == "__main__":
    app.run(main, flags_parser=command_line(errors.parse_flags))
