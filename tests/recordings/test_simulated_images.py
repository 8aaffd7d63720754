"""Simulated mice that look at images: what they are said to be is what their files hold."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from scipy import ndimage

from scripts import convert, simulate
from sensojax.conversion import write as convert_one
from sensojax.errors import UserError
from sensojax.evaluation import predictions
from sensojax.evaluation.evaluators import Evaluator
from sensojax.pipeline.transforms import Statistics, normalize
from sensojax.pipeline.windows import SCORED_FRAMES
from sensojax.recordings import formats, sensorium2022, simulated
from sensojax.recordings.simulation import anatomy, image_session, schedule
from sensojax.store import TrialStore, stores_in
from sensojax.types import MODALITIES
from tests.recordings.test_simulated import digests

SMALL = simulated.Settings(
    kind="static", mice=1, neurons=7, trials=70, height=18, width=24, seed=3, normalization=0.5
)
WITHHELD = ("test", "final_test")


@pytest.fixture(autouse=True)
def quick_calibration(monkeypatch):
    monkeypatch.setattr(anatomy, "CALIBRATION_IMAGES", 30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anatomy, "CALIBRATION_IMAGES", 30)
        return simulated.write(tmp_path_factory.mktemp("mice"), SMALL)[0]


@pytest.fixture(scope="module")
def trials(folder):
    recording = sensorium2022.read(folder)
    return recording, [recording.read(index) for index in range(len(recording.tiers))]


def stacked(read, name):
    return np.concatenate([getattr(trial, name) for trial in read])


# The truth ----------------------------------------------------------------------------------------


def seen(image, fields, shift):
    """An image on fields that the eye moved, interpolated by scipy."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    signal = (image.astype(float) - 80) / 57
    place = [y + shift[1], x + shift[0]]
    moved = ndimage.map_coordinates(signal, place, order=1, mode="constant")
    # Outside the image, map_coordinates fades over one pixel, as it should: gray is 0.
    return np.tensordot(fields, moved, axes=([2, 3], [0, 1]))


def by_hand(recording, trial, about):
    """The rates of one trial from what is said of the neurons, in float64."""
    truth = recording.truth
    y, x = np.mgrid[: SMALL.height, : SMALL.width]
    angle, phase = np.radians(truth["direction_deg"]), np.radians(truth["phase_deg"])
    y = y - truth["center"][:, 1, None, None]
    x = x - truth["center"][:, 0, None, None]
    along = x * np.cos(angle)[:, None, None] - y * np.sin(angle)[:, None, None]
    cycle = 2 * np.pi * along / truth["wavelength"][:, None, None] + phase[:, None, None]
    size = truth["size"][:, None, None]
    envelope = np.exp(-(x**2 + y**2) / (2 * size**2)) / (np.sqrt(np.pi / 2) * size)
    fields = np.stack([envelope * np.cos(cycle), envelope * np.sin(cycle)], 1)
    shift = np.array(about["eye_matrix"]) @ (trial.pupil_center[0] - about["eye_reference"])
    even, odd = seen(np.pad(trial.video[0], 0), fields, shift).T
    drive = np.where(truth["is_complex"], np.hypot(even, odd), even) / truth["drive_std"]
    above = np.maximum(drive - truth["threshold"], 0) ** truth["exponent"] * truth["amplitude"]
    above /= 1 + SMALL.normalization * above.mean()
    dilation, _, speed = trial.behavior[0]
    habits = about["habits"]
    z = np.clip((dilation - habits["dilation_mean"]) / habits["dilation_std"], -2.5, 2.5)
    gain = np.exp(truth["running_gain"] * np.tanh(speed / 10) + truth["pupil_gain"] * z)
    return (truth["baseline"] + above) * gain * truth["scale"]


def test_rates_are_what_the_neurons_are_said_to_respond(folder, trials):
    recording, read = trials
    about = json.loads((folder / simulated.TRUTH_FILE).read_text())
    rates = stacked(read, "rates")
    expected = np.stack([by_hand(recording, trial, about) for trial in read])
    # Fields are rounded to steps of 6e-5 and the screen to steps of 1e-3.
    np.testing.assert_allclose(rates, expected, rtol=0.01, atol=0.01 * rates.std())
    assert 0 < recording.truth["is_complex"].sum() < SMALL.neurons
    assert (rates.std(axis=0) > 0.1 * rates.mean(axis=0)).all()


def test_responses_scatter_around_the_rates_as_stated(tmp_path, trials):
    many = dataclasses.replace(SMALL, trials=300, height=8, width=8, neurons=20)
    recording = sensorium2022.read(simulated.write(tmp_path, many)[0])
    read = [recording.read(index) for index in range(many.trials)]
    rates, responses = stacked(read, "rates"), stacked(read, "responses")
    truth = recording.truth
    stated = rates * truth["noise"] * truth["scale"]  # the variance
    score = (responses - rates).sum(axis=0) / np.sqrt(stated.sum(axis=0))
    assert np.abs(score).max() < 4
    spread = ((responses - rates) ** 2).sum(axis=0) / stated.sum(axis=0)
    np.testing.assert_allclose(spread, 1, atol=0.6)  # 300 samples of a gamma distribution each
    assert abs(spread.mean() - 1) < 0.12
    assert responses.min() == 0
    quiet = simulated.write(tmp_path / "quiet", dataclasses.replace(SMALL, noise=0.0))[0]
    trial = sensorium2022.read(quiet).read(0)
    np.testing.assert_allclose(trial.responses, trial.rates, rtol=1e-3)


