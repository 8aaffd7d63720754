"""What the published tables of real mice say of video ids, kinds of stimuli and folds.

The recordings themselves are not here, so each table is turned into videos that would have given
it: our tools must find the table again (real_data.py says where they lie).
"""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from sensojax.pipeline import folds
from sensojax.stimuli import identity, kinds
from sensojax.tools.annotating import shown, stimulus_ids
from sensojax.types import STIMULUS_KINDS
from tests import real_data
from tests.stimuli import other_laboratory

TABLES = "sensorium2023_metadata"
pytestmark = real_data.needed(TABLES)
SIZE = (36, 64)
MOVIE, NOISE, DOTS, RANDOM, GABOR, IMAGES = range(6)


def table(name: str) -> dict[str, np.ndarray]:
    """A column of the trial tables, {mouse: [trial]}."""
    paths = sorted((real_data.found(TABLES) / name).glob("mouse*.npy"))
    assert len(paths) >= 3, f"found {len(paths)} tables in {real_data.found(TABLES) / name}"
    return {path.stem: np.load(path) for path in paths}


def features(kind: str, mouse: str = "*") -> dict[Path, np.ndarray]:
    """The published features of trials of one kind, by file."""
    paths = sorted((real_data.found(TABLES) / "ood_features" / kind).glob(f"{mouse}/*.npy"))
    return {path: np.load(path) for path in paths}


def tiers_of(ids: np.ndarray) -> list[str]:
    """Tiers that fit the ids: what is shown once trains, what has none is in tier none."""
    times = Counter(ids.tolist())
    return ["none" if i < 0 else "train" if times[i] == 1 else "oracle" for i in ids.tolist()]


def test_every_video_outside_training_is_repeated_5_to_10_times_and_of_one_kind():
    ids, codes = table("video_ids"), table("stimulus_ids")
    for mouse in ids:
        tiers = tiers_of(ids[mouse])
        assert identity.odd_repeats(ids[mouse], tiers) == {}
        assert 300 < tiers.count("train") < 400
        np.testing.assert_array_equal(ids[mouse] < 0, codes[mouse] < 0)
        for video in set(ids[mouse].tolist()) - {-1}:
            (code,) = set(codes[mouse][ids[mouse] == video].tolist())
            assert code == MOVIE or (ids[mouse] == video).sum() >= 5


def videos_of(ids: np.ndarray, rng) -> list[np.ndarray]:
    """A small video for each id; repeats differ by up to a grey level and in a few whole frames."""
    films = {video: rng.integers(0, 256, (30, 4, 6)).astype(float) for video in set(ids.tolist())}
    made = []
    for video in ids.tolist():
        shown_once = films[video] + rng.uniform(-0.5, 0.5, (30, 4, 6))
        shown_once[rng.permutation(30)[:2]] += 30  # twice two of 30 frames are less than 15 %
        made.append(shown_once if rng.random() < 0.5 else films[video])
    return made


def test_the_published_ids_of_real_mice_are_found_again_with_their_repeats():
    for mouse, ids in table("video_ids").items():
        videos = videos_of(ids, np.random.default_rng(0))
        tiers = tiers_of(ids)
        sketches = [identity.Sketch.of(video) for video in videos]
        found = identity.within_mouse(sketches, tiers, 36, videos.__getitem__)
        np.testing.assert_array_equal(found, ids, err_msg=mouse)
        across = identity.across_mice(
            {mouse: sketches}, {mouse: found}, lambda _, trial, read=videos: read[trial]
        )
        np.testing.assert_array_equal(across[mouse], ids, err_msg=mouse)


