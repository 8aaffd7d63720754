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
from flax import nnx, struct

from sensojax.errors import check_name
from sensojax.models import freezing, layers
from sensojax.types import Batch

BATCH_NORMS = ("joint", "per_mouse")


class Encoder(nnx.Module):
    """core, {mouse: readout} and {mouse: shifter} (or none) as one model of several mice.

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
        frozen_core: bool = False,
    ):
        check_name(batch_norm, BATCH_NORMS, "encoder.batch_norm")
        self.core = core
        self.readouts = nnx.Dict(readouts)
        self.shifters = nnx.Dict(shifters or {})
        self.batch_norm = batch_norm
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
        given_features: bool = False,
    ) -> dict[str, jax.Array]:
        """Predicted responses of the mice in `batches`; noise (`draw_noise`) samples positions.

        given_features: the batches hold the core's features in place of videos, frame by frame,
        the core's lost frames included.
        """
        videos = {mouse: batch.video for mouse, batch in batches.items()}
        if given_features:
            lost = self.core.lost_frames
            features = {mouse: known[:, lost:] for mouse, known in videos.items()}
        else:
            features = self.features(videos, train=train and not self.frozen_core)
        predicted = {}
        for mouse, batch in batches.items():
            shift = self.shift(mouse, batch.pupil_center, features[mouse].shape[1])
            sampled = None if noise is None else noise[mouse]
            out = self.readouts[mouse](features[mouse], shift, sampled)
            predicted[mouse] = layers.elu_plus_one(out)
        return predicted

    def features(self, videos: Mapping[str, jax.Array], *, train: bool) -> dict[str, jax.Array]:
        """Core features of each mouse's video [batch time height width channel]."""
        if train and self.batch_norm == "per_mouse":
            return {mouse: self.core(video, train=True) for mouse, video in videos.items()}
        if len({video.shape for video in videos.values()}) == 1:
            # Interleaved, so that a batch split over devices stays where it is.
            batch = next(iter(videos.values())).shape[0]
            stacked = jnp.stack(list(videos.values()), axis=1)
            joined = self.core(stacked.reshape(-1, *stacked.shape[2:]), train=train)
            parted = joined.reshape(batch, len(videos), *joined.shape[1:])
            return {mouse: parted[:, i] for i, mouse in enumerate(videos)}
        ends = _running_sum(video.shape[0] for video in videos.values())
        joined = self.core(jnp.concatenate(list(videos.values())), train=train)
        return dict(zip(videos, jnp.split(joined, ends[:-1]), strict=True))

    def shift(self, mouse: str, pupil_center: jax.Array, frames: int) -> jax.Array | None:
        """How far the pupil moves the readout in the last `frames` frames: [batch time' 2]."""
        if mouse not in self.shifters:
            return None
        return self.shifters[mouse](pupil_center[:, -frames:])

    def draw_noise(self, key: jax.Array, batches: Mapping[str, Batch]) -> dict[str, jax.Array]:
        """Standard normal displacements of every mouse's readout for one training step."""
        noise = {}
        for index, (mouse, batch) in enumerate(batches.items()):
            size, time = batch.valid.shape
            of_mouse = jax.random.fold_in(key, index)
            frames = time - self.core.lost_frames
            noise[mouse] = self.readouts[mouse].draw_noise(of_mouse, size, frames)
        return noise

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


def _running_sum(sizes):
    total, sums = 0, []
    for size in sizes:
        total += size
        sums.append(total)
    return sums
