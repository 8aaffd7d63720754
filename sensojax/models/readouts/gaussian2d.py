"""The Gaussian readout: every neuron reads the features at one learned point of the map.

In training the point is drawn anew for every frame and neuron from a learned Gaussian, so that
gradients reach beyond the nearest pixels; in evaluation it is the Gaussian's mean. Points are
(x along the width, y along the height) in [-1, 1], where -1 and +1 are the centres of the outermost
pixels; a pupil shift is added after clipping and may lead outside, where features are zero
(bilinear look-up, zero padding; baselines 4.1).

The look-up never makes [batch*time, channel, neuron]: frame by frame it gathers the feature vectors
at each neuron's four neighbouring pixels and reduces them to one number, forward and backward. At
7,863 neurons and 128 channels that array would be 250 MB per 80-frame clip.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.sharding import PartitionSpec

from sensojax.errors import UserError, check_name
from sensojax.models import layers
from sensojax.models.behavior import StateNetwork

TINY = dict(positions="cortex")
SIGMA_SHAPES = {"full": (2, 2), "uncorrelated": (2,), "isotropic": (1,)}
POSITIONS = ("cortex", "learned", "both")
DRAWS = ("frame", "clip", "batch")


class PositionNetwork(nnx.Module):
    """Where a neuron reads, from where it lies in cortex: [neuron 2] -> [neuron 2]."""

    def __init__(
        self, cortex: np.ndarray, hidden: int, hidden_layers: int, tanh: bool, rngs: nnx.Rngs
    ):
        sizes = (cortex.shape[1], *(hidden,) * hidden_layers, 2)
        self.cortex = layers.Fixed(jnp.asarray(cortex, jnp.float32))
        self.layers = nnx.List(
            layers.Linear(inputs, outputs, rngs=rngs)
            for inputs, outputs in itertools.pairwise(sizes)
        )
        self.tanh = tanh

    def __call__(self) -> jax.Array:
        x = self.layers[0](self.cortex[...])
        for layer in self.layers[1:]:
            x = layer(jax.nn.elu(x))
        return jnp.tanh(x) if self.tanh else x


def cortex_grid(position_um: np.ndarray, dimensions: int = 2) -> np.ndarray:
    """Cortical positions as the network sees them: centred, then divided by the largest value."""
    position = np.asarray(position_um, np.float64)[:, :dimensions]
    if not np.isfinite(position).all():
        raise UserError(
            'found neurons without a cortical position, which readout.positions "cortex" needs; '
            'set it to "learned".'
        )
    position = position - position.mean(axis=0)
    return position / (np.abs(position).max() or 1.0)


class Readout(nnx.Module):
    """Features [batch time height width channel] -> [batch time neuron], before the nonlinearity.

    gaussian: "full" (a free 2x2 matrix per neuron), "uncorrelated" or "isotropic". positions:
    "cortex" (a network on so many cortex_dimensions), "learned" (one free point per neuron, kept
    in [-1, 1] by `constrain`) or "both" (the network's, and a step away from it for each neuron,
    with a penalty of position_l2 times the squares of all steps). draws: how long a neuron keeps
    its displacement, a "frame" as published, a "clip", or the whole "batch" as one published option
    has it. feature_l1: weight of the penalty on absolute feature weights.
    bias_start: of `layers.BIAS_STARTS`, applied to the neurons' mean_responses. reads_state: what
    the animal does (state_columns) becomes features that all neurons see in addition.
    """

    def __init__(
        self,
        channels: int,
        position_um: np.ndarray,
        *,
        gaussian: str = "full",
        positions: str = "cortex",
        cortex_dimensions: int = 2,
        hidden_features: int = 30,
        hidden_layers: int = 1,
        final_tanh: bool = True,
        init_mu_range: float = 0.2,
        init_sigma: float = 1.0,
        bias: bool = True,
        draws: str = "frame",
        feature_l1: float = 0.0,
        position_l2: float = 0.0,
        bias_start: str = "mean",
        reads_state: bool = False,
        state_columns: int = 4,
        mean_responses: np.ndarray | None = None,
        rngs: nnx.Rngs,
    ):
        check_name(gaussian, SIGMA_SHAPES, "readout.gaussian")
        check_name(positions, POSITIONS, "readout.positions")
        check_name(draws, DRAWS, "readout.draws")
        neurons = len(position_um)
        self.gaussian = gaussian
        self.draws = draws
        self.feature_l1 = feature_l1
        self.position_l2 = position_l2
        shape = (neurons, *SIGMA_SHAPES[gaussian])
        if gaussian == "full":
            sigma = jax.random.uniform(rngs.params(), shape, minval=-init_sigma, maxval=init_sigma)
        else:
            sigma = jnp.full(shape, init_sigma, jnp.float32)
        self.sigma = nnx.Param(sigma)
        self.features = nnx.Param(jnp.full((neurons, channels), 1.0 / channels, jnp.float32))
        if positions == "learned":
            self.network = None
        else:
            cortex = cortex_grid(position_um, cortex_dimensions)
            self.network = PositionNetwork(cortex, hidden_features, hidden_layers, final_tanh, rngs)
        if positions == "cortex":
            self.mu = None
        elif positions == "both":
            self.mu = nnx.Param(jnp.zeros((neurons, 2)))
        else:
            draw = jax.random.uniform(rngs.params(), (neurons, 2), minval=-1.0, maxval=1.0)
            self.mu = nnx.Param(init_mu_range * draw)
        start = layers.first_biases(neurons, mean_responses, bias_start)
        self.bias = nnx.Param(start) if bias else None
        self.reads_state = reads_state
        self.state = StateNetwork(state_columns, channels, rngs=rngs) if reads_state else None

    @property
    def num_neurons(self) -> int:
        return self.features.shape[0]

    def positions(self) -> jax.Array:
        """The mean of every neuron's Gaussian, before clipping: [neuron 2], (x, y)."""
        if self.network is None:
            return self.mu[...]
        return self.network() if self.mu is None else self.network() + self.mu[...]

    def constrain(self) -> None:
        """Keeps learned positions on the map; call after every update of the parameters."""
        if self.network is None:
            self.mu[...] = jnp.clip(self.mu[...], -1.0, 1.0)

    def draw_noise(self, key: jax.Array, batch: int, time: int) -> jax.Array:
        """Standard normal displacements [batch|1 time|1 neuron 2] for training."""
        shape = {"frame": (batch, time), "clip": (batch, 1), "batch": (1, 1)}[self.draws]
        return jax.random.normal(key, (*shape, self.num_neurons, 2))

    def points(self, noise: jax.Array | None) -> jax.Array:
        """Where each neuron looks, before any shift: [1|batch 1|time neuron 2]."""
        mu = self.positions()[None, None]
        if noise is None:
            return layers.clip_to_unit(mu)
        sigma = self.sigma[...]
        if self.gaussian == "full":
            displacement = jnp.einsum("ncd,btnd->btnc", sigma, noise)
        else:
            displacement = jnp.broadcast_to(sigma[None, None], noise.shape) * noise
        return layers.clip_to_unit(displacement + jnp.broadcast_to(mu, displacement.shape))

    def __call__(
        self,
        features: jax.Array,
        shift: jax.Array | None = None,
        noise: jax.Array | None = None,
        state: jax.Array | None = None,
    ) -> jax.Array:
        """shift: [batch time 2] or None; noise: from `draw_noise` in training, None otherwise.

        state: [batch time column] for a readout that reads it.
        """
        batch, time = features.shape[:2]
        points = jnp.broadcast_to(self.points(noise), (batch, time, self.num_neurons, 2))
        if shift is not None:
            points = points + jnp.broadcast_to(shift[:, :, None], points.shape)
        per_device = (PartitionSpec("data"), PartitionSpec("data"), PartitionSpec())
        weights = self.features[...]
        out = layers.on_each_device(look_up, per_device)(features, points, weights)
        if self.reads_state:
            # The same for all neurons and places, so it need not be looked up.
            out = out + jnp.einsum("btc,nc->btn", self.state(state), weights)
        return out if self.bias is None else out + jnp.broadcast_to(self.bias[...], out.shape)

    def regularizer(self) -> jax.Array:
        """The weighted L1 norm of the feature weights (baselines 4.1), and that of own steps."""
        penalty = self.feature_l1 * jnp.sum(jnp.abs(self.features[...]))
        if self.network is None or self.mu is None:
            return penalty
        return penalty + self.position_l2 * jnp.sum(jnp.square(self.mu[...]))


