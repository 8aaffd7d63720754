import numpy as np
import pytest

from sensojax.recordings.simulation import anatomy, behavior, neurons
from sensojax.stimuli import synthesis


@pytest.fixture(scope="module")
def mouse():
    rng = np.random.default_rng(7)
    habits = behavior.habits(rng)
    people = anatomy.population(
        *(rng, 80, 18, 32, habits), noise=2.0, eye_shift=1.0, normalization=0.0
    )
    return people, habits


def test_place_in_cortex_predicts_the_place_of_the_field(mouse):
    people, _ = mouse
    x, y = (people.position_um[:, :2] / 616.0).T
    design = np.stack([np.ones_like(x), x, y, x * y, x**2, y**2], axis=1)
    fit, *_ = np.linalg.lstsq(design, people.center, rcond=None)
    rest = people.center - design @ fit
    assert (rest.std(axis=0) < 0.05 * 18).all()
    assert (people.center.std(axis=0) > (2.5, 1.4)).all()
    assert (people.center >= 0).all() and (people.center <= (31, 17)).all()


def test_neurons_lie_in_ten_planes_under_a_window_of_616_um(mouse):
    position = mouse[0].position_um
    assert set(position[:, 2]) <= set(range(200, 426, 25))
    assert (np.ptp(position[:, :2], axis=0) <= 616).all()
    assert (np.ptp(position[:, :2], axis=0) > 450).all()


def test_fields_are_where_their_centers_say(mouse):
    people, _ = mouse
    power = (people.fields.astype(float) ** 2).sum(axis=1)
    rows, columns = np.mgrid[:18, :32]
    inside = (np.abs(people.center - (15.5, 8.5)) < (11, 4)).all(axis=1)
    assert inside.sum() > 10
    for neuron in np.flatnonzero(inside):
        share = power[neuron] / power[neuron].sum()
        place = (np.sum(share * columns), np.sum(share * rows))
        np.testing.assert_allclose(place, people.center[neuron], atol=0.4)


def test_rates_on_movies_are_in_units_of_their_mean(mouse):
    people, habits = mouse
    rng = np.random.default_rng(8)
    rest = np.array([[habits.dilation_mean, 0.0]])
    total = np.zeros(80)
    for _ in range(20):
        video = synthesis.movie(rng, 150, 18, 32)
        drive = neurons.drive(people, video, np.broadcast_to(habits.eye_mean, (150, 2)))
        total += neurons.activity(people, drive, rest)[11:].mean(axis=0) / 20
    # Fields overlap, so a movie that suits one suits many: 20 clips leave an error of 10 %.
    assert 0.8 < np.median(total) < 1.2
    assert (total > 0.4).all() and (total < 2.5).all()


def test_behavior_has_the_magnitudes_of_real_mice():
    rng = np.random.default_rng(9)
    for _ in range(3):
        habits = behavior.habits(rng)
        trials = [behavior.behave(rng, habits, 330) for _ in range(120)]
        behaved = np.concatenate([trial[0] for trial in trials])
        center = np.concatenate([trial[1] for trial in trials])
        assert 38 < behaved[:, 0].mean() < 62 and 9 < behaved[:, 0].std() < 20
        assert 0.2 < behaved[:, 1].mean() < 7 and 0.8 < behaved[:, 1].std() < 12
        assert np.median(behaved[:, 1]) < 1.5 and behaved[:, 1].min() >= 0
        assert (center.mean(axis=0) > 115).all() and (center.mean(axis=0) < 185).all()
        assert (center.std(axis=0) > 3).all() and (center.std(axis=0) < 9).all()
        steps = np.abs(np.diff(trials[0][0][:, 0]))
        assert steps.max() < behaved[:, 0].std()  # smooth from frame to frame


def test_neurons_of_one_type_differ_only_in_place_gain_and_noise():
    habits = behavior.habits(np.random.default_rng(0))
    types = anatomy.cell_types(np.random.default_rng(1), 3, 18)
    options = dict(noise=1.0, eye_shift=0.0, normalization=0.0, types=types)
    people = anatomy.population(np.random.default_rng(2), 40, 18, 32, habits, **options)
    assert len(np.unique(people.direction_deg)) == 3
    for direction in np.unique(people.direction_deg):
        same = people.direction_deg == direction
        for property_ in (people.size, people.phase_deg, people.is_complex, people.exponent):
            assert len(np.unique(property_[same])) == 1
        assert len(np.unique(people.kernels[same], axis=0)) == 1
        assert len(np.unique(people.running_gain[same])) == same.sum()
