"""What a model's neurons do when they see stills, and which pixels they depend on.

In: an encoder and normalised stills [image height width channel]; out: predicted responses
[image neuron], and for some neurons the derivative of the response with respect to the picture,
[image neuron height width], whose squares say where a neuron looks (`reach`). A still is shown for
as long as a model of videos needs; its derivative is that with respect to all of these frames.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from sensojax.models.encoder import Encoder, assemble, separate
from sensojax.types import Batch

FRAMES_BEYOND = 16  # of a model of videos: what is left when its first frames are lost
AT_ONCE = 16  # neurons whose derivatives are taken together


def frames_shown(model: Encoder) -> int:
    """For how many frames a still is shown: one to a model of images."""
    core = model.core
    alone = core.lost_frames == 0 and not hasattr(core, "recurrence")
    return 1 if alone else core.lost_frames + FRAMES_BEYOND


def responses(
    model: Encoder, mouse: str, stills: np.ndarray, pupil: np.ndarray, batch_size: int = 32
) -> np.ndarray:
    """Predicted responses to stills at the end of their show, [image neuron].

    stills: [image height width channel]; pupil: [image 2], normalised both.
    """
    graph, weights = separate(model)
    frames, found = frames_shown(model), []
    for start in range(0, len(stills), batch_size):
        part = slice(start, start + batch_size)
        padded = _filled(stills[part], batch_size), _filled(pupil[part], batch_size)
        values = _predicted(graph, mouse, frames, weights, *padded)
        found.append(np.asarray(values)[: len(stills[part])])
    return np.concatenate(found)


def derivatives(
    model: Encoder, mouse: str, stills: np.ndarray, pupil: np.ndarray, neurons: Sequence[int]
) -> np.ndarray:
    """How the responses of some neurons change with each pixel, [image neuron height width].

    Of the picture alone, not of the channels that hold behaviour.
    """
    graph, weights = separate(model)
    frames, found = frames_shown(model), []
    for still, eye in zip(stills, pupil, strict=True):
        of_still = []
        for start in range(0, len(neurons), AT_ONCE):
            which = np.asarray(neurons[start : start + AT_ONCE], np.int32)
            padded = _filled(which, AT_ONCE)
            values = _changes(graph, mouse, frames, weights, still, eye, padded)
            of_still.append(np.asarray(values)[: len(which)])
        found.append(np.concatenate(of_still))
    return np.stack(found)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _predicted(graph, mouse, frames, weights, stills, pupil):
    return assemble(graph, weights)({mouse: _shown(stills, pupil, frames)})[mouse][:, -1]


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _changes(graph, mouse, frames, weights, still, pupil, which):
    model = assemble(graph, weights)

    def respond(picture):
        seen = jnp.concatenate([picture[..., None], still[..., 1:]], axis=-1)
        return model({mouse: _shown(seen[None], pupil[None], frames)})[mouse][0, -1]

    responses, backwards = jax.vjp(respond, still[..., 0])
    return jax.vmap(lambda one: backwards(jax.nn.one_hot(one, len(responses)))[0])(which)


def reach(energy: np.ndarray, share: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """The centre of each map [map height width], and the radius that holds a share of it, pixels.

    energy: not negative. Returns [map 2] as (x, y) and [map]; not-a-number where a map is all 0.
    """
    height, width = energy.shape[1:]
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    places = np.stack([x.ravel(), y.ravel()], axis=-1).astype(np.float64)
    flat = energy.reshape(len(energy), -1).astype(np.float64)
    total = flat.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        centres = flat @ places / total[:, None]
    radii = np.full(len(flat), np.nan)
    for index in np.flatnonzero(total > 0):
        away = np.linalg.norm(places - centres[index], axis=1)
        order = np.argsort(away)
        inside = np.cumsum(flat[index][order]) / total[index]
        # Between the last radius that holds less and the first that holds as much.
        radii[index] = np.interp(share, inside, away[order])
    return centres, radii


def _shown(stills: jax.Array, pupil: jax.Array, frames: int) -> Batch:
    """Stills as videos that do not move, [image time height width channel]."""
    count, *of_still = stills.shape
    video = jnp.broadcast_to(stills[:, None], (count, frames, *of_still))
    eye = jnp.broadcast_to(pupil[:, None], (count, frames, 2))
    nothing = jnp.zeros((count, frames, 1))
    return Batch(
        video=video,
        responses=nothing,
        behavior=nothing,
        pupil_center=eye,
        valid=jnp.ones((count, frames), bool),
        start=jnp.zeros(count, jnp.int32),
    )


def _filled(values: np.ndarray, count: int) -> np.ndarray:
    """The values and the first of them again and again, so that every part compiles alike."""
    missing = count - len(values)
    return np.concatenate([values, np.repeat(values[:1], missing, axis=0)]) if missing else values
