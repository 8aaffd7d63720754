"""Draws how time and memory of a training step, and speed of reading, grow with size.

    python scripts/scaling.py --out docs/scaling --folder data/benchmark
    python scripts/scaling.py --out docs/scaling --figures card --card 24,30000,700

Figures: mice, neurons, batch and devices (time of a step beside what its arithmetic and its bytes
alone would take, and its memory), memory (against the batch), card (what an epoch of ten mice costs
on a card of so many GB, GFLOP/s and GB/s), loader (against threads and the length of windows). For
each one a JSON file and a picture; half an hour on two CPU cores, and the same line again
continues. Steps that do not fit the memory are left out; for `memory` and `card` nothing is
allocated. On a GPU the same line measures the GPU.
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.benchmarks import scaling, scaling_figures, subject
from sensojax.errors import UserError, check_name, command_line
from sensojax.evaluation.figures import png
from sensojax.writing import write_bytes_atomically


@command_line
def main(arguments: list[str] | None = None) -> None:
    args = _parser().parse_args(arguments)
    for name in args.figures:
        check_name(name, scaling.FIGURES, "--figures")
    check_name(args.model, subject.MODELS, "--model")
    card = _card(args.card, args.steps)
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.out) as scratch:
        study = scaling.Study(
            args.model, args.clips, args.repeats, args.tiny, args.folder or Path(scratch)
        )
        for name in args.figures:
            path = args.out / f"{name}.json"
            found = scaling.measure(study, name, path)
            picture = png(scaling_figures.drawn(name, found, card))
            write_bytes_atomically(path.with_suffix(".png"), picture)
            print(f"{path.with_suffix('.png')}: {len(found['points'])} points")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("docs/scaling"))
    parser.add_argument(
        "--figures",
        type=lambda text: text.split(","),
        default=list(scaling.FIGURES),
        help=f"of {','.join(scaling.FIGURES)}",
    )
    parser.add_argument("--model", default="factorised", help=f"of {','.join(subject.MODELS)}")
    parser.add_argument("--clips", type=int, default=2, help="of each mouse, where they are fixed")
    parser.add_argument("--repeats", type=int, default=3, help="timed steps of each point")
    parser.add_argument("--folder", type=Path, help="keeps the simulated session (else deleted)")
    parser.add_argument(
        "--card", default="24,30000,700", help="GB, and measured GFLOP/s and GB/s, of a card"
    )
    parser.add_argument("--steps", type=int, default=45, help="of an epoch: 359 clips by eights")
    parser.add_argument("--tiny", action="store_true", help="meaningless sizes, to try it out")
    return parser


def _card(text: str, steps: int) -> dict[str, float]:
    try:
        gb, gflops, gbs = (float(each) for each in text.split(","))
    except ValueError as error:
        raise UserError(
            f"found --card {text!r}, expected GB, GFLOP/s and GB/s, such as 24,30000,700."
        ) from error
    return dict(gb=gb, gflops=gflops, gbs=gbs, steps=steps)


if __name__ == "__main__":
    main()
