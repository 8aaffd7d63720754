"""Joint moments of two response arrays, per neuron: the arithmetic under `metrics.Correlation`.

In go predicted and observed responses [batch time neuron] and the frames that count; out come
count, means, centred squares and products, each [neuron] float32. One formula, lowered by backend:
an accelerator reduces over all frames at once; a CPU goes through the frames once, and nothing of
the size of the input is made.

One pass is enough without a loss of digits. Sums of squares about any number K lose n (mean - K)^2
by cancellation; where K is the mean of s of the n values themselves, these have a spread of at
least s (mean - K)^2 about the mean, so the rounding error grows by n / s at most. Frames go in
chunks: the first is taken about the mean of a few of its frames, each later one about the mean of
all before. Chunks are added with the rounding errors of the sums carried along (Knuth's two-sum).
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

# Frames taken together share the loads of the running sums; eight of them no longer fuse. Measured
# on one of two CPU cores, ms per trial of 250 x 7863: 1.1 so, 1.6 one by one, 5.1 by eight, 1.4 in
# chunks of 64 frames; 1.6 in two passes over chunks in cache, 2.8 as reductions over all frames;
# 0.5 for numpy to find the two largest numbers, which is reading alone.
CHUNK_FRAMES, TOGETHER, FIRST_FRAMES = 320, 5, 20


@functools.partial(jax.jit, static_argnames="skip_nan")
def joint_moments(
    predicted: jax.Array, observed: jax.Array, valid: jax.Array, *, skip_nan: bool = False
) -> tuple[jax.Array, ...]:
    """Moments over the frames in which valid [batch time] is true.

    Returns eight arrays [neuron]: the count; the origins, one counted value of predicted and one of
    observed (0 where there is none); the means of predicted and observed minus their origins; the
    sums of squares of predicted and of observed about their means; the sum of their products.
    skip_nan: leave out, per neuron, the frames in which either array is not-a-number; else a neuron
    with such a frame gets moments that are not-a-number.
    """
    neurons = predicted.shape[-1]
    predicted = predicted.reshape(-1, neurons)  # [frame neuron], of any trial: order is no matter
    observed = observed.reshape(-1, neurons)
    valid = valid.reshape(-1)
    origins = _origins(predicted, observed, valid, skip_nan)
    count, *others = lax.platform_dependent(
        predicted,
        observed,
        valid,
        *origins,
        cpu=functools.partial(in_chunks, skip_nan=skip_nan),
        default=functools.partial(at_once, skip_nan=skip_nan),
    )
    return count, *origins, *others


def at_once(predicted, observed, valid, origin_predicted, origin_observed, *, skip_nan):
    """All but the origins, as reductions over [frame neuron]."""
    keep = _kept(predicted, observed, valid[:, None], skip_nan)
    x = jnp.where(keep, predicted.astype(jnp.float32) - origin_predicted[None], 0)
    y = jnp.where(keep, observed.astype(jnp.float32) - origin_observed[None], 0)
    count = jnp.broadcast_to(jnp.sum(keep, axis=0, dtype=jnp.float32), x.shape[1:])
    mean_x = x.sum(0) / jnp.maximum(count, 1)
    mean_y = y.sum(0) / jnp.maximum(count, 1)
    x = jnp.where(keep, x - mean_x[None], 0)
    y = jnp.where(keep, y - mean_y[None], 0)
    return count, mean_x, mean_y, (x * x).sum(0), (y * y).sum(0), (x * y).sum(0)


def in_chunks(predicted, observed, valid, origin_predicted, origin_observed, *, skip_nan):
    """The same frame by frame, in chunks that are merged by Chan's formula."""
    frames = predicted.shape[0]
    none = jnp.zeros_like(origin_predicted)

    def sums_about(center, first, count):
        """Of `count` frames, and of their squares and products, all minus the center."""

        def of_frame(index):
            row = jnp.minimum(index, frames - 1)
            x, y = predicted[row].astype(jnp.float32), observed[row].astype(jnp.float32)
            keep = _kept(x, y, (index < frames) & valid[row], skip_nan)
            x, y = jnp.where(keep, x - center[0], 0), jnp.where(keep, y - center[1], 0)
            return keep.astype(jnp.float32), x, y, x * x, y * y, x * y

        def add(number, sums):
            index = first + number * TOGETHER
            these = zip(*(of_frame(index + more) for more in range(TOGETHER)), strict=True)
            # Among themselves first: fewer roundings, and none that always goes the same way.
            return tuple(so_far + _tree_sum(each) for so_far, each in zip(sums, these, strict=True))

        seen = none if skip_nan else jnp.zeros(())
        return lax.fori_loop(0, -(-count // TOGETHER), add, (seen,) + (none,) * 5)

    origin = origin_predicted, origin_observed
    few, sum_x, sum_y, *_ = sums_about(origin, jnp.argmax(valid), FIRST_FRAMES)
    center = tuple(
        o + each / jnp.maximum(few, 1) for o, each in zip(origin, (sum_x, sum_y), strict=True)
    )

    def add_chunk(number, so_far):
        center, running, lost = so_far
        n, sum_x, sum_y, squares_x, squares_y, products = sums_about(
            center, number * CHUNK_FRAMES, CHUNK_FRAMES
        )
        mean_x, mean_y = sum_x / jnp.maximum(n, 1), sum_y / jnp.maximum(n, 1)
        moments = (
            n,
            (center[0] - origin[0]) + mean_x,
            (center[1] - origin[1]) + mean_y,
            jnp.maximum(squares_x - mean_x * sum_x, 0),  # rounding may go below
            jnp.maximum(squares_y - mean_y * sum_y, 0),
            products - mean_x * sum_y,
        )
        running, lost = _merged(running, lost, moments)
        center = tuple(o + each for o, each in zip(origin, running[1:3], strict=True))
        return center, running, lost

    begun = center, (jnp.zeros_like(few),) + (none,) * 5, (none,) * 5
    count = -(-frames // CHUNK_FRAMES)
    _, (seen, *running), lost = lax.fori_loop(0, count, add_chunk, begun)
    whole = (each + less for each, less in zip(running, lost, strict=True))
    return jnp.broadcast_to(seen, none.shape), *whole


def _merged(one, lost, two):
    """Chan's formula for two sets of moments about one origin; lost: rounding errors of the first.

    Returns the moments of both and what rounding has taken from all but the count.
    """
    count = one[0] + two[0]
    share = two[0] / jnp.maximum(count, 1)
    weight = one[0] * share
    apart_x, apart_y = (two[1] - one[1]) - lost[0], (two[2] - one[2]) - lost[1]
    added = (
        share * apart_x,
        share * apart_y,
        two[3] + weight * apart_x * apart_x,
        two[4] + weight * apart_y * apart_y,
        two[5] + weight * apart_x * apart_y,
    )
    sums, errors = zip(*map(_two_sum, one[1:], added), strict=True)
    return (count, *sums), tuple(map(jnp.add, lost, errors))


def _tree_sum(terms):
    """The sum of a few terms, in pairs."""
    while len(terms) > 1:
        terms = [sum(terms[i : i + 2]) for i in range(0, len(terms), 2)]
    return terms[0]


def _two_sum(a, b):
    """a + b as a float and what rounding took from it, exactly (Knuth 1969)."""
    total = a + b
    of_b = total - a
    return total, (a - (total - of_b)) + (b - of_b)


def _origins(predicted, observed, valid, skip_nan):
    """The first counted value of both arrays, [neuron]; 0 where nothing counts."""
    if skip_nan:
        keep = _kept(predicted, observed, valid[:, None], skip_nan)
        first, found = jnp.argmax(keep, axis=0)[None], jnp.any(keep, axis=0)
        rows = [jnp.take_along_axis(each, first, axis=0)[0] for each in (predicted, observed)]
    else:
        first, found = jnp.argmax(valid), jnp.any(valid)
        rows = [predicted[first], observed[first]]
    return tuple(jnp.where(found, row, 0).astype(jnp.float32) for row in rows)


def _kept(predicted, observed, valid, skip_nan):
    """Which values count: as `valid` is, or for each value apart."""
    return valid & ~(jnp.isnan(predicted) | jnp.isnan(observed)) if skip_nan else valid