def look_up(features: jax.Array, points: jax.Array, weights: jax.Array) -> jax.Array:
    """Features at points, weighted over channels.

    features: [batch time height width channel]; points: [batch time neuron 2] as (x, y);
    weights: [neuron channel]. Returns [batch time neuron].
    """
    # One frame's features stay in a CPU's cache; an accelerator wants more work at a time.
    frame_by_frame = functools.partial(look_up_frames, 1)
    together = functools.partial(look_up_frames, 16)
    return lax.platform_dependent(features, points, weights, cpu=frame_by_frame, default=together)


def look_up_frames(
    frames_at_once: int, features: jax.Array, points: jax.Array, weights: jax.Array
) -> jax.Array:
    """`look_up` with the memory of `frames_at_once` frames of [neuron channel]."""
    batch, time, height, width, channel = features.shape
    maps = features.reshape(batch * time, height * width, channel)
    flat_points = points.reshape(batch * time, -1, 2)

    def one_frame(map_and_points):
        return _read((height, width), *map_and_points, weights)

    at_once = None if frames_at_once == 1 else frames_at_once
    out = lax.map(one_frame, (maps, flat_points), batch_size=at_once)
    return out.reshape(batch, time, -1)


def _corners(points, height, width):
    """The four pixels around each point and how much each counts: [4 neuron] index and share.

    Pixels outside the map count nothing.
    """
    x = (points[:, 0] + 1.0) * (0.5 * (width - 1))
    y = (points[:, 1] + 1.0) * (0.5 * (height - 1))
    left, top = jnp.floor(x), jnp.floor(y)
    right_share, bottom_share = x - left, y - top
    index, share = [], []
    for dy, share_y in ((0, 1.0 - bottom_share), (1, bottom_share)):
        for dx, share_x in ((0, 1.0 - right_share), (1, right_share)):
            column, row = left + dx, top + dy
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            column = jnp.clip(column, 0, width - 1).astype(jnp.int32)
            row = jnp.clip(row, 0, height - 1).astype(jnp.int32)
            index.append(row * width + column)
            share.append(jnp.where(inside, share_x * share_y, 0.0))
    return jnp.stack(index), jnp.stack(share)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _read(size, pixels, points, weights):
    """One frame [pixel channel] at points [neuron 2], dotted with weights [neuron channel].

    size: (height, width) of the frame. Returns [neuron]. What was gathered is not kept for the
    derivative, but six numbers for each neuron: its point, and the dot product at each corner.
    """
    return _read_forward(size, pixels, points, weights)[0]


def _read_forward(size, pixels, points, weights):
    index, share = _corners(points, *size)
    dots = jnp.stack([jnp.sum(pixels[corner] * weights, axis=-1) for corner in index])
    return jnp.sum(share * dots, axis=0), (pixels, points, weights, dots)


def _read_backward(size, saved, gradient):
    pixels, points, weights, dots = saved

    def weighted(points):
        index, share = _corners(points, *size)
        return jnp.sum(share * dots, axis=0), (index, share)

    _, pull, (index, share) = jax.vjp(weighted, points, has_aux=True)
    # Sums of float32, also of features in bfloat16.
    d_pixels, d_weights = jnp.zeros(pixels.shape, weights.dtype), jnp.zeros_like(weights)
    for corner, g in zip(index, share * gradient[None], strict=True):
        d_pixels = d_pixels.at[corner].add(g[:, None] * weights)
        d_weights = d_weights + g[:, None] * pixels[corner]
    return d_pixels.astype(pixels.dtype), *pull(gradient), d_weights


_read.defvjp(_read_forward, _read_backward)
