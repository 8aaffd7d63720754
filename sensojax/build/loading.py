"""From a run folder alone to its trained model, or models when it is that of an ensemble."""

import json
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from sensojax.build.learning import initial_state
from sensojax.build.model import new_encoder
from sensojax.errors import UserError, check_name
from sensojax.models import encoder
from sensojax.training import checkpoints, step
from sensojax.types import Neurons

ENSEMBLE = "ensemble.json"  # in the folder of several runs that predict together
# Sections of a config that members share: what they see and answer, and how they are asked. They
# may differ in all others, that is in their models and in how these were trained.
OF_MEMBERS = ("data", "simulation", "inputs", "evaluation")


def load_members(
    workdir: str | Path, which: str = "best"
) -> list[tuple[nnx.GraphDef, encoder.Weights, dict]]:
    """The models of a folder as `load_encoder` gives them: one of a run, several of an ensemble.

    Members are of the same mice, whatever their architecture, and may differ in the fold that they
    were trained without. Together those of several folds have seen all trials: their configs then
    name no fold, and their own section `data` is in what they say of themselves as "of_fold".
    Raises UserError when a member is missing, or sees or answers something else than the first.
    """
    listing = Path(workdir) / ENSEMBLE
    if not listing.is_file():
        return [load_encoder(workdir, which)]
    names = json.loads(listing.read_text(encoding="utf-8"))["members"]
    members = [load_encoder(Path(workdir) / name, which) for name in names]
    own = [about["config"]["data"] for _, _, about in members]
    if len({data["fold"] for data in own}) > 1:
        for data, (_, _, about) in zip(own, members, strict=True):
            about["config"]["data"] = {**data, "folds": 0, "fold": -1}
            about["of_fold"] = data
    first, *others = [about for _, _, about in members]
    for name, about in zip(names[1:], others, strict=True):
        differs = [each for each in OF_MEMBERS if about["config"][each] != first["config"][each]]
        if _sizes(about) != _sizes(first):
            differs.append("mice")
        if differs:
            raise UserError(
                f"found in {workdir} a member {name} with other {' and '.join(differs)} than "
                f"{names[0]}, expected those of its config to be the same but for the fold; train "
                f"it again, or take it out of {listing}."
            )
    return members


def _sizes(about: Mapping) -> dict[str, int]:
    """How many neurons every mouse of a run has."""
    return {mouse: each["neurons"] for mouse, each in about["mice"].items()}


def load_encoder(
    workdir: str | Path, which: str = "best"
) -> tuple[nnx.GraphDef, encoder.Weights, dict]:
    """A trained model from its run folder alone: (structure, weights, what it says of itself).

    which: "best" (by the validation score) or "newest". The record holds config, step, seeds,
    mice with their neurons and store fingerprints. Raises UserError when there is no run or no
    readable checkpoint.
    """
    check_name(which, ("best", "newest"), "weights")
    workdir = Path(workdir)
    if not (workdir / checkpoints.FOLDER).is_dir():
        raise UserError(
            f"found no checkpoints in {workdir}, expected a run folder of sensojax.main; "
            "check --workdir."
        )
    graphs = {}

    def like(about):
        of_mice = {m: _as_neurons(each) for m, each in about["mice"].items()}
        here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

        def state():
            columns, size = about["behavior_columns"], about["frame_size"]
            model = new_encoder(about["config"], of_mice, columns, frame_size=size)
            graphs["made"], made = initial_state(model, about["config"])
            return made

        # Shapes are enough, since every array comes from the checkpoint.
        shapes = jax.eval_shape(state)
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), shapes)

    with checkpoints.Checkpoints(workdir, read_only=True) as folder:
        found = folder.restore_newest(like)
    if found is None:
        raise UserError(f"found no finished checkpoint in {workdir} yet; wait for the first one.")
    state, about = found
    weights = step.best_weights(state) if which == "best" else step.scored_weights(state)
    return graphs["made"], weights, about


def _as_neurons(described: Mapping) -> Neurons:
    """Stand-ins with the right count: the true positions come with the weights."""
    count = described["neurons"]
    return Neurons(ids=np.arange(count), position_um=np.eye(count, 3))
