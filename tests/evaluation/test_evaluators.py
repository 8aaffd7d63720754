"""Evaluators: every measure against plain numpy on the same predictions, however it streams by."""

import functools
import json
import sys

import jax
import numpy as np
import pytest

from sensojax import conversion, types
from sensojax.errors import UserError
from sensojax.evaluation import measures, predictions
from sensojax.evaluation.evaluators import Evaluator, summing
from sensojax.evaluation.predictions import Predictions
from sensojax.evaluation.results import Score
from sensojax.pipeline.transforms import Statistics, normalize, response_multiplier
from sensojax.pipeline.windows import ScoredFrames
from sensojax.reliability import anscombe
from sensojax.store import TrialStore
from sensojax.training import mesh
from tests import runs
from tests.handmade import checksum

NEURONS, LOST = 4, 2
# Kind, video, frames and tier of every trial, in the order of the file.
TRIALS = [
    ("movie", 5, 14, "live_test_main"),
    ("random_dots", 7, 16, "live_test_bonus"),
    ("movie", 5, 13, "live_test_main"),
    ("pink_noise", 2, 15, "live_test_bonus"),
    ("movie", 9, 14, "live_test_main"),
    ("random_dots", 7, 16, "live_test_bonus"),
    ("pink_noise", 2, 15, "live_test_bonus"),
    ("movie", 5, 14, "live_test_main"),
    ("random_dots", 8, 12, "live_test_bonus"),
    ("movie", 11, 15, "final_test_main"),
    ("movie", 9, 14, "live_test_main"),
    ("random_dots", 8, 13, "live_test_bonus"),
    ("movie", -1, 14, "train"),
    ("movie", -1, 14, "train"),
]
FRAMES = ScoredFrames(3, 15, 1)
PER_VIDEO = ("correlation_to_average_per_video", "normalized_correlation", "repeat_reliability")


def recording(mouse="handmade", seed=0):
    """Trials of the table above; a neuron's response follows the video's brightness and noise."""
    rng = np.random.default_rng(seed)
    signals = {video: rng.gamma(2.0, 2.0, (20, NEURONS)) for _, video, _, _ in TRIALS}

    def read(index):
        _, video, frames, tier = TRIALS[index]
        own = np.random.default_rng((seed, index))
        rates = signals[video][:frames]
        responses = rates * own.gamma(3.0, 1 / 3, rates.shape)
        clip = own.integers(0, 255, (frames, 4, 5)).astype(float)
        behavior, pupil = own.normal(30, 5, (2, frames, 2))
        return types.Trial(
            index, tier, clip, responses, behavior, pupil, frames - index % 2,
            checksum(clip, responses), rates,
        )  # fmt: skip

    shapes = {"videos": (4, 5), "responses": (NEURONS,), "behavior": (2,), "pupil_center": (2,)}
    kinds, videos, _, tiers = zip(*TRIALS, strict=True)
    return types.Recording(
        mouse=mouse,
        source="made by hand",
        frame_rate_hz=30.0,
        neurons=types.Neurons(np.arange(NEURONS), np.arange(3.0 * NEURONS).reshape(NEURONS, 3)),
        tiers=tiers,
        read=read,
        trial_columns={"true_kind": np.array(kinds), "video_ids": np.array(videos)},
        statistics={
            name: {each: rng.uniform(1, 2, (20, *shape)) for each in ("mean", "std")}
            for name, shape in shapes.items()
        },
        simulated=True,
    )


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    made = {}
    for seed, mouse in enumerate(("ada", "bob")):
        conversion.write(folder, recording(mouse, seed))
        made[mouse] = TrialStore.open(folder / mouse)
    return made


def model(weights, raw, known):
    """Half of the response and some of the pupil: says nothing of the first frames."""
    normalized = {mouse: normalize(batch, known[mouse]) for mouse, batch in raw.items()}
    predicted = {}
    for mouse, batch in normalized.items():
        guess = 2.0 + weights * batch.responses + 0.3 * batch.pupil_center[:, :, :1]
        predicted[mouse] = guess[:, LOST:]
    return predicted, normalized


