import numpy as np
import pytest

from sensojax.recordings.simulation import schedule
from sensojax.stimuli import synthesis


@pytest.mark.parametrize("trials", [16, 24, 60, 150, 711])
@pytest.mark.parametrize("train_share", [0.1, 0.5, 0.9])
def test_tiers_add_up_to_the_trials(trials, train_share):
    counts = schedule.tier_counts(trials, train_share)
    assert sum(counts.values()) == trials
    assert min(counts.values()) >= 1


def test_full_session_has_the_published_counts():
    counts = schedule.tier_counts(711, 0.49)
    plan = schedule.schedule(np.random.default_rng(0), 0, 711, 0.49, 300, 324)
    for tier, published in (("train", 348), ("oracle", 58), ("final_test_bonus", 124)):
        assert abs(counts[tier] - published) < 8
    for tier in ("oracle", "live_test_main", "final_test_main", "live_test_bonus"):
        clips, repeats = np.unique(plan.clips[plan.tiers == tier], return_counts=True)
        assert len(clips) == 6 and 9 <= repeats.min() <= repeats.max() <= 11
    assert 0.75 < np.mean(plan.lengths == 300) < 0.95
    assert plan.lengths.min() >= 298 and plan.lengths.max() <= 310
    assert sorted(plan.presented) == list(range(1, 712))


def test_the_mice_together_see_every_kind_in_live_and_in_final():
    live = {kinds[0] for kinds in schedule.BONUS_KINDS}
    final = {kind for kinds in schedule.BONUS_KINDS for kind in kinds[1:]}
    assert live == final == set(synthesis.OUT_OF_DOMAIN)
    assert all(len(set(kinds)) == 3 for kinds in schedule.BONUS_KINDS)
