"""Simulated recordings in the colliculus: what they are said to be is what their file holds."""

import dataclasses

import h5py
import numpy as np
import pytest

from sensojax.errors import UserError
from sensojax.recordings import colliculus2017, formats, simulated
from sensojax.recordings.simulation import anatomy, colliculus_session, neurons
from sensojax.stimuli import textures

SMALL = simulated.Settings(
    kind="colliculus", mice=1, neurons=7, trials=36, frames=40, height=24, width=28, seed=3
)
BAR, SEGMENTS, REPEATS = 4, 6, 6


@pytest.fixture(autouse=True, scope="module")
def quick_calibration():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anatomy, "CALIBRATION", (2, 60))
        yield


@pytest.fixture(scope="module")
def path(tmp_path_factory, quick_calibration):
    return simulated.write(tmp_path_factory.mktemp("colliculus"), SMALL)[0]


@pytest.fixture(scope="module")
def recorded(path):
    """The recording, and [segment repeat time ...] of what was shown, expected and counted."""
    recording = colliculus2017.read(path, frame_size=(24, 28))
    trials = [recording.read(index) for index in range(SMALL.trials)]

    def stacked(name):
        every = np.stack([getattr(trial, name) for trial in trials])
        return every.reshape(SEGMENTS, REPEATS, *every.shape[1:])

    return recording, stacked("video"), stacked("rates"), stacked("responses")


def fields(truth):
    """Pairs of Gabors a quarter cycle apart, [neuron 2 height width], from what is said of them."""
    y, x = np.mgrid[:24, :28]
    angle, phase = np.radians(truth["direction_deg"]), np.radians(truth["phase_deg"])
    y, x = y - truth["center"][:, 1, None, None], x - truth["center"][:, 0, None, None]
    along = x * np.cos(angle)[:, None, None] - y * np.sin(angle)[:, None, None]
    cycle = 2 * np.pi * along / truth["wavelength"][:, None, None] + phase[:, None, None]
    size = truth["size"][:, None, None]
    envelope = np.exp(-(x**2 + y**2) / (2 * size**2)) / (np.sqrt(np.pi / 2) * size)
    pair = np.stack([envelope * np.cos(cycle), envelope * np.sin(cycle)], 1)
    pair[:, :, :BAR] = pair[:, :, -BAR:] = 0  # nobody sees the bars
    return pair


def filtered(signal, kernels):
    """[time neuron] of [time neuron], by a kernel of each neuron."""
    return np.stack(
        [
            np.convolve(one, kernel)[: len(one)]
            for one, kernel in zip(signal.T, kernels, strict=True)
        ]
    ).T


def by_hand(truth, video):
    """What a film does to rested neurons, from its first frame on."""
    signal = (video.astype(float) - textures.GREY) / neurons.LEVEL_STD
    even, odd = np.moveaxis(np.einsum("thw,nphw->tnp", signal, fields(truth)), -1, 0)
    fast, slow = truth["kernels"][:, 0], truth["kernels"][:, 1]
    selective = truth["direction_selectivity"]
    first = filtered(even, fast) - selective * filtered(odd, slow)
    second = filtered(odd, fast) + selective * filtered(even, slow)
    drive = np.where(truth["is_complex"], np.hypot(first, second), first) / truth["drive_std"]
    above = np.maximum(drive - truth["threshold"], 0) ** truth["exponent"]
    return truth["mean_count"] * (truth["baseline"] + truth["amplitude"] * above)


def test_rates_are_what_the_neurons_are_said_to_answer_and_tire_as_said(recorded):
    recording, video, rates, _ = recorded
    truth, columns = recording.truth, recording.trial_columns
    start_s = columns["start_s"].reshape(SEGMENTS, REPEATS)
    time_s = start_s[:, :, None, None] + np.arange(SMALL.frames)[:, None] / 30
    gain = 1 - truth["adaptation"] * (1 - np.exp(-time_s / truth["adaptation_s"]))
    later = neurons.KERNEL_FRAMES - 1  # when the segment before is forgotten
    for segment in range(SEGMENTS):
        expected = by_hand(truth, video[segment, 0]) * gain[segment]
        found = rates[segment]
        np.testing.assert_allclose(
            found[:, later:], expected[:, later:], rtol=0.01, atol=0.01 * rates.std()
        )
    assert 0 < truth["is_complex"].sum() < SMALL.neurons
    assert rates.min() > 0 and (np.diff(gain, axis=1) < 0).all()