def test_the_ceiling_is_the_score_of_the_true_rates(folder, trials, tmp_path):
    store = TrialStore.open(convert_one(tmp_path, formats.read(folder)))
    known = {store.mouse: Statistics.of(store, "official")}

    def model(weights, raw, known):
        prepared = {mouse: normalize(batch, known[mouse]) for mouse, batch in raw.items()}
        return {mouse: weights * batch.responses for mouse, batch in prepared.items()}, prepared

    asked = predictions.Predictions(
        *(predictions.compiled(model, None), {store.mouse: store}, known),
        tier="test+final_test",
        frames=SCORED_FRAMES["all"],
        lost_frames=0,
        batch_size=16,
        read_threads=1,
        put=jax.device_put,
    )
    how = dict(normalization="official", protocol="strict", nan_rule="zero")
    score = Evaluator(asked, **how).run(1.0, step=0, seeds=(0,))
    _, read = trials
    used = [trial for trial in read if trial.tier in WITHHELD]
    rates, responses = stacked(used, "rates"), stacked(used, "responses")
    expected = [np.corrcoef(*each)[0, 1] for each in zip(rates.T, responses.T, strict=True)]
    of_mouse = score.mice[store.mouse]
    np.testing.assert_allclose(of_mouse.ceiling, expected, rtol=1e-5)
    np.testing.assert_allclose(of_mouse.correlation, 1, rtol=1e-5)  # responses predict themselves
    assert of_mouse.num_frames == len(used)


# The files ----------------------------------------------------------------------------------------


def test_written_session_has_the_published_layout(folder, trials):
    recording, read = trials
    assert recording.simulated and recording.still
    assert recording.mouse == folder.name == simulated.name(0, "static")
    shapes = {"images": (1, 18, 24), "responses": (7,), "behavior": (3,), "pupil_center": (2,)}
    for key, shape in shapes.items():
        assert np.load(folder / "data" / key / "0.npy").shape == shape
    image = stacked(read, "video")
    assert image.dtype == np.uint8 and np.ptp(image) > 200
    behavior = stacked(read, "behavior")
    assert behavior[:, [0, 2]].min() >= 0 and behavior[:, 1].min() < 0 < behavior[:, 1].max()
    columns = recording.neurons.columns
    assert set(columns) == {"area", "layer", "animal_ids", "sessions", "scan_idx"}
    assert np.isfinite(stacked(read, "rates")).all() and (stacked(read, "rates") > 0).all()
    hashed = recording.trial_columns["trial_idx"]
    assert hashed.dtype == "<U32" and len(set(hashed.tolist())) == SMALL.trials


def test_areas_and_layers_are_places_in_cortex():
    rng = np.random.default_rng(0)
    position = np.column_stack([rng.integers(0, 616, (400, 2)), rng.choice(anatomy.PLANES_UM, 400)])
    area, layer = image_session.areas_and_layers(position)
    assert set(area) == {"V1", "LM", "RL"} and set(layer) == {"L2/3", "L4", "L5"}
    assert position[area == "V1", 0].max() <= position[area != "V1", 0].min()
    assert position[layer == "L2/3", 2].max() < position[layer == "L4", 2].min()


def test_every_tier_is_there_with_its_repeats(trials):
    recording, read = trials
    tiers, ids = np.array(recording.tiers), recording.trial_columns["frame_image_id"]
    assert set(tiers) == {"train", "validation", "test", "final_test"}
    assert not np.array_equal(tiers, np.sort(tiers))
    assert len(set(ids[tiers == "train"])) == np.sum(tiers == "train") == 35
    for tier in ("validation", "test", "final_test"):
        shown, repeats = np.unique(ids[tiers == tier], return_counts=True)
        assert repeats.min() > 1 and not set(shown) & set(ids[tiers != tier])
    for image in np.unique(ids):
        same = [read[row] for row in np.flatnonzero(ids == image)]
        for other in same[1:]:
            assert np.array_equal(same[0].video, other.video)
            assert not np.array_equal(same[0].behavior, other.behavior)
            assert not np.array_equal(same[0].responses, other.responses)
    assert len({trial.video.tobytes() for trial in read}) == len(set(ids))


def test_full_session_has_the_published_counts():
    plan = schedule.of_images(np.random.default_rng(0), 7000, 4500 / 7000)
    for tier, (trials, images) in {"test": (1000, 100), "validation": (500, 71)}.items():
        clips, repeats = np.unique(plan.clips[plan.tiers == tier], return_counts=True)
        assert (repeats.sum(), len(clips)) == (trials, images)
        assert repeats.max() - repeats.min() <= 1
    assert np.sum(plan.tiers == "train") == 4500


