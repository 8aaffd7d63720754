"""Draws a first look at the model of a run: what its neurons respond to, and where they look.

    python scripts/show_model.py runs/released --out docs/first_look.png

RUN is any run folder, trained here or imported. The page shows predicted responses of all neurons
to some images, where in the image each neuron's readout looks, over cortex, and how far it sees.
The images are made up, or with `--stores` those that the mouse saw.
"""

import argparse
import sys
from pathlib import Path

# From a checkout this runs without installing.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sensojax import errors
from sensojax.evaluation import figures
from sensojax.experiments import looking
from sensojax.insilico import first_look
from sensojax.writing import write_bytes_atomically


@errors.command_line
def main(arguments: list[str] | None = None) -> None:
    args = _parser().parse_args(arguments)
    if args.neurons < 1:
        raise errors.UserError(f"found --neurons {args.neurons}, expected 1 or more.")
    seen = looking.look(
        args.run,
        args.mouse,
        weights=args.weights,
        stores=args.stores,
        tier=args.tier,
        neurons=args.neurons,
        seed=args.seed,
    )
    write_bytes_atomically(args.out, figures.png(first_look.figure(seen)))
    print(f"figure: {args.out}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument("--out", type=Path, default=Path("first_look.png"), help="the figure")
    parser.add_argument("--mouse", default="", help="which mouse; default: the first")
    parser.add_argument("--weights", choices=("best", "newest"), default="best")
    parser.add_argument("--stores", default="", help="folder of the stores, for recorded images")
    parser.add_argument("--tier", default="validation", help="whose images, with --stores")
    parser.add_argument("--neurons", type=int, default=256, help="whose reach is measured")
    parser.add_argument("--seed", type=int, default=0, help="of made-up images and choices")
    return parser


if __name__ == "__main__":
    main()