def test_the_beginning_of_a_segment_follows_from_the_one_before(recorded):
    recording, video, rates, _ = recorded
    numbers = recording.trial_columns["video_ids"][::REPEATS]
    (after, *_) = np.flatnonzero(np.diff(numbers) == 1) + 1
    truth, time = recording.truth, SMALL.frames
    film = np.concatenate([video[after - 1, 0], video[after, 0]])
    gain = rates[after, 0, -1] / by_hand(truth, film)[-1]
    np.testing.assert_allclose(
        rates[after, 0], by_hand(truth, film)[time:] * gain, rtol=0.05, atol=0.02 * rates.std()
    )


def test_counts_are_poissons_about_the_rates(recorded):
    _, _, rates, counts = recorded
    assert (counts == np.rint(counts)).all() and counts.min() == 0
    total = rates.sum((0, 1, 2))
    assert np.abs((counts.sum((0, 1, 2)) - total) / np.sqrt(total)).max() < 4
    spread = ((counts - rates) ** 2).sum((0, 1, 2)) / total
    np.testing.assert_allclose(spread, 1, atol=0.5)
    assert not np.array_equal(counts[:, 0], counts[:, 1])


def test_noise_is_the_variance_of_counts_over_that_of_rates(recorded):
    _, _, rates, _ = recorded
    rested = rates[:, 0].reshape(-1, SMALL.neurons)
    ratio = rested.mean(0) / rested.var(0)
    assert 0.5 * SMALL.noise < np.median(ratio) < 2 * SMALL.noise


def test_repeats_show_one_film_between_black_bars(recorded):
    recording, video, _, _ = recorded
    assert (video == video[:, :1]).all() and video.dtype == np.uint8
    assert not video[..., :BAR, :].any() and not video[..., -BAR:, :].any()
    assert np.ptp(video[..., BAR:-BAR, :]) > 200
    assert len({video[segment, 0].tobytes() for segment in range(SEGMENTS)}) == SEGMENTS
    assert recording.tiers.count("validation") == REPEATS and recording.simulated
    center = recording.truth["center"]
    assert (center[:, 1] > BAR).all() and (center[:, 1] < 24 - BAR).all()


def test_the_file_is_as_matlab_writes_it(path):
    assert path.name == "colliculus91001-simulated.mat"
    begin = path.read_bytes()[:128]
    assert begin.startswith(b"MATLAB 7.3 MAT-file") and begin[-4:] == b"\x00\x02IM"
    with h5py.File(path) as file:
        assert file["trainingmovie_mini"].shape == (36, 40, 24 * 28)
        assert file["FRhist_tr"].attrs["MATLAB_class"] == b"double"
        hidden = file["hiddendata"][()].ravel()
    assert len(hidden) == 1 and 1 <= hidden[0] <= 7


def test_equal_settings_give_equal_bytes_and_a_finished_file_is_left_alone(path, tmp_path):
    again = simulated.write(tmp_path, SMALL)[0]
    assert again.read_bytes() == path.read_bytes()
    before = again.stat().st_mtime_ns
    assert simulated.write(tmp_path, SMALL) == [again] and again.stat().st_mtime_ns == before
    with pytest.raises(UserError, match=r"was simulated with other settings \(neurons 7 instead"):
        simulated.write(tmp_path, dataclasses.replace(SMALL, neurons=8))
    same = dataclasses.replace(SMALL, train_share=0.9, withhold=True)  # these mean nothing here
    assert simulated.write(tmp_path, same) == [again]
    again.write_bytes(b"MATLAB 7.3")
    with pytest.raises(UserError, match="is in the way and is not a simulated session"):
        simulated.write(tmp_path, SMALL)


def test_an_interrupted_simulation_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(mouse):
        yield from ()
        raise KeyboardInterrupt

    monkeypatch.setattr(colliculus_session, "_trials", interrupted)
    with pytest.raises(KeyboardInterrupt):
        simulated.write(tmp_path, SMALL)
    assert not list(tmp_path.iterdir())


def test_impossible_settings_are_refused():
    for name, value in {"trials": 40, "height": 20}.items():
        with pytest.raises(UserError, match=f"{name} is {value}, expected a multiple of 6"):
            dataclasses.replace(SMALL, **{name: value})


def test_formats_reads_a_simulated_file(tmp_path):
    path = simulated.write(tmp_path, dataclasses.replace(SMALL, width=32, trials=18))[0]
    trial = formats.read(tmp_path).read(0)
    assert formats.sessions(tmp_path) == [path.stem]
    assert trial.video.shape == (40, 24, 32) and trial.rates.shape == (40, 7)