@functools.cache
def programs(sharding):
    return predictions.compiled(model, sharding), summing("zero", sharding)


def made(
    stores, tier, *, normalization="per_neuron", scored="", batch_size=3, frames=FRAMES, on=None
):
    """An evaluator of this tier, on the devices of a placement."""
    on = on or mesh.Placement(jax.devices()[:1])
    known = {mouse: Statistics.of(store, normalization) for mouse, store in stores.items()}
    other = {mouse: Statistics.of(store, scored) for mouse, store in stores.items() if scored}
    predict, sums = programs(on.copied)
    asked = Predictions(
        predict,
        stores,
        on.everywhere(known),
        tier=tier,
        frames=frames,
        lost_frames=LOST,
        batch_size=batch_size,
        read_threads=0,
        put=on.batch,
        scored_with=on.everywhere(other) or None,
        length=16,  # of the longest trial of all: one compilation serves every tier
        sharding=on.copied,
    )
    return Evaluator(
        asked,
        normalization=scored or normalization,
        trained_under=normalization,
        protocol="strict",
        nan_rule="zero",
        sums=sums,
        sharding=on.copied,
    )


def scored(stores, tier, names=(), weights=0.4, **how):
    return made(stores, tier, **how).run(weights, step=1, seeds=(0,), names=names)


def trials_of(store, tiers, kind="", shortest=False):
    """{video: [(predicted, observed)]} of counted frames [time neuron], in the units of per_neuron.

    shortest: all repeats of a video as far as the shortest goes.
    """
    of = store.statistics.per_neuron
    units = response_multiplier(of["responses"]["std"], store.mouse)
    found = {}
    for row, (of_kind, video, frames, tier) in enumerate(TRIALS):
        if tier not in tiers or kind not in ("", of_kind):
            continue
        read = store.read(row)
        observed = read["responses"] * units
        pupil = (read["pupil_center"] - of["pupil_center"]["mean"]) / of["pupil_center"]["std"]
        predicted = 2.0 + 0.4 * observed + 0.3 * pupil[:, :1]
        counted = slice(FRAMES.skip_frames, min(frames, FRAMES.most_frames) - FRAMES.drop_last)
        key = (of_kind, video) if video >= 0 else row
        found.setdefault(key, []).append((predicted[counted], observed[counted]))
    if shortest:
        for key, repeats in found.items():
            end = min(len(observed) for _, observed in repeats)
            found[key] = [(predicted[:end], observed[:end]) for predicted, observed in repeats]
    return found


def pearson(x, y):
    """[neuron], of [frame neuron] twice."""
    return np.array([np.corrcoef(x[:, n], y[:, n])[0, 1] for n in range(x.shape[1])])


