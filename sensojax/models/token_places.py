"""What tells tokens where and when they are: codes added to them, learned or made of sines.

Tokens [batch time row column feature] in and out. One code belongs to a token's place in the grid,
one to its frame (sota 2.2, 3.2); "joint" is one table for both. "rotary" and "convolution" add
nothing here: such codes act within attention (`models.rotary`), and after the first block, where
each token is told of those beside it (`Neighbours`; Chu et al. 2021). "grid" tells column and row
apart, where "sines" counts the tokens of a frame.
"""

import math

import jax
import numpy as np
from flax import nnx

from sensojax.errors import UserError, check_name
from sensojax.models import depthwise, layers
from sensojax.models.tokens import Tokenizer

SPACE_CODES = ("none", "learned", "joint", "sines", "grid", "convolution", "rotary")
TIME_CODES = ("none", "learned", "sines", "convolution", "rotary")
REACH = 3  # tokens that a convolution sees, along each axis


class Places(nnx.Module):
    """tokens: of a frame, which learned codes of space need; frames: the most there can be."""

    def __init__(
        self, features: int, *, space: str, time: str, tokens: int, frames: int, rngs: nnx.Rngs
    ):
        check_name(space, SPACE_CODES, "core.space_code")
        check_name(time, TIME_CODES, "core.time_code")

        def learned(count):
            return nnx.Param(jax.random.normal(rngs.params(), (count, features)))

        self.space_code, self.time_code = space, time
        self.space = learned(tokens) if space == "learned" else None
        self.joint = learned(frames * tokens) if space == "joint" else None
        self.time = learned(frames) if time == "learned" else None

    @classmethod
    def of(
        cls,
        tokenizer: Tokenizer,
        space: str,
        time: str,
        frames: int,
        frame_size: tuple[int, int] | None,
        rngs: nnx.Rngs,
    ) -> "Places":
        """The codes of a tokenizer's tokens; frame_size: (height, width) of videos, or None."""
        if frame_size is None and space in ("learned", "joint"):
            raise UserError(
                f"found core.space_code {space!r} for videos of unknown size, expected their size "
                'in pixels; build the core for certain mice, or choose "sines".'
            )
        rows, columns = (0, 0) if frame_size is None else tokenizer.grid(*frame_size)
        features = tokenizer.bias.shape[0]
        return cls(
            features, space=space, time=time, tokens=rows * columns, frames=frames, rngs=rngs
        )

    def __call__(self, tokens: jax.Array) -> jax.Array:
        _, time, rows, columns, features = tokens.shape
        if self.joint is not None:
            frames = len(self.joint) // (rows * columns)
            _refuse_others(frames * rows * columns, len(self.joint), "tokens in a clip", True)
            _refuse_others(time, frames, "frames of tokens", exactly=False)
            table = self.joint[: time * rows * columns]
            tokens = layers.add(tokens, table.reshape(time, rows, columns, features))
        if self.space is not None:
            _refuse_others(rows * columns, len(self.space), "tokens in a frame", exactly=True)
            tokens = layers.add(tokens, self.space[...].reshape(rows, columns, features))
        elif self.space_code == "sines":
            code = sines(rows * columns, features).reshape(rows, columns, features)
            tokens = layers.add(tokens, code)
        elif self.space_code == "grid":
            tokens = layers.add(tokens, grid(rows, columns, features))
        if self.time is not None:
            _refuse_others(time, len(self.time), "frames of tokens", exactly=False)
            tokens = layers.add(tokens, self.time[:time][:, None, None])
        elif self.time_code == "sines":
            tokens = layers.add(tokens, sines(time, features)[:, None, None])
        return tokens


class Neighbours(nnx.Module):
    """A token and what a small filter of each feature sees of the tokens around it.

    along_time: of the same place in the frames before and after, else of the same frame.
    """

    def __init__(self, features: int, *, along_time: bool, rngs: nnx.Rngs):
        shape = (REACH, features) if along_time else (REACH, REACH, features)
        bound = math.prod(shape[:-1]) ** -0.5
        draw = jax.random.uniform(rngs.params(), shape, minval=-bound, maxval=bound)
        self.kernel = nnx.Param(draw)
        draw = jax.random.uniform(rngs.params(), (features,), minval=-bound, maxval=bound)
        self.bias = nnx.Param(draw)

    def __call__(self, x: jax.Array, rows: int) -> jax.Array:
        """Tokens [batch time place feature], of so many rows in each frame."""
        batch, time, places, features = x.shape
        grid = x.reshape(batch, time, rows, places // rows, features)
        kernel, around = self.kernel[...].astype(x.dtype), REACH // 2
        if self.kernel.ndim == 2:
            seen = depthwise.temporal(grid, kernel, padding=around)
        else:
            seen = depthwise.depthwise(grid, kernel, padding=(around, around))
        return x + layers.add(seen.reshape(x.shape), self.bias[...])


def sines(count: int, features: int) -> np.ndarray:
    """[count features]: sine and cosine in turns, at frequencies from 1 down to 1 / 10000."""
    frequencies = np.exp(np.arange(0, features, 2) * (-np.log(10000.0) / features))
    angles = np.arange(count)[:, None] * frequencies
    code = np.stack([np.sin(angles), np.cos(angles)], axis=-1)
    return code.reshape(count, -1)[:, :features].astype(np.float32)


def grid(rows: int, columns: int, features: int) -> np.ndarray:
    """[rows columns features]: half of the features tell the column, half the row.

    Of each half, sines come first, then cosines.
    """
    if features % 4:
        raise UserError(
            f'found core.features {features} with core.space_code "grid", expected a multiple of '
            "4, sines and cosines of two axes; choose one."
        )
    quarter = features // 4
    frequencies = 10000.0 ** -(np.arange(quarter) / quarter)

    def code(count):
        angles = np.arange(count)[:, None] * frequencies
        return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)

    of_columns = np.broadcast_to(code(columns)[None], (rows, columns, 2 * quarter))
    of_rows = np.broadcast_to(code(rows)[:, None], (rows, columns, 2 * quarter))
    return np.concatenate([of_columns, of_rows], axis=-1).astype(np.float32)


def _refuse_others(found: int, known: int, what: str, exactly: bool) -> None:
    if found == known or (found < known and not exactly):
        return
    raise UserError(
        f"found {found} {what} for learned position codes of {known}, expected "
        f"{'as many' if exactly else 'no more'}; use videos as in training, longer ones in windows "
        "(evaluation.window_frames), or codes made of sines."
    )
