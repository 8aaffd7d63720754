"""Measures of spikes: between the null model and the true rates, as numpy finds them."""

import json

import jax
import numpy as np
import pytest

from sensojax import build, conversion, types
from sensojax.evaluation import measures, predictions, report
from sensojax.evaluation.results import Score
from sensojax.pipeline.transforms import Statistics, normalize
from sensojax.store import TrialStore
from sensojax.training import mesh
from tests.evaluation import made_up
from tests.handmade import checksum

NEURONS, FRAMES, REPEATS = 4, 12, 3
SILENT, SLEEPER = 2, 3  # never fires when it is tested; never fired in training
TIERS = ("train",) * 6 + ("validation",) * 6
EPSILON = 1e-7
CONFIG = {
    "data": dict(normalization="counts", read_threads=0, tiers=("train",)),
    "inputs": dict(behavior=False),
    "shifter": dict(name=""),
    "gain": dict(name=""),
    "evaluation": dict(
        skip_frames=2, most_frames=0, drop_last=0, batch_size=4, nan_rule="zero", window_frames=0
    ),
}


def trial(index):
    """Three repeats of each of four films."""
    rng, film = np.random.default_rng((1, index)), np.random.default_rng((2, index // REPEATS))
    rates = film.gamma(2.0, 0.4, (FRAMES, NEURONS))
    counts = rng.poisson(rates).astype(float)
    counts[:, SLEEPER if TIERS[index] == "train" else SILENT] = 0
    video = film.integers(0, 255, (FRAMES, 3, 4)).astype(float)
    none = np.zeros((FRAMES, 0))
    sum_of = checksum(video, counts)
    return types.Trial(index, TIERS[index], video, counts, none, none, FRAMES, sum_of, rates=rates)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    ids = np.arange(NEURONS)
    recording = types.Recording(
        mouse="ada",
        source="made by hand",
        frame_rate_hz=30.0,
        neurons=types.Neurons(ids, np.full((NEURONS, 3), np.nan)),
        tiers=TIERS,
        read=trial,
        trial_columns={"video_ids": np.arange(len(TIERS)) // REPEATS},
        simulated=True,
    )
    return TrialStore.open(conversion.write(tmp_path_factory.mktemp("spikes"), recording))


def model(weights, raw, known):
    """Between a number and what was counted, and never 0."""
    normalized = {mouse: normalize(batch, known[mouse]) for mouse, batch in raw.items()}
    guess = {m: 0.1 + weights[0] + weights[1] * b.responses for m, b in normalized.items()}
    return guess, normalized


PROGRAM = predictions.compiled(model)


def scored(store, *, normalization="counts", names=(), level=0.3, share=0.5):
    config = {**CONFIG, "data": {**CONFIG["data"], "normalization": normalization}}
    placement = mesh.Placement(jax.devices()[:1])
    opened = {store.mouse: store}
    known = placement.everywhere({store.mouse: Statistics.of(store, normalization)})
    arguments = ("validation", config, opened, known, None, 0, placement)
    asked = build.evaluator(*arguments, program=PROGRAM)
    weights = np.broadcast_to(level, (1, 1, NEURONS)).astype("f4"), np.float32(share)
    return asked.run(weights, step=1, seeds=(0,), names=names)


def validation(name):
    """[frame neuron], all trials one after the other, without the skipped frames."""
    return np.concatenate([getattr(trial(index), name)[2:] for index in range(6, 12)])


def poisson(predicted, observed):
    return (predicted - observed * np.log(predicted + EPSILON)).mean(0)


def expected(predicted):
    counts = validation("responses")
    means = np.mean([trial(index).responses for index in range(6)], (0, 1))
    null, own = poisson(means, counts), poisson(predicted, counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        bits = (null - own) / np.log(2) / counts.mean(0)
    bits[[SILENT, SLEEPER]] = np.nan
    return dict(zip(measures.OF_SPIKES, (own, null, bits), strict=True))


def test_measures_of_spikes_are_what_numpy_finds_and_always_there(store):
    predicted = 0.4 + 0.5 * validation("responses")
    found = scored(store).mice["ada"].measures
    assert tuple(found) == measures.OF_SPIKES
    for name, values in expected(predicted).items():
        np.testing.assert_allclose(found[name], values, rtol=2e-6, err_msg=name)


def test_silent_neurons_have_no_bits_and_count_nowhere(store):
    score = scored(store)
    bits = score.mice["ada"].measures["bits_per_spike"]
    assert np.isnan(bits).tolist() == [False, False, True, True]
    assert score.mean("bits_per_spike") == pytest.approx(bits[:2].mean())
    assert np.isfinite(score.mean("null_poisson_loss"))


def test_the_null_model_itself_has_no_bits_and_its_own_loss(store):
    means = store.statistics.per_neuron["responses"]["mean"]
    found = scored(store, level=means - 0.1, share=0.0).mice["ada"].measures
    np.testing.assert_allclose(found["bits_per_spike"][:2], 0, atol=1e-6)
    loss = found["competition_poisson_loss"][:SLEEPER]
    np.testing.assert_allclose(loss, found["null_poisson_loss"][:SLEEPER], rtol=1e-6)


def test_true_rates_are_the_ceiling_and_survive_the_file(store):
    score = scored(store)
    rates = validation("rates")
    ceilings = score.mice["ada"].ceilings
    for name, values in expected(rates).items():
        np.testing.assert_allclose(ceilings[name], values, rtol=2e-6, err_msg=name)
    assert score.ceiling_of("bits_per_spike") == pytest.approx(
        np.nanmean(ceilings["bits_per_spike"])
    )
    again = Score.from_json(json.loads(json.dumps(score.to_json())))
    for name, values in ceilings.items():
        np.testing.assert_array_equal(again.mice["ada"].ceilings[name], values)


def test_a_loss_is_judged_the_other_way_round(store):
    score = scored(store)
    assert score.worth("correlation") == score.correlation
    assert score.worth("poisson_loss") == -score.poisson_loss


def test_rescaled_responses_have_no_measures_of_spikes_and_it_is_said(store):
    score = scored(store, normalization="per_neuron", names=["bits_per_spike"])
    assert "bits_per_spike" not in score.measures
    assert "responses are not as recorded" in score.left_out["bits_per_spike"]
    assert set(build.null_means("none", {"ada": store})) == {"ada"}
    assert not build.null_means("official", {"ada": store})


def test_the_report_shows_the_score_between_null_model_repeats_and_rates(
    store, tmp_path, monkeypatch
):
    monkeypatch.setattr(report, "_pictures", lambda *about: ())
    score = scored(store, names=["oracle_jackknife"])
    used = dict(parameters=5123054, seconds=61.4, peak_memory_bytes=2.5e9)
    lines = made_up.lines(made_up.score())
    page = report.write(tmp_path, {}, {"validation": score}, lines, used=used)
    text = page.read_text()
    null = score.mean("null_poisson_loss")
    row = [score.mean("competition_poisson_loss"), null]
    cells = "".join(f"<td>{number:.4f}</td>" for number in row)
    rate = f"<td>{score.ceiling_of('competition_poisson_loss'):.4f}</td>"
    assert f"<td>Poisson loss of SCML 2017, validation</td>{cells}<td>-</td>{rate}" in text
    oracle = f"<td>{score.correlation:.4f}</td><td>0.0000</td>"
    assert f"{oracle}<td>{score.mean('oracle_jackknife'):.4f}</td>" in text
    for said in ("5,123,054", "61 s", "2.50 GB"):
        assert said in text
    assert json.loads((tmp_path / "report.json").read_text())["used"] == used
