"""What is measured: a published model at the published sizes, its batches and compiled step.

In: a `Session` and `Sizes`; out: a `Model` of so many mice, of any of MODELS.
"""

import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from configs import dynamic, dynamic_dwiseneuro, dynamic_gru, dynamic_viv1t, static
from scripts.benchmarks import counting, parts, whole_trials, windowed
from scripts.benchmarks.session import Session, Sizes
from sensojax import build
from sensojax.interop import entries, families
from sensojax.pipeline import batches as batching
from sensojax.training import step
from sensojax.types import Batch

# The published baselines that can be measured: the configs that are them.
MODELS = dict(
    factorised=dynamic,
    gru=dynamic_gru,
    images=static,
    dwiseneuro=dynamic_dwiseneuro,
    viv1t=dynamic_viv1t,
)
PRESETS = {whole_trials.NAME: whole_trials.PRESET}  # of the others: sensorium


def configured(sizes: Sizes, model: str) -> dict:
    """A published baseline's config at these sizes."""
    config = MODELS[model].get_config(PRESETS.get(model, "sensorium")).to_dict()
    if model == "images":
        config["data"]["batch_size"] = sizes.images
    elif model == windowed.NAME:
        config = windowed.configured(config, sizes)
    elif model == whole_trials.NAME:
        config = whole_trials.configured(config, sizes)
    else:
        config["data"] |= dict(window_frames=sizes.window_frames, batch_size=sizes.batch)
    for section, different in sizes.changes.get(model, {}).items():
        config[section] |= different
    return config


