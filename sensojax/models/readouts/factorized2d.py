"""The factorised readout: every neuron has a mask over the map and a weight for every feature.

What a neuron reads is the sum over pixels and features of mask times weight times feature
(baselines 4.2). It looks at the whole map, so nothing is sampled in training and no pupil shift can
move it; its weights are as many as the map has pixels, for each neuron, and fit one size of map.

The sum over pixels makes an array [batch*time neuron channel] if all frames are taken at once: at
7,863 neurons and 64 channels 160 MB per 80-frame clip. Here it is a few frames at a time, forward
and backward.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.sharding import PartitionSpec

from sensojax.errors import UserError, check_name
from sensojax.models import layers

TINY = dict()
PENALTIES = ("per_neuron", "published")
SMALLEST_LENGTH = 1e-6  # added to a mask's length, so that a mask of zeros stays one


class Readout(nnx.Module):
    """Features [batch time height width channel] -> [batch time neuron], before the nonlinearity.

    map_size: (height, width) of the features. normalize: masks are divided by their length (L2).
    constrain_pos: masks are kept at or above 0 by `constrain`. positive_spatial: the absolute value
    of the mask is used. l1_weight: weight of a penalty on absolute masks times absolute feature
    weights; l1: "per_neuron" sums that product over neurons, "published" takes the product of the
    sums over neurons, as the published code does, which couples every neuron with every other.
    init_noise: standard deviation of the first masks and feature weights. bias_start: of
    `layers.BIAS_STARTS`, applied to the neurons' mean_responses.
    """

    def __init__(
        self,
        channels: int,
        position_um: np.ndarray,
        *,
        map_size: tuple[int, int],
        normalize: bool = True,
        constrain_pos: bool = False,
        positive_spatial: bool = False,
        bias: bool = True,
        init_noise: float = 1e-3,
        l1_weight: float = 0.0,
        l1: str = "per_neuron",
        bias_start: str = "mean",
        mean_responses: np.ndarray | None = None,
        rngs: nnx.Rngs,
    ):
        check_name(l1, PENALTIES, "readout.l1")
        neurons = len(position_um)
        self.normalize = normalize
        self.constrain_pos = constrain_pos
        self.positive_spatial = positive_spatial
        self.l1_weight = l1_weight
        self.l1 = l1
        noise = functools.partial(jax.random.normal, dtype=jnp.float32)
        self.spatial = nnx.Param(init_noise * noise(rngs.params(), (neurons, *map_size)))
        self.features = nnx.Param(init_noise * noise(rngs.params(), (neurons, channels)))
        self.constrain()
        start = layers.first_biases(neurons, mean_responses, bias_start)
        self.bias = nnx.Param(start) if bias else None

    @property
    def num_neurons(self) -> int:
        return self.features.shape[0]

    def positions(self) -> None:
        """None: a mask is not a point of the map."""
        return None

    def constrain(self) -> None:
        """Keeps masks at or above 0 where these are wanted; call after every update."""
        if self.constrain_pos:
            self.spatial[...] = jnp.maximum(self.spatial[...], 0.0)

    def draw_noise(self, key: jax.Array, batch: int, time: int) -> None:
        """None: nothing is sampled in training."""
        return None

    def masks(self) -> jax.Array:
        """What each neuron sees of the map: [neuron height width]."""
        masks = self.spatial[...]
        if self.positive_spatial:
            masks = jnp.abs(masks)
        if self.normalize:
            squares = jnp.sum(jnp.square(masks), (1, 2), keepdims=True)
            empty = squares == 0.0  # where a root has no gradient
            length = jnp.where(empty, 0.0, jnp.sqrt(jnp.where(empty, 1.0, squares)))
            masks = masks / jnp.broadcast_to(length + SMALLEST_LENGTH, masks.shape)
        return masks

    def __call__(
        self, features: jax.Array, shift: jax.Array | None = None, noise: None = None
    ) -> jax.Array:
        """shift: None, else UserError; noise: None, as `draw_noise` says."""
        if shift is not None:
            raise UserError(
                "found a pupil shift for a factorised readout, whose neurons read the whole map, "
                'expected none; set shifter.name to "" or readout.name to "gaussian2d".'
            )
        if features.shape[2:4] != self.spatial.shape[1:]:
            raise UserError(
                f"found features of {features.shape[2:4]} pixels for masks of "
                f"{self.spatial.shape[1:]}, expected the same; give videos of the size that the "
                "readout was made for."
            )
        per_device = (PartitionSpec("data"), PartitionSpec(), PartitionSpec())
        out = layers.on_each_device(read, per_device)(features, self.masks(), self.features[...])
        return out if self.bias is None else out + jnp.broadcast_to(self.bias[...], out.shape)

    def regularizer(self) -> jax.Array:
        """The weighted L1 penalty (baselines 4.2); the masks in it are those that are used."""
        of_masks = jnp.sum(jnp.abs(self.masks()), (1, 2))
        of_features = jnp.sum(jnp.abs(self.features[...]), 1)
        if self.l1 == "published":
            return self.l1_weight * jnp.sum(of_masks) * jnp.sum(of_features)
        return self.l1_weight * jnp.sum(of_masks * of_features)


def read(features: jax.Array, masks: jax.Array, weights: jax.Array) -> jax.Array:
    """Features summed over pixels with masks and over channels with weights.

    features: [batch time height width channel]; masks: [neuron height width]; weights:
    [neuron channel]. Returns [batch time neuron].
    """
    # Four frames: 1.4 times as fast as one, forward and backward, on 2 cores (the masks' gradient
    # is written once for each group); an accelerator wants more work at a time.
    few, many = functools.partial(read_frames, 4), functools.partial(read_frames, 16)
    return lax.platform_dependent(features, masks, weights, cpu=few, default=many)


def read_frames(
    frames_at_once: int, features: jax.Array, masks: jax.Array, weights: jax.Array
) -> jax.Array:
    """`read` with the memory of `frames_at_once` frames of [neuron channel]."""
    batch, time, height, width, channel = features.shape
    flat_masks = masks.reshape(len(masks), height * width)

    @jax.checkpoint  # the backward pass sums over pixels again instead of keeping the sums
    def one_frame(pixels):
        return jnp.sum(jnp.dot(flat_masks, pixels) * weights, axis=-1)

    frames = features.reshape(batch * time, height * width, channel)
    return lax.map(one_frame, frames, batch_size=frames_at_once).reshape(batch, time, -1)
