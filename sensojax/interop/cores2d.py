"""The 2-D cores under the names of the published PyTorch state dicts, in both directions.

`stacked2d` and `rotation_equivariant2d` list the entries of a core; see `entries`. The published
rotation-equivariant core keeps its basis and rotations among its weights, so they are listed too.
"""

from collections.abc import Iterator

from flax import nnx

from sensojax.errors import UserError
from sensojax.interop.entries import Entry, batch_norm, vector
from sensojax.models.cores.stacked2d import Separable


def stacked2d(core: nnx.Module, prefix: str = "") -> Iterator[Entry]:
    """Raises UserError for squeeze-excitation, which no published weights have."""
    for index, layer in enumerate(core.layers):
        if layer.after is not None:
            raise UserError(
                "found core.se_blocks, for which there are no published names; "
                "only cores without them can be exchanged."
            )
        here = f"{prefix}features.layer{index}."
        if isinstance(layer.filters, Separable):
            yield from _separable(layer.filters, f"{here}ds_conv.")
        else:
            kh, kw, inputs, outputs = layer.filters.weight.shape
            shape = (outputs, inputs, kh, kw)
            yield Entry(f"{here}conv.weight", layer.filters.weight, (3, 2, 0, 1), shape)
            if layer.filters.bias is not None:
                yield vector(f"{here}conv.bias", layer.filters.bias)
        if layer.norm is not None:
            spread = (1, layer.filters.num_features, 1, 1)
            yield from batch_norm(layer.norm, here, spread)


def _separable(filters, prefix):
    names = [f"{prefix}{part}." for part in ("in_depth_conv", "spatial_conv", "out_depth_conv")]
    for name, weight in ((names[0], filters.mixing), (names[2], filters.remixing)):
        inputs, outputs = weight.shape
        yield Entry(f"{name}weight", weight, (1, 0), (outputs, inputs, 1, 1))
    kh, kw, channels = filters.within.shape
    yield Entry(f"{names[1]}weight", filters.within, (2, 0, 1), (channels, 1, kh, kw))
    for name, bias in zip(names, filters.biases, strict=False):
        yield vector(f"{name}bias", bias)


def rotation_equivariant2d(core: nnx.Module, prefix: str = "") -> Iterator[Entry]:
    for index, layer in enumerate(core.layers):
        here, filters = f"{prefix}features.layer{index}.", layer.filters
        hermite = f"{here}hermite_conv."
        yield _as_it_is(f"{hermite}coeffs", filters.coefficients)
        yield _as_it_is(f"{hermite}rotate_hermite.H", filters.functions)
        for turn, matrix in enumerate(filters.turns):
            yield _as_it_is(f"{hermite}rotate_hermite.Rs.{turn}", matrix)
        if layer.norm is not None:
            (features,) = layer.norm.mean.shape
            if core.shared_norm:
                spread, name = (1, 1, features, 1, 1), "norm.batch_norm."
            else:
                spread, name = (1, features, 1, 1), "norm."
            yield from batch_norm(layer.norm, here, spread, name)


def _as_it_is(name, variable):
    return Entry(name, variable, tuple(range(len(variable.shape))), variable.shape)