def test_folds_of_real_mice_keep_repeats_together_and_are_even(monkeypatch):
    monkeypatch.setattr(folds, "_check_numbered_together", lambda stores: None)
    stores, start = {}, 0
    for mouse, ids in table("video_ids").items():
        stores[mouse] = Table(np.where(ids < 0, -1, ids + start), tiers_of(ids))
        start += 200  # so that every two mice share about half of their films
    for seed in range(3):
        found, where = folds.by_identity(stores, 7, seed), {}
        for mouse, store in stores.items():
            np.testing.assert_array_equal(found[mouse] < 0, store.video_ids < 0)
            for video, fold in zip(store.video_ids, found[mouse], strict=True):
                where.setdefault(int(video), set()).add(int(fold))
            for tier, within in (("train", 0.1), ("oracle", 0.5)):
                counts = np.bincount(found[mouse][store.trials.tier == tier], minlength=7)
                assert np.ptp(counts) <= within * counts.mean(), (mouse, tier, counts)
        assert all(len(each) == 1 for each in where.values())


class Table:
    """As much of a store as folds need."""

    def __init__(self, ids, tiers):
        self.trials = self
        self.video_ids = ids
        self.tier = np.array(tiers)
        self.num_frames = np.full(len(ids), 300)
        self.clip = np.unique(ids, return_inverse=True)[1]

    def __len__(self):
        return len(self.tier)


def regenerated() -> list[tuple[str, Path, np.ndarray]]:
    """Clips of the published tables as they were shown, and disturbed on their way to us."""
    made = []
    for path, values in features("drifting_gabor").items():
        made.append(("drifting_gabor", path, other_laboratory.gabors_of_table(values, *SIZE)))
    for number, (path, values) in enumerate(features("gaussian_dots").items()):
        clip = other_laboratory.dots_of_table(values, *SIZE, hard=bool(number % 2))
        made.append(("gaussian_dots", path, clip))
    for number, (path, values) in enumerate(features("flashing_images").items()):
        rng = np.random.default_rng(number)
        images = np.unique(values[values >= 0])
        pictures = [other_laboratory.movie(rng, 1, *SIZE)[0] for _ in images]
        shown_ids = np.where(values < 0, -1, np.searchsorted(images, values))
        clip = other_laboratory.images_of_table(shown_ids, pictures, (80, 127, 0)[number % 3])
        made.append(("flashed_images", path, clip))
    return made


def test_clips_made_from_the_published_tables_are_recognised():
    rng = np.random.default_rng(0)
    clips = regenerated()
    assert {kind for kind, _, _ in clips} == {"drifting_gabor", "gaussian_dots", "flashed_images"}
    for kind, path, clip in clips:
        for video in (np.rint(clip).astype(np.uint8), other_laboratory.disturbed(rng, clip)):
            found = kinds.classify(video)
            assert found.kind == kind, (path, found)


@pytest.mark.slow
def test_the_published_stimulus_ids_of_a_real_mouse_are_found_again():
    """Mouse B with a clip of another laboratory for each of its videos, real tables where known."""
    ids, codes = table("video_ids")["mouseB"], table("stimulus_ids")["mouseB"]
    known = {
        int(path.stem): clip for _, path, clip in regenerated() if path.parent.name == "mouseB"
    }
    films = {}
    for video in range(ids.max() + 1):
        trials = np.flatnonzero(ids == video)
        if codes[trials[0]] == MOVIE and len(trials) == 1 and video % 4:
            continue  # every fourth of the training movies will do
        rng = np.random.default_rng(video)
        make = getattr(other_laboratory, STIMULUS_KINDS[codes[trials[0]]])
        real_one = next((known[trial] for trial in trials.tolist() if trial in known), None)
        films[video] = make(rng, 90, *SIZE) if real_one is None else real_one
    used = np.isin(ids, list(films))
    videos = shown.Shown(
        mouse="mouseB",
        tiers=tuple(np.where(used, tiers_of(ids), "none").tolist()),
        frame_rate_hz=30.0,
        columns={"video_ids": ids},
        padded_frames=324,
        version="",
        read=lambda trial: np.rint(np.clip(films[int(ids[trial])], 0, 255)).astype(np.uint8),
    )
    found = stimulus_ids.look(videos).codes()
    assert Counter(codes[used].tolist())[GABOR] > 50
    counts = stimulus_ids.confusion(np.where(used, codes, -1), found)
    assert np.trace(counts) >= 0.98 * counts.sum(), counts
    for code in (NOISE, GABOR, IMAGES):
        np.testing.assert_array_equal(found[used] == code, codes[used] == code)
