"""Joint moments of two response arrays, per neuron: the arithmetic under `metrics.Correlation`.

In go predicted and observed responses [batch time neuron] and the frames that count; out come
count, means, centred squares and products, each [neuron] float32. One formula, lowered by backend:
an accelerator reduces over all frames at once; a CPU goes through the frames in chunks that stay in
its cache, so that memory is read once and nothing of the size of the input is made.
"""

import functools

import jax
import jax.numpy as jnp

# A chunk is read twice, the second time from cache: 64 frames x 7863 neurons x 2 arrays are 4 MB.
# Unrolled frames share the loads of the running sums; at eight they no longer fuse. Measured on one
# of two CPU cores, ms per trial of 250 x 7863: 1.6 so (10 GB/s, the speed of its memory), 3 without
# unrolling, 9 at eight, 20 for `at_once`.
CHUNK_FRAMES, UNROLL = 64, 4


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
    count, *others = jax.lax.platform_dependent(
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
    chunk = min(CHUNK_FRAMES, frames)
    none = jnp.zeros_like(origin_predicted)

    def frame(index):
        """One frame relative to the origins, and where it counts; past the end it does not."""
        row = jnp.minimum(index, frames - 1)
        x, y = predicted[row].astype(jnp.float32), observed[row].astype(jnp.float32)
        keep = _kept(x, y, (index < frames) & valid[row], skip_nan)
        return x - origin_predicted, y - origin_observed, keep

    def add_chunk(number, running):
        first = number * chunk

        def add(offset, sums):
            x, y, keep = frame(first + offset)
            count, sum_x, sum_y = sums
            return count + keep, sum_x + jnp.where(keep, x, 0), sum_y + jnp.where(keep, y, 0)

        n, mean_x, mean_y = jax.lax.fori_loop(0, chunk, add, (none, none, none), unroll=UNROLL)
        mean_x, mean_y = mean_x / jnp.maximum(n, 1), mean_y / jnp.maximum(n, 1)

        def add_centred(offset, sums):
            x, y, keep = frame(first + offset)
            x, y = jnp.where(keep, x - mean_x, 0), jnp.where(keep, y - mean_y, 0)
            return sums[0] + x * x, sums[1] + y * y, sums[2] + x * y

        squares = jax.lax.fori_loop(0, chunk, add_centred, (none, none, none), unroll=UNROLL)
        return _merged(running, (n, mean_x, mean_y, *squares))

    return jax.lax.fori_loop(0, -(-frames // chunk), add_chunk, (none,) * 6)


def _merged(one, two):
    """Chan's formula for two sets of moments about one origin."""
    count = one[0] + two[0]
    share = two[0] / jnp.maximum(count, 1)
    weight = one[0] * share
    apart_x, apart_y = two[1] - one[1], two[2] - one[2]
    return (
        count,
        one[1] + share * apart_x,
        one[2] + share * apart_y,
        one[3] + two[3] + weight * apart_x * apart_x,
        one[4] + two[4] + weight * apart_y * apart_y,
        one[5] + two[5] + weight * apart_x * apart_y,
    )


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
