"""Attention, rotary codes, tokens and codes of place, beside what they are by definition."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sensojax.errors import UserError
from sensojax.models import attention, dropping, rotary, token_places
from sensojax.models.norms import NORMS, DyT, LayerNorm
from sensojax.models.tokens import Tokenizer
from tests.models.made_up import QUICKLY, normal

SEQUENCES, TOKENS, HEADS, WIDTH = 5, 70, 2, 4


def jitted(function):
    return jax.jit(function, compiler_options=QUICKLY)


@pytest.fixture(scope="module")
def given():
    return tuple(normal(seed, SEQUENCES, TOKENS, HEADS, WIDTH) for seed in range(3))


def by_definition(queries, keys, values, causal):
    queries, keys, values = (np.asarray(x, np.float64) for x in (queries, keys, values))
    scores = np.einsum("sqhw,skhw->shqk", queries, keys) / np.sqrt(WIDTH)
    if causal:
        scores = np.where(np.tril(np.ones((TOKENS, TOKENS), bool)), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("shqk,skhw->sqhw", weights, values)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_in_groups_and_blocks_is_what_it_is_by_definition(given, causal, monkeypatch):
    monkeypatch.setattr(attention, "GROUP_ON_CPU", 2 * HEADS * TOKENS**2)  # 5 sequences in 3 groups
    found = jitted(lambda *each: attention.attend(*each, causal=causal))(*given)
    np.testing.assert_allclose(found, by_definition(*given, causal), atol=1e-6)


def test_no_token_sees_later_ones_under_a_causal_mask(given):
    """Also where blocks of queries meet."""
    border = max(-(-TOKENS // attention.CAUSAL_BLOCKS), attention.SHORTEST_BLOCK)
    assert border < TOKENS

    @jitted
    def gradients(place):
        def seen(keys, values):
            return jnp.sum(attention.attend(given[0], keys, values, causal=True)[:, place])

        return jax.grad(seen, (0, 1))(given[1], given[2])

    for place in (1, border - 1, border):
        for gradient in gradients(place):
            assert not np.any(gradient[:, place + 1 :]) and np.all(gradient[:, place] != 0)


@pytest.mark.parametrize(
    ("width", "dtype", "fused"),
    [
        (80, jnp.bfloat16, True),  # ViV1T of 2025
        (48, jnp.float16, True),  # and of 2023
        (80, jnp.float32, False),
        (155, jnp.bfloat16, False),  # V1T
        (4, jnp.bfloat16, False),
    ],
)
def test_on_an_accelerator_the_fused_kernel_is_given_the_heads_that_it_takes(
    width, dtype, fused, monkeypatch
):
    """All others go on in groups, in whatever precision, instead of ending in its refusal."""
    asked = []

    def kernel(queries, keys, values, *, is_causal, scale, implementation):
        asked.append((is_causal, scale, implementation))
        return queries

    given = [normal(seed, 2, 3, 1, width).astype(dtype) for seed in range(3)]
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    if fused:
        monkeypatch.setattr(jax.nn, "dot_product_attention", kernel)
    out = jax.eval_shape(functools.partial(attention.attend, causal=True), *given)
    assert (out.shape, out.dtype) == ((2, 3, 1, width), dtype)
    assert asked == ([(True, width**-0.5, "cudnn")] if fused else [])


def products(gain, places, shift=0):
    """Of one query and one key at two places, turned."""
    turns = rotary.turns(40, WIDTH, middle=20, gain=gain)
    query, key = (jnp.broadcast_to(normal(seed, 1, WIDTH), (40, 1, WIDTH)) for seed in (5, 6))
    queries, keys = rotary.turn(query, key, turns)
    first, second = (place + shift for place in places)
    return float(jnp.sum(queries[first, 0] * keys[second, 0]))


@pytest.mark.parametrize("gain", rotary.GAINS)
def test_only_the_published_gain_tells_more_than_how_far_tokens_are_apart(gain):
    one, later = (products(gain, (3, 8), shift) for shift in (0, 25))
    assert products(gain, (3, 9)) != pytest.approx(one, rel=1e-3)
    if gain == "published":
        assert later != pytest.approx(one, rel=1e-3)
    else:
        assert later == pytest.approx(one, rel=1e-4)


def test_registers_are_not_turned():
    turns = rotary.turns(4, WIDTH, middle=2, gain="published", untouched=3)
    x = normal(0, 7, HEADS, WIDTH)
    queries, keys = rotary.turn(x, x, turns)
    assert np.array_equal(queries[4:], x[4:]) and np.array_equal(keys[4:], x[4:])
    assert not np.allclose(queries[1:4], x[1:4])


@pytest.mark.parametrize(
    ("norm", "padded", "patch_norm"),
    [
        ("layer", True, True),
        pytest.param("rms", True, True, marks=pytest.mark.slow),
        pytest.param("dyt", True, True, marks=pytest.mark.slow),
        pytest.param("layer", False, True, marks=pytest.mark.slow),
        pytest.param("layer", False, False, marks=pytest.mark.slow),
    ],
)
def test_tokens_are_those_of_patches_cut_out_one_by_one(norm, padded, patch_norm):
    frames, patch, stride = 3, 4, 3
    tokenizer = Tokenizer(
        2,
        5,
        frames=frames,
        patch=patch,
        stride=stride,
        padded=padded,
        patch_norm=patch_norm,
        norm=norm,
        rngs=nnx.Rngs(0),
    )
    if patch_norm:
        tokenizer.patch_norm.scale[...] = 1 + 0.3 * normal(1, frames, patch, patch, 2)
        if tokenizer.patch_norm.bias is not None:
            tokenizer.patch_norm.bias[...] = normal(2, frames, patch, patch, 2)
    video = 3 + normal(3, 1, 6, 10, 12, 2)  # an average that is not 0 is no trouble
    found = jitted(lambda video: tokenizer(video))(video)
    # 10 and 12 pixels are 4 tokens each when padded: 3 zeros above and below, 1 left and right.
    around = [(0, 0), (frames - 1, 0), (1, 2), (0, 1), (0, 0)] if padded else [(0, 0)] * 5
    seen = np.pad(np.asarray(video), around)
    rows, columns = tokenizer.grid(10, 12)
    assert found.shape == (1, seen.shape[1] - frames + 1, rows, columns, 5)
    assert (rows, columns) == ((4, 4) if padded else (3, 3))
    flat = NORMS[norm](frames * patch * patch * 2)
    if patch_norm:
        flat.scale[...] = tokenizer.patch_norm.scale[...].reshape(-1)
        if flat.bias is not None:
            flat.bias[...] = tokenizer.patch_norm.bias[...].reshape(-1)
    for time, row, column in ((0, 0, 0), (found.shape[1] - 1, rows - 1, columns - 1), (2, 1, 2)):
        top, left = row * stride, column * stride
        cut = seen[0, time : time + frames, top : top + patch, left : left + patch].reshape(-1)
        cut = flat(jnp.asarray(cut)) if patch_norm else jnp.asarray(cut)
        token = tokenizer.norm(cut @ tokenizer.kernel[...].reshape(-1, 5) + tokenizer.bias[...])
        np.testing.assert_allclose(found[0, time, row, column], token, atol=2e-5)


@pytest.mark.parametrize(
    ("patch", "stride", "padded", "grid"),
    [
        (7, 2, False, (15, 29)),  # ViV1T of 2023
        (7, 2, True, (18, 32)),  # of 2025
        (8, 1, False, (29, 57)),  # V1T
        (4, 4, False, (9, 16)),  # published code makes 12 x 12 of as many, and scrambles the map
        (8, 4, False, (8, 15)),  # 10 x 12
    ],
)
def test_the_grid_of_tokens_follows_from_the_frame_and_not_from_their_number(
    patch, stride, padded, grid
):
    how = dict(patch=patch, stride=stride, padded=padded, patch_norm=False, norm="")

    def tokens(video):
        made = Tokenizer(1, 2, frames=1, **how, rngs=nnx.Rngs(0))
        assert made.grid(36, 64) == grid  # sota 2.3, 3.1, 3.2
        return made(video)

    assert jax.eval_shape(tokens, jnp.zeros((1, 1, 36, 64, 1))).shape == (1, 1, *grid, 2)


def test_dynamic_tanh_is_what_it_is_by_definition_of_single_features():
    made, x = DyT(8), normal(0, 3, 8)
    np.testing.assert_allclose(made(x), np.tanh(x / 2), atol=1e-6)
    made.rate[...], made.scale[...], made.bias[...] = 0.3, normal(1, 8), normal(2, 8)
    expected = np.tanh(0.3 * np.asarray(x)) * np.asarray(made.scale) + np.asarray(made.bias)
    np.testing.assert_allclose(made(x), expected, atol=1e-6)


def test_norms_keep_the_precision_of_what_they_are_given():
    x = normal(0, 3, 8).astype(jnp.bfloat16)
    for norm in NORMS.values():
        assert norm(8)(x).dtype == jnp.bfloat16
    wide = LayerNorm(8)(1000 + normal(0, 3, 8))
    np.testing.assert_allclose(wide.mean(-1), 0, atol=1e-3)


def places(space, time, **changed):
    sizes = dict(tokens=6, frames=5) | changed
    return token_places.Places(8, space=space, time=time, rngs=nnx.Rngs(0), **sizes)


def test_codes_of_place_and_time_tell_tokens_apart():
    nothing = jnp.zeros((1, 4, 2, 3, 8))
    elsewhere = ("none", "rotary", "convolution")  # or nowhere
    for space in token_places.SPACE_CODES:
        found = np.asarray(places(space, "none")(nothing))[0, 0].reshape(6, 8)
        assert len(np.unique(found, axis=0)) == (1 if space in elsewhere else 6)
    for time in token_places.TIME_CODES:
        found = np.asarray(places("none", time)(nothing))[0, :, 0, 0]
        assert len(np.unique(found, axis=0)) == (1 if time in elsewhere else 4)


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ((1, 6, 2, 3, 8), "found 6 frames of tokens for learned position codes of 5"),
        ((1, 4, 2, 2, 8), "found 4 tokens in a frame for learned position codes of 6"),
    ],
)
def test_more_than_was_learned_is_refused(shape, sentence):
    with pytest.raises(UserError, match=sentence):
        places("learned", "learned")(jnp.zeros(shape))


def test_examples_drop_by_their_own_keys_and_alike_wherever_they_are():
    keys = jax.random.split(jax.random.key(0), 3)
    x = jnp.ones((3, 40, 50))
    found = dropping.drop(x, keys, 0.25)
    assert np.mean(found == 0) == pytest.approx(0.25, abs=0.03)
    np.testing.assert_allclose(found[found != 0], 1 / 0.75, rtol=1e-6)
    np.testing.assert_array_equal(dropping.drop(x[1:], keys[1:], 0.25), found[1:])
    assert not np.array_equal(found[0], found[1])
    rows = np.asarray(dropping.drop(x, keys, 0.5, (40, 1)))
    assert np.all(rows == rows[..., :1]) and 0 < np.mean(rows == 0) < 1
    assert not np.array_equal(dropping.drop(x, dropping.numbered(keys, 1), 0.25), found)
