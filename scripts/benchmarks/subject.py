"""What is measured: one simulated session at the published sizes, its store, model and batches.

In: `Sizes` and a folder (kept, when the user names one); out: a `Session` on disk in the published
layout and converted, and a `Model` of so many mice with its compiled step. A simulated session,
because the real ones cannot be had without asking for them; times do not depend on what the numbers
say, sizes on disk a little.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from configs import dynamic, dynamic_dwiseneuro, dynamic_gru, static
from scripts.benchmarks import windowed
from sensojax import build, conversion
from sensojax.interop import dwiseneuro, entries, sensorium
from sensojax.models import convolution
from sensojax.pipeline import batches as batching
from sensojax.recordings import formats, simulated
from sensojax.store import TrialStore
from sensojax.training import step


@dataclass(frozen=True)
class Sizes:
    """Of session, batch and tier. loader_steps: batches in one repeat of the loader's row; images:
    in a batch of them; clips, windows: in a batch and in a trial of DwiseNeuro."""

    neurons: int = 7863
    trials: int = 60
    trial_frames: int = 300
    height: int = 36
    width: int = 64
    window_frames: int = 80
    batch: int = 8
    images: int = 128
    image_height: int = 144
    image_width: int = 256
    clips: int = 4
    windows: int = 16
    windows_at_once: int = 4
    tier_trials: int = 60
    scored_frames: int = 250
    loader_steps: int = 100
    changes: Mapping = field(default_factory=dict)  # by model, sections: what is not as published


TINY = Sizes(
    neurons=20,
    trials=16,
    trial_frames=70,
    height=16,
    width=20,
    window_frames=54,
    batch=2,
    images=4,
    image_height=64,
    image_width=80,
    clips=2,
    windows=3,
    windows_at_once=2,
    tier_trials=5,
    scored_frames=20,
    loader_steps=3,
    changes=dict(
        factorised=dict(
            core=dict(
                channels=(4, 6), spatial_kernels=(5, 3), temporal_kernels=(5, 3), strides=(1, 1)
            )
        ),
        gru=dict(
            core=dict(
                channels=(2, 2),
                kernels=(5, 3),
                strides=(1, 1),
                paddings=("valid", "same"),
                rotations=4,
            ),
            recurrent=dict(channels=8, input_kernel=3, recurrent_kernel=3),
        ),
        images=dict(core=dict(channels=(4, 4, 4, 4), kernels=(5, 3, 3, 3))),
        dwiseneuro=dict(
            core=dict(features=(4, 6), strides=(2, 1), expansion=2, squeeze=4, cortex=(8, 16))
        ),
    ),
)

# The published baselines that can be measured: the configs that are them.
MODELS = dict(factorised=dynamic, gru=dynamic_gru, images=static, dwiseneuro=dynamic_dwiseneuro)


class Session:
    """A simulated session in `folder` as published and as stores; made when they are not there.

    path, store: with small random numbers in place of the responses' exact zeros, which no packing
    makes smaller; everything is measured on these, since how many zeros recordings hold differs.
    sparse_path, sparse_store: as simulated. zeros: share of these responses that are zero.
    image_store: of a mouse that looked at images, made when it is asked for.
    """

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
        self.sparse_path = folder / "sparse" / source.name
        _link(source, self.sparse_path, ("data", "meta", "config.json"))
        self.path = folder / "published" / source.name
        if not self.path.exists():
            _write_without_zeros(source, self.path)
        self.store = _converted(self.path, folder / "stores")
        self.sparse_store = _converted(self.sparse_path, folder / "sparse_stores")
        responses = np.load(source / "data/responses/0.npy")
        self.zeros = float(np.mean(responses[np.isfinite(responses)] == 0))
        self.folder, self.sizes = folder, sizes

    def store_of(self, model: str) -> TrialStore:
        """What a model of MODELS is measured on."""
        return self.image_store if model == "images" else self.store

    @cached_property
    def image_store(self) -> TrialStore:
        settings = simulated.Settings(
            kind="static",
            mice=1,
            neurons=self.sizes.neurons,
            trials=max(2 * self.sizes.images, 60),
            train_share=0.75,
            height=self.sizes.image_height,
            width=self.sizes.image_width,
        )
        (source,) = simulated.write(self.folder / "images", settings)
        return _converted(source, self.folder / "image_stores")


def _converted(path, folder):
    return TrialStore.open(conversion.write(folder, formats.read(path)))


def _write_without_zeros(source, path):
    """A copy of a session, links but for the responses; under another name until it is whole."""
    partial = path.with_name(path.name + ".partial")
    _link(source, partial, ("meta", "config.json"))
    _link(source / "data", partial / "data", ("videos", "behavior", "pupil_center"))
    (partial / "data/responses").mkdir(exist_ok=True)
    for file in (source / "data/responses").iterdir():
        responses = np.load(file)
        small = np.random.default_rng(int(file.stem)).exponential(1e-3, responses.shape)
        np.save(partial / "data/responses" / file.name, np.where(responses == 0, small, responses))
    os.replace(partial, path)


def _link(source, to, names):
    to.mkdir(parents=True, exist_ok=True)
    for name in names:
        if not (to / name).exists():
            os.symlink((source / name).absolute(), to / name)


def configured(sizes: Sizes, model: str) -> dict:
    """A published baseline's config at these sizes."""
    config = MODELS[model].get_config("sensorium").to_dict()
    if model == "images":
        config["data"]["batch_size"] = sizes.images
    elif model == windowed.NAME:
        config = windowed.configured(config, sizes)
    else:
        config["data"] |= dict(window_frames=sizes.window_frames, batch_size=sizes.batch)
    for section, different in sizes.changes.get(model, {}).items():
        config[section] |= different
    return config


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below, links followed."""
    walked = os.walk(folder, followlinks=True)
    return sum(os.path.getsize(Path(at) / name) for at, _, names in walked for name in names)


class Model:
    """A published baseline, of MODELS, on so many mice (one session under several names).

    raw: batches on the device that are predicted, by what they are: "batch", and "trials" if these
    are videos, two whole ones of each mouse; of DwiseNeuro the beginning of one trial alone.
    `step()` and `predict(raw)` are compiled; compile_seconds says what that took.
    """

    def __init__(self, session: Session, sizes: Sizes, num_mice: int, model: str):
        config = self.config = configured(sizes, model)
        store = session.store_of(model)
        self.stores = {f"mouse{i + 1}": store for i in range(num_mice)}
        self.num_files = len(store.trials)
        self.statistics = build.statistics(config["data"], self.stores)
        self.batch = jax.device_put(build.batches(config["data"], self.stores, 0)[0])
        self.in_windows = model == windowed.NAME
        self.raw = {} if self.in_windows else {"batch": self.batch}
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
        names = dwiseneuro if self.in_windows else sensorium
        self.weights = entries.export(names.encoder(model))
        self.lost_frames = model.core.lost_frames
        optimizer = build.optimizer(config)
        self.rate = build.schedule(config["schedule"]).rate_at(0)
        self.graph, self.state = step.initial_state(model, optimizer)
        train_step = step.make_train_step(
            self.graph,
            optimizer,
            build.loss(config["loss"]),
            build.prepare(config["inputs"]),
            num_files=dict.fromkeys(self.stores, self.num_files),
            seed=0,
        )
        self._step, self.compile_seconds = _compiled(
            train_step, self.state, self.batch, self.statistics, self.rate
        )
        self._predict = jax.jit(build.predictor(self.graph, config["inputs"], config["evaluation"]))

    def step(self) -> float:
        """Takes a training step; returns its objective."""
        self.state, measured = self._step(self.state, self.batch, self.statistics, self.rate)
        return float(measured["loss"])

    def objective(self) -> float | None:
        """What `step` would return if every neuron were read at its mean; changes nothing.

        None for a model that leaves out channels at random.
        """
        if self.in_windows:
            return None
        state = jax.tree.map(jnp.copy, self.state)  # the step takes its argument's memory
        for readout in state.weights.params["readouts"].values():
            readout["sigma"] = jnp.zeros_like(readout["sigma"])
        return float(self._step(state, self.batch, self.statistics, self.rate)[1]["loss"])

    def predict(self, raw) -> dict[str, jax.Array]:
        """Predicted responses of raw batches, in evaluation mode: [batch time' neuron]."""
        return self._predict(self.state.weights, raw, self.statistics)[0]

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

    def flops(self, frames: int, *, training: bool) -> float:
        """Floating-point operations of the core for one clip of so many frames."""
        if self.in_windows:
            return windowed.flops(self.config, frames, training=training)
        pool = self.config["inputs"]["pool"]
        height, width = (n // pool for n in next(iter(self.batch.values())).video.shape[2:])
        inputs = 3 if self.config["inputs"]["behavior"] else 1
        return core_flops(self.config, frames, height, width, training=training, inputs=inputs)


def core_flops(
    config: Mapping, frames: int, height: int, width: int, *, training: bool, inputs: int = 3
) -> float:
    """Floating-point operations of a config's core, and recurrence if it has one, on one clip.

    Counted as direct convolutions, whichever way they are done. Training is three times predicting,
    but for the gradient of the video, which nobody needs.
    """
    count = {
        "rotation_equivariant2d": _framewise_flops,
        "factorized3d": _factorised_flops,
        "stacked2d": _separable_flops,
    }[config["core"]["name"]]
    total, first = count(config, frames, height, width, inputs)
    return 3 * total - first if training else total


def _framewise_flops(config, frames, height, width, inputs):
    """Of all convolutions and of the first one; a layer's padding is "valid" or "same"."""
    core, recurrent = config["core"], config["recurrent"]
    total = first = 0.0
    for features, size, padding in zip(
        core["channels"], core["kernels"], core["paddings"], strict=True
    ):
        if padding == "valid":
            height, width = (convolution.output_size(each, size) for each in (height, width))
        outputs = core["rotations"] * features
        total += 2.0 * frames * height * width * inputs * outputs * size**2
        first, inputs = first or total, outputs
    states = recurrent["channels"]
    seen, remembered = recurrent["input_kernel"] ** 2, recurrent["recurrent_kernel"] ** 2
    each_pixel = 3 * states * (inputs * seen + states * remembered)
    return total + 2.0 * frames * height * width * each_pixel, first


def _separable_flops(config, frames, height, width, inputs):
    """Of all convolutions and of the first one; the others are depth-separable and padded."""
    core = config["core"]
    height, width = (convolution.output_size(each, core["kernels"][0]) for each in (height, width))
    pixels = 2.0 * frames * height * width
    first = total = pixels * inputs * core["channels"][0] * core["kernels"][0] ** 2
    for i, size in enumerate(core["kernels"][1:], start=1):
        inputs, outputs = core["channels"][i - 1 : i + 1]
        total += pixels * outputs * (inputs + size**2 + outputs)
    return total, first


def _factorised_flops(config, frames, height, width, inputs):
    """Of all convolutions and of the first one; nothing is padded."""
    core = config["core"]
    sizes = zip(core["channels"], core["spatial_kernels"], core["temporal_kernels"], strict=True)
    total = first = 0.0
    for outputs, space, duration in sizes:
        height = convolution.output_size(height, space)
        width = convolution.output_size(width, space)
        spatial = 2.0 * frames * height * width * inputs * outputs * space**2
        frames -= duration - 1
        total += spatial + 2.0 * frames * height * width * outputs**2 * duration
        first, inputs = first or spatial, outputs
    return total, first


def _compiled(function, *arguments):
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
