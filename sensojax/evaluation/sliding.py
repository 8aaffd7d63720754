"""Predicting long trials in overlapping windows: whole trials in, their blended predictions out.

A model that was trained on short clips, and whose results depend on where in a clip a frame lies
(no causal convolution does, DwiseNeuro does), is asked for every window of a trial, and each frame
is given a mean over the windows that show it. How, a config says in its section `evaluation`
(`Windows`). Many windows pass the model together, in one compiled program that keeps no more than
their sum; the published code takes one window at a time (sota 1.9).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from sensojax.errors import UserError, check_name
from sensojax.types import Batch

# What a window counts for a frame: all the same; the more, the later in the window the frame lies,
# that is the more of its past the model has seen; or only the window where it lies latest counts.
BLENDINGS = ("uniform", "linear", "none")


@dataclass(frozen=True)
class Windows:
    """frames: of the recording in a window. frame_step: the model sees every so many of them.

    step: a window begins every so many frames (and as many more as frame_step needs to show every
    frame), and one ends with the trial's last frame. lost_frames: of those that the model sees, at
    the beginning of a window, without a result. blending: of BLENDINGS. at_once: windows of each
    trial that pass the model together.
    """

    frames: int
    step: int = 1
    frame_step: int = 1
    lost_frames: int = 0
    blending: str = "uniform"
    at_once: int = 8

    def __post_init__(self):
        check_name(self.blending, BLENDINGS, "evaluation.blending")
        if self.frames <= self.lost_frames * self.frame_step:
            raise UserError(
                f"found evaluation.window_frames {self.frames}, expected more than the "
                f"{self.lost_frames * self.frame_step} frames that the core cannot predict; "
                "lengthen the window, or 0 for whole trials."
            )

    @property
    def seen(self) -> np.ndarray:
        """The frames of a window that the model sees, counted from the first of them."""
        return np.arange(0, self.frames, self.frame_step)

    @property
    def predicted(self) -> np.ndarray:
        """Those of them that it predicts."""
        return self.seen[self.lost_frames :]

    @property
    def span(self) -> int:
        """From the first to the last of these frames."""
        return int(self.seen[-1]) + 1

    @property
    def least(self) -> int:
        """Frames of a trial that has windows enough to show all that can be shown."""
        return self.span + self.frame_step - 1


def predict(
    model: Callable, batches: Mapping[str, Batch], windows: Windows
) -> dict[str, jax.Array]:
    """Blended predictions of trials, {mouse: [batch time' neuron]}, of their last time' frames.

    model: ({mouse: normalised Batch}) -> {mouse: predicted}, as an encoder; batches: whole trials,
    padded at their ends. Frames past a trial's last valid one are 0, and windows do not reach them.
    """
    long = {mouse: _at_least(batch, windows.least) for mouse, batch in batches.items()}
    plans = {mouse: _plan(batch.valid, windows) for mouse, batch in long.items()}

    def add(total, part):
        shown = {mouse: _cut(long[mouse], starts, windows) for mouse, (starts, _) in part.items()}
        predicted = model(shown)
        for mouse, (starts, share) in part.items():
            size, time, neurons = total[mouse].shape
            frames = _frames(starts, windows.predicted).reshape(size, -1, 1)
            places = frames == jnp.arange(time)[None, None]
            spread = jnp.where(places, share.reshape(size, -1, 1), 0.0)
            blended = jnp.einsum(
                "bkt,bkn->btn", spread, predicted[mouse].reshape(size, -1, neurons)
            )
            total = {**total, mouse: total[mouse] + blended}
        return total, None

    nothing = {mouse: jnp.zeros(batch.responses.shape) for mouse, batch in long.items()}
    total, _ = jax.lax.scan(add, nothing, plans)
    lost = windows.lost_frames * windows.frame_step
    return {mouse: total[mouse][:, lost : batch.valid.shape[1]] for mouse, batch in batches.items()}


def _at_least(batch: Batch, frames: int) -> Batch:
    """The batch, followed by zeros if it is shorter."""
    missing = max(frames - batch.valid.shape[1], 0)
    fields = {name: getattr(batch, name) for name in ("video", "pupil_center", "behavior")}
    fields |= dict(responses=batch.responses, valid=batch.valid)
    return batch.replace(
        **{
            name: jnp.pad(x, ((0, 0), (0, missing), *((0, 0),) * (x.ndim - 2)))
            for name, x in fields.items()
        }
    )


def _plan(valid: jax.Array, windows: Windows) -> tuple[jax.Array, jax.Array]:
    """The windows of every trial, in groups that pass the model together.

    Returns starts [group batch window] and what each of their predictions counts in the mean of its
    frame, [group batch window frame].
    """
    size, time = valid.shape
    length = jnp.max(valid * (jnp.arange(time) + 1)[None], axis=1)
    starts, used = _starts(jnp.maximum(length, windows.least), time, windows)
    share = jax.vmap(lambda s, u: _shares(s, u, time, windows))(starts, used)
    at_once = min(windows.at_once, starts.shape[1])
    missing = -starts.shape[1] % at_once

    def grouped(x):
        x = jnp.pad(x, ((0, 0), (0, missing), *((0, 0),) * (x.ndim - 2)))
        return jnp.moveaxis(x.reshape(size, -1, at_once, *x.shape[2:]), 0, 1)

    return grouped(starts), grouped(share)


def _starts(length: jax.Array, time: int, windows: Windows) -> tuple[jax.Array, jax.Array]:
    """First frames of windows, [batch window] int, and which of these windows a trial has.

    length: frames of every trial, [batch]; time: of the longest.
    """
    together = min(windows.frame_step, windows.step)  # as many beginnings in a row show all frames
    every = np.arange(time - windows.span + 1)
    every = every[every % windows.step < together]
    last = length[:, None] - windows.span
    starts = jnp.broadcast_to(jnp.asarray(every)[None], (len(length), len(every)))
    used = starts <= last
    if together == windows.step:
        return starts, used
    final = last - np.arange(windows.frame_step)[None]
    return (
        jnp.concatenate([starts, final], axis=1),
        jnp.concatenate([used, final % windows.step >= together], axis=1),
    )


def _shares(starts: jax.Array, used: jax.Array, time: int, windows: Windows) -> jax.Array:
    """What every predicted frame of one trial's windows counts, [window frame]: 1 in all for each
    frame of the trial that has been predicted."""
    frames = _frames(starts, windows.predicted)
    place = np.arange(len(windows.seen))[windows.lost_frames :] + 1
    counts = np.ones_like(place) if windows.blending == "uniform" else place
    counts = jnp.where(used[:, None], counts[None], 0)
    if windows.blending == "none":
        latest = jnp.zeros(time, counts.dtype).at[frames].max(counts)
        return jnp.where(used[:, None] & (counts == latest[frames]), 1.0, 0.0)
    total = jnp.zeros(time, counts.dtype).at[frames].add(counts)
    return counts / jnp.maximum(total[frames], 1)


def _frames(starts: jax.Array, places: np.ndarray) -> jax.Array:
    """These places of windows as frames of the trial: [... window] -> [... window frame]."""
    return starts[..., None] + places.reshape(*(1,) * starts.ndim, -1)


def _cut(batch: Batch, starts: jax.Array, windows: Windows) -> Batch:
    """The windows as examples, [batch*window time ...]; without responses, which nobody predicts
    with."""
    frames = _frames(starts, windows.seen)

    def cut(x):
        found = jax.vmap(lambda of_trial, at: of_trial[at])(x, frames)
        return found.reshape(-1, *found.shape[2:])

    shown = {name: cut(getattr(batch, name)) for name in ("video", "pupil_center", "behavior")}
    start = (batch.start[:, None] + starts).reshape(-1)
    return batch.replace(**shown, valid=cut(batch.valid), start=start, responses=())
