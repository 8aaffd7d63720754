"""The simulated neurons have the truth that they state."""

import dataclasses

import numpy as np
import pytest

from sensojax.recordings.simulation import anatomy, behavior, neurons

HEIGHT, WIDTH, NUMBER = 16, 24, 6


@pytest.fixture(scope="module")
def mouse():
    rng = np.random.default_rng(0)
    habits = behavior.habits(rng)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anatomy, "CALIBRATION", (3, 80))
        people = anatomy.population(
            *(rng, NUMBER, HEIGHT, WIDTH, habits),
            noise=2.0,
            eye_shift=1.0,
            normalization=0.0,
        )
    return people, habits


def with_gabors(people, center, direction_deg, phase_deg, is_complex, selectivity, **others):
    """The same neurons with fields of our choice, equal for all but for what is a list."""

    def every(value):
        return np.broadcast_to(np.asarray(value, float), NUMBER)

    center = np.broadcast_to(np.asarray(center, float), (NUMBER, 2))
    size, wavelength = every(others.pop("size", 1.8)), every(others.pop("wavelength", 5.0))
    return dataclasses.replace(
        people,
        center=center,
        is_complex=every(is_complex).astype(bool),
        direction_selectivity=every(selectivity),
        fields=anatomy.gabors(
            *(HEIGHT, WIDTH, center, every(direction_deg), wavelength, size, every(phase_deg))
        ),
        **others,
    )


def looking(people, frames):
    return np.broadcast_to(people.eye_reference, (frames, 2))


def grating(direction_deg, frames=60, wavelength=5.0, cycles_per_frame=0.08, phase=0.0):
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    angle = np.radians(direction_deg)
    along = (x * np.cos(angle) - y * np.sin(angle)) / wavelength
    turn = cycles_per_frame * np.arange(frames)[:, None, None]
    return 80 + 50 * np.cos(2 * np.pi * (along - turn) + phase)


def noise_video(rng, frames):
    return 80 + 57 * rng.standard_normal((frames, HEIGHT, WIDTH))


def test_mean_response_over_many_draws_is_the_rate(mouse):
    people, habits = mouse
    rng = np.random.default_rng(1)
    video = noise_video(rng, 20)
    behaved, center = behavior.behave(rng, habits, neurons.LEAD_FRAMES + 20)
    rates, _ = neurons.respond(people, video, behaved, center)
    draws = np.stack([neurons.respond(people, video, behaved, center, rng)[1] for _ in range(3000)])
    error = draws.std(axis=0) / np.sqrt(len(draws))
    score = (draws.mean(axis=0) - rates) / error
    assert draws.std(axis=0).min() > 0
    assert np.abs(score).max() < 5
    assert abs(score.mean()) < 0.5


def test_samples_are_zero_inflated_gamma_with_the_stated_moments():
    expected, noise = np.full((200_000, 2), (0.4, 3.0)), np.array([1.5, 0.7])
    sample = neurons.draw(np.random.default_rng(0), expected, noise)
    np.testing.assert_allclose(sample.mean(axis=0), expected[0], rtol=0.01)
    np.testing.assert_allclose(sample.var(axis=0), expected[0] * noise, rtol=0.03)
    np.testing.assert_allclose(
        (sample == 0).mean(axis=0), np.exp(-2 * expected[0] / noise), rtol=0.03, atol=1e-3
    )


def test_reverse_correlation_finds_the_field_at_its_center(mouse):
    places = [(6, 5), (17, 5), (6, 11), (17, 11), (12, 8), (9.5, 7.5)]
    people = with_gabors(mouse[0], places, 30.0, 0.0, False, 0.0)
    rng = np.random.default_rng(2)
    video = noise_video(rng, 20_000)
    rates = neurons.activity(
        people, neurons.drive(people, video, looking(people, len(video))), np.array([[50.0, 0]])
    )
    lag = int(np.argmax(people.kernels[0, 0]))
    found = np.tensordot(
        (rates - rates.mean(axis=0))[lag:], (video - 80)[: len(video) - lag], (0, 0)
    )
    for neuron, (x, y) in enumerate(places):
        field = people.fields[neuron, 0]
        likeness = np.corrcoef(found[neuron].ravel(), field.ravel())[0, 1]
        assert likeness > 0.9
        power = found[neuron] ** 2 * (np.abs(found[neuron]) > np.abs(found[neuron]).max() / 3)
        rows, columns = np.mgrid[:HEIGHT, :WIDTH]
        assert abs(np.sum(power * columns) / power.sum() - x) < 0.5
        assert abs(np.sum(power * rows) / power.sum() - y) < 0.5


def test_pupil_moves_the_fields_by_the_stated_matrix(mouse):
    people = with_gabors(mouse[0], (12, 8), 30.0, 0.0, False, 0.0)
    shift = np.array([3.0, -2.0])  # pixels right, down
    center = people.eye_reference + np.linalg.solve(people.eye_matrix, shift)
    moved = with_gabors(mouse[0], (15, 6), 30.0, 0.0, False, 0.0)
    video = noise_video(np.random.default_rng(3), 30)
    looked = neurons.drive(people, video, np.broadcast_to(center, (30, 2)))
    np.testing.assert_allclose(
        looked, neurons.drive(moved, video, looking(moved, 30)), atol=0.02 * looked.std()
    )
    still = neurons.drive(people, video, looking(people, 30))
    assert np.corrcoef(looked.ravel(), still.ravel())[0, 1] < 0.7


