"""Video ids are those of comparing every video with every other, found without doing so."""

import itertools

import numpy as np
import pytest

from sensojax.stimuli import identity
from sensojax.stimuli.identity import Sketch

TIERS = ("train", "oracle", "live_test_main", "final_test_bonus", "none")


def padded(videos, frames):
    """[video time height width], -1 past the ends."""
    table = np.full((len(videos), frames, *videos[0].shape[1:]), -1.0)
    for row, video in zip(table, videos, strict=True):
        row[: len(video)] = video
    return table


def equal(one, other):
    """The published rule on padded videos."""
    return np.mean(np.all(np.abs(one - other) <= 1.0, axis=(1, 2))) > 0.85


def one_by_one(videos, tiers, frames):
    """Ids by comparing with every earlier unique video."""
    table, ids, firsts = padded(videos, frames), [], []
    for trial, tier in enumerate(tiers):
        if tier == "none":
            ids.append(-1)
            continue
        same = [
            k for k, f in enumerate(firsts) if tier != "train" and equal(table[f], table[trial])
        ]
        ids.append(same[0] if same else len(firsts))
        firsts += [] if same else [trial]
    return np.array(ids)


def session(rng, trials=40, frames=40, dark=False):
    """Clips, and copies of them that nearly are or nearly are not the same by the rule."""
    films = [rng.integers(0, 3 if dark else 256, (frames, 5, 7)).astype(float) for _ in range(6)]
    videos = []
    for _ in range(trials):
        video = films[rng.integers(len(films))].copy()
        changed = rng.permutation(frames)[: rng.choice([0, 0, 3, 5, 6, 7, 20])]
        pixels = rng.random((len(changed), 5, 7)) < rng.choice([0.02, 1.0])
        video[changed] += pixels * rng.choice([0.5, 1.0, -1.0, 1.5, 40.0])
        videos.append(video[: frames - rng.choice([0, 0, 0, 1, 4, 8])])
    tiers = rng.choice(TIERS, trials, p=[0.2, 0.3, 0.2, 0.2, 0.1])
    if rng.random() < 0.5:
        whole = [np.clip(np.rint(video), 0, 255).astype(np.uint8) for video in videos]
        videos = [a if rng.random() < 0.7 else b for a, b in zip(whole, videos, strict=True)]
    return videos, tiers.tolist()


def ids_of(videos, tiers, frames, read=None):
    sketches = [Sketch.of(video) for video in videos]
    return identity.within_mouse(sketches, tiers, frames, read or videos.__getitem__)


@pytest.mark.parametrize("dark", [False, True])
def test_ids_equal_those_of_comparing_every_video_with_every_other(dark):
    shared = 0
    for seed in range(25):
        videos, tiers = session(np.random.default_rng(seed), dark=dark)
        for frames in (40, 55):  # padding counts as frames that agree
            expected = one_by_one(videos, tiers, frames)
            np.testing.assert_array_equal(ids_of(videos, tiers, frames), expected)
            shared += len(videos) - len(set(expected))
    assert shared > 200


def test_the_share_must_be_passed_and_one_grey_level_is_still_equal():
    film = np.random.default_rng(0).integers(2, 250, (40, 5, 7)).astype(float)
    assert identity.same(film, film + 1.0, 40) and not identity.same(film, film + 1.01, 40)
    for frames, expected in ((5, True), (6, False)):  # 34 of 40 frames are 85 %, which is not more
        other = film.copy()
        other[:frames, 2, 3] += 2
        assert identity.same(film, other, 40) is expected
    assert identity.same(film, film[:35], 40) and not identity.same(film, film[:34], 40)
    assert not identity.same(film, film.swapaxes(1, 2), 40)


