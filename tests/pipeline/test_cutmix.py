"""CutMix moves boxes between clips of one mouse, and nothing else, as its random key says."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sensojax.errors import UserError
from sensojax.pipeline import cutmix
from sensojax.types import Batch
from tests.models.made_up import QUICKLY

CLIPS, TIME, HEIGHT, WIDTH, NEURONS = 4, 3, 10, 16, 5


def numbered(mouse: int = 0) -> Batch:
    """Clips whose pixels and responses say which clip of which mouse they are of."""
    number = 100.0 * mouse + jnp.arange(CLIPS, dtype=jnp.float32)
    video = jnp.broadcast_to(number[:, None, None, None, None], (CLIPS, TIME, HEIGHT, WIDTH, 2))
    responses = jnp.broadcast_to(number[:, None, None], (CLIPS, TIME, NEURONS))
    none = jnp.zeros((CLIPS, TIME, 2))
    valid = jnp.ones((CLIPS, TIME), bool).at[1, 0].set(False)
    return Batch(video, responses, none, none, valid, jnp.zeros(CLIPS, jnp.int32))


def mixed(probability: float, seed: int, **batches: Batch) -> dict[str, Batch]:
    return mixing(probability)(jax.random.key(seed), batches)


@functools.cache
def mixing(probability: float):
    made = cutmix.mixing(probability=probability, alpha=1.0, axes="image")
    return jax.jit(made, compiler_options=QUICKLY)


def test_responses_are_mixed_as_pixels_are():
    """Each is numbered, so the mean pixel of a clip must be the number of its responses."""
    changed = 0
    for seed in range(8):
        for mouse, found in mixed(0.7, seed, a=numbered(0), b=numbered(3)).items():
            pixels = np.asarray(found.video).mean(axis=(2, 3))  # the same in each channel
            np.testing.assert_allclose(pixels[..., 0], found.responses[..., 0], rtol=1e-4)
            np.testing.assert_array_equal(found.video[..., 0], found.video[..., 1])
            start = 300 if mouse == "b" else 0
            whose = np.unique(found.video) - start
            assert set(whose) <= set(range(CLIPS))  # of the same mouse
            for clip in range(CLIPS):
                assert len(np.unique(found.video[clip])) <= 2
            changed += np.sum(pixels[:, 0, 0] != numbered(start // 100).video[:, 0, 0, 0, 0])
    assert 20 < changed < 60  # of 64, at 0.7 and with a box that is not empty


def test_what_comes_from_a_partner_is_a_box():
    """Rows and columns that hold other pixels make a rectangle, in all frames the same."""
    sides = set()
    for seed in range(6):
        both = mixed(1.0, seed, a=numbered(), b=numbered())
        video = np.asarray(both["a"].video[..., 0])
        other = video != np.arange(CLIPS)[:, None, None, None]
        assert (other == other[:, :1]).all()
        for box in other[:, 0]:
            rows, columns = box.any(axis=1), box.any(axis=0)
            np.testing.assert_array_equal(box, rows[:, None] & columns[None])
            sides.add((int(rows.sum()), int(columns.sum())))
    assert max(rows for rows, _ in sides) <= HEIGHT and len(sides) > 8
    assert max(columns for _, columns in sides) > HEIGHT  # made from the width


def test_a_frame_counts_if_it_does_in_both_clips():
    batch = numbered()
    partners, box = jnp.array([1, 2, 3, 0]), jnp.tile(jnp.array([[0, 2, 0, 2]]), (CLIPS, 1))
    found = cutmix.mix(batch, partners, box, jnp.array([True, True, False, True]))
    expected = [[False, True, True], [False, True, True], [True] * 3, [True] * 3]
    np.testing.assert_array_equal(found.valid, expected)
    # Clip 0 has not seen the partner that clip 3 has, nor the other way round.
    assert found.video[0].max() == 1 and found.video[2].max() == found.video[2].min() == 2


def test_mixing_is_a_function_of_the_key():
    batches = dict(a=numbered(), b=numbered())
    one, same, other = (mixed(1.0, seed, **batches)["a"].video for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.any(one != other)


def test_mice_are_mixed_by_themselves():
    """Two mice that see the same are not mixed alike."""
    found = mixed(1.0, 0, a=numbered(), b=numbered())
    assert np.any(found["a"].video != found["b"].video)


def test_every_other_clip_is_a_partner_and_none_is_its_own():
    draw = jax.jit(lambda key: cutmix.draw(key, numbered(), 0.5, 0.3, "image")[:2])
    seen = set()
    for seed in range(20):
        partners, boxes = draw(jax.random.key(seed))
        seen |= set(enumerate(np.asarray(partners).tolist()))
        assert np.all(boxes[:, ::2] <= boxes[:, 1::2])
    assert seen == {(i, j) for i in range(CLIPS) for j in range(CLIPS) if i != j}


def test_rows_of_wide_frames_are_cut_by_the_height_unless_as_published():
    """The published limits of the rows are made from the width, and so may lie past the last."""
    part, center = jnp.array([1.0]), jnp.array([[3, 3]])
    image = cutmix.limits(part, center, (HEIGHT, WIDTH), "image")
    published = cutmix.limits(part, center, (HEIGHT, WIDTH), "published")
    np.testing.assert_array_equal(image[0], [0, 8, 0, 11])
    np.testing.assert_array_equal(published[0], [0, 11, 0, 8])


def test_off_is_nothing_at_all():
    assert cutmix.mixing(probability=0.0, alpha=1.0, axes="image") is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(axes="imgae"), "did you mean 'image'"),
        (dict(probability=1.5), "expected 0 to 1"),
        (dict(alpha=0.0), "above 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(change, said):
    with pytest.raises(UserError, match=said):
        cutmix.mixing(**{"probability": 0.5, "alpha": 1.0, "axes": "image", **change})
