"""What the 2-D cores have in common: layers that see single frames, joined into one stack.

In: video [batch time height width channel]; out: features with the same axes. Frames are images of
one big batch to every layer, so nothing is lost in time and no frame sees another.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from sensojax.errors import UserError, check_name
from sensojax.models import geometry, layers, recomputing, regularizers
from sensojax.models.layers import pair, per_layer

# Zeros on each side of a map, from the kernel and its dilation.
PADDINGS = {
    "valid": lambda kernel, dilation: 0,
    "same": lambda kernel, dilation: (dilation * (kernel - 1) + 1) // 2,
}


def steps(count: int, kernels, strides=1, paddings="valid", dilations=1) -> list[geometry.Step]:
    """What each layer sees, from settings that have one value for all layers or one for each.

    A padding is "valid", "same", or a number of pixels (or two, for height and width).
    """
    found = []
    for kernel, stride, padding, dilation in zip(
        per_layer(kernels, count, "kernels"),
        per_layer(strides, count, "strides"),
        per_layer(paddings, count, "paddings"),
        per_layer(dilations, count, "dilations"),
        strict=True,
    ):
        kernel, dilation = pair(kernel), pair(dilation)
        if isinstance(padding, str):
            check_name(padding, PADDINGS, "core.paddings")
            sizes = zip(kernel, dilation, strict=True)
            padding = tuple(PADDINGS[padding](size, spread) for size, spread in sizes)
        found.append(geometry.Step(kernel, pair(stride), pair(padding), dilation))
    return found


def nonlinearities(count: int, name: str, linear: bool, final: bool) -> list[str]:
    """The name of every layer's nonlinearity: all "none" if linear, the last one if not final."""
    check_name(name, layers.NONLINEARITIES, "core.nonlinearity")
    names = ["none" if linear else name] * count
    return names if final else [*names[:-1], "none"]


class Layer(nnx.Module):
    """Convolution, batch norm, nonlinearity and whatever comes `after` it.

    filters: called with (x, idle_bias=whether batch norm takes a constant away again); has
    `geometry`, `num_features` and `kernel()`, the filters that are penalised, or None. norm and
    after may be None. elu_shift: subtracted before, and added after the nonlinearity.
    """

    def __init__(
        self,
        filters: nnx.Module,
        norm: nnx.Module | None,
        nonlinearity: str,
        elu_shift: Sequence[float] = (0.0, 0.0),
        after: nnx.Module | None = None,
    ):
        self.filters = filters
        self.norm = norm
        self.nonlinearity = nonlinearity
        self.elu_shift = tuple(elu_shift)
        self.after = after

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = self.filters(x, idle_bias=train and self.norm is not None)
        if self.norm is not None:
            x = self.norm(x, train=train)
        if self.nonlinearity != "none":
            before, behind = self.elu_shift
            x = layers.NONLINEARITIES[self.nonlinearity](x - before) + behind
        return x if self.after is None else self.after(x)


class Stack(nnx.Module):
    """Layers one after the other; what the core gives out are those named by `stack`.

    skip: a layer reads the last `skip` layers before it, joined on channels (0 and 1: the previous
    one). stack: indices of layers that are joined in the result; () is all of them, and a number
    all from that one on (-1: the last).
    """

    causal = True
    lost_frames = 0
    recompute = False  # see `recomputing`

    def __init__(
        self,
        made: Sequence[Layer],
        *,
        skip: int,
        stack: int | Sequence[int],
        spatial_smoothness: float,
        smoothness: str,
        laplace_padding: int,
        group_sparsity: float,
        average_penalties: bool,
    ):
        check_name(smoothness, regularizers.SPATIAL, "core.smoothness")
        self.layers = nnx.List(made)
        self.skip = max(skip, 1)
        self.stack = _chosen(stack, len(made))
        for low, high in ((max(0, i - self.skip), i - 1) for i in range(1, len(made))):
            self._refuse_other_sizes(low, high, f"core.skip {skip}")
        self._refuse_other_sizes(min(self.stack), max(self.stack), f"core.stack {stack}")
        self.spatial_smoothness = spatial_smoothness
        self.smoothness = smoothness
        self.laplace_padding = laplace_padding
        self.group_sparsity = group_sparsity
        self.average_penalties = average_penalties

    def _refuse_other_sizes(self, low: int, high: int, setting: str) -> None:
        for index in range(low + 1, high + 1):
            kernel, stride, padding, dilation = self.layers[index].filters.geometry
            reach = tuple(d * (k - 1) for k, d in zip(kernel, dilation, strict=True))
            if stride != (1, 1) or reach != (2 * padding[0], 2 * padding[1]):
                raise UserError(
                    f"found {setting} and layer {index} with another size of map than the one "
                    "before, expected joined layers of one size; give that layer an odd kernel, "
                    'padding "same" and stride 1.'
                )

    def __call__(self, video: jax.Array, *, train: bool) -> jax.Array:
        """[batch time height width channel] -> [batch time height' width' feature]."""
        outputs = [video]
        for index, layer in enumerate(self.layers):
            seen = outputs if index == 0 else outputs[1:][-self.skip :]
            out = recomputing.layer(layer, self.recompute, _joined(seen), train=train)
            outputs.append(out)
        return _joined([outputs[1 + index] for index in self.stack])

    @property
    def num_features(self) -> int:
        return sum(self.layers[index].filters.num_features for index in self.stack)

    def _seen(self) -> list[geometry.Step]:
        return [layer.filters.geometry for layer in self.layers[: max(self.stack) + 1]]

    def map_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the features of a video of this size."""
        return geometry.map_size(self._seen(), height, width)

    def map_to_image(self, points: jax.Array, height: int, width: int) -> jax.Array:
        """Where the receptive fields of points of the feature map are centred in the video.

        points: [point 2] as (x, y) in -1..1 of the map; height, width: of the video, pixels.
        Returns [point 2] in -1..1 of the video, where +-1 are the centres of its border pixels.
        """
        return geometry.map_to_image(self._seen(), points, height, width)

    def regularizers(self) -> dict[str, jax.Array]:
        """The weighted penalties: roughness of the first layer, group sparsity of the others."""
        first, *hidden = (layer.filters.kernel() for layer in self.layers)
        rough = regularizers.SPATIAL[self.smoothness](
            first, self.laplace_padding, average=self.average_penalties
        )
        lengths = [regularizers.group_sparsity(kernel) for kernel in hidden if kernel is not None]
        sparse = sum(lengths, jnp.zeros(())) / max(len(hidden), 1)
        return {
            "core_spatial": self.spatial_smoothness * rough,
            "core_sparsity": self.group_sparsity * sparse,
        }


def _joined(maps: Sequence[jax.Array]) -> jax.Array:
    return maps[0] if len(maps) == 1 else jnp.concatenate(maps, axis=-1)


def _chosen(stack, count: int) -> tuple[int, ...]:
    every = tuple(range(count))
    wanted = (stack,) if isinstance(stack, int) else tuple(stack)
    if not all(-count <= index < count for index in wanted):
        raise UserError(
            f"found core.stack {stack}, expected layers from {-count} to {count - 1}; correct it."
        )
    if isinstance(stack, int):
        return every[stack:]
    return tuple(every[index] for index in wanted) or every
