"""A config's training step and prediction as programs of shapes: nothing is read or allocated.

In: a config and sizes (neurons of each mouse, frames, pixels); out: the jitted functions with
arguments that have a shape and a type and no numbers. They can be traced, lowered and compiled, for
any size, on a machine that could not hold the arrays. The same builders make them as make a run.
"""

import functools
import types
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from sensojax import build
from sensojax.models.encoder import assemble, separate
from sensojax.pipeline.transforms import Statistics
from sensojax.training import step
from sensojax.types import Batch, Neurons

FILES = 500  # of a session, for the scale of its loss


@dataclass(frozen=True)
class Sizes:
    """neurons: of every mouse. clips: of each mouse in a step. frames: of a clip; trial_frames: of
    the longest trial. height, width: of the video as stored. columns: of behaviour."""

    neurons: Mapping[str, int]
    clips: int
    frames: int
    height: int = 36
    width: int = 64
    trial_frames: int = 300
    columns: int = 2

    @classmethod
    def of_mice(cls, mice: int, neurons: int, **more) -> "Sizes":
        return cls({f"mouse{i + 1:02d}": neurons for i in range(mice)}, **more)

    @classmethod
    def published(cls, config: Mapping, mice: int = 10, neurons: int = 7863, **more) -> "Sizes":
        """A session of Sensorium 2023 has 7,863 neurons on average."""
        data = config["data"]
        return cls.of_mice(
            mice, neurons, **dict(clips=data["batch_size"], frames=data["window_frames"]) | more
        )


class Programs:
    """step(*step_arguments) and predict(*predict_arguments) of a config, jitted.

    state, batches, statistics: what they take. sharding: of the state, for several devices.
    """

    def __init__(
        self, config: Mapping, sizes: Sizes, sharding: jax.sharding.Sharding | None = None
    ):
        self.config, self.sizes = config, sizes
        self.batches = {m: _batch(sizes, n) for m, n in sizes.neurons.items()}
        normalization = config["data"]["normalization"]
        self.statistics = {
            m: _statistics(sizes, n, normalization) for m, n in sizes.neurons.items()
        }
        self.prepare = build.prepare(config["inputs"])
        neurons = {m: _neurons(n) for m, n in sizes.neurons.items()}
        frame = build.frame_size(
            types.SimpleNamespace(height=sizes.height, width=sizes.width), config["inputs"]
        )
        self._new_encoder = functools.partial(
            build.new_encoder, config, neurons, sizes.columns, frame_size=frame
        )
        self.graph, weights = separate(nnx.eval_shape(self._new_encoder))
        self.state = jax.eval_shape(
            lambda arrays: build.initial_state(assemble(self.graph, arrays), config)[1], weights
        )
        self.step = step.make_train_step(
            self.graph,
            build.optimizer(config),
            build.loss(config["loss"]),
            self.prepare,
            num_files=dict.fromkeys(sizes.neurons, FILES),
            seed=0,
            augment=build.augment(config),
            average=config["train"]["average"],
            compute=config["train"]["compute"],
            recompute=config["train"]["recompute"],
            mice_at_once=config["train"]["mice_at_once"],
            sharding=sharding,
        )
        self.step_arguments = (self.state, self.batches, self.statistics, 0.01)
        self.predict = jax.jit(build.predictor(self.graph, config["inputs"], config["evaluation"]))
        self.predict_arguments = (self.state.weights, self.batches, self.statistics)

    def numbers(self) -> tuple:
        """The step's arguments with numbers in them: first weights, and random batches."""
        rng = np.random.default_rng(0)
        batches = {mouse: _filled(each, rng) for mouse, each in self.batches.items()}
        known = jax.tree.map(lambda x: np.ones(x.shape, x.dtype), self.statistics)
        return build.initial_state(self._new_encoder(), self.config)[1], batches, known, 0.001


def shape(*size: int, dtype=jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(size, dtype)


def _neurons(count: int) -> Neurons:
    position_um = np.random.default_rng(0).uniform(0, 600, (count, 3))
    return Neurons(np.arange(count), position_um)


def _batch(sizes: Sizes, neurons: int) -> Batch:
    each = (sizes.clips, sizes.frames)
    return Batch(
        video=shape(*each, sizes.height, sizes.width, dtype=jnp.uint8),
        responses=shape(*each, neurons),
        behavior=shape(*each, sizes.columns),
        pupil_center=shape(*each, 2),
        valid=shape(*each, dtype=jnp.bool_),
        start=shape(sizes.clips, dtype=jnp.int32),
    )


def _filled(batch: Batch, rng: np.random.Generator) -> Batch:
    """A batch of these shapes, every frame of which counts."""
    drawn = jax.tree.map(lambda x: rng.standard_exponential(x.shape, np.float32), batch)
    video = rng.integers(0, 256, batch.video.shape, np.uint8)
    valid, start = np.ones(batch.valid.shape, bool), np.zeros(batch.start.shape, np.int32)
    return drawn.replace(video=video, valid=valid, start=start)


def _statistics(sizes: Sizes, neurons: int, normalization: str) -> Statistics:
    """One entry for every frame of the published rule, twice over; else one for all."""
    by_frame = normalization == "official" and sizes.trial_frames > 1
    time = 2 * sizes.trial_frames if by_frame else 1
    pixels = (sizes.height, sizes.width) if normalization == "official" else (1, 1)
    width = dict(response=neurons, behavior=sizes.columns, pupil=2)
    if normalization == "none":
        width = dict.fromkeys(width, 1)
    return Statistics(
        video_mean=shape(time, *pixels),
        video_std=shape(time, *pixels),
        response_multiplier=shape(time, width["response"]),
        behavior_std=shape(time, width["behavior"]),
        pupil_mean=shape(time, width["pupil"]),
        pupil_std=shape(time, width["pupil"]),
        normalization=normalization,
    )