def test_complex_cells_do_not_care_for_phase_and_simple_cells_do(mouse):
    people = with_gabors(mouse[0], (12, 8), 0.0, 0.0, [0, 0, 0, 1, 1, 1], 0.0)
    phases = np.linspace(0, np.pi, 5)[:-1]
    peaks = np.stack(
        [
            neurons.drive(
                people,
                grating(0.0, cycles_per_frame=0.0, phase=phase)[:4],
                looking(people, 4),
            )[3]
            for phase in phases
        ]
    )
    assert (np.ptp(peaks[:, :3], axis=0) > 0.8 * np.abs(peaks[:, :3]).max(axis=0)).all()
    assert (np.ptp(peaks[:, 3:], axis=0) < 0.05 * peaks[:, 3:].max(axis=0)).all()


def test_direction_selective_cells_prefer_the_stated_direction(mouse):
    directions = [0, 45, 90, 180, 225, 300]
    for is_complex in (False, True):
        for selectivity, low, high in ((1.0, 1.5, np.inf), (0.0, 0.9, 1.1)):
            people = with_gabors(mouse[0], (12, 8), directions, 40.0, is_complex, selectivity)
            for neuron, direction in enumerate(directions):
                power = []
                for motion in (direction, direction + 180):
                    drive = neurons.drive(people, grating(motion), looking(people, 60))
                    power.append((drive[20:, neuron] ** 2).mean())
                assert low < np.sqrt(power[0] / power[1]) < high, (is_complex, direction)


def test_gratings_across_the_preferred_orientation_do_nothing(mouse):
    people = with_gabors(mouse[0], (12, 8), 60.0, 0.0, False, 0.0)
    strength = [
        neurons.drive(people, grating(direction), looking(people, 60))[20:].std()
        for direction in (60, 150)
    ]
    assert strength[1] < 0.1 * strength[0]


def test_rates_do_not_depend_on_later_frames(mouse):
    people, habits = mouse
    rng = np.random.default_rng(4)
    video = noise_video(rng, 60)
    behaved, center = behavior.behave(rng, habits, neurons.LEAD_FRAMES + 60)
    rates, _ = neurons.respond(people, video, behaved, center)
    for cut in (17, 30, 41):
        other, later = video.copy(), behaved.copy()
        other[cut:] = noise_video(rng, 60)[cut:]
        later[neurons.LEAD_FRAMES + cut :] += 20
        changed, _ = neurons.respond(people, other, later, center)
        np.testing.assert_array_equal(changed[:cut], rates[:cut])
        assert not np.allclose(changed[cut:], rates[cut:])


def test_longer_clip_begins_with_the_rates_of_the_shorter(mouse):
    people, habits = mouse
    rng = np.random.default_rng(5)
    video = noise_video(rng, 50)
    behaved, center = behavior.behave(rng, habits, neurons.LEAD_FRAMES + 50)
    short = slice(neurons.LEAD_FRAMES + 33)
    whole, _ = neurons.respond(people, video, behaved, center)
    part, _ = neurons.respond(people, video[:33], behaved[short], center[short])
    np.testing.assert_allclose(part, whole[:33], rtol=1e-12)


def test_drive_of_a_neuron_does_not_depend_on_who_else_is_computed(mouse):
    people, _ = mouse
    video = noise_video(np.random.default_rng(7), 40)
    signal = (video / 50).astype(np.float32)
    whole = neurons._projected(people.fields, signal)
    for neuron in range(NUMBER):
        alone = neurons._projected(people.fields[neuron : neuron + 1], signal[::-1])
        np.testing.assert_array_equal(alone[::-1, 0], whole[:, neuron])
    fields = people.fields.reshape(NUMBER, 2, -1).astype(np.float64)
    np.testing.assert_allclose(
        whole, np.einsum("nkp,tp->tnk", fields, signal.reshape(40, -1)), atol=2e-3
    )


def test_running_and_pupil_multiply_the_rate_by_the_stated_gain(mouse):
    people, _ = mouse
    people = dataclasses.replace(people, running_gain=np.full(NUMBER, 0.5))
    mean, std = people.dilation_reference
    driven = np.abs(np.random.default_rng(6).standard_normal((7, NUMBER))) * people.drive_std
    rest = neurons.activity(people, driven, np.array([[mean, 0.0]]))
    running = neurons.activity(people, driven, np.array([[mean, 40.0]]))
    np.testing.assert_allclose(running / rest, np.exp(0.5), rtol=1e-3)
    wide = neurons.activity(people, driven, np.array([[mean + std, 0.0]]))
    np.testing.assert_allclose(wide / rest, np.exp(people.pupil_gain) * np.ones((7, 1)))


def test_microscope_sees_a_constant_rate_as_it_is():
    average, weight = neurons.microscope(47)
    np.testing.assert_allclose(average.sum(axis=1), 1)
    np.testing.assert_allclose(weight.sum(axis=1), 1)
    assert weight.shape == (47, average.shape[0])


def test_normalization_lowers_rates_when_many_are_active(mouse):
    people, _ = mouse
    divided = dataclasses.replace(people, normalization=1.0)
    driven = np.outer([1.0, 3.0], 2 * people.drive_std)
    rest = np.array([[people.dilation_reference[0], 0.0]])
    ratio = neurons.activity(divided, driven, rest) / neurons.activity(people, driven, rest)
    assert (ratio < 1).all() and (ratio[1] < ratio[0]).all()
