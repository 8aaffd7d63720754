"""Simulate mice that watch videos or look at images, or colliculi: published formats, known truth.

    python scripts/simulate.py --folder data/simulated --mice 2 --neurons 100 --trials 150
    python scripts/simulate.py --folder data/static --kind static --neurons 100 --trials 3000
    python scripts/simulate.py --folder data/sc --kind colliculus --trials 288 --frames 150

The same line again continues an interrupted run and leaves finished mice alone.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sensojax import errors
from sensojax.recordings import simulated

HELP = {
    "kind": "video; static: mice that look at images, in the format of Sensorium 2022; or "
    "colliculus: spike counts in the superior colliculus, in the format of SCML 2017",
    "mice": "number of mice",
    "neurons": "neurons per mouse",
    "types": "cell types that all mice share; 0: each neuron is its own",
    "trials": "trials per mouse, all tiers together",
    "train_share": "part of the trials in the train tier",
    "frames": "frames of most clips, at 30 Hz (not of images)",
    "padded_frames": "length of the padded arrays; 0: frames + 24",
    "height": "pixels; 0: as published, 36 for videos, 144 for images, 96 for the colliculus",
    "width": "pixels; 0: as published, 64 for videos, 256 for images, 128 for the colliculus",
    "seed": "everything follows from it",
    "noise": f"response noise over signal; 'realistic' is {simulated.REALISTIC_NOISE:g}",
    "eye_shift": "how far the pupil moves the fields; 0 is not at all",
    "normalization": "strength of the division by the activity of all neurons",
    "withhold": "zeros instead of responses in the test tiers, as in the competition",
}


@errors.command_line
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--folder", type=Path, required=True, help="where the sessions go")
    parser.add_argument("--workers", type=int, default=0, help="threads; 0: one per core")
    for field in dataclasses.fields(simulated.Settings):
        flag = "--" + field.name.replace("_", "-")
        help_text = f"{HELP[field.name]} (default {field.default})"
        if field.type is bool:
            parser.add_argument(flag, action="store_true", help=help_text)
        else:
            kind = _noise if field.name == "noise" else field.type
            parser.add_argument(flag, type=kind, default=field.default, help=help_text)
    chosen = vars(parser.parse_args(arguments))
    folder, workers = chosen.pop("folder"), chosen.pop("workers")
    settings = simulated.Settings(**chosen)
    paths = simulated.write(folder, settings, workers)
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*.npy"))]
    gigabytes = sum(file.stat().st_size for file in files) / 1e9
    print(
        f"{len(paths)} simulated mice (no animal was recorded), {settings.neurons} neurons and "
        f"{settings.trials} trials each, {gigabytes:.2f} GB, seed {settings.seed}:"
    )
    for path in paths:
        print(f"  {path}")


def _noise(text: str) -> float:
    return simulated.REALISTIC_NOISE if text == "realistic" else float(text)


if __name__ == "__main__":
    main()
