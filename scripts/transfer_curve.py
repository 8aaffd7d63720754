"""Score of a new mouse against minutes of its data: with the core of other mice, and from scratch.

    python scripts/transfer_curve.py --run runs/dynamic --figure docs/transfer.png

RUN is a finished run of configs/dynamic.py on simulated mice 1 and 2; the new mouse is the third.
For each share of its training trials a readout is fitted on the frozen core of RUN, and a whole
model from scratch, both with configs/transfer.py's number of steps and the same batches; a quarter
of an hour on two CPU cores, and the same line again continues.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import matplotlib
from matplotlib.figure import Figure

from configs import dynamic, transfer
from sensojax import build, errors
from sensojax.evaluation import figures
from sensojax.main import run
from sensojax.types import STIMULUS_KINDS
from sensojax.writing import plain, write_atomically, write_bytes_atomically

KINDS = {"transferred": "core of two other mice", "scratch": "all from scratch"}
COLORS = {"transferred": figures.BLUE, "scratch": figures.ORANGE}
TIER = "live_test_main+final_test_main"  # movies that no model was chosen on


@errors.command_line
def main(arguments: list[str] | None = None) -> None:
    args = _parser().parse_args(arguments)
    found = {name: {} for name in KINDS}
    for share in args.shares:
        for name in KINDS:
            config = configured(name, share, args)
            score = run(config, args.workdir / f"{name}_{share:g}")[TIER]
            minutes = share * training_minutes(config)
            found[name][minutes] = score.correlation, score.ceiling
            print(f"{name}, {minutes:.1f} minutes: {score.describe()}")
    write_atomically(args.workdir / "transfer.json", json.dumps(found, indent=2))
    write_bytes_atomically(args.figure, figures.png(drawn(found)))
    print(f"figure: {args.figure}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", default="runs/dynamic", help="whose core is taken over")
    parser.add_argument("--workdir", type=Path, default=Path("runs/transfer_curve"))
    parser.add_argument("--figure", type=Path, default=Path("docs/transfer.png"))
    parser.add_argument("--preset", default="simulated", help="of configs/transfer.py")
    parser.add_argument(
        "--shares", type=lambda x: [float(s) for s in x.split(",")], default=[0.1, 0.3, 1.0]
    )
    return parser


def configured(name: str, share: float, args: argparse.Namespace) -> dict:
    """The config of one run: that of configs/transfer.py, or the same without another's core."""
    config = transfer.get_config(args.preset)
    config.data.train_share = share
    config.evaluation.tiers = (TIER,)
    config.transfer.run = args.run if name == "transferred" else ""
    if name == "transferred":
        config.transfer.features = str(args.workdir / "features")
    else:
        base = dynamic.get_config(args.preset)
        config.inputs, config.core = base.inputs, base.core
    return plain(config.to_dict())


def training_minutes(config: dict) -> float:
    """How long all training trials of the new mouse are."""
    (store,) = build.stores(config["data"], config["simulation"]).values()
    frames = store.trials.num_frames[store.rows(*config["data"]["tiers"])].sum()
    return float(frames) / store.frame_rate_hz / 60


@matplotlib.rc_context(figures.STYLE)
def drawn(found: dict) -> Figure:
    """Correlation against minutes, a line for each way, and the ceiling."""
    figure = Figure(figsize=(5.6, 3.2), layout="constrained")
    panel = figure.subplots()
    for name, words in KINDS.items():
        minutes = sorted(found[name])
        scores = [found[name][each][0] for each in minutes]
        panel.plot(minutes, scores, "o-", color=COLORS[name], markersize=5, clip_on=False)
        panel.annotate(
            words,
            (minutes[-1], scores[-1]),
            xytext=(0, -16 if name == "scratch" else 9),
            textcoords="offset points",
            ha="right",
            color=COLORS[name],
        )
    (ceiling,) = {round(ceiling, 6) for of in found.values() for _, ceiling in of.values()}
    panel.axhline(ceiling, color=figures.GRAY, linewidth=0.8, linestyle=(0, (4, 3)))
    panel.annotate(
        "best possible",
        (1, ceiling),
        xycoords=("axes fraction", "data"),
        xytext=(0, -4),
        textcoords="offset points",
        ha="right",
        va="top",
        color=figures.GRAY,
    )
    panel.set_xscale("log")
    panel.set_xticks(minutes, [f"{each:.0f}" for each in minutes])
    panel.minorticks_off()
    panel.set_ylim(0, None)
    panel.set_xlabel("minutes of training data of the new mouse")
    panel.set_ylabel(f"correlation, new {STIMULUS_KINDS[0]}s")
    panel.set_title("A simulated mouse that the core has not seen")
    return figure


if __name__ == "__main__":
    main()
