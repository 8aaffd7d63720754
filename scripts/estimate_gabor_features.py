"""Finds direction, wavelength and frequency of the drifting Gabors in every trial that shows them.

    python scripts/estimate_gabor_features.py <source> [<more> ...] --out data/ood_features

A source is a session, a folder or .zip of sessions, a store or a folder of stores. Every block of
frames is compared with all Gabors that may have been shown, and the most correlated one is kept, as
the published tool does it: `--out/drifting_gabor/<mouse>/<trial>.npy`, [time 3]. Every different
video is measured once and kept for each of its repeats. The same command again goes on where it was
stopped. A mouse that cannot be measured does not keep the others from it.
"""

import dataclasses
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
    usual = features.Bank()
    parser = measuring.parser(__doc__)
    for name in ("directions_deg", "wavelengths", "frequencies"):
        default = ",".join(f"{value:g}" for value in getattr(usual, name))
        parser.add_argument(f"--{name.replace('_', '-')}", default=default, help="that may occur")
    parser.add_argument("--sigma", type=float, default=usual.sigma, help="of the envelope")
    parser.add_argument("--block-frames", type=int, default=usual.block_frames, help="of each one")
    parser.add_argument(
        "--blank", choices=features.BLANKS, default="first", help="what a grey block gets"
    )
    args = parser.parse_args(arguments)
    bank = features.Bank(
        measuring.numbers(args.directions_deg, "--directions-deg"),
        measuring.numbers(args.wavelengths, "--wavelengths"),
        measuring.numbers(args.frequencies, "--frequencies"),
        sigma=args.sigma,
        block_frames=args.block_frames,
    )
    settings = dataclasses.asdict(bank) | dict(blank=args.blank, columns=features.GABOR_NAMES)
    measure = functools.partial(features.gabors, bank=bank, blank=args.blank)
    measuring.run(args, "drifting_gabor", lambda: measure, settings)


if __name__ == "__main__":
    main()
