"""The cortex of DwiseNeuro: layers that mix the channels of a frame, in groups, ever wider.

In and out: features [batch time height width channel], frame by frame and pixel by pixel. Each
layer (sota 1.2) weighs channels within each of some groups, then batch norm and SiLU, then shuffles
the groups; its input, repeated to the new width, is added.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from sensojax.errors import UserError
from sensojax.models import layers, recomputing


class Layer(nnx.Module):
    """inputs channels -> outputs channels, in so many groups."""

    def __init__(
        self, inputs: int, outputs: int, *, groups: int, weight_of_new: float, rngs: nnx.Rngs
    ):
        refuse_ungrouped(inputs, groups)
        refuse_ungrouped(outputs, groups)
        self.groups = groups
        # [feature channel], features of one group after those of another
        self.weight = nnx.Param(
            layers.fan_out_normal(rngs.params(), (outputs, inputs // groups), outputs // groups)
        )
        self.norm = layers.BatchNorm(outputs, weight_of_new=weight_of_new)
        self.shortcut_norm = layers.BatchNorm(outputs, weight_of_new=weight_of_new)

    def __call__(self, x: jax.Array, *, train: bool, kept: jax.Array | None = None) -> jax.Array:
        """kept: factors of the branch, [batch], None where nothing is dropped."""
        out = grouped_dot(x, self.weight[...], self.groups)
        out = layers.silu(self.norm(out, train=train))
        # Feature j of group g becomes feature j * groups + g: the next groups hold some of each.
        out = out.reshape(*out.shape[:-1], self.groups, -1).swapaxes(-1, -2).reshape(out.shape)
        if kept is not None:
            out = out * layers.per_example(kept, out)
        shortcut = layers.repeat_channels(x, out.shape[-1])
        return out + self.shortcut_norm(shortcut, train=train)


class Cortex(nnx.Module):
    """features: of every layer."""

    recompute = False  # see `recomputing`

    def __init__(
        self,
        inputs: int,
        features: Sequence[int],
        *,
        groups: int,
        weight_of_new: float,
        rngs: nnx.Rngs,
    ):
        widths = (inputs, *features)
        self.layers = nnx.List(
            Layer(before, after, groups=groups, weight_of_new=weight_of_new, rngs=rngs)
            for before, after in zip(widths, features, strict=False)
        )

    def __call__(self, x: jax.Array, *, train: bool, kept: jax.Array | None = None) -> jax.Array:
        """kept: factors of every layer's branch, [batch layer], None where nothing is dropped."""
        for index, layer in enumerate(self.layers):
            of_layer = None if kept is None else kept[:, index]
            x = recomputing.layer(layer, self.recompute, x, train=train, kept=of_layer)
        return x


def grouped_dot(x: jax.Array, weight: jax.Array, groups: int) -> jax.Array:
    """x [... channel] with weight [feature channel/groups] -> [... feature].

    The first features see the first group of channels alone, the next ones the second, and so on.
    """
    split = x.reshape(*x.shape[:-1], groups, -1)
    of_groups = weight.reshape(groups, -1, weight.shape[-1])
    out = jnp.einsum("...gi,goi->...go", split, of_groups)
    return out.reshape(*x.shape[:-1], weight.shape[0])


def refuse_ungrouped(channels: int, groups: int) -> None:
    """UserError when channels do not fall into equal groups."""
    if groups < 1 or channels % groups:
        raise UserError(
            f"found {channels} channels for {groups} groups, expected a multiple of {groups}; "
            "change the numbers of features or of groups."
        )
