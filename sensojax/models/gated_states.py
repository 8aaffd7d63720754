"""The states of a convolutional GRU, and their gradients, whichever way correlations are done.

In: features of all frames and the kernels; out: the states (formula: `recurrent.conv_gru`).

Only the recurrent correlations have to wait for the frame before. What a frame is seen to contain
is found for many frames at once; in the backward pass the states of all frames are known, so the
gates are found again rather than kept, also for many frames at once, and so are the gradients of
all kernels; one frame after the other, only the gradient of the state goes back. Portions of a few
dozen frames bound the memory: beside features and states, nothing of all frames is ever there.

Of the arguments that all functions share, `how` is the module `fourier` or `direct`; `see` and
`remember` are the plans of the correlations with features and states; `seeing`, `gating` (update
and reset) and `proposing` (the new state) their kernels, joined on channels in this order. Maps are
[width height frame channel], the frames of a portion (time batch).
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from sensojax.models import fourier


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def states(how, see, remember, features, seeing, gating, proposing, bias):
    """features [batch time height width channel] -> [batch time height' width' channel]."""
    batch, time = features.shape[:2]
    channels = proposing.shape[-1]
    weights = (
        how.spectrum(see, seeing),
        how.spectrum(remember, gating),
        how.spectrum(remember, proposing),
        bias,
    )
    length, starts, padded = _portions(features, see, 3 * channels)
    height, width = see.output

    def one_portion(so_far, start):
        out, state = so_far
        x = _pixels_first(lax.dynamic_slice_in_dim(padded, start, length, 1))
        state, found = _portion(how, see, remember, weights, x, state)
        found = found.transpose(3, 0, 2, 1, 4)
        return (lax.dynamic_update_slice_in_dim(out, found, start, 1), state), None

    out = jnp.zeros((batch, padded.shape[1], height, width, channels), features.dtype)
    state = jnp.zeros((width, height, batch, channels), features.dtype)
    (out, _), _ = lax.scan(one_portion, (out, state), starts)
    return out[:, :time]


def _portions(features, see, feature):
    """Frames in a portion, the first frame of each, and the features with whole portions."""
    batch, time, _, _, channel = features.shape
    most = max(1, fourier.frames_at_once(see, channel, feature) // batch)
    count = -(-time // most)
    length = -(-time // count)
    spare = count * length - time
    padded = jnp.pad(features, ((0, 0), (0, spare), (0, 0), (0, 0), (0, 0))) if spare else features
    return length, length * jnp.arange(count), padded


def _pixels_first(x):
    """[batch time height width channel] -> [width height (time batch) channel]."""
    batch, time, height, width, channel = x.shape
    return x.transpose(3, 2, 1, 0, 4).reshape(width, height, time * batch, channel)


def _plus(x, bias):
    return x + jnp.broadcast_to(bias, x.shape)


def _portion(how, see, remember, weights, x, state):
    """The state after a portion, and all its states [time width height batch channel]."""
    seeing, gating, proposing, bias = weights
    channels = state.shape[-1]
    seen = _plus(how.correlate(see, x, seeing), bias)
    seen = seen.reshape(*seen.shape[:2], -1, *state.shape[2:3], 3 * channels)

    def one_frame(state, index):
        now = lax.dynamic_index_in_dim(seen, index, 2, keepdims=False)
        gates = jax.nn.sigmoid(how.correlate(remember, state, gating) + now[..., : 2 * channels])
        update, reset = gates[..., :channels], gates[..., channels:]
        new = jnp.tanh(how.correlate(remember, reset * state, proposing) + now[..., 2 * channels :])
        state = state + update * (new - state)
        return state, state

    return lax.scan(one_frame, state, jnp.arange(seen.shape[2]))


def _states_forward(how, see, remember, features, *weights):
    out = states(how, see, remember, features, *weights)
    return out, (features, weights, out)


def _states_backward(how, see, remember, saved, gradient):
    features, (seeing, gating, proposing, bias), out = saved
    plans = (see, remember, remember)
    kernels = (seeing, gating, proposing)
    weights = [how.spectrum(plan, kernel) for plan, kernel in zip(plans, kernels, strict=True)]
    reverse = [
        how.spectrum(plan.reverse, fourier.reversed_kernel(kernel))
        for plan, kernel in zip(plans, kernels, strict=True)
    ]
    length, starts, padded = _portions(features, see, len(bias))
    spare = [(0, 0), (0, padded.shape[1] - features.shape[1]), (0, 0), (0, 0), (0, 0)]
    out, gradient = jnp.pad(out, spare), jnp.pad(gradient, spare)

    def one_portion(so_far, start):
        d_features, d_state, *d_weights = so_far
        x, g = (
            _pixels_first(lax.dynamic_slice_in_dim(each, start, length, 1))
            for each in (padded, gradient)
        )
        known = _known(how, see, remember, (*weights, bias), x, _states_before(out, start, length))
        d_state, d_seen = _back_through_time(how, remember, reverse[1:], known, g, d_state)
        d_weights, d_x = _d_weights(how, see, remember, reverse[0], x, known, d_seen, d_weights)
        d_x = d_x.reshape(*d_x.shape[:2], length, -1, d_x.shape[-1]).transpose(3, 2, 1, 0, 4)
        d_features = lax.dynamic_update_slice_in_dim(d_features, d_x, start, 1)
        return (d_features, d_state, *d_weights), None

    d_weights = [
        how.no_gradient(plan, *kernel.shape[2:])
        for plan, kernel in zip(plans, kernels, strict=True)
    ]
    batch, _, height, width, channels = out.shape
    d_state = jnp.zeros((width, height, batch, channels), out.dtype)
    so_far = (jnp.zeros_like(padded), d_state, *d_weights, jnp.zeros_like(bias))
    (d_features, _, *d_weights, d_bias), _ = lax.scan(one_portion, so_far, starts, reverse=True)
    d_kernels = (how.kernel_of(plan, d) for plan, d in zip(plans, d_weights, strict=True))
    return d_features[:, : features.shape[1]], *d_kernels, d_bias


def _states_before(out, start, length):
    """What the frames of a portion remember: [width height (time batch) channel]."""
    here = lax.dynamic_slice_in_dim(out, start, length, 1)
    last = lax.dynamic_slice_in_dim(out, jnp.maximum(start - 1, 0), 1, 1)
    last = jnp.where(start == 0, 0.0, last)
    return _pixels_first(jnp.concatenate([last, here[:, :-1]], 1))


def _known(how, see, remember, weights, x, before):
    """The states before all frames of a portion, and their gates and new states again."""
    seeing, gating, proposing, bias = weights
    channels = before.shape[-1]
    seen = _plus(how.correlate(see, x, seeing), bias)
    gates = jax.nn.sigmoid(how.correlate(remember, before, gating) + seen[..., : 2 * channels])
    update, reset = gates[..., :channels], gates[..., channels:]
    remembered = reset * before
    new = jnp.tanh(how.correlate(remember, remembered, proposing) + seen[..., 2 * channels :])
    return before, update, reset, new


def _back_through_time(how, remember, reverse, known, g, d_state):
    """The gradient of the state before a portion, and of what its frames are seen to contain.

    g: of its states, from elsewhere. The latter is joined on channels as update, reset, new.
    """
    gating, proposing = reverse
    batch = d_state.shape[2]
    by_frame = [each.reshape(*each.shape[:2], -1, batch, each.shape[-1]) for each in (*known, g)]
    time = by_frame[0].shape[2]

    def one_frame(so_far, index):
        d_state, d_seen = so_far
        before, update, reset, new, g = (
            lax.dynamic_index_in_dim(each, index, 2, keepdims=False) for each in by_frame
        )
        d_state = d_state + g
        d_new = d_state * update * (1.0 - new * new)
        d_update = d_state * (new - before) * update * (1.0 - update)
        d_remembered = how.correlate(remember.reverse, d_new, proposing)
        d_reset = d_remembered * before * reset * (1.0 - reset)
        d_gates = jnp.concatenate([d_update, d_reset], -1)
        d_before = how.correlate(remember.reverse, d_gates, gating)
        d_state = d_state * (1.0 - update) + d_remembered * reset + d_before
        d_now = jnp.concatenate([d_gates, d_new], -1)
        return (d_state, lax.dynamic_update_index_in_dim(d_seen, d_now, index, 2)), None

    d_seen = jnp.zeros((*by_frame[0].shape[:-1], 3 * d_state.shape[-1]), d_state.dtype)
    (d_state, d_seen), _ = lax.scan(one_frame, (d_state, d_seen), jnp.arange(time), reverse=True)
    return d_state, d_seen.reshape(*d_seen.shape[:2], time * batch, d_seen.shape[-1])


def _d_weights(how, see, remember, reverse, x, known, d_seen, so_far):
    """so_far + the gradients of kernels and bias in a portion; and the gradient of its features."""
    before, _, reset, _ = known
    seeing, gating, proposing, bias = so_far
    channels = before.shape[-1]
    d_gates, d_new = d_seen[..., : 2 * channels], d_seen[..., 2 * channels :]
    seeing, d_x = how.gradients(see, x, d_seen, seeing, reverse)
    gating = how.kernel_gradient(remember, before, d_gates, gating)
    proposing = how.kernel_gradient(remember, reset * before, d_new, proposing)
    return (seeing, gating, proposing, bias + d_seen.sum((0, 1, 2))), d_x


states.defvjp(_states_forward, _states_backward)
