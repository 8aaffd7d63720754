"""Score a run, finished or still going, on any tier.

    python -m sensojax.evaluate --workdir runs/dynamic --tier oracle,live_test_main

In: a run folder (its checkpoint says everything else) and the stores it was trained on; out: one
line per tier with the score and everything it depends on, and `scores/<tier>.json` in the run
folder.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import jax
from absl import app, flags

from sensojax import build, errors
from sensojax.errors import command_line
from sensojax.evaluation.results import Score
from sensojax.models.encoder import assemble
from sensojax.training import checkpoints, mesh
from sensojax.writing import write_atomically

WORKDIR = flags.DEFINE_string(
    "workdir", "runs/dynamic", "Run folder of sensojax.main.", allow_override=True
)
TIERS = flags.DEFINE_list("tier", ["oracle"], "Tiers to score, separated by commas.")
WEIGHTS = flags.DEFINE_enum("weights", "best", ["best", "newest"], "Which weights to score.")
STORES = flags.DEFINE_string("stores", "", "Folder of the stores, when they have been moved.")


def evaluate(
    workdir: str | Path, tiers: Sequence[str], *, weights: str = "best", stores: str = ""
) -> dict[str, Score]:
    """The scores of a run's weights by tier.

    weights: "best" (by the validation score) or "newest". stores: folder, "" for the one in the
    run's config. Raises UserError when run, stores or tiers are not there or do not fit.
    """
    placement = mesh.Placement()
    with jax.set_mesh(placement.mesh):
        graph, arrays, about = build.load_encoder(workdir, weights)
        config = about["config"]
        data = config["data"] | {"mice": list(about["mice"])}
        if stores:
            data |= {"folder": stores, "recordings": "stores"}
        opened = build.stores(data, config["simulation"])
        checkpoints.check_mice(about["mice"], build.described(opened))
        statistics = placement.everywhere(build.statistics(data, opened))
        arrays = placement.everywhere(arrays)
        lost_frames = assemble(graph, arrays).core.lost_frames
        scores = {}
        for tier in tiers:
            evaluator = build.evaluator(
                tier, config, opened, statistics, graph, lost_frames, placement
            )
            step = about["best_step"] if weights == "best" else about["step"]
            scores[tier] = evaluator.run(arrays, step=step, seeds=(config["seed"],))
        return scores


@command_line
def main(argv: list[str]) -> None:
    del argv
    mesh.join_processes()
    scores = evaluate(WORKDIR.value, TIERS.value, weights=WEIGHTS.value, stores=STORES.value)
    if jax.process_index() == 0:
        for tier, score in scores.items():
            path = Path(WORKDIR.value) / "scores" / f"{tier}.json"
            write_atomically(path, json.dumps(score.to_json()))
            print(score.describe())


if __name__ == "__main__":
    app.run(main, flags_parser=command_line(errors.parse_flags))
