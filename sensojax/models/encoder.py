"""The whole model: one core that all mice share, and for each mouse a readout and a shifter.

`{mouse: Batch}` in (normalised: video [batch time height width channel]), `{mouse: predicted}`
out, predicted being positive [batch time' neuron] and belonging to the last time' frames of the
batch (the core loses the first ones).

All mice pass the core together, so batch norm sees all of them (`batch_norm="joint"`). The
published systems pass one mouse after another, each normalised by itself, the last one leaving most
of the running statistics; `batch_norm="per_mouse"` does exactly that (baselines 3, 7), in the order
of the mice's names, which is the order in which jit hands over a dictionary.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx, struct

from sensojax.errors import check_name
from sensojax.models import behavior, dropping, freezing, interleaving, outputs
from sensojax.types import Batch

BATCH_NORMS = ("joint", "per_mouse")
OF_THE_CORE = 0x636F7265  # beside the mice, whose keys are 0, 1, ...
OF_THE_CHANNELS = 0x6368616E


class Encoder(nnx.Module):
    """core, {mouse: readout} and {mouse: shifter} (or none) as one model of several mice.

    output: {mouse: last nonlinearity} of `models.outputs`, ELU + 1 unless told otherwise.
    shared: what all readouts share, between the core and them; most share nothing. What
    `reads_state` is told what the animal does (`models.behavior`), and so are gains, which multiply
    the positive responses. channel_dropout: the rate at which features of the core are left out in
    training, each for all frames of a clip, for each mouse others (as DwiseNeuro's readout does by
    itself, sota 1.2).
    frozen_core: the core is not trained, its batch norm keeps its statistics, and its penalties
    do not count; its arrays are `freezing.freeze`d, so no backward pass goes through it.
    """

    def __init__(
        self,
        core: nnx.Module,
        readouts: Mapping[str, nnx.Module],
        shifters: Mapping[str, nnx.Module] | None = None,
        *,
        batch_norm: str = "joint",
        output: Mapping[str, nnx.Module] | None = None,
        shared: nnx.Module | None = None,
        gains: Mapping[str, nnx.Module] | None = None,
        channel_dropout: float = 0.0,
        frozen_core: bool = False,
    ):
        check_name(batch_norm, BATCH_NORMS, "encoder.batch_norm")
        dropping.check(channel_dropout, "encoder.channel_dropout")
        self.core = core
        self.readouts = nnx.Dict(readouts)
        self.shifters = nnx.Dict(shifters or {})
        self.batch_norm = batch_norm
        self.shared = shared
        self.gains = nnx.Dict(gains or {})
        self.output = nnx.Dict(output or {mouse: outputs.Elu() for mouse in readouts})
        self.channel_dropout = channel_dropout
        self.frozen_core = frozen_core
        if frozen_core:
            freezing.freeze(core)

    @property
    def mice(self) -> tuple[str, ...]:
        return tuple(self.readouts)

    def __call__(
        self,
        batches: Mapping[str, Batch],
        *,
        train: bool = False,
        noise: Mapping[str, jax.Array] | None = None,
        core_noise: Mapping[str, jax.Array] | None = None,
        channels: Mapping[str, jax.Array] | None = None,
        given_features: bool = False,
        everyone: bool = False,
    ) -> dict[str, jax.Array]:
        """Predicted responses of the mice in `batches`.

        noise, core_noise, channels: from `draw_noise`, `draw_core_noise` and `draw_channels` in
        training, None otherwise.
        given_features: the batches hold the core's features in place of videos, frame by frame,
        the core's lost frames included. everyone: every mouse answers to the clips of all mice,
        [mouse*batch time' neuron], those of one mouse after those of another.
        """
        videos = {mouse: batch.video for mouse, batch in batches.items()}
        if given_features:
            lost = self.core.lost_frames
            features = {mouse: known[:, lost:] for mouse, known in videos.items()}
        else:
            features = self.features(videos, train=train and not self.frozen_core, noise=core_noise)
        if everyone:
            features = dict.fromkeys(features, jnp.concatenate(list(features.values())))
            batches = dict.fromkeys(batches, _joined(list(batches.values())))
        predicted = {}
        for mouse, batch in batches.items():
            seen, readout = features[mouse], self.readouts[mouse]
            if channels is not None:
                seen = seen * channels[mouse][:, None, None, None].astype(seen.dtype)
            seen = seen if self.shared is None else self.shared(seen)
            frames = seen.shape[1]
            shift = self.shift(mouse, batch.pupil_center, frames, batch.behavior)
            sampled = None if noise is None else noise[mouse]
            more = {}
            if getattr(readout, "reads_state", False):
                more["state"] = behavior.state(batch.behavior, batch.pupil_center, frames)
            out = readout(seen, shift, sampled, **more)
            predicted[mouse] = self.output[mouse](out)
            if mouse in self.gains:
                state = behavior.state(batch.behavior, batch.pupil_center, batch.behavior.shape[1])
                predicted[mouse] = predicted[mouse] * self.gains[mouse](state, seen)
        return predicted

    def features(
        self,
        videos: Mapping[str, jax.Array],
        *,
        train: bool,
        noise: Mapping[str, jax.Array] | None = None,
    ) -> dict[str, jax.Array]:
        """Core features of each mouse's video [batch time height width channel]."""
        given = {m: self._given_to_core(m, video, noise) for m, video in videos.items()}
        if train and self.batch_norm == "per_mouse":
            return {m: self.core(train=train, **each) for m, each in given.items()}
        if len({video.shape for video in videos.values()}) == 1:
            together = jax.tree.map(lambda *each: interleaving.interleaved(each), *given.values())
            parted = interleaving.parted(len(videos), self.core(train=train, **together))
            return dict(zip(videos, parted, strict=True))
        together = jax.tree.map(lambda *each: jnp.concatenate(each), *given.values())
        ends = np.cumsum([video.shape[0] for video in videos.values()])
        parted = jnp.split(self.core(train=train, **together), ends[:-1])
        return dict(zip(videos, parted, strict=True))

    def _given_to_core(self, mouse, video, noise):
        """{argument: [batch ...]} of a mouse's clips; most cores see the video alone."""
        given = {"video": video}
        if noise is not None:
            given["noise"] = noise[mouse]
        if getattr(self.core, "asks_mice", False):
            given["mice"] = jnp.full(len(video), sorted(self.readouts).index(mouse))
        return given

    def shift(
        self,
        mouse: str,
        pupil_center: jax.Array,
        frames: int,
        behavior_columns: jax.Array | None = None,
    ) -> jax.Array | None:
        """How far the pupil moves the readout in the last `frames` frames: [batch time' 2].

        behavior_columns: [batch time column], for a shifter that reads the animal's whole state.
        """
        if mouse not in self.shifters:
            return None
        shifter = self.shifters[mouse]
        if shifter.reads_state:
            return shifter(behavior.state(behavior_columns, pupil_center, frames))
        return shifter(pupil_center[:, -frames:])

    def draw_noise(
        self, key: jax.Array, batches: Mapping[str, Batch], *, everyone: bool = False
    ) -> dict[str, jax.Array]:
        """Standard normal displacements of every mouse's readout for one training step.

        everyone: for the clips of all mice, see `__call__`.
        """
        noise, clips = {}, sum(len(batch.valid) for batch in batches.values())
        for index, (mouse, batch) in enumerate(batches.items()):
            size, time = batch.valid.shape
            size = clips if everyone else size
            of_mouse = jax.random.fold_in(key, index)
            frames = time - self.core.lost_frames
            noise[mouse] = self.readouts[mouse].draw_noise(of_mouse, size, frames)
        return noise

    def draw_core_noise(
        self, key: jax.Array, batches: Mapping[str, Batch]
    ) -> dict[str, jax.Array] | None:
        """What the core drops in one training step, [batch ...] of every mouse; None for nothing.

        A core that drops something has `draw_noise(key, batch, time)`, and takes it as `noise`.
        """
        if self.frozen_core or not hasattr(self.core, "draw_noise"):
            return None
        of_core, noise = jax.random.fold_in(key, OF_THE_CORE), {}
        for index, (mouse, batch) in enumerate(batches.items()):
            of_mouse = jax.random.fold_in(of_core, index)
            noise[mouse] = self.core.draw_noise(of_mouse, *batch.valid.shape)
        return None if None in noise.values() else noise

    def draw_channels(
        self, key: jax.Array, batches: Mapping[str, Batch], *, everyone: bool = False
    ) -> dict[str, jax.Array] | None:
        """Factors of the core's features in one training step, [batch channel] of every mouse; None
        if all are used. everyone: for the clips of all mice, see `__call__`."""
        if not self.channel_dropout:
            return None
        sizes = {mouse: len(batch.valid) for mouse, batch in batches.items()}
        of_channels, factors = jax.random.fold_in(key, OF_THE_CHANNELS), {}
        for index, (mouse, size) in enumerate(sizes.items()):
            shape = (sum(sizes.values()) if everyone else size, self.core.num_features)
            of_mouse = jax.random.fold_in(of_channels, index)
            factors[mouse] = dropping.factors(of_mouse, self.channel_dropout, shape)
        return factors

    def regularizers(self, mice: tuple[str, ...]) -> dict[str, jax.Array]:
        """Penalties of one step; the core's count once per mouse, as published (baselines 7)."""
        of_core = {} if self.frozen_core else self.core.regularizers()
        parts = {name: len(mice) * value for name, value in of_core.items()}
        parts["readout"] = sum(self.readouts[mouse].regularizer() for mouse in mice)
        parts["shifter"] = sum(self.shifters[m].regularizer() for m in mice if m in self.shifters)
        return parts

    def constrain(self) -> None:
        """Brings parameters back into their allowed range; call after every update."""
        for readout in self.readouts.values():
            readout.constrain()


@struct.dataclass
class Weights:
    """The arrays of a model as plain trees: trained, updated in passing, and never changed."""

    params: dict
    statistics: dict
    fixed: dict


def separate(model: nnx.Module) -> tuple[nnx.GraphDef, Weights]:
    """A model as its structure (static) and its arrays (a pytree for jit, grad and checkpoints)."""
    graph, *states = nnx.split(model, nnx.Param, nnx.BatchStat, ...)
    return graph, Weights(*(nnx.to_pure_dict(state) for state in states))


def assemble(graph: nnx.GraphDef, weights: Weights) -> nnx.Module:
    """The inverse of `separate`; the model is new, so changing it changes nothing else."""
    return nnx.merge(graph, weights.params, weights.statistics, weights.fixed, copy=True)


def _joined(batches):
    """All that readouts ask of batches, as one: the clips of one mouse after those of another."""
    names = ("behavior", "pupil_center", "valid", "start")
    joined = {n: jnp.concatenate([getattr(batch, n) for batch in batches]) for n in names}
    return Batch(video=None, responses=None, **joined)