def directly(store, tiers, kind=""):
    """Every measure as the publications write it, on whole arrays."""
    every = [pair for repeats in trials_of(store, tiers, kind).values() for pair in repeats]
    predicted, observed = (np.concatenate(each) for each in zip(*every, strict=True))
    found = {
        "single_trial_correlation": pearson(predicted, observed),
        "per_trial_correlation": np.mean([pearson(*pair) for pair in every], axis=0),
        "poisson_loss": (predicted - observed * np.log(predicted + 1e-8)).mean(0),
    }
    shown = [r for r in trials_of(store, tiers, kind, shortest=True).values() if len(r) > 1]
    if not shown:
        return found
    both = [np.stack([np.stack(pair) for pair in repeats], 1) for repeats in shown]
    means = [pair.mean(1) for pair in both]  # [predicted or observed, time, neuron]
    found["correlation_to_average"] = pearson(*np.concatenate(means, 1))
    found["correlation_to_average_per_video"] = np.mean([pearson(*pair) for pair in means], 0)
    rows = [pair.transpose(2, 1, 0, 3) for pair in both]  # [time, repeat, which, neuron]
    frames = [frame for video in rows for frame in video]
    every = np.concatenate(frames)
    noise = np.mean([frame[:, 1].var(0, ddof=1) for frame in frames], 0)
    total = every[:, 1].var(0, ddof=1)
    found["fev"] = (total - noise) / total
    found["feve"] = 1 - (((every[:, 0] - every[:, 1]) ** 2).mean(0) - noise) / (total - noise)
    others = [(f[:, 1].sum(0) - f[:, 1]) / (len(f) - 1) for f in frames]
    found["oracle_jackknife"] = pearson(np.concatenate(others), every[:, 1])
    signal = np.concatenate([f[:, 1].mean(0)[None] for f in frames]).var(0)
    biased = np.mean([f[:, 1].var(0) for f in frames], 0)
    found["oracle_conservative"] = np.sqrt(signal / (signal + biased))
    found["normalized_correlation"] = mean_of_defined([normalized(*pair) for pair in both])
    found["repeat_reliability"] = np.mean([pairwise(pair[1]) for pair in both], 0)
    if len({len(f) for f in frames}) == 1:
        found["explainable_variance"] = found["fev"]
        after = [anscombe(f[:, 1]) for f in frames]
        signal = np.stack([f.mean(0) for f in after]).var(0)
        found["signal_to_noise"] = signal / np.mean([f.var(0, ddof=1) for f in after], 0)
    return found


def mean_of_defined(values):
    defined = np.isfinite(values)
    count = defined.sum(0)
    return np.where(count, np.where(defined, values, 0).sum(0) / np.maximum(count, 1), np.nan)


def normalized(predicted, observed):
    """[neuron], of [repeat time neuron] twice."""
    count, mean = len(observed), observed.mean(0)
    power = observed.sum(0).var(0, ddof=1) - observed.var(1, ddof=1).sum(0)
    power = power / (count * (count - 1))
    spread = predicted.mean(0).var(0, ddof=1)
    shared = [np.cov(mean[:, n], predicted.mean(0)[:, n])[0, 1] for n in range(NEURONS)]
    return np.where(power > 1e-4, shared / np.sqrt(spread * np.maximum(power, 1e-9)), np.nan)


def pairwise(observed):
    pairs = [(i, j) for i in range(len(observed)) for j in range(i)]
    return np.mean([pearson(observed[i], observed[j]) for i, j in pairs], 0)


@pytest.fixture(scope="module")
def everything(stores):
    """All measures of two tiers together, in which videos have two or three repeats, or one."""
    return scored(stores, "live_test_main+live_test_bonus", ["all"])


@pytest.mark.parametrize("kind", ["", "movie", "random_dots", "pink_noise"])
def test_every_measure_of_every_kind_is_what_numpy_finds_on_whole_arrays(stores, everything, kind):
    tiers = ("live_test_main", "live_test_bonus")
    for mouse, store in stores.items():
        expected = directly(store, tiers, kind)
        score = everything.kinds[kind][mouse] if kind else everything.mice[mouse]
        found = score.values
        assert set(found) == set(expected), kind
        assert set(found) | set(score.left_out) == set(measures.MEASURES) - set(measures.OF_SPIKES)
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, rtol=2e-5, atol=1e-6, err_msg=name)


def test_a_measure_that_cannot_be_is_left_out_with_its_reason(stores, everything):
    movies, dots = (everything.of_kind(kind) for kind in ("movie", "random_dots"))
    assert "videos were shown 2 to 3 times" in movies.left_out["explainable_variance"]
    assert "signal_to_noise" in dots.measures and not dots.left_out
    once = scored(stores, "train", ["all"])
    assert once.measures == ("single_trial_correlation", "per_trial_correlation", "poisson_loss")
    beside = {*once.measures, *measures.OF_SPIKES}
    assert set(once.left_out) == set(measures.MEASURES) - beside
    assert set(once.left_out.values()) == {"no video was shown twice (ada, bob)"}


