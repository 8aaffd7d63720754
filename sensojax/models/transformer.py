"""The blocks of video transformers: tokens look at each other, and each thinks for itself.

Tokens [batch time place feature] in and out. A block looks `along` one axis: along places, all
tokens of a frame look at each other; along time, all tokens of one place. Published blocks do both
things beside each other from the same normalised tokens (`Parallel`), or one after the other
(`Sequential`); sota 2.3 and 3.4.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from sensojax.errors import check_name
from sensojax.models import attention, dropping, layers, rotary
from sensojax.models.norms import NORMS

TIME, PLACES = 1, 2
ACTIVATIONS = {
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "relu": jax.nn.relu,
    "swiglu": lambda x: layers.silu(_halves(x)[1]) * _halves(x)[0],
}
# What products of queries and keys are multiplied with: 1 / sqrt(width of a head), or of a token,
# as one of two published ways of computing the same sequential block has it (sota 6.2).
SCORE_SCALES = ("head", "token")


class Settings(NamedTuple):
    """What all blocks of a model have in common; rates are of leaving out in training."""

    features: int
    heads: int
    head_width: int
    hidden: int
    activation: str
    norm: str
    normalize_queries: bool
    score_scale: str = "head"
    attention_dropout: float = 0.0
    hidden_dropout: float = 0.0
    drop_path: float = 0.0

    def check(self) -> None:
        check_name(self.activation, ACTIVATIONS, "core.activation")
        check_name(self.norm, NORMS, "core.norm")
        check_name(self.score_scale, SCORE_SCALES, "core.score_scale")
        for rate in ("attention_dropout", "hidden_dropout", "drop_path"):
            dropping.check(getattr(self, rate), f"core.{rate}")

    @property
    def inner(self) -> int:
        """Width of all heads together."""
        return self.heads * self.head_width

    @property
    def before_activation(self) -> int:
        return self.hidden * (2 if self.activation == "swiglu" else 1)


class Heads(nnx.Module):
    """From queries, keys and values of all heads to what they attend to, before the last map."""

    def __init__(self, settings: Settings):
        self.settings = settings
        new = NORMS[settings.norm] if settings.normalize_queries else lambda width: None
        self.query_norm = new(settings.inner)
        self.key_norm = new(settings.inner)

    def __call__(self, fused, along, *, causal, turns, keys):
        """fused: [batch time place 3*inner]; turns: of `rotary`, or None."""
        settings = self.settings
        queries, of_keys, values = jnp.split(fused, 3, axis=-1)
        if self.query_norm is not None:
            queries, of_keys = self.query_norm(queries), self.key_norm(of_keys)

        def sequences(x):
            x = x.swapaxes(1, 2) if along == TIME else x
            return x.reshape(-1, x.shape[2], settings.heads, settings.head_width)

        queries, of_keys, values = map(sequences, (queries, of_keys, values))
        if turns is not None:
            queries, of_keys = rotary.turn(queries, of_keys, turns)
        scale = settings.features**-0.5 if settings.score_scale == "token" else None
        out = attention.attend(queries, of_keys, values, causal=causal, scale=scale)
        batch, time, places, _ = fused.shape
        shape = (batch, places, time) if along == TIME else (batch, time, places)
        out = out.reshape(*shape, settings.inner)
        out = out.swapaxes(1, 2) if along == TIME else out
        return dropping.drop(out, keys, settings.attention_dropout)


class Parallel(nnx.Module):
    """x + attention(norm(x)) + thinking(norm(x)), all first maps in one, none with an offset."""

    def __init__(self, settings: Settings, rngs: nnx.Rngs):
        self.settings = settings
        self.norm = NORMS[settings.norm](settings.features)
        self.fused = _weight(
            settings.features, 3 * settings.inner + settings.before_activation, rngs
        )
        self.heads = Heads(settings)
        self.attention_out = _weight(settings.inner, settings.features, rngs)
        self.hidden_out = _weight(settings.hidden, settings.features, rngs)

    def __call__(self, x, along, *, causal=False, turns=None, keys=None):
        settings = self.settings
        fused = jnp.dot(self.norm(x), self.fused[...])
        seen = self.heads(
            fused[..., : 3 * settings.inner],
            along,
            causal=causal,
            turns=turns,
            keys=dropping.numbered(keys, 0),
        )
        hidden = ACTIVATIONS[settings.activation](fused[..., 3 * settings.inner :])
        hidden = dropping.drop(hidden, dropping.numbered(keys, 1), settings.hidden_dropout)
        seen = jnp.dot(seen, self.attention_out[...])
        hidden = jnp.dot(hidden, self.hidden_out[...])
        return x + _branch(self, seen, along, keys, 2) + _branch(self, hidden, along, keys, 3)


class Sequential(nnx.Module):
    """x + attention(norm(x)), then the result + thinking(norm(of it))."""

    def __init__(self, settings: Settings, rngs: nnx.Rngs):
        self.settings = settings
        features, first = settings.features, settings.before_activation
        self.norm = NORMS[settings.norm](features)
        self.fused = _weight(features, 3 * settings.inner, rngs)
        self.heads = Heads(settings)
        self.attention_out = _weight(settings.inner, features, rngs)
        self.attention_bias = nnx.Param(jnp.zeros(features))
        self.hidden_norm = NORMS[settings.norm](features)
        self.hidden_in = _weight(features, first, rngs)
        self.hidden_in_bias = nnx.Param(jnp.zeros(first))
        self.hidden_out = _weight(settings.hidden, features, rngs)
        self.hidden_out_bias = nnx.Param(jnp.zeros(features))

    def __call__(self, x, along, *, causal=False, turns=None, keys=None):
        settings = self.settings

        def dropped(x, number, rate):
            return dropping.drop(x, dropping.numbered(keys, number), rate)

        seen = self.heads(
            jnp.dot(self.norm(x), self.fused[...]),
            along,
            causal=causal,
            turns=turns,
            keys=dropping.numbered(keys, 0),
        )
        seen = layers.add(jnp.dot(seen, self.attention_out[...]), self.attention_bias[...])
        x = x + _branch(self, dropped(seen, 4, settings.attention_dropout), along, keys, 2)
        hidden = jnp.dot(self.hidden_norm(x), self.hidden_in[...])
        hidden = layers.add(hidden, self.hidden_in_bias[...])
        hidden = dropped(ACTIVATIONS[settings.activation](hidden), 1, settings.hidden_dropout)
        hidden = layers.add(jnp.dot(hidden, self.hidden_out[...]), self.hidden_out_bias[...])
        return x + _branch(self, dropped(hidden, 5, settings.hidden_dropout), along, keys, 3)


class Stack(nnx.Module):
    """Equal blocks one after the other, all along the same axis, as one loop: compiled once.

    networks: (e.g. behaviour -> tokens) of each block, whose result is added before it; or none.
    recompute: what happens within a block is not kept for the backward pass but computed again.
    neighbours: what tokens are told after the first block of those beside them, or None.
    """

    def __init__(
        self,
        blocks: Sequence[nnx.Module],
        networks: Sequence[nnx.Module] = (),
        *,
        recompute: bool,
        neighbours: nnx.Module | None = None,
    ):
        self.blocks = nnx.List(blocks)
        self.networks = nnx.List(networks)
        self.recompute = recompute
        self.neighbours = neighbours

    def __call__(self, x, along, *, causal=False, turns=None, keys=None, state=(), rows=1):
        """state: arrays [batch ...] that networks are called with, rows: of a frame."""
        graph, blocks = _stacked(self.blocks)
        network_graph, networks = _stacked(self.networks)

        def run(x, arrays):
            number, block, network = arrays
            if network is not None:
                added = nnx.merge(network_graph, network)(*state)  # the same for all places
                x = layers.add(x, added[:, :, None])
            block = nnx.merge(graph, block)
            of_block = dropping.numbered(keys, number)
            return block(x, along, causal=causal, turns=turns, keys=of_block), None

        run = jax.checkpoint(run) if self.recompute else run
        arrays = np.arange(len(self.blocks)), blocks, networks
        if self.neighbours is not None:
            first, arrays = (
                jax.tree.map(lambda a, part=part: a[part], arrays)
                for part in (slice(0, 1), slice(1, None))
            )
            x = self.neighbours(lax.scan(run, x, first)[0], rows)
        return lax.scan(run, x, arrays)[0]


def _stacked(modules: nnx.List) -> tuple[nnx.GraphDef | None, dict | None]:
    """The structure of equal modules, and their arrays with a leading axis for the module."""
    if not modules:
        return None, None
    graphs, states = zip(*(nnx.split(module) for module in modules), strict=True)
    pure = [nnx.to_pure_dict(state) for state in states]
    return graphs[0], jax.tree.map(lambda *arrays: jnp.stack(arrays), *pure)


def _weight(inputs: int, outputs: int, rngs: nnx.Rngs) -> nnx.Param:
    return nnx.Param(0.02 * jax.random.normal(rngs.params(), (inputs, outputs)))


def _branch(block, x, along, keys, number):
    """x, in training without some of its sequences."""
    shape = (1, x.shape[2], 1) if along == TIME else (x.shape[1], 1, 1)
    return dropping.drop(x, dropping.numbered(keys, number), block.settings.drop_path, shape)


def _halves(x):
    return jnp.split(x, 2, axis=-1)
