"""Finds place, radius and colour of the Gaussian dots in every trial that shows them.

    python scripts/estimate_dot_features.py <source> [<more> ...] --out data/ood_features

A source is a session, a folder or .zip of sessions, a store or a folder of stores. Each frame gets
x, y and radius of its dot in pixels, and 1 if it is black, as the published tool measures them:
`--out/gaussian_dots/<mouse>/<trial>.npy`, [time 4]. A frame without a dot is NaN, and one with two
of them too, unless `--two-dots mean` asks for what the published tool makes of it. Every different
video is measured once and kept for each of its repeats. The same command again goes on where it was
stopped. A mouse that cannot be measured does not keep the others from it.
"""

import functools
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts import measuring
from sensojax import errors
from sensojax.stimuli import features


@errors.command_line
def main(arguments: list[str] | None = None) -> None:
    """Measures every mouse of every source; exit code 1 when one of them could not be."""
    parser = measuring.parser(__doc__)
    parser.add_argument(
        "--two-dots", choices=features.TWO_DOTS, default="nan", help="what a frame of two gets"
    )
    args = parser.parse_args(arguments)
    measure = functools.partial(features.dots, two_dots=args.two_dots)
    settings = dict(two_dots=args.two_dots, columns=features.DOT_NAMES)
    measuring.run(args, "gaussian_dots", lambda: measure, settings)


if __name__ == "__main__":
    main()