def test_size_of_a_step_changes_nothing(stores, everything):
    """Videos end within a step, at its end, or go on over several."""
    again = scored(stores, "live_test_main+live_test_bonus", ["all"], batch_size=2)
    assert again.conditions == everything.conditions
    for mouse, score in again.mice.items():
        assert (score.num_trials, score.num_frames) == (11, 110)
        for name, values in score.values.items():
            expected = everything.mice[mouse].values[name]
            np.testing.assert_allclose(values, expected, rtol=2e-5, atol=1e-6, err_msg=name)


def test_only_what_was_asked_for_is_computed(stores):
    score = scored(stores, "live_test_main")
    assert score.measures == ("single_trial_correlation",) and not score.left_out
    some = scored(stores, "live_test_main", ["feve", "per_trial_correlation"])
    assert some.measures[1:] == ("per_trial_correlation", "feve", "fev")  # which decides over it
    with pytest.raises(UserError, match="did you mean 'feve'"):
        scored(stores, "live_test_main", ["fevee"])


def test_kinds_are_the_parts_of_the_whole(everything):
    assert set(everything.kinds) == {"movie", "random_dots", "pink_noise"}
    for mouse, score in everything.mice.items():
        parts = [of_kind[mouse] for of_kind in everything.kinds.values()]
        assert sum(part.num_trials for part in parts) == score.num_trials
        assert sum(part.num_frames for part in parts) == score.num_frames


def test_score_of_one_kind_alone_is_kept_once(stores):
    score = scored(stores, "live_test_main")
    assert score.kinds["movie"]["ada"] is score.mice["ada"]


def test_rescaled_predictions_score_like_those_of_a_model_in_the_other_units(stores):
    """Trained under per_neuron and scored under official: the same responses in other units."""
    score = scored(stores, "live_test_main", scored="official")
    assert "official normalization (predictions rescaled from per_neuron)" in score.conditions
    for mouse, store in stores.items():
        units = {name: Statistics.of(store, name) for name in ("official", "per_neuron")}
        predicted, observed = [], []
        for row in store.rows("live_test_main"):
            # An official trial may end earlier.
            frames = min(int(store.trials.official_frames[row]), FRAMES.most_frames)
            read = {name: array[:frames] for name, array in store.read(row).items()}
            multiplier = {n: np.asarray(s.response_multiplier) for n, s in units.items()}
            pupil = (read["pupil_center"] - units["per_neuron"].pupil_mean) / units[
                "per_neuron"
            ].pupil_std
            guess = 2.0 + 0.4 * read["responses"] * multiplier["per_neuron"] + 0.3 * pupil[:, :1]
            counted = slice(FRAMES.skip_frames, frames - FRAMES.drop_last)
            official = multiplier["official"][:frames]
            predicted.append((guess / multiplier["per_neuron"] * official)[counted])
            observed.append((read["responses"] * official)[counted])
        expected = pearson(np.concatenate(predicted), np.concatenate(observed))
        np.testing.assert_allclose(score.mice[mouse].correlation, expected, rtol=1e-5)
    same = scored(stores, "live_test_main", scored="per_neuron")
    plain = scored(stores, "live_test_main")
    np.testing.assert_allclose(same.correlation, plain.correlation, rtol=1e-6)
    assert same.conditions == plain.conditions


def test_model_sees_the_frames_that_are_not_scored_at_the_end(stores):
    """A frame that is dropped from the score is input all the same; one past the cap is not."""
    for drop_last in (0, 2):
        asked = made(stores, "live_test_bonus", frames=ScoredFrames(3, 13, drop_last)).predictions
        for part in asked.steps(0.4):
            for mouse, rows in part.rows.items():
                seen = np.asarray(part.observed[mouse].pupil_center)
                counted = np.asarray(part.observed[mouse].valid)
                for i, row in enumerate(rows):
                    frames = min(TRIALS[row][2], 13)
                    assert (seen[i, :frames] != 0).all() and (seen[i, frames:] == 0).all()
                    assert np.flatnonzero(counted[i]).tolist() == list(range(3, frames - drop_last))


