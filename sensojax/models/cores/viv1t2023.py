"""The core of ViV1T as it came third in Sensorium 2023: a transformer over the whole clip.

Sliding patches of 25 frames become tokens, which know their place and time from learned codes.
First the tokens of each frame look at each other, then those of each place, at earlier and at later
frames alike: it is not causal. Behaviour enters as planes of the video, or through a small network
in front of each block, which adds to every token what the animal did in its frames. (sota 2; the
defaults are the published model.)
"""

import jax
from flax import nnx

from sensojax.errors import check_name
from sensojax.models import dropping, transformer
from sensojax.models.token_behavior import BEHAVIORS, BehaviorNetwork, OfMice, picture_and_state
from sensojax.models.token_places import Neighbours, Places
from sensojax.models.tokens import OfTokens, Tokenizer
from sensojax.models.transformer import PLACES, TIME, Settings, Stack

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
    max_frames=8,
)
BLOCKS = {"parallel": transformer.Parallel, "sequential": transformer.Sequential}
SPACE_CODES = ("none", "learned", "joint", "sines", "convolution")
TIME_CODES = ("none", "learned", "sines", "convolution")


class Core(OfTokens):
    """Video [batch time height width channel] -> features [batch time' row column feature].

    blocks: "parallel" or "sequential". features: of a token. heads, head_width, hidden, activation,
    normalize_queries, score_scale: of each block. patch, stride: of tokens, pixels. patch_frames:
    that a token sees. patch_norm: whether the pixels of a patch are normalised first. space_code,
    time_code: of SPACE_CODES, TIME_CODES, learned ones for clips of at most max_frames. behavior:
    "planes" are channels like the picture, for a "network" they are what they say, and so they are
    for "networks" of mice, of which there are `mice`. patch_dropout: rate of leaving out single
    numbers of tokens in training; the other rates: `transformer`. recompute: less memory, a third
    more time. frame_size: (height, width) of videos, pixels, for learned codes of space.
    """

    causal = False

    def __init__(
        self,
        input_channels: int,
        *,
        blocks: str = "parallel",
        features: int = 112,
        heads: int = 11,
        head_width: int = 48,
        hidden: int = 136,
        activation: str = "gelu",
        normalize_queries: bool = False,
        score_scale: str = "head",
        spatial_blocks: int = 3,
        temporal_blocks: int = 5,
        patch: int = 7,
        stride: int = 2,
        patch_frames: int = 25,
        patch_norm: bool = True,
        space_code: str = "learned",
        time_code: str = "learned",
        max_frames: int = 300,
        behavior: str = "planes",
        patch_dropout: float = 0.1338,
        attention_dropout: float = 0.358,
        hidden_dropout: float = 0.0592,
        drop_path: float = 0.0505,
        recompute: bool = False,
        frame_size: tuple[int, int] | None = None,
        mice: int = 1,
        rngs: nnx.Rngs,
    ):
        check_name(blocks, BLOCKS, "core.blocks")
        check_name(behavior, (*BEHAVIORS, "networks"), "core.behavior")
        check_name(space_code, SPACE_CODES, "core.space_code")
        check_name(time_code, TIME_CODES, "core.time_code")
        settings = Settings(
            features=features,
            heads=heads,
            head_width=head_width,
            hidden=hidden,
            activation=activation,
            norm="layer",
            normalize_queries=normalize_queries,
            score_scale=score_scale,
            attention_dropout=attention_dropout,
            hidden_dropout=hidden_dropout,
            drop_path=drop_path,
        )
        settings.check()
        dropping.check(patch_dropout, "core.patch_dropout")
        self.behavior = behavior
        self.asks_mice = behavior == "networks"  # whether it is told whose clips it sees
        self.tokenizer = Tokenizer(
            input_channels if behavior == "planes" else 1,
            features,
            frames=patch_frames,
            patch=patch,
            stride=stride,
            padded=False,
            patch_norm=patch_norm,
            norm="layer",
            rngs=rngs,
        )
        self.most_tokens = max_frames - self.tokenizer.lost_frames  # of one place
        self.places = Places.of(
            self.tokenizer, space_code, time_code, self.most_tokens, frame_size, rngs
        )

        def network():
            settings = (input_channels - 1, patch_frames, features)
            if self.asks_mice:
                return OfMice(mice, *settings, rngs=rngs)
            return BehaviorNetwork(*settings, rngs)

        def stack(count, code, along_time):
            networks = [network() for _ in range(count * (behavior != "planes"))]
            return Stack(
                [BLOCKS[blocks](settings, rngs) for _ in range(count)],
                networks,
                recompute=recompute,
                neighbours=Neighbours(features, along_time=along_time, rngs=rngs)
                if code == "convolution"
                else None,
            )

        self.in_space = stack(spatial_blocks, space_code, False)
        self.in_time = stack(temporal_blocks, time_code, True)
        self.num_features = features
        self.patch_dropout = patch_dropout
        self.drops = any((patch_dropout, attention_dropout, hidden_dropout, drop_path))

    @property
    def lost_frames(self) -> int:
        """Frames at the beginning of a clip for which there is no result."""
        return self.tokenizer.lost_frames

    def __call__(
        self,
        video: jax.Array,
        *,
        train: bool,
        noise: jax.Array | None = None,
        mice: jax.Array | None = None,
    ) -> jax.Array:
        """noise: from `draw_noise` in training, else None. mice: [batch], the number of each clip's
        mouse in the order of their names, if the core `asks_mice`."""
        state = ()
        if self.behavior != "planes":
            video, *state = picture_and_state(video)
        if self.asks_mice:
            state = (*state, mice)
        tokens = self.tokenizer(video)
        keys = dropping.numbered(noise, 0)
        tokens = self.places(dropping.drop(tokens, keys, self.patch_dropout))
        x = tokens.reshape(*tokens.shape[:2], -1, self.num_features)
        rows = tokens.shape[2]
        x = self.in_space(x, PLACES, keys=dropping.numbered(noise, 1), state=state, rows=rows)
        x = self.in_time(x, TIME, keys=dropping.numbered(noise, 2), state=state, rows=rows)
        return x.reshape(tokens.shape)
