"""The core of ViV1T as of 2025: a causal transformer, which can be asked frame by frame.

Every frame becomes a grid of tokens, each of a small patch of this and the twelve frames before.
First the tokens of each frame look at each other, and at some registers, learned tokens without a
place. Then those of each place look at their own past. What remains is a map of features for every
frame. Where a token is enters by rotary codes, within attention. (sota 3; the defaults are the
published model.)

Time has registers too in the published model, at the end of each clip. Under the causal mask no
frame sees them, so here they are kept for exchange with others, but neither computed nor trained.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from sensojax.errors import check_name
from sensojax.models import dropping, layers, rotary
from sensojax.models.token_places import Places
from sensojax.models.tokens import OfTokens, Tokenizer
from sensojax.models.transformer import PLACES, TIME, Parallel, Settings, Stack

# The smallest useful core, for tests of the contract that all cores keep.
TINY = dict(
    features=8,
    heads=2,
    head_width=4,
    hidden=6,
    spatial_blocks=1,
    temporal_blocks=1,
    patch=3,
    stride=2,
    patch_frames=2,
    registers=2,
    max_frames=8,
)
SPACE_CODES = ("none", "learned", "joint", "sines", "grid", "rotary")
TIME_CODES = ("none", "learned", "sines", "rotary")


class Core(OfTokens):
    """Video [batch time height width channel] -> features [batch time row column feature].

    features: of a token. heads, head_width, hidden, activation, norm, normalize_queries: of each
    block. patch, stride: of tokens, pixels. patch_frames: that a token sees. padded: zeros in front
    and around, so that no frame is lost. registers: beside the tokens of each frame, and of each
    place. space_code, time_code: of SPACE_CODES, TIME_CODES. rotary_gain: of `rotary.GAINS`, which
    is 1 in the middle of max_frames. causal: no frame sees later ones. final: a nonlinearity.
    patch_dropout: rate of leaving out whole tokens in training; the other rates: `transformer`.
    recompute: less memory, a third more time. frame_size: (height, width) of videos, pixels, for
    learned codes of space.
    """

    def __init__(
        self,
        input_channels: int,
        *,
        features: int = 112,
        heads: int = 2,
        head_width: int = 80,
        hidden: int = 224,
        activation: str = "relu",
        norm: str = "layer",
        normalize_queries: bool = False,
        spatial_blocks: int = 14,
        temporal_blocks: int = 14,
        patch: int = 7,
        stride: int = 2,
        patch_frames: int = 13,
        padded: bool = True,
        patch_norm: bool = True,
        registers: int = 24,
        space_code: str = "rotary",
        time_code: str = "rotary",
        rotary_gain: str = "published",
        max_frames: int = 300,
        causal: bool = True,
        final: str = "none",
        patch_dropout: float = 0.17,
        attention_dropout: float = 0.04,
        hidden_dropout: float = 0.21,
        drop_path: float = 0.43,
        recompute: bool = False,
        frame_size: tuple[int, int] | None = None,
        rngs: nnx.Rngs,
    ):
        settings = Settings(
            features=features,
            heads=heads,
            head_width=head_width,
            hidden=hidden,
            activation=activation,
            norm=norm,
            normalize_queries=normalize_queries,
            attention_dropout=attention_dropout,
            hidden_dropout=hidden_dropout,
            drop_path=drop_path,
        )
        settings.check()
        dropping.check(patch_dropout, "core.patch_dropout")
        check_name(final, layers.NONLINEARITIES, "core.final")
        check_name(rotary_gain, rotary.GAINS, "core.rotary_gain")
        check_name(space_code, SPACE_CODES, "core.space_code")
        check_name(time_code, TIME_CODES, "core.time_code")
        self.tokenizer = Tokenizer(
            input_channels,
            features,
            frames=patch_frames,
            patch=patch,
            stride=stride,
            padded=padded,
            patch_norm=patch_norm,
            norm=norm,
            rngs=rngs,
        )
        self.most_tokens = max_frames - self.tokenizer.lost_frames  # of one place
        self.places = Places.of(
            self.tokenizer, space_code, time_code, self.most_tokens, frame_size, rngs
        )
        draw = jax.random.normal(rngs.params(), (2, registers, features))
        # None rather than empty ones, which no checkpoint can hold.
        self.space_registers = nnx.Param(draw[0]) if registers else None
        self.time_registers = (
            (layers.Fixed if causal else nnx.Param)(draw[1]) if registers else None
        )
        self.registers = registers
        self.in_space, self.in_time = (
            Stack([Parallel(settings, rngs) for _ in range(blocks)], recompute=recompute)
            for blocks in (spatial_blocks, temporal_blocks)
        )
        self.head_width, self.rotary_gain = head_width, rotary_gain
        self.causal, self.final, self.num_features = causal, final, features
        self.patch_dropout = patch_dropout
        self.drops = any((patch_dropout, attention_dropout, hidden_dropout, drop_path))

    @property
    def lost_frames(self) -> int:
        """Frames at the beginning of a clip for which there is no result."""
        return self.tokenizer.lost_frames

    def __call__(
        self, video: jax.Array, *, train: bool, noise: jax.Array | None = None
    ) -> jax.Array:
        """noise: from `draw_noise` in training, else None."""
        tokens = self.tokenizer(video)
        batch, time, rows, columns, features = tokens.shape
        keys = dropping.numbered(noise, 0)
        tokens = dropping.drop(tokens, keys, self.patch_dropout, (time, rows, columns, 1))
        x = self.places(tokens).reshape(batch, time, rows * columns, features)
        x = self._with(self.space_registers, x, PLACES)
        turns = self._turns(self.places.space_code, rows * columns, rows * columns // 2, True)
        x = self.in_space(x, PLACES, turns=turns, keys=dropping.numbered(noise, 1))
        x = x[:, :, : rows * columns]
        if not self.causal:
            x = self._with(self.time_registers, x, TIME)
        turns = self._turns(self.places.time_code, time, self.most_tokens // 2, not self.causal)
        x = self.in_time(x, TIME, causal=self.causal, turns=turns, keys=dropping.numbered(noise, 2))
        return layers.NONLINEARITIES[self.final](x[:, :time].reshape(tokens.shape))

    def _with(self, registers, x, axis):
        if registers is None:
            return x
        shape = list(x.shape)
        shape[axis] = len(registers)
        there = registers[...] if axis == PLACES else registers[:][:, None]
        # Their gradients are sums over all clips and tokens: of float32, whatever x is.
        everywhere = jnp.broadcast_to(there.astype(jnp.float32), shape).astype(x.dtype)
        return jnp.concatenate([x, everywhere], axis)

    def _turns(self, code, tokens, middle, registers):
        """How queries and keys are turned, if the code says so; registers are not."""
        if code != "rotary":
            return None
        return rotary.turns(
            tokens,
            self.head_width,
            middle=middle,
            gain=self.rotary_gain,
            untouched=self.registers * registers,
        )
