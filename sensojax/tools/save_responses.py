"""Responses of every trial as one file per mouse, recorded ones or those that a model predicts.

In go a `Source` or a `Predictor` and which frames of a trial are wanted; out comes
`FOLDER/<mouse>.h5` (see `response_files`), in the units of the recording either way, so that the
two can be compared trial by trial. All later analyses read such files.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np

from sensojax.errors import UserError
from sensojax.experiments.predicting import AS_RECORDED, Predictor
from sensojax.pipeline.windows import ScoredFrames, Window, valid_frames
from sensojax.progress import track
from sensojax.tools import response_files
from sensojax.tools.response_files import Packed
from sensojax.tools.sources import Source, read_ahead
from sensojax.zarrs import cores


def record(
    folder: str | Path,
    source: Source,
    frames: ScoredFrames,
    tiers: Sequence[str] = (),
    workers: int = 0,
) -> str:
    """Writes what was recorded of one mouse; returns what was done, in words.

    tiers: () for all but `none`. Trials whose responses were withheld, or that are too short for
    these frames, are left out. Raises UserError when no trial is left, and when the file is there
    with other content.
    """
    rows = source.rows(tiers)
    about = dict(
        responses="recorded",
        mouse=source.mouse,
        fingerprint=source.fingerprint,
        tiers=list(dict.fromkeys(source.tiers[row] for row in rows)),
        **frames._asdict(),
    )
    path = Path(folder) / f"{source.mouse}.h5"
    if _is_there(path, about):
        return "already there"
    left_out = dict.fromkeys(("withheld", "too short"), 0)

    def read(row: int) -> Packed | str:
        trial = source.read(row)
        counted = valid_frames(Window(row, 0, trial.num_frames), trial.num_frames, *frames)
        if not counted.any():
            return "too short"
        if not trial.responses.any():
            return "withheld"
        kept = trial.responses[counted]
        return response_files.pack(trial.index, trial.tier, kept, smooth=False)

    def trials() -> Iterator[Packed]:
        found = read_ahead(rows, read, workers or cores())
        for each in track(found, source.mouse, total=len(rows)):
            if isinstance(each, str):
                left_out[each] += 1
            else:
                yield each

    response_files.write(path, trials(), about)
    return _told(len(rows) - sum(left_out.values()), left_out)


def predict(folder: str | Path, predictor: Predictor, mouse: str, tiers: Sequence[str] = ()) -> str:
    """Writes what a model predicts of one mouse, of every trial of these tiers (() as above).

    The predictor must give responses as recorded. Otherwise as `record`.
    """
    if predictor.units != AS_RECORDED:
        raise ValueError(f"predictions in units {predictor.units!r}, expected {AS_RECORDED!r}")
    store = predictor.stores[mouse]
    present = sorted(set(store.trials.tier.tolist()) - {"none"})
    tiers = list(tiers or present)
    store.rows(*tiers)  # refuses what is not there
    about = dict(
        responses="predicted",
        mouse=mouse,
        fingerprint=store.fingerprint,
        # The numbers themselves are more than an attribute of an HDF5 file may hold.
        neurons=hashlib.sha256(store.neurons.ids.tobytes()).hexdigest(),
        tiers=tiers,
        **predictor.about,
    )
    path = Path(folder) / f"{mouse}.h5"
    if _is_there(path, about):
        return "already there"

    with jax.set_mesh(predictor.placement.mesh):
        lengths, predicted = predictor.trials(mouse, tiers)

        def trials() -> Iterator[Packed]:
            kept = ((row, p) for row, p in predicted if len(p))
            pieces = track(kept, mouse, total=sum(map(bool, lengths.values())))
            yield from read_ahead(pieces, lambda each: _packed(store, *each), cores())

        response_files.write(path, trials(), about)
    short = sum(not length for length in lengths.values())
    return _told(len(lengths) - short, {"too short": short})


def _packed(store, row: int, predicted: np.ndarray) -> Packed:
    tier, index = str(store.trials.tier[row]), int(store.trials.index[row])
    return response_files.pack(index, tier, predicted, smooth=True)


def _is_there(path: Path, about: dict) -> bool:
    """Whether the file is there; UserError when it is another one."""
    if not path.is_file():
        return False
    told = response_files.about(path)
    if told != about:
        other = next((name for name in about if told.get(name) != about[name]), "content")
        raise UserError(
            f"{path} was written with another {other}, expected that of this command; delete the "
            "file, or choose another --out."
        )
    return True


def _told(trials: int, left_out: dict[str, int]) -> str:
    said = [f"{trials} trials", *(f"{count} {why}" for why, count in left_out.items() if count)]
    return ", ".join(said)
