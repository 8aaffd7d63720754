"""No film is both trained on and scored, within and across mice; every mouse has every fold."""

import dataclasses
import itertools
import pickle

import numpy as np
import pytest

from sensojax import build, conversion
from sensojax.errors import UserError
from sensojax.evaluation.predictions import scorable
from sensojax.pipeline import folds, subsets
from sensojax.stimuli import hashing
from sensojax.stimuli.identity import NUMBERING
from sensojax.store import TrialStore
from tests import handmade, runs

FRAMES, TRIALS = 12, 60


def recording(mouse, offset):
    """One-frame-wide responses; clip k of this mouse is film k + offset of all mice."""
    rng = np.random.default_rng(offset)
    clips = np.repeat(np.arange(TRIALS // 2), 2)  # the first half are shown once
    clips[:30] = np.arange(30)
    clips[30:] = 30 + np.arange(30) % 5
    tiers = np.where(clips < 30, "train", "oracle")
    tiers[[29, 59]] = "none"
    order = rng.permutation(TRIALS)
    clips, tiers = clips[order] + offset, tiers[order]

    def read(index):
        frames = FRAMES - 2 * (index % 2)  # repeats may be cut
        film = np.random.default_rng(10_000 + clips[index])
        video = film.integers(0, 256, (FRAMES, 6, 8)).astype(float)[:frames]
        return dataclasses.replace(
            handmade.trial(0),
            index=index,
            tier=str(tiers[index]),
            video=video,
            responses=rng.random((frames, handmade.NEURONS)) + 1,
            behavior=rng.random((frames, 2)),
            pupil_center=rng.random((frames, 2)),
            official_frames=frames,
        )

    names = tuple(str(tier) for tier in tiers)
    made = handmade.recording(mouse=mouse, tiers=names, read=read, trial_columns={}, statistics={})
    return made, np.where(tiers == "none", -1, clips)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Three mice that share most films, under permuted tiers, numbered together."""
    folder = tmp_path_factory.mktemp("stores")
    found = {}
    for mouse, offset in (("ada", 0), ("bob", 20), ("cid", 33)):
        made, films = recording(mouse, offset)
        store = TrialStore.open(conversion.write(folder, made))
        store.annotate("video_id", films)
        store.annotate(NUMBERING, np.full(TRIALS, "all three"))
        found[mouse] = store
    return found


def data(stores, **changes):
    chosen = dict(folds=3, fold=1, fold_rule="identity", tiers=("train", "oracle"))
    folder = next(iter(stores.values())).path.parent
    plain = runs.preset("tiny")["data"] | dict(recordings="stores", folder=str(folder), mice=())
    return plain | chosen | changes


def test_no_video_is_in_two_folds_within_or_across_mice(stores):
    for count, seed in itertools.product((2, 5), (0, 1)):
        found = folds.by_identity(stores, count, seed)
        where = {}
        for mouse, store in stores.items():
            for video, fold in zip(store.video_ids, found[mouse], strict=True):
                where.setdefault(video, set()).add(fold)
        assert where.pop(-1) == {-1}
        assert len(where) == 67 and all(len(each) == 1 for each in where.values())


def test_trials_of_tier_none_are_in_no_fold_and_all_others_in_one(stores):
    for rule in (folds.by_hash(stores, 4), folds.by_identity(stores, 4, 0)):
        for mouse, store in stores.items():
            np.testing.assert_array_equal(rule[mouse] < 0, store.trials.tier == "none")
            assert set(rule[mouse]) <= set(range(-1, 4))


def test_folds_have_about_as_much_of_every_tier_of_every_mouse(stores):
    for seed in range(5):
        found = folds.by_identity(stores, 5, seed)
        for mouse, store in stores.items():
            for tier, most in (("train", 2), ("oracle", 6)):  # one video of oracle is 6 trials
                counts = np.bincount(found[mouse][store.trials.tier == tier], minlength=5)
                assert counts.min() > 0 and np.ptp(counts) <= most, (mouse, tier, counts)


def test_folds_follow_from_the_seed_alone(stores):
    one, again, other = (folds.by_identity(stores, 5, seed) for seed in (3, 3, 4))
    for mouse in stores:
        np.testing.assert_array_equal(one[mouse], again[mouse])
        assert not np.array_equal(one[mouse], other[mouse])


def test_clips_that_are_equal_stay_together_although_published_ids_tell_them_apart(stores):
    store = TrialStore.open(stores["ada"].path)
    clip = store.trials.clip
    apart = {"video_id": np.arange(TRIALS), NUMBERING: np.full(TRIALS, "alone")}
    store.annotation = apart.get  # tier train always has a new id
    (found,) = folds.by_identity({"ada": store}, 5, 0).values()
    for number in np.unique(clip[found >= 0]):
        assert len(set(found[(clip == number) & (found >= 0)])) == 1
    assert set(found) == {-1, 0, 1, 2, 3, 4}


def test_the_published_fold_is_the_hash_of_the_video_modulo_their_number(stores):
    found = folds.by_hash(stores, 7)
    for mouse, store in stores.items():
        for trial in np.flatnonzero(found[mouse] >= 0):
            video = store.read(int(trial))["video"]
            assert found[mouse][trial] == hashing.hash_video(video) % 7


@pytest.mark.parametrize("rule", folds.RULES)
def test_the_folds_that_are_trained_on_and_the_one_that_is_scored_share_no_film(stores, rule):
    scored, trained = {}, {}
    for fold in range(3):
        opened = build.stores(data(stores, fold=fold, fold_rule=rule), {})
        rows = build.training_rows(data(stores), opened)
        for mouse, store in opened.items():
            held = scorable(store, folds.HELD_OUT)
            used = np.flatnonzero(stores[mouse].trials.tier != "none")
            np.testing.assert_array_equal(np.sort(np.append(held, rows[mouse])), used)
            scored.setdefault(mouse, []).extend(held)
            videos = (store.trials.clip, store.trials.num_frames)  # equal films hash alike if equal
            if rule == "identity":
                trained.setdefault(fold, set()).update(store.video_ids[rows[mouse]])
                assert not trained[fold] & set(store.video_ids[held])
            else:
                shown = [
                    set(zip(*(v[r] for v in videos), strict=True)) for r in (held, rows[mouse])
                ]
                assert not shown[0] & shown[1]
    for mouse, store in stores.items():  # over the folds, every trial is scored once
        assert sorted(scored[mouse]) == np.flatnonzero(store.trials.tier != "none").tolist()


def test_no_mouse_scores_a_film_that_another_is_trained_on(stores):
    opened = build.stores(data(stores), {})
    rows = build.training_rows(data(stores), opened)
    trained = set().union(*(opened[mouse].video_ids[rows[mouse]] for mouse in opened))
    for store in opened.values():
        assert not trained & set(store.video_ids[store.rows(folds.HELD_OUT)])


def test_only_the_given_tiers_are_held_out(stores):
    opened = build.stores(data(stores, tiers=("train",)), {})
    for mouse, store in opened.items():
        before, after = stores[mouse].trials.tier, store.trials.tier
        assert set(before[after == folds.HELD_OUT]) == {"train"}
        np.testing.assert_array_equal(before == "oracle", after == "oracle")


def test_a_store_keeps_its_folds_where_it_is_sent_and_where_it_shows_some_neurons(stores):
    (store,) = build.stores(data(stores, mice=("bob",), max_neurons=2), {}).values()
    assert isinstance(store, subsets.NeuronSubset) and len(store.neurons) == 2
    sent = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(store))))
    np.testing.assert_array_equal(sent.trials.tier, store.trials.tier)
    assert len(sent.rows(folds.HELD_OUT)) and len(sent.neurons) == 2
    assert folds.HELD_OUT not in TrialStore.open(store.path).trials.tier


def test_without_folds_nothing_changes(stores):
    opened = build.stores(data(stores, folds=0, fold=-1), {})
    for mouse, store in opened.items():
        np.testing.assert_array_equal(store.trials.tier, stores[mouse].trials.tier)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (dict(folds=0, fold=2), "set data.folds as well"),
        (dict(folds=1, fold=0), "expected two folds or more"),
        (dict(folds=3, fold=3), "one of them, counted from 0"),
        (dict(folds=3, fold=-1), "one of them, counted from 0"),
        (dict(folds=200, fold=39), "found no trial of mouse ... in fold 39.*use fewer folds"),
        (dict(fold_rule="identities"), "did you mean 'identity'"),
    ],
)
def test_folds_that_cannot_be_are_refused(stores, changes, complaint):
    with pytest.raises(UserError, match=complaint):
        build.stores(data(stores, **changes), {})


def test_mice_that_were_not_numbered_together_are_refused_with_the_command(stores, tmp_path):
    made, _ = recording("dan", 5)
    alone = {"dan": TrialStore.open(conversion.write(tmp_path, made))}
    assert set(folds.by_identity(alone, 3, 0)["dan"]) == {-1, 0, 1, 2}
    with pytest.raises(UserError, match=r"assign_video_ids.py .* --across"):
        folds.by_identity(alone | stores, 3, 0)
    assert folds.by_hash(alone | stores, 3)  # which needs no numbers


def test_validation_on_a_tier_that_is_trained_on_is_refused(stores):
    config = runs.preset("tiny") | {"data": data(stores)}
    with pytest.raises(UserError, match="expected 'held_out'"):
        build.check(config)
    config["evaluation"] = config["evaluation"] | {"validation": folds.HELD_OUT}
    build.check(config)


@pytest.mark.slow
def test_a_run_is_validated_on_the_held_out_fold(tmp_path, data, cache):
    changes = {
        "data.folds": 2,
        "data.fold": 0,
        "data.fold_rule": "hash",
        "evaluation.validation": folds.HELD_OUT,
        "evaluation.tiers": (folds.HELD_OUT,),
        "schedule.steps": 4,
    }
    with runs.cached(cache):
        scores = runs.run(tmp_path / "run", data, changes)
    assert set(scores) == {folds.HELD_OUT}
    assert all(np.isfinite(score.correlation) for score in scores.values())


def test_images_are_numbered_in_all_mice_as_they_were_published(tmp_path):
    found = {}
    for mouse, offset in (("ada", 0), ("bob", 20)):
        made, films = recording(mouse, offset)
        made = dataclasses.replace(made, trial_columns={"frame_image_id": films})
        found[mouse] = TrialStore.open(conversion.write(tmp_path, made))
    of_trials = folds.by_identity(found, 3, 0)
    fold_of = {}
    for mouse, store in found.items():
        for film, fold in zip(store.video_ids, of_trials[mouse], strict=True):
            if fold >= 0:
                assert fold_of.setdefault(film, fold) == fold
    found["ada"].annotate(NUMBERING, np.full(TRIALS, 7))
    with pytest.raises(UserError, match="were not numbered together"):
        folds.by_identity(found, 3, 0)
