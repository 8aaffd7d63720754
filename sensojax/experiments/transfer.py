"""Taking the core of a trained run to other mice, frozen or fine-tuned.

In: a config whose section `transfer` names a run folder; out: the config with that run's core and
inputs in it, a new model that holds that core's weights, and, for a frozen core, stores that give
its features in place of videos. What a laboratory does with a published core: only readouts and
shifters are fitted, which takes minutes of data from a new mouse (README, "A new mouse").
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from sensojax import build
from sensojax.errors import UserError, check_name
from sensojax.models import freezing
from sensojax.models.encoder import Encoder, assemble
from sensojax.pipeline import features, transforms
from sensojax.pipeline.batches import Batches
from sensojax.training import checkpoints
from sensojax.writing import plain

CORES = ("frozen", "fine_tuned")
TAKEN_OVER = ("inputs", "core", "recurrent")  # sections that decide what the core is


def source(config: Mapping) -> tuple | None:
    """The run whose core is taken over, as `build.load_encoder` gives it; None without one."""
    transfer = config["transfer"]
    if not transfer["run"]:
        return None
    check_name(transfer["core"], CORES, "transfer.core")
    try:
        return build.load_encoder(transfer["run"], transfer["weights"])
    except UserError as error:
        raise UserError(f"transfer.run: {error}") from error


def resolved(config: Mapping, run: tuple | None) -> dict:
    """The config with the sections of the run whose core is taken over; as it is without one."""
    config = plain(config)
    if run is None:
        return config
    return config | {name: run[2]["config"][name] for name in TAKEN_OVER}


def take_core(model: Encoder, config: Mapping, run: tuple | None) -> None:
    """Gives the model the core of that run, if there is one."""
    if run is None:
        return
    graph, weights, about = run
    trained = assemble(graph, weights)
    if getattr(trained.core, "asks_mice", False):
        raise UserError(
            f"found in the core of {config['transfer']['run']} networks of behaviour that each "
            "belong to one of its mice, expected a core that any mouse can share; take over one of "
            'core.behavior "planes" or "network".'
        )
    try:
        freezing.copy_arrays(trained.core, model.core)
    except ValueError as error:
        raise UserError(
            f"the core of {config['transfer']['run']} does not fit the mice of this run ({error}); "
            f"it was trained with {about['behavior_columns']} columns of behaviour: take mice with "
            "as many, or another run."
        ) from error


def gives_features(config: Mapping) -> bool:
    """Whether training reads features of a frozen core instead of videos."""
    transfer = config["transfer"]
    if transfer["features"] and not build.frozen_core(config):
        raise UserError(
            f"found transfer.features {transfer['features']!r} without a frozen core, expected "
            'transfer.run and transfer.core "frozen"; set these, or transfer.features to "".'
        )
    if transfer["features"] and config["inputs"]["frame_step"] > 1:
        raise UserError(
            f"found transfer.features {transfer['features']!r} for a core that sees every "
            f"{config['inputs']['frame_step']} frames, expected one that sees all of a trial; set "
            'transfer.features to "".'
        )
    return bool(transfer["features"])


def feature_batches(config: Mapping, raw: Batches, model: Encoder, statistics: Mapping) -> Batches:
    """The stream of training steps with the frozen core's features in place of videos.

    raw: the stream it replaces. Computes features that are not in the folder `transfer.features`.
    """
    data = config["data"]
    ready = build.prepare(config["inputs"])

    @jax.jit
    def of_batch(batch, of_mouse):
        video = ready({"mouse": batch}, {"mouse": of_mouse})["mouse"].video
        return model.core(video, train=False).astype(jnp.float32)

    made = features.write(
        config["transfer"]["features"],
        raw.stores,
        raw.rows,
        lambda mouse, batch: of_batch(batch, statistics[mouse]),
        about=dict(inputs=config["inputs"], core=_digest(model.core)),
        lost_frames=model.core.lost_frames,
        normalization=data["normalization"],
        batch_size=config["evaluation"]["batch_size"],
        read_threads=data["read_threads"],
    )
    return build.batches(data, made, config["seed"])


def prepare_features(batches: Mapping, statistics: Mapping) -> dict:
    """In place of `build.prepare`: normalises everything but the features."""
    return {
        mouse: transforms.normalize(batch, statistics[mouse], given_features=True)
        for mouse, batch in batches.items()
    }


def _digest(core) -> str:
    return checkpoints.digest(checkpoints.flatten(freezing.arrays(core)))