def test_statistics_are_those_of_all_trials(folder, trials):
    _, read = trials
    for key, name in zip(
        MODALITIES, ("video", "responses", "behavior", "pupil_center"), strict=True
    ):
        values = stacked(read, name)
        where = sensorium2022.LAYOUT.folder(key, "meta/statistics")
        for which in ("all", "stimulus_frame"):
            for statistic in ("mean", "std", "min", "max", "median"):
                written = np.load(folder / where / which / f"{statistic}.npy")
                axis = None if key == "videos" else 0
                expected = getattr(np, statistic)(values.astype(float), axis=axis)
                np.testing.assert_allclose(written, expected, rtol=1e-9)


def test_withheld_responses_are_zeros_and_enter_no_statistics(tmp_path, trials):
    path = simulated.write(tmp_path, dataclasses.replace(SMALL, withhold=True))[0]
    recording = sensorium2022.read(path)
    known = []
    for index, tier in enumerate(recording.tiers):
        trial = recording.read(index)
        if tier in WITHHELD:
            assert not trial.responses.any()
        else:
            np.testing.assert_array_equal(trial.responses, trials[1][index].responses)
        np.testing.assert_array_equal(trial.rates, trials[1][index].rates)
        known += [trial.responses] if tier not in WITHHELD else []
    std = recording.statistics["responses"]["std"][0]
    np.testing.assert_allclose(std, np.concatenate(known).std(axis=0), rtol=1e-9)


def test_same_seed_gives_the_same_bytes_with_any_number_of_workers(folder, tmp_path, monkeypatch):
    alone = simulated.write(tmp_path / "alone", SMALL, workers=1)[0]
    monkeypatch.setattr(image_session, "TRIALS_AT_ONCE", 3)
    again = simulated.write(tmp_path, SMALL, workers=2)[0]
    assert digests(again) == digests(alone) == digests(folder)


def test_interrupted_writing_continues_to_the_same_bytes(folder, tmp_path, monkeypatch):
    calls, save = [], image_session.save

    def interrupted(*arguments):
        if len(calls) == 60:
            raise KeyboardInterrupt
        calls.append(arguments)
        save(*arguments)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(image_session, "save", interrupted)
        simulated.write(tmp_path, SMALL, workers=1)
    assert [path.suffix for path in tmp_path.iterdir()] == [".partial"]
    with pytest.raises(UserError, match="neither a session nor a folder of sessions"):
        formats.sessions(tmp_path)
    assert digests(simulated.write(tmp_path, SMALL)[0]) == digests(folder)


def test_images_of_one_mouse_are_not_those_of_another(tmp_path):
    two = dataclasses.replace(SMALL, mice=2, trials=20, neurons=2, height=8, width=8)
    one, other = (sensorium2022.read(path) for path in simulated.write(tmp_path, two))
    ids = [set(each.trial_columns["frame_image_id"].tolist()) for each in (one, other)]
    assert not ids[0] & ids[1]
    assert not np.array_equal(one.read(0).video, other.read(0).video)
    with pytest.raises(UserError, match=r"other settings .*height 8 instead of 9"):
        simulated.write(tmp_path, dataclasses.replace(two, height=9))


@pytest.mark.parametrize("types", [0, 4])
def test_half_of_the_neurons_or_types_are_complex(types):
    """So that a linear-nonlinear model misses half of what there is, with any seed."""
    chosen = dataclasses.replace(SMALL, neurons=200, types=types, height=8, width=8)
    share = image_session.Mouse(chosen, 0).neurons.is_complex.mean()
    assert share == 0.5 if types == 0 else abs(share - 0.5) < 0.15


def test_sizes_are_the_published_ones_of_their_kind():
    assert (SMALL.height, SMALL.width) == (18, 24)
    for kind, size in (("video", (36, 64)), ("static", (144, 256))):
        chosen = simulated.Settings(kind=kind)
        assert (chosen.height, chosen.width) == size
    with pytest.raises(UserError, match=r"kind of simulation 'statik'.*did you mean 'static'"):
        simulated.Settings(kind="statik")


def test_commands_simulate_convert_and_verify(tmp_path, capsys):
    size = {"kind": "static", "mice": 2, "neurons": 2, "trials": 20, "height": 8, "width": 8}
    simulate.main([*(f"--{name}={value}" for name, value in size.items()), f"--folder={tmp_path}"])
    assert "2 simulated mice (no animal was recorded)" in capsys.readouterr().out
    names = [simulated.name(number, "static") for number in range(2)]
    assert formats.sessions(tmp_path) == names
    convert.main([str(tmp_path), "--out", str(tmp_path / "stores"), "--verify"])
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2 and all(line.endswith("verified") for line in said)
    assert stores_in(tmp_path / "stores") == names
