"""The core of V1T: a transformer over the patches of single frames, which do not see each other.

Every frame becomes a grid of overlapping patches, mapped to tokens that know their place from
learned codes, and one token more that belongs to no place and is left out of the result. In front
of each block a small network can add to all of them what the animal does in this frame. (sota 3.1;
the defaults are those that ViV1T's authors compare their model with.)
"""

import jax
import jax.numpy as jnp
from flax import nnx

from sensojax.errors import UserError, check_name
from sensojax.models import dropping, layers
from sensojax.models.token_behavior import BEHAVIORS, BehaviorNetwork, picture_and_state
from sensojax.models.tokens import OfTokens, Tokenizer
from sensojax.models.transformer import PLACES, Sequential, Settings, Stack

# The smallest useful core, for tests of the contract that all cores keep.
TINY = dict(features=8, heads=2, hidden=6, blocks=1, patch=3, stride=2)


class Core(OfTokens):
    """Video [batch time height width channel] -> features [batch time row column feature].

    features: of a token, and the width of each of the heads. hidden: width within a block. patch,
    stride: of tokens, pixels. behavior: "planes" are channels like the picture, for a "network"
    they are what they say. patch_dropout: rate of leaving out single numbers of tokens in training;
    dropout, drop_path: those within blocks (`transformer`). frame_size: (height, width), pixels.
    """

    causal = True
    lost_frames = 0

    def __init__(
        self,
        input_channels: int,
        *,
        features: int = 155,
        heads: int = 4,
        hidden: int = 488,
        blocks: int = 4,
        patch: int = 8,
        stride: int = 1,
        behavior: str = "planes",
        patch_dropout: float = 0.0229,
        dropout: float = 0.2544,
        drop_path: float = 0.0,
        frame_size: tuple[int, int] | None = None,
        rngs: nnx.Rngs,
    ):
        check_name(behavior, BEHAVIORS, "core.behavior")
        dropping.check(patch_dropout, "core.patch_dropout")
        dropping.check(dropout, "core.dropout")
        if frame_size is None:
            raise UserError(
                "found the core v1t for videos of unknown size, expected their size in pixels; "
                "build it for certain mice."
            )
        settings = Settings(
            features=features,
            heads=heads,
            head_width=features,
            hidden=hidden,
            activation="gelu",
            norm="layer",
            normalize_queries=False,
            attention_dropout=dropout,
            hidden_dropout=dropout,
            drop_path=drop_path,
        )
        settings.check()
        self.behavior = behavior
        self.tokenizer = Tokenizer(
            1 if behavior == "network" else input_channels,
            features,
            frames=1,
            patch=patch,
            stride=stride,
            padded=False,
            patch_norm=False,
            norm="",
            rngs=rngs,
        )
        rows, columns = self.tokenizer.grid(*frame_size)
        draw = jax.random.normal(rngs.params(), (rows * columns + 2, features))
        self.extra = nnx.Param(draw[0])  # the token without a place
        self.places = nnx.Param(draw[1:])  # of that token, then of the patches
        networks = [
            BehaviorNetwork(input_channels - 1, 1, features, rngs)
            for _ in range(blocks * (behavior == "network"))
        ]
        in_space = [Sequential(settings, rngs) for _ in range(blocks)]
        self.in_space = Stack(in_space, networks, recompute=False)
        self.num_features = features
        self.patch_dropout = patch_dropout
        self.drops = any((patch_dropout, dropout, drop_path))

    def __call__(
        self, video: jax.Array, *, train: bool, noise: jax.Array | None = None
    ) -> jax.Array:
        """noise: from `draw_noise` in training, else None."""
        state = ()
        if self.behavior == "network":
            video, *state = picture_and_state(video)
        tokens = self.tokenizer(video)
        batch, time, rows, columns, features = tokens.shape
        if rows * columns + 1 != len(self.places):
            raise UserError(
                f"found {rows * columns} patches in a frame for position codes of "
                f"{len(self.places) - 1}, expected as many; use videos as in training."
            )
        x = tokens.reshape(batch, time, rows * columns, features)
        extra = jnp.broadcast_to(self.extra[...].astype(x.dtype), (batch, time, 1, features))
        x = layers.add(jnp.concatenate([extra, x], PLACES), self.places[...])
        x = dropping.drop(x, dropping.numbered(noise, 0), self.patch_dropout)
        x = self.in_space(x, PLACES, keys=dropping.numbered(noise, 1), state=state)
        return x[:, :, 1:].reshape(tokens.shape)
