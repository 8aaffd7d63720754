"""From the sections `data`, `simulation` and `inputs` to stores, batches and what a model sees."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np

from sensojax import conversion
from sensojax import store as trial_store
from sensojax.errors import UserError, nearest
from sensojax.pipeline import batches as batching
from sensojax.pipeline import folds, subsets, transforms
from sensojax.recordings import formats, simulated
from sensojax.training.mesh import lead_first


def stores(data: Mapping, simulation: Mapping) -> dict[str, trial_store.TrialStore]:
    """The stores of the mice that a config asks for; makes simulated ones when it asks for those.

    Raises UserError when the folder holds no store, or not that of a wanted mouse.
    """
    folder = Path(data["folder"])
    if data["recordings"] == "simulated":
        folder = lead_first(functools.partial(_simulated_stores, folder, simulation))
    present = trial_store.stores_in(folder)
    wanted = list(data["mice"]) or present
    if not present:
        raise UserError(
            f"found no stores in {folder}, expected one folder for each mouse; convert recordings "
            f"first: python scripts/convert.py RECORDINGS --out {folder}"
        )
    for mouse in wanted:
        if mouse not in present:
            raise UserError(
                f"found no store of mouse {mouse!r} in {folder}; there are {', '.join(present)}"
                f"{nearest(mouse, present)}."
            )
    some = functools.partial(
        subsets.some_neurons, at_most=data["max_neurons"], seed=data["subset_seed"]
    )
    return folds.hold_out(
        {mouse: some(trial_store.TrialStore.open(folder / mouse)) for mouse in wanted},
        data["tiers"],
        folds=data["folds"],
        fold=data["fold"],
        rule=data["fold_rule"],
        seed=data["subset_seed"],
    )


def described(opened: Mapping[str, trial_store.TrialStore]) -> dict[str, dict]:
    """What a checkpoint says of the mice it was trained on."""
    return {
        mouse: dict(neurons=len(store.neurons), fingerprint=store.fingerprint)
        for mouse, store in opened.items()
    }


def _simulated_stores(folder, simulation):
    """Writes simulated recordings and converts them; what is there already is only checked."""
    for path in simulated.write(folder / "recordings", simulated.Settings(**simulation)):
        conversion.write(folder / "stores", formats.read(path))
    return folder / "stores"


def training_rows(data: Mapping, opened: Mapping) -> dict[str, np.ndarray]:
    """The rows of each mouse's store that are trained on."""
    some = functools.partial(subsets.some_rows, share=data["train_share"], seed=data["subset_seed"])
    return {mouse: some(store, store.rows(*data["tiers"])) for mouse, store in opened.items()}


def batches(data: Mapping, opened: Mapping, seed: int) -> batching.Batches:
    """The stream of training steps."""
    return batching.Batches(
        opened,
        training_rows(data, opened),
        window_frames=data["window_frames"],
        batch_size=data["batch_size"],
        rule=data["window_rule"],
        normalization=data["normalization"],
        remainder=data["remainder"],
        seed=seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )


def statistics(data: Mapping, opened: Mapping) -> dict[str, transforms.Statistics]:
    """What batches are normalised with inside the step, by mouse."""
    of = functools.partial(transforms.Statistics.of, normalization=data["normalization"])
    return {mouse: of(store) for mouse, store in opened.items()}


def prepare(inputs: Mapping, *, whole: bool = False) -> Callable:
    """(raw batches, statistics) -> what the model sees; runs inside the jitted step.

    whole: every frame, and responses as they are, for whole trials that are to be scored.
    """

    def one(batch, of_mouse):
        batch = transforms.normalize(batch, of_mouse)
        if not whole:
            batch = transforms.every(batch, inputs["frame_step"])
            batch = transforms.without_negatives(batch) if inputs["clip_responses"] else batch
        batch = transforms.crop_rows(batch, inputs["rows"])
        batch = transforms.pool(batch, inputs["pool"], inputs["pool_rule"])
        batch = transforms.center(batch, inputs["canvas"])
        if inputs["behavior"]:
            columns, scale = inputs["behavior_columns"], inputs["behavior_scale"]
            batch = transforms.behavior_as_channels(batch, inputs["pupil"], scale, columns)
        return batch

    return lambda raw, known: {mouse: one(batch, known[mouse]) for mouse, batch in raw.items()}


def frame_size(opened: trial_store.TrialStore, inputs: Mapping) -> tuple[int, int]:
    """(height, width) of a mouse's video after `prepare`."""
    if tuple(inputs["canvas"]) != (0, 0):
        return tuple(inputs["canvas"])
    first, last = inputs["rows"] or (0, opened.height)
    return (last - first) // inputs["pool"], opened.width // inputs["pool"]


def protocol(data: Mapping) -> str:
    """`strict` when only the train tier was trained on, else `competition` (DESIGN 3)."""
    return "strict" if tuple(data["tiers"]) == ("train",) else "competition"
