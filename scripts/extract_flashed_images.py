"""Finds which image is seen in which frame of every trial that flashes images.

    python scripts/extract_flashed_images.py <source> [<more> ...] --out data/ood_features

A source is a session, a folder or .zip of sessions, a store or a folder of stores. Images are
numbered as they first appear to a mouse, -1 is a blank, as the published tool does it:
`--out/flashing_images/<mouse>/<trial>.npy`, [time]. Images that follow each other without a blank
count as one there; `--split changes` tells them apart. Every different video is looked at once and
its numbers kept for each of its repeats. A mouse that is done is passed over, one that was stopped
is begun anew. A mouse that cannot be done does not keep the others from it.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts import measuring
from sensojax import errors
from sensojax.stimuli import features


@errors.command_line
def main(arguments: list[str] | None = None) -> None:
    """Looks at every mouse of every source; exit code 1 when one of them could not be done."""
    parser = measuring.parser(__doc__)
    parser.add_argument(
        "--split", choices=features.SPLITS, default="blanks", help="where an image ends"
    )
    parser.add_argument("--most-frames", type=int, default=300, help="of a trial; 0: all")
    args = parser.parse_args(arguments)
    settings = dict(split=args.split, most_frames=args.most_frames)
    measuring.run(
        args,
        "flashed_images",
        lambda: features.Images(**settings).identify,
        settings,
        one_by_one=False,
    )


if __name__ == "__main__":
    main()
