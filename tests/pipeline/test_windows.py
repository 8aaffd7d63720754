"""Which frames a window may show, and which of them count."""

import numpy as np
import pytest

from sensojax.errors import UserError
from sensojax.pipeline import windows
from sensojax.pipeline.windows import Window
from tests.pipeline.fakes import MemoryStore


def drawn_starts(rule, num_frames, length, draws=10_000):
    rng = np.random.default_rng(0)
    found = [windows.draw(3, num_frames, length, rule, rng) for _ in range(draws)]
    assert {(w.row, w.length) for w in found} == {(3, length)}
    return np.bincount([w.start for w in found])


def test_uniform_draws_every_window_of_a_trial_equally_often():
    counts = drawn_starts("uniform", 30, 20)
    assert len(counts) == 11  # starts 0 to 10: the last one ends with the trial's last frame
    assert np.all(np.abs(counts - 10_000 / 11) < 5 * np.sqrt(10_000 / 11))


def test_published_never_draws_the_last_window():
    counts = drawn_starts("published", 30, 20)
    assert len(counts) == 10
    assert np.all(np.abs(counts - 1_000) < 5 * np.sqrt(1_000))


def test_published_refuses_a_trial_as_long_as_the_window():
    with pytest.raises(UserError, match=r"20 frames.*more than the 20.*uniform"):
        windows.count_starts("published", 20, 20)
    assert windows.count_starts("published", 21, 20) == 1


@pytest.mark.parametrize("num_frames", [13, 20])
def test_uniform_starts_short_trials_at_zero(num_frames):
    assert len(drawn_starts("uniform", num_frames, 20, draws=50)) == 1


def test_unknown_rule_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'uniform'"):
        windows.count_starts("unifrom", 30, 20)


def test_padding_and_warm_up_and_nothing_else_do_not_count():
    whole = windows.whole(0, num_frames=7, length=10)
    counted = windows.valid_frames(whole, num_frames=7, skip_frames=2)
    assert counted.tolist() == [False] * 2 + [True] * 5 + [False] * 3


def test_warm_up_is_counted_from_the_start_of_the_trial_not_of_the_window():
    window = Window(row=0, start=3, length=4)
    assert windows.valid_frames(window, 20, skip_frames=5).tolist() == [False, False, True, True]
    assert windows.valid_frames(window, 20, skip_frames=3).all()


@pytest.mark.parametrize(
    ("name", "num_frames", "first", "last"),
    [
        ("kit", 300, 50, 299),
        ("kit", 315, 50, 314),
        ("dwiseneuro", 300, 50, 298),
        ("dwiseneuro", 315, 50, 298),
        ("viv1t", 300, 51, 299),
        ("viv1t", 315, 51, 299),
        ("viv1t_local", 300, 50, 299),
        ("viv1t_local", 315, 50, 299),
        ("dwiseneuro", 299, 50, 297),
        ("viv1t", 280, 51, 279),
    ],
)
def test_named_conventions_score_their_frames(name, num_frames, first, last):
    """As the systems of the field submit or score them: 249 or 250 frames of a trial of 300."""
    frames = windows.SCORED_FRAMES[name]
    padded = windows.valid_frames(Window(0, 0, 330), num_frames, *frames)
    assert np.flatnonzero(padded).tolist() == list(range(first, last + 1))
    cut = MemoryStore(lengths=(num_frames,)).trials
    (shown,) = windows.usable_frames(cut, "per_neuron", frames.most_frames)
    whole = windows.valid_frames(windows.whole(0, shown, 330), shown, *frames)
    assert (whole == padded).all()  # cut before or after, the same frames are scored


def test_last_frames_are_dropped_from_the_trial_not_from_the_window():
    window = Window(row=0, start=3, length=4)
    counted = windows.valid_frames(window, 9, 0, most_frames=8, drop_last=2)
    assert counted.tolist() == [True, True, True, False]


def test_whole_trial_is_never_cut():
    assert windows.whole(4, 10, 10) == Window(4, 0, 10)
    with pytest.raises(UserError, match="found 11 frames in the trial of row 4"):
        windows.whole(4, 11, 10)


def test_fixed_window_stays_inside_its_trial():
    assert windows.fixed(1, num_frames=10, length=6, start=4) == Window(1, 4, 6)
    for start in (5, -1):
        with pytest.raises(UserError, match="within the 10 frames"):
            windows.fixed(1, num_frames=10, length=6, start=start)


def test_official_frames_bound_windows_only_under_official():
    trials = MemoryStore(lengths=(9, 12), official=(9, 11)).trials
    assert windows.usable_frames(trials, "official").tolist() == [9, 11]
    assert windows.usable_frames(trials, "per_neuron").tolist() == [9, 12]
    with pytest.raises(UserError, match=r"normalization 'offical'.*did you mean 'official'"):
        windows.usable_frames(trials, "offical")
