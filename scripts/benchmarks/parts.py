"""A model's core and readout as programs of their own, and how many operations they are.

In: the graph of an encoder, and how its core computes; out: jitted functions of weights and arrays,
forward as in evaluation, and backward with training's sampling, from a mean of squares. Operations
are counted on the traced programs (`counting`): those of direct convolutions, each layer once
forward and twice backward, whatever is computed again to save memory, and without the gradient of
the video, which nobody needs.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from scripts.benchmarks import counting
from sensojax.models import behavior, narrowing
from sensojax.models.encoder import Encoder, Weights, assemble
from sensojax.types import Batch

Seen = Mapping[str, Batch]  # normalised batches


def core(graph: nnx.GraphDef, compute: str = "float32") -> Callable:
    """(weights, batches) -> {mouse: features}, in evaluation mode."""
    return jax.jit(lambda weights, batches: _features(graph, compute, False, weights, batches))


def core_backward(
    graph: nnx.GraphDef, compute: str = "float32", *, of_videos: bool = False
) -> Callable:
    """(weights, batches) -> the gradient of the core's parameters; of_videos: and of the videos."""

    def squares(own, videos, weights: Weights, batches: Seen):
        shown = {mouse: each.replace(video=videos[mouse]) for mouse, each in batches.items()}
        weights = weights.replace(params=weights.params | own)
        return _mean_square(_features(graph, compute, True, weights, shown))

    def gradient(weights: Weights, batches: Seen):
        videos = {mouse: each.video for mouse, each in batches.items()}
        own = {"core": weights.params["core"]}
        return jax.grad(squares, (0, 1) if of_videos else 0)(own, videos, weights, batches)

    return jax.jit(gradient)


def _features(graph, compute, train, weights, batches):
    model, shown = narrowing.narrowed(assemble(graph, weights), batches, compute)
    return model.features({mouse: each.video for mouse, each in shown.items()}, train=train)


def readout(graph: nnx.GraphDef) -> Callable:
    """(weights, {mouse: features}, batches) -> {mouse: predicted}, before the nonlinearity."""
    return jax.jit(lambda *given: _read(assemble(graph, given[0]), *given[1:]))


def readout_backward(graph: nnx.GraphDef) -> Callable:
    """(weights, features, batches) -> gradients of all parameters and of the features, sampled."""

    def squares(params, features, weights: Weights, batches: Seen):
        model = assemble(graph, weights.replace(params=params))
        noise = model.draw_noise(jax.random.key(0), batches)
        return _mean_square(_read(model, features, batches, noise))

    def gradient(weights: Weights, features: Mapping, batches: Seen):
        return jax.grad(squares, (0, 1))(weights.params, features, weights, batches)

    return jax.jit(gradient)


def _read(model: Encoder, features, batches, noise=None):
    """What the encoder does behind its core."""
    predicted = {}
    for mouse, batch in batches.items():
        seen = features[mouse] if model.shared is None else model.shared(features[mouse])
        frames, read, more = seen.shape[1], model.readouts[mouse], {}
        if getattr(read, "reads_state", False):
            more["state"] = behavior.state(batch.behavior, batch.pupil_center, frames)
        shift = model.shift(mouse, batch.pupil_center, frames, batch.behavior)
        predicted[mouse] = read(seen, shift, noise and noise[mouse], **more)
    return predicted


def _mean_square(found: Mapping):
    return sum(jnp.mean(jnp.square(each.astype(jnp.float32))) for each in found.values())


def core_operations(graph: nnx.GraphDef, weights: Weights, batches: Seen) -> tuple[float, float]:
    """Of the core on these batches: forward, and in a training step; arrays or shapes."""
    forward = counting.work(core(graph), weights, batches).operations
    both, own = (
        counting.work(core_backward(graph, of_videos=each), weights, batches).operations
        for each in (True, False)
    )
    return forward, 3 * forward - (both - own)
