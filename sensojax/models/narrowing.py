"""Computing in fewer bits: a core and what it is given in bfloat16, everything else in float32.

In go a model, normalised batches and the name of a precision; out come a model and batches to
compute with. Weights stay in float32 wherever they are remembered; copies of the core's are
rounded, so gradients arrive in float32. Batch norm keeps its parameters and statistics, and
computes, in float32, and so does a recurrence over the core's features. Readouts take rounded
features with float32 weights, so responses and losses are float32. Products are of bfloat16 and
added up in float32, and so is whatever else adds up many numbers (tests/training/test_narrow_sums).
bfloat16 halves the memory of features and suits the matrix units of accelerators; a CPU gains
nothing.
"""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
from flax import nnx

from sensojax.errors import check_name
from sensojax.models import composed
from sensojax.models.layers import BatchNorm, Fixed
from sensojax.types import Batch

PRECISIONS = ("float32", "bfloat16")


def narrowed(
    model: nnx.Module, batches: Mapping[str, Batch], compute: str
) -> tuple[nnx.Module, Mapping[str, Batch]]:
    """An encoder whose core computes in `compute`, and batches whose videos are of that type.

    The model itself for float32; else a new one, which shares nothing that a call changes.
    """
    check_name(compute, PRECISIONS, "train.compute")
    if compute == "float32":
        return model, batches
    made, dtype = nnx.clone(model), jnp.dtype(compute)
    feedforward = made.core.core if isinstance(made.core, composed.Core) else made.core
    for _, part in nnx.iter_modules(feedforward):
        if isinstance(part, BatchNorm):
            continue
        for held in vars(part).values():
            if isinstance(held, nnx.Param | Fixed) and jnp.issubdtype(held.dtype, jnp.floating):
                held.set_value(held[...].astype(dtype))
    shown = {m: dataclasses.replace(b, video=b.video.astype(dtype)) for m, b in batches.items()}
    return made, shown