def test_equal_videos_are_never_read_again_and_unequal_ones_seldom():
    rng = np.random.default_rng(0)
    films = [rng.integers(0, 256, (40, 5, 7), dtype=np.uint8) for _ in range(20)]
    order = rng.permutation(np.repeat(np.arange(20), 10))
    reads = []

    def read(trial):
        reads.append(trial)
        return films[order[trial]]

    videos = [films[film] for film in order]
    ids = ids_of(videos, ["oracle"] * 200, 40, read)
    first = {film: number for number, film in enumerate(dict.fromkeys(order.tolist()))}
    assert ids.tolist() == [first[film] for film in order] and reads == []
    flicker = [video ^ (rng.random(video.shape) < 0.5).astype(np.uint8) for video in videos]
    ids = ids_of(flicker, ["oracle"] * 200, 40, lambda t: reads.append(t) or flicker[t])
    assert ids.tolist() == [first[film] for film in order]
    assert len(reads) <= 2 * 200  # at most each and what it equals


def test_sketches_of_any_size_hold_the_means_of_blocks():
    video = np.random.default_rng(0).uniform(0, 255, (3, 9, 10))
    blocks = Sketch.of(video).blocks.reshape(3, 2, 4)
    np.testing.assert_allclose(blocks[:, 0, 1], video[:, :4, 2:5].mean(axis=(1, 2)))
    np.testing.assert_allclose(blocks[:, 1, 3], video[:, 4:, 7:].mean(axis=(1, 2)))
    assert Sketch.of(video[:, :1, :3]).blocks.shape == (3, 3)
    assert Sketch.of(video[:0]).blocks.shape == (0, 8)


def test_sketches_come_back_from_a_file_as_they_were():
    videos, _ = session(np.random.default_rng(3))
    for made in ([Sketch.of(video) for video in videos], []):
        arrays = {name: np.array(values) for name, values in identity.packed(made).items()}
        for one, other in zip(identity.unpacked(arrays), made, strict=True):
            assert (one.digest, one.size) == (other.digest, other.size)
            np.testing.assert_array_equal(one.blocks, other.blocks)


@pytest.fixture(scope="module")
def three_mice():
    """Films that are shown to several mice, in other tiers and a little changed."""
    rng = np.random.default_rng(5)
    videos, tiers = session(rng, trials=90)
    parts = {name: slice(30 * i, 30 * i + 30) for i, name in enumerate("abc")}
    shown = {mouse: videos[part] for mouse, part in parts.items()}
    tiers = {mouse: tiers[part] for mouse, part in parts.items()}
    ids = {mouse: ids_of(shown[mouse], tiers[mouse], 60) for mouse in shown}
    sketches = {mouse: [Sketch.of(video) for video in shown[mouse]] for mouse in shown}
    found = identity.across_mice(sketches, ids, lambda mouse, trial: shown[mouse][trial])
    return shown, ids, found


def test_the_same_film_has_one_number_in_every_mouse_whatever_its_tier(three_mice):
    shown, ids, found = three_mice
    trials = [(mouse, trial) for mouse in shown for trial in np.flatnonzero(ids[mouse] >= 0)]
    group = {each: each for each in trials}  # merged until nothing more is equal
    for one, other in itertools.combinations(trials, 2):
        a, b = (shown[mouse][trial] for mouse, trial in (one, other))
        table = padded([a, b], max(len(a), len(b)))
        within = one[0] == other[0] and ids[one[0]][one[1]] == ids[one[0]][other[1]]
        if (equal(*table) or within) and group[one] != group[other]:
            gone = group[other]
            group = {each: group[one] if name == gone else name for each, name in group.items()}
    expected = {name: number for number, name in enumerate(dict.fromkeys(group.values()))}
    assert len(expected) < 60
    for mouse, trial in trials:
        assert found[mouse][trial] == expected[group[mouse, trial]]
    for mouse in shown:
        np.testing.assert_array_equal(found[mouse] == -1, ids[mouse] == -1)


def test_shared_videos_are_counted_for_every_two_mice(three_mice):
    _, _, found = three_mice
    counts = identity.shared(found)
    sets = [set(ids.tolist()) - {-1} for ids in found.values()]
    assert counts.tolist() == [[len(one & other) for other in sets] for one in sets]
    assert counts[0, 1] > 0 and np.all(counts == counts.T)


def test_videos_shown_too_seldom_or_too_often_are_named():
    ids = np.array([0] * 4 + [1] * 5 + [2] * 10 + [3] * 11 + [4, 5, -1])
    tiers = ["oracle"] * 30 + ["train", "train", "none"]
    assert identity.odd_repeats(ids, tiers) == {0: 4, 3: 11}