def test_ceiling_is_the_score_of_the_noiseless_rates_by_kind_too(stores, everything):
    for mouse, store in stores.items():
        for kind, tiers in {
            "movie": ["live_test_main"],
            "": ["live_test_main", "live_test_bonus"],
        }.items():
            rates, observed = [], []
            for row, (_, _, frames, tier) in enumerate(TRIALS):
                if tier in tiers:
                    counted = slice(3, min(frames, 15) - 1)
                    rates.append(store.read_rates(row)[counted])
                    observed.append(store.read(row)["responses"][counted])
            score = everything.kinds[kind][mouse] if kind else everything.mice[mouse]
            expected = pearson(np.concatenate(rates), np.concatenate(observed))
            np.testing.assert_allclose(score.ceiling, expected, rtol=1e-5)


def test_joined_tiers_that_a_mouse_lacks_are_passed_over(stores):
    score = scored(stores, "final_test_bonus+final_test_main")
    assert score.mice["ada"].num_trials == 1
    with pytest.raises(UserError, match="no trial of tier 'final_test_bonus'"):
        scored(stores, "final_test_bonus")


def test_traces_show_different_videos(stores):
    asked = made(stores, "live_test_bonus")
    score = asked.run(0.4, step=1, seeds=(0,))
    (trace, *_) = asked.traces(0.4, score, neurons=1, trials=2)
    # Videos 2 and 7, of 15 and 16 frames: 3 skipped, cut to 15, the last one dropped.
    assert len(trace.observed) == 22 and trace.boundaries == (11,)
    row = TRIALS.index(("pink_noise", 2, 15, "live_test_bonus"))
    recorded = stores[trace.mouse].read(row)["responses"][3:14, trace.neuron]
    np.testing.assert_allclose(np.corrcoef(trace.observed[:11], recorded)[0, 1], 1, rtol=1e-6)
    assert trace.rates is not None and len(trace.rates) == 22


def test_tier_without_scored_frames_is_refused(stores):
    with pytest.raises(UserError, match="skip_frames 15, expected fewer than the 13 frames"):
        made(stores, "live_test_main", frames=ScoredFrames(15, 15, 1))
    with pytest.raises(UserError, match="skip_frames 1, expected at least the 2 frames"):
        made(stores, "live_test_main", frames=ScoredFrames(1, 0, 0))


ON_FOUR = """
import json, sys
import jax
from sensojax.store import TrialStore
from sensojax.training import mesh
from tests.evaluation import test_evaluators as here

stores = {mouse: TrialStore.open(path) for mouse, path in json.loads(sys.argv[1]).items()}
placement = mesh.Placement(jax.devices())
assert placement.mesh.size == 4
with jax.set_mesh(placement.mesh):
    asked = here.made(stores, "live_test_main+live_test_bonus", scored="official", batch_size=4,
                      on=placement)
    score = asked.run(placement.everywhere(0.4), step=1, seeds=(0,), names=["all"])
print(json.dumps(score.to_json()))
"""


@pytest.mark.slow
def test_four_devices_find_the_same_as_one(stores, cache):
    paths = json.dumps({mouse: str(store.path) for mouse, store in stores.items()})
    line = [sys.executable, "-c", ON_FOUR, paths]
    four = runs.environment(
        cache, XLA_FLAGS="--xla_force_host_platform_device_count=4", PYTHONPATH="."
    )
    done = runs.finish(line, cache, env=four)
    assert done.returncode == 0, done.stderr
    found = Score.from_json(json.loads(done.stdout.splitlines()[-1]))
    tiers = "live_test_main+live_test_bonus"
    expected = scored(stores, tiers, ["all"], scored="official", batch_size=4)
    assert found.conditions == expected.conditions and found.kinds.keys() == expected.kinds.keys()
    for mouse, score in expected.mice.items():
        for name, values in score.values.items():
            again = found.mice[mouse].values[name]
            np.testing.assert_allclose(again, values, rtol=2e-5, atol=1e-6, err_msg=name)
