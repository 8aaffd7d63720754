"""The submission of a run to Sensorium 2022: a run folder and the stores of its mice in, files out.

For each mouse and tier one file of predictions, and, where the responses are known and asked for,
one of the ground truth; both in the units of the normalization `official`, trials in the order of
the source's files.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np

from sensojax.errors import UserError, check_name
from sensojax.evaluation import image_submission as files
from sensojax.evaluation.predictions import has_responses
from sensojax.evaluation.results import short_name
from sensojax.experiments.predicting import OF_THE_RUN, Predictor
from sensojax.pipeline.transforms import response_multiplier
from sensojax.progress import track
from sensojax.store import TrialStore


def submit(
    workdir: str | Path,
    out: str | Path,
    *,
    mice: Sequence[str] = (),
    weights: str = "best",
    stores: str = "",
    parquet: bool = False,
    truth: bool = False,
) -> list[Path]:
    """Writes the files of tiers test and final_test of each mouse; returns their paths.

    They lie in `out`, or with several mice in a folder for each of them there. mice: () is all.
    parquet: instead of CSV. truth: also the recorded responses, of tiers that have them. Raises
    UserError when the run or its mice did not see images.
    """
    predictor = Predictor(workdir, weights, stores, frames=OF_THE_RUN, units="official")
    for mouse in mice:
        check_name(mouse, predictor.stores, "mouse")
    chosen = list(mice) or list(predictor.stores)
    written = []
    with jax.set_mesh(predictor.placement.mesh):
        for mouse in chosen:
            store = predictor.stores[mouse]
            _check(store, mouse)
            folder = Path(out) / short_name(mouse) if len(chosen) > 1 else Path(out)
            for tier in files.NAMES:
                if not (store.trials.tier == tier).any():
                    continue  # only the mice of the competition have a final test
                rows = _predicted(predictor, mouse, tier)
                written.append(_write(folder, files.NAMES[tier], rows, store, parquet, 0))
                if truth and has_responses(store, tier):
                    rows = _recorded(store, tier)
                    written.append(_write(folder, files.TRUTH_NAMES[tier], rows, store, parquet, 1))
    return written


def _check(store: TrialStore, mouse: str) -> None:
    if store.max_frames > 1 or "frame_image_id" not in store.trials.columns:
        raise UserError(
            f"mouse {mouse} saw videos of up to {store.max_frames} frames, expected images with a "
            "column frame_image_id, as in Sensorium 2022; videos have the tracks main and bonus."
        )
    recorded = len(TrialStore.open(store.path).neurons)
    if len(store.neurons) < recorded:
        raise UserError(
            f"the run was trained on {len(store.neurons)} of the {recorded} neurons of mouse "
            f"{mouse}, expected all; a submission needs them (data.max_neurons 0)."
        )


def _write(folder, name, rows, store, parquet, column) -> Path:
    path = folder / f"{name}{files.PARQUET if parquet else files.CSV}"
    files.write(path, rows, store.neurons.ids, files.VALUES[column])
    print(f"{path}: {path.stat().st_size / 1e6:,.1f} MB", flush=True)
    return path


def _predicted(predictor: Predictor, mouse: str, tier: str) -> Iterator[files.Row]:
    lengths, trials = predictor.trials(mouse, [tier])
    if set(lengths.values()) != {1}:
        raise UserError(
            f"found {sorted(set(lengths.values()))} scored frames in the images of tier {tier} of "
            f"mouse {mouse}, expected 1; a run on images has evaluation.skip_frames 0."
        )
    for row, predicted in track(trials, f"{short_name(mouse)}, {tier}", len(lengths)):
        yield _row(predictor.stores[mouse], row, predicted[0])


def _recorded(store: TrialStore, tier: str) -> Iterator[files.Row]:
    std = store.statistics.official["responses"]["std"]
    scale = np.ravel(response_multiplier(std, store.mouse))
    rows = store.rows(tier)
    for row in rows[np.argsort(store.trials.index[rows])]:
        responses = store.read(int(row))["responses"][0]
        yield _row(store, int(row), (responses * scale).astype(np.float32))


def _row(store: TrialStore, row: int, values: np.ndarray) -> files.Row:
    columns = store.trials.columns
    trial = columns.get("trial_idx", store.trials.index)[row]
    return files.Row(str(trial), int(columns["frame_image_id"][row]), values)
