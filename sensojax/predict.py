"""Predict what a run's neurons answer to a new film.

    python -m sensojax.predict --workdir runs/colliculus --movie film.npy --out predicted.npy

In: a run folder (or that of an ensemble), the stores of its mice, and a film of frames of the size
that the model was trained on: an .npy [time height width] of gray levels 0 to 255, perhaps of
several clips [clip time height width], or a .mat as MATLAB has them. Out: an .npy [time neuron], or
[clip time neuron], in the units of the recording; of several mice an .npz with one such array for
each. Models that see behaviour or the pupil are told their means in training, unless --behavior and
--pupil name .npy files [time column].
"""

import io
from pathlib import Path

import numpy as np
from absl import app, flags

from sensojax import errors
from sensojax.errors import UserError, command_line
from sensojax.experiments import new_films
from sensojax.experiments.new_films import Told
from sensojax.training import mesh
from sensojax.writing import write_array_atomically, write_bytes_atomically

ENDINGS = (".npy", ".npz")


def write(out: str | Path, told: Told) -> str:
    """Writes the responses, without an axis of clips if there is one; returns a line to say.

    Raises UserError when a file of this ending cannot hold them.
    """
    out = Path(out)
    check(out, len(told.responses))
    arrays = {mouse: of[0] if len(of) == 1 else of for mouse, of in told.responses.items()}
    if out.suffix == ".npy":
        write_array_atomically(out, next(iter(arrays.values())))
    else:
        file = io.BytesIO()
        np.savez(file, **arrays)
        write_bytes_atomically(out, file.getvalue())
    shapes = ", ".join(f"{mouse} {of.shape}" for mouse, of in arrays.items())
    least, greatest = told.levels
    lost = f"; its first {told.lost_frames} frames are NaN" if told.lost_frames else ""
    mice = " (simulated)" if told.simulated else ""
    return f"{out}: {shapes}{mice}, to a film of gray levels {least:g} to {greatest:g}{lost}"


def check(out: Path, num_mice: int) -> None:
    """UserError when a file of this name cannot hold the responses of so many mice."""
    if out.suffix not in ENDINGS or (out.suffix == ".npy" and num_mice > 1):
        raise UserError(
            f"found --out {out} for {num_mice} mice, expected an .npz, or an .npy for one mouse; "
            "change it, or name one mouse with --mice."
        )


@command_line
def _main(argv: list[str]) -> None:
    del argv
    mesh.join_processes()
    if Path(OUT.value).suffix not in ENDINGS:
        check(Path(OUT.value), len(MICE.value))
    told = new_films.predict(
        WORKDIR.value,
        MOVIE.value,
        mice=MICE.value,
        weights=WEIGHTS.value,
        stores=STORES.value,
        variable=VARIABLE.value,
        behavior=BEHAVIOR.value,
        pupil=PUPIL.value,
    )
    print(write(OUT.value, told))


if __name__ == "__main__":  # defined here, so that importing this module defines no flags
    WORKDIR = flags.DEFINE_string("workdir", "runs/dynamic", "Folder of a run or an ensemble.")
    MOVIE = flags.DEFINE_string("movie", None, "The film: an .npy or a .mat.", required=True)
    OUT = flags.DEFINE_string("out", "predicted.npy", "An .npy, or an .npz for several mice.")
    MICE = flags.DEFINE_list("mice", [], "Which mice; default: all of the run.")
    WEIGHTS = flags.DEFINE_enum("weights", "best", ["best", "newest"], "Which weights predict.")
    STORES = flags.DEFINE_string("stores", "", "Folder of the stores, when they have been moved.")
    VARIABLE = flags.DEFINE_string("variable", "", "Name of the array of frames in a .mat.")
    BEHAVIOR = flags.DEFINE_string("behavior", "", "An .npy of behaviour, as recorded.")
    PUPIL = flags.DEFINE_string("pupil", "", "An .npy of the pupil's centre, as recorded.")
    app.run(_main, flags_parser=command_line(errors.parse_flags))