class Model:
    """A published baseline, of MODELS, on so many mice (one session under several names).

    raw: batches on the device that are predicted, by what they are: "batch", and "trials" if these
    are videos, two whole ones of each mouse; of DwiseNeuro the beginning of one trial alone.
    compute: "float32" or "bfloat16", of the core in training. `step()` and `predict(raw)` compile
    when they are first needed; compile_seconds says what the step took.
    """

    def __init__(
        self, session: Session, sizes: Sizes, num_mice: int, model: str, compute: str = "float32"
    ):
        config = self.config = configured(sizes, model)
        config["train"]["compute"] = compute
        store = session.store_of(model)
        self.stores = {f"mouse{i + 1}": store for i in range(num_mice)}
        self.num_files = len(store.trials)
        self.statistics = build.statistics(config["data"], self.stores)
        self.batch = jax.device_put(build.batches(config["data"], self.stores, 0)[0])
        self.in_windows = model == windowed.NAME
        self.leaves_out = model == whole_trials.NAME
        self.raw = {} if self.in_windows or self.leaves_out else {"batch": self.batch}
        if store.max_frames > 1:
            trials = jax.device_put(_trials(store))
            if self.in_windows:
                frames = windowed.trial_frames(config, sizes)
                trials = jax.tree.map(lambda x: x[:1, :frames] if x.ndim > 1 else x[:1], trials)
            self.raw["trials"] = dict.fromkeys(self.stores, trials)
        self.prepare = jax.jit(build.prepare(config["inputs"]))
        model = build.new_encoder(
            config,
            dict.fromkeys(self.stores, store.neurons),
            next(iter(self.batch.values())).behavior.shape[-1],
            build.mean_responses(self.batch, config, self.statistics),
        )
        family = families.of(model)
        names = family.mice(model.mice)
        self.weights = entries.export(family.entries(model, names))
        self.lost_frames = model.core.lost_frames
        optimizer = build.optimizer(config)
        self.rate = build.schedule(config["schedule"]).rate_at(0)
        self.graph, self.state = step.initial_state(model, optimizer)
        self.train_step = step.make_train_step(
            self.graph,
            optimizer,
            build.loss(config["loss"]),
            build.prepare(config["inputs"]),
            num_files=dict.fromkeys(self.stores, self.num_files),
            mouse_weights=build.mouse_weights(config, self.stores) if self.leaves_out else None,
            seed=0,
            compute=compute,
        )
        self.prediction = jax.jit(
            build.predictor(self.graph, config["inputs"], config["evaluation"])
        )

    @property
    def step_arguments(self) -> tuple:
        return self.state, self.batch, self.statistics, self.rate

    @cached_property
    def compiled_step(self) -> tuple[jax.stages.Compiled, float]:
        """The step, and how many seconds it took to compile."""
        return compiled(self.train_step, *self.step_arguments)

    def step(self) -> float:
        """Takes a training step; returns its objective."""
        self.state, measured = self.compiled_step[0](*self.step_arguments)
        return float(measured["loss"])

    def objective(self) -> float | None:
        """What `step` would return if every neuron were read at its mean; changes nothing.

        Of ViV1T with nothing left out. None for DwiseNeuro, whose batch norm would notice.
        """
        if self.in_windows:
            return None
        if self.leaves_out:
            return self._objective_of_all()
        state = jax.tree.map(jnp.copy, self.state)  # the step takes its argument's memory
        for readout in state.weights.params["readouts"].values():
            readout["sigma"] = jnp.zeros_like(readout["sigma"])
        return float(self.compiled_step[0](state, *self.step_arguments[1:])[1]["loss"])

    def _objective_of_all(self) -> float:
        loss, predicted = build.loss(self.config["loss"]), self.predict(self.batch)
        weights = build.mouse_weights(self.config, self.stores)
        total = sum(
            weights[mouse](len(batch.valid)) * loss(predicted[mouse], batch.responses, batch.valid)
            for mouse, batch in self.prepared.items()
        )
        return float(total)

    def predict(self, raw) -> dict[str, jax.Array]:
        """Predicted responses of raw batches, in evaluation mode: [batch time' neuron]."""
        return self.prediction(self.state.weights, raw, self.statistics)[0]

    @cached_property
    def prepared(self) -> dict[str, Batch]:
        """The batch as the model sees it, normalised."""
        return jax.block_until_ready(self.prepare(self.batch, self.statistics))

    def operations(self, raw: Mapping | None = None) -> float:
        """Of predicting raw batches; without them, of the core in a training step."""
        if raw is not None:
            given = (self.state.weights, raw, self.statistics)
            return counting.work(self.prediction, *given).operations
        seen = jax.eval_shape(self.prepare, self.batch, self.statistics)
        return parts.core_operations(self.graph, self.state.weights, seen)[1]

    def write(self, folder: Path) -> None:
        """Weights and normalised arrays in the peer's names and axis order (see peer_worker)."""
        np.savez(folder / "weights.npz", **self.weights)
        for what, raw in ({"batch": self.batch} | self.raw).items():
            as_recorded = self.in_windows and what == "trials"
            seen = raw if as_recorded else self.prepare(raw, self.statistics)
            for mouse, batch in seen.items():
                if as_recorded:
                    batch = batch.replace(video=batch.video[..., None])
                np.savez(
                    folder / f"{mouse}-{what}.npz",
                    videos=np.ascontiguousarray(np.asarray(batch.video).transpose(0, 4, 1, 2, 3)),
                    responses=_time_last(batch.responses),
                    behavior=_time_last(batch.behavior),
                    pupil_center=_time_last(batch.pupil_center),
                )


def compiled(function, *arguments) -> tuple[jax.stages.Compiled, float]:
    """A jitted function for these arguments, and how many seconds it took to compile."""
    began = time.perf_counter()
    made = function.lower(*arguments).compile()
    return made, time.perf_counter() - began


def _time_last(array):
    return np.ascontiguousarray(np.asarray(array).swapaxes(1, 2))


def _trials(store):
    """Two whole trials of the train tier as one raw batch."""
    rows = store.rows("train")[:2]
    frames = int(store.trials.official_frames[rows].max())
    ((_, batch),) = batching.trial_batches(
        store, rows, 2, frames, normalization="official", skip_frames=0
    )
    return batch
