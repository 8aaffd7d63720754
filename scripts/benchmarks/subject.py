"""What is measured: one simulated session at the published sizes, its store, model and batches.

In: `Sizes` and a folder (kept, when the user names one); out: a `Session` on disk in the published
layout and converted, and a `Model` of so many mice with its compiled step. A simulated session,
because the real ones cannot be had without asking for them; times do not depend on what the numbers
say, sizes on disk a little.
"""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from configs.dynamic import get_config
from sensojax import build, conversion
from sensojax.interop import sensorium
from sensojax.models import convolution, encoder
from sensojax.pipeline import batches as batching
from sensojax.recordings import sensorium2023, simulated
from sensojax.store import TrialStore
from sensojax.training import step


@dataclass(frozen=True)
class Sizes:
    """Of session, batch and tier. loader_steps: batches in one repeat of the loader's row."""

    neurons: int = 7863
    trials: int = 60
    trial_frames: int = 300
    height: int = 36
    width: int = 64
    window_frames: int = 80
    batch: int = 8
    tier_trials: int = 60
    scored_frames: int = 250
    loader_steps: int = 20
    core: tuple = ()  # changes of the published one


TINY = Sizes(
    neurons=20,
    trials=16,
    trial_frames=70,
    height=16,
    width=20,
    window_frames=54,
    batch=2,
    tier_trials=5,
    scored_frames=20,
    loader_steps=3,
    core=(("channels", (4, 6)), ("spatial_kernels", (5, 3)), ("temporal_kernels", (5, 3))),
)


class Session:
    """A session in `folder`: `path` as published, `store` as converted; made when not there."""

    def __init__(self, folder: Path, sizes: Sizes):
        settings = simulated.Settings(
            mice=1,
            neurons=sizes.neurons,
            trials=sizes.trials,
            frames=sizes.trial_frames,
            height=sizes.height,
            width=sizes.width,
            noise=simulated.REALISTIC_NOISE,
        )
        (source,) = simulated.write(folder / "simulated", settings)
        # Without what only simulations know, so that bytes compare as for a recorded mouse.
        self.path = folder / "published" / source.name
        self.path.mkdir(parents=True, exist_ok=True)
        for name in ("data", "meta", "config.json"):
            if not (self.path / name).exists():
                os.symlink((source / name).absolute(), self.path / name)
        stored = conversion.write(folder / "stores", sensorium2023.read(self.path))
        self.store = TrialStore.open(stored)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below, links followed."""
    walked = os.walk(folder, followlinks=True)
    return sum(os.path.getsize(Path(at) / name) for at, _, names in walked for name in names)


class Model:
    """The published factorised baseline on so many mice (one session under several names).

    batch: raw, on the device; trials: two whole trials of each mouse, likewise. `step()` and
    `predict(raw)` are compiled; compile_seconds says what that took.
    """

    def __init__(self, session: Session, sizes: Sizes, num_mice: int):
        config = get_config("sensorium").to_dict()
        config["data"] |= dict(window_frames=sizes.window_frames, batch_size=sizes.batch)
        config["core"] |= dict(sizes.core)
        self.config = config
        store = session.store
        self.stores = {f"mouse{i + 1}": store for i in range(num_mice)}
        self.num_files = len(store.trials)
        self.statistics = build.statistics(config["data"], self.stores)
        self.batch = jax.device_put(build.batches(config["data"], self.stores, 0)[0])
        trials = jax.device_put(_trials(store))
        self.trials = {mouse: trials for mouse in self.stores}
        self.prepare = jax.jit(build.prepare(config["inputs"]))
        model = build.new_encoder(
            config,
            {mouse: store.neurons for mouse in self.stores},
            trials.behavior.shape[-1],
            build.mean_responses(self.batch, config, self.statistics),
        )
        self.weights = sensorium.export(sensorium.encoder(model))
        self.lost_frames = model.core.lost_frames
        optimizer = build.optimizer(config["optimizer"])
        self.rate = config["schedule"]["initial_rate"]
        self.graph, self.state = step.initial_state(model, optimizer)
        train_step = step.make_train_step(
            self.graph,
            optimizer,
            build.loss(config["loss"]),
            build.prepare(config["inputs"]),
            num_files={mouse: self.num_files for mouse in self.stores},
            seed=0,
        )
        arguments = (self.state, self.batch, self.statistics, self.rate)
        self._step, self.compile_seconds = _compiled(train_step, *arguments)
        self._predict = jax.jit(build.predictor(self.graph, config["inputs"]))

    def step(self) -> float:
        """Takes a training step; returns its loss."""
        arguments = (self.state, self.batch, self.statistics, self.rate)
        self.state, measured = self._step(*arguments)
        return float(measured["loss"])

    def predict(self, raw) -> dict[str, jax.Array]:
        """Predicted responses of raw batches, in evaluation mode: [batch time' neuron]."""
        return self._predict(self.state.weights, raw, self.statistics)[0]

    def write(self, folder: Path) -> None:
        """Weights and normalised arrays in the peer's names and axis order (see peer_worker)."""
        np.savez(folder / "weights.npz", **self.weights)
        for what, raw in (("batch", self.batch), ("trials", self.trials)):
            for mouse, batch in self.prepare(raw, self.statistics).items():
                time_last = lambda x: np.ascontiguousarray(np.asarray(x).swapaxes(1, 2))
                np.savez(
                    folder / f"{mouse}-{what}.npz",
                    videos=np.ascontiguousarray(np.asarray(batch.video).transpose(0, 4, 1, 2, 3)),
                    responses=time_last(batch.responses),
                    behavior=time_last(batch.behavior),
                    pupil_center=time_last(batch.pupil_center),
                )

    def flops(self, frames: int, *, training: bool) -> float:
        """Floating-point operations of the core for one clip, counted as direct convolutions.

        Training is three times predicting, but for the gradient of the video, which nobody needs.
        """
        _, _, height, width = next(iter(self.batch.values())).video.shape
        core = self.config["core"]
        inputs, total, first = 3, 0.0, 0.0
        for outputs, space, time_ in zip(
            core["channels"], core["spatial_kernels"], core["temporal_kernels"], strict=True
        ):
            height = convolution.output_size(height, space)
            width = convolution.output_size(width, space)
            spatial = 2.0 * frames * height * width * inputs * outputs * space**2
            frames -= time_ - 1
            total += spatial + 2.0 * frames * height * width * outputs**2 * time_
            first = first or spatial
            inputs = outputs
        return 3 * total - first if training else total


def _compiled(function, *arguments):
    began = time.perf_counter()
    made = function.lower(*arguments).compile()
    return made, time.perf_counter() - began


def _trials(store):
    """Two whole trials of the train tier as one raw batch."""
    rows = store.rows("train")[:2]
    frames = int(store.trials.official_frames[rows].max())
    ((_, batch),) = batching.trial_batches(
        store, rows, 2, frames, normalization="official", skip_frames=0
    )
    return batch
