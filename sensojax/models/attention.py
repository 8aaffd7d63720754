"""Attention: tokens of a sequence look at each other, weighted by how well query and key agree.

Queries, keys and values [sequence token head width] in, the weighted values out in the same shape;
sequences do not see each other. The weights [sequence head token token] are never held for all
sequences at once, neither forward nor backward, where they are computed anew: a 300-frame clip of
the published ViV1T would need 0.9 GB for them in each of its 28 blocks.

On 2 CPU cores, forward and backward, beside XLA on all sequences at once: 1.6 times as fast for the
published tokens of a frame, 2.2 times for those of a place under a causal mask.

In half precision on a CUDA device, cuDNN's fused kernel does it all, for the heads that it takes
(`fused`). Elsewhere XLA does a group of sequences at a time. Under a causal mask queries are taken
in blocks, each with the keys up to its own end, which leaves out three eighths of the work.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec

from sensojax.models import layers

CAUSAL_BLOCKS = 4
SHORTEST_BLOCK = 32
WIDEST_FUSED = 128  # width of a head that cuDNN's kernel takes on every card; newer ones take more
# Weights of a group of sequences: on a CPU such that they stay in its cache.
GROUP_ON_CPU, GROUP_ELSEWHERE = 2**18, 2**26


def attend(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    *,
    causal: bool = False,
    scale: float | None = None,
) -> jax.Array:
    """causal: no token sees later ones. scale: of products, 1 / sqrt(width) if not given."""
    scale = queries.shape[-1] ** -0.5 if scale is None else scale
    if fused(queries.shape[-1], queries.dtype):
        return jax.nn.dot_product_attention(
            queries, keys, values, is_causal=causal, scale=scale, implementation="cudnn"
        )
    per_device = (PartitionSpec("data"),) * 3
    in_groups = functools.partial(_in_groups, causal, scale)
    return layers.on_each_device(in_groups, per_device)(queries, keys, values)


def fused(width: int, dtype: jnp.dtype) -> bool:
    """Whether cuDNN's kernel takes heads of this width and type, on the device that JAX uses.

    Those of ViV1T, 48 and 80 wide, but not all that a config can say, nor V1T's of 155.
    """
    half = dtype in (jnp.bfloat16, jnp.float16)
    return half and jax.default_backend() == "gpu" and width % 8 == 0 and width <= WIDEST_FUSED


def _in_groups(causal, scale, *arrays):
    _, tokens, heads, _ = arrays[0].shape
    one = jax.checkpoint(functools.partial(_causal if causal else _full, scale))

    def grouped(size, *arrays):
        at_once = min(max(size // (heads * tokens**2), 1), len(arrays[0]))
        return lax.map(lambda each: one(*each), arrays, batch_size=at_once)

    return lax.platform_dependent(
        *arrays,
        cpu=functools.partial(grouped, GROUP_ON_CPU),
        default=functools.partial(grouped, GROUP_ELSEWHERE),
    )


def _full(scale, queries, keys, values, mask=None):
    """One sequence, [token head width]."""
    return jax.nn.dot_product_attention(queries, keys, values, mask=mask, scale=scale)


def _causal(scale, queries, keys, values):
    tokens = len(queries)
    size = max(-(-tokens // CAUSAL_BLOCKS), SHORTEST_BLOCK)
    found = []
    for first in range(0, tokens, size):
        last = min(first + size, tokens)
        mask = np.arange(first, last)[:, None] >= np.arange(last)[None]
        seen = _full(scale, queries[first:last], keys[:last], values[:last], mask[None])
        found.append(seen)
    return jnp.concatenate(found)
