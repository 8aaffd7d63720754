"""Writes the model of a run as a .safetensors file under the names of the published PyTorch models.

    python scripts/export_checkpoint.py runs/baseline --out baseline.safetensors

PyTorch loads the file into the published classes (safetensors.torch.load_file), and so does
scripts/import_checkpoint.py, without any other argument, since the config travels with the weights.
"""

import argparse
import sys
from pathlib import Path

# From a checkout this runs without installing.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sensojax import errors
from sensojax.experiments import exchange


@errors.command_line
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file")
    parser.add_argument("--weights", choices=("best", "newest"), default="best")
    args = parser.parse_args(arguments)
    names = exchange.export_run(args.run, args.out, args.weights)
    print(f"{args.out}: {len(names)} arrays, {args.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
