"""CutMix: a box of every frame comes from another clip of the same mouse, and so do its responses.

In go prepared batches and a random key, inside the jitted step; out come batches of the same shape.
Video and behaviour planes inside the box are the partner's, so behaviour differs between places;
responses are mixed in proportion to the box's area (Yun 2019; as DwiseNeuro trains, sota 1.3). The
partner is another clip of the batch. All randomness comes from the key.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from sensojax.errors import UserError, check_name
from sensojax.types import Batch

# Which side of the frame the box's first pair of limits is made from. They cut rows: "image" makes
# them from the height; "published" from the width, which is the same for square frames only.
AXES = ("image", "published")


def mixing(*, probability: float, alpha: float, axes: str) -> Callable | None:
    """(key, {mouse: Batch}) -> the same, mixed; None when nothing is to be mixed.

    probability: of a clip to be mixed. alpha: of the Beta distribution of which the box's part of
    the frame is drawn, before it is cut at the border. axes: of `AXES`.
    """
    check_name(axes, AXES, "cutmix.axes")
    if not 0.0 <= probability <= 1.0 or alpha <= 0.0:
        raise UserError(
            f"found cutmix.probability {probability} and cutmix.alpha {alpha}, expected 0 to 1 and "
            "above 0; correct them."
        )
    if not probability:
        return None

    def mix_all(key: jax.Array, batches: Mapping[str, Batch]) -> dict[str, Batch]:
        mixed = {}
        for index, (mouse, batch) in enumerate(batches.items()):
            own = jax.random.fold_in(key, index)
            mixed[mouse] = mix(batch, *draw(own, batch, probability, alpha, axes))
        return mixed

    return mix_all


def draw(
    key: jax.Array, batch: Batch, probability: float, alpha: float, axes: str
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What `mix` needs: the partner of every clip, its box, and whether it is mixed."""
    clips, _, height, width, _ = batch.video.shape
    which, where, how_much, whether = jax.random.split(key, 4)
    # A batch of one clip has no partner but itself, which changes nothing.
    ahead = jax.random.randint(which, (clips,), 1, max(clips, 2))
    partners = (jnp.arange(clips) + ahead) % clips
    # Beta(1, 1) is the uniform distribution, which compiles in no time.
    one = jax.random.uniform if alpha == 1.0 else functools.partial(_beta, alpha)
    part = one(how_much, (clips,))
    sides = jnp.array([height, width] if axes == "image" else [width, height])
    center = jax.random.randint(where, (clips, 2), 0, jnp.broadcast_to(sides, (clips, 2)))
    box = limits(part, center, (height, width), axes)
    return partners, box, jax.random.bernoulli(whether, probability, (clips,))


def _beta(alpha, key, shape):
    return jax.random.beta(key, alpha, alpha, shape)


def limits(part: jax.Array, center: jax.Array, size: tuple[int, int], axes: str) -> jax.Array:
    """Boxes [clip 4]: first row, row after the last, first column, column after the last.

    part: of the frame, before the box is cut at the border, [clip]; center: [clip 2], of the rows
    and of the columns; size: (height, width). A side is int(side * sqrt(part)) long, rounded down
    to an even number.
    """
    height, width = size
    sides = jnp.array([height, width] if axes == "image" else [width, height])
    sides = jnp.broadcast_to(sides, center.shape)
    half = jnp.floor(sides * jnp.sqrt(part)[:, None]).astype(jnp.int32) // 2
    first, after = jnp.maximum(center - half, 0), jnp.minimum(center + half, sides)
    return jnp.stack([first[:, 0], after[:, 0], first[:, 1], after[:, 1]], axis=1)


def mix(batch: Batch, partners: jax.Array, box: jax.Array, mixed: jax.Array) -> Batch:
    """Clips with the box of their partner's frames, and responses mixed by its area.

    partners: [clip], numbers of other clips of the batch; box: [clip 4], from `limits`; mixed:
    [clip] bool, others stay as they are. A frame counts if it does in both.
    """
    _, _, height, width, _ = batch.video.shape
    first_row, last_row, first_column, last_column = (box[:, i, None, None] for i in range(4))
    rows, columns = jnp.arange(height)[None, :, None], jnp.arange(width)[None, None, :]
    inside = (rows >= first_row) & (rows < last_row)
    inside = inside & (columns >= first_column) & (columns < last_column)
    inside = (inside & mixed[:, None, None])[:, None, :, :, None]
    area = (box[:, 1] - box[:, 0]) * (box[:, 3] - box[:, 2]) / (height * width)
    share = jnp.where(mixed, area, 0.0)[:, None, None]
    responses = (1.0 - share) * batch.responses + share * batch.responses[partners]
    return dataclasses.replace(
        batch,
        video=jnp.where(
            jnp.broadcast_to(inside, batch.video.shape), batch.video[partners], batch.video
        ),
        responses=responses,
        valid=batch.valid & (batch.valid[partners] | ~mixed[:, None]),
    )
