"""Which clip a simulated mouse sees in which trial, with the structure of the published sessions.

In go a random generator and the number of trials; out comes a `Schedule`. Training clips are shown
once; the other tiers have up to 6 clips with up to about 10 repeats each; the two bonus tiers show
stimuli out of the domain of movies, one kind in live and two in final, in the combinations of the
real mice (landscape 2.2). Files are in random order, as on the real disk.
"""

from dataclasses import dataclass

import numpy as np

from sensojax.stimuli import synthesis

# Trials of a published session outside the train tier, and the least that make sense.
REPEATED = {
    "oracle": (59, 2),
    "live_test_main": (58, 2),
    "final_test_main": (58, 2),
    "live_test_bonus": (60, 2),
    "final_test_bonus": (124, 4),
    "none": (8, 1),
}
# The same for images (baselines 2.1).
REPEATED_IMAGES = {"validation": (500, 4), "test": (1000, 4), "final_test": (1000, 4)}
FEWEST_TRIALS = 16
PINK, DOTS, KINEMATOGRAM, GABOR, IMAGES = synthesis.OUT_OF_DOMAIN
# Mice A to E, then G to I: (live; final, final).
BONUS_KINDS = (
    (PINK, DOTS, KINEMATOGRAM),
    (GABOR, PINK, IMAGES),
    (KINEMATOGRAM, GABOR, IMAGES),
    (IMAGES, PINK, DOTS),
    (DOTS, KINEMATOGRAM, GABOR),
    (GABOR, KINEMATOGRAM, IMAGES),
    (DOTS, PINK, IMAGES),
    (KINEMATOGRAM, DOTS, GABOR),
)


@dataclass(frozen=True)
class Schedule:
    """tiers, clips, presented: [trial], the last one the order of presentation, from 1.

    kinds: [clip] names of functions in `stimuli.synthesis`; lengths: [clip] frames.
    """

    tiers: np.ndarray
    clips: np.ndarray
    presented: np.ndarray
    kinds: np.ndarray
    lengths: np.ndarray


def schedule(
    rng: np.random.Generator,
    mouse: int,
    trials: int,
    train_share: float,
    frames: int,
    padded_frames: int,
) -> Schedule:
    """The session of the `mouse`-th mouse. One clip in seven has a length other than `frames`."""
    counts = tier_counts(trials, train_share)
    live, *final = BONUS_KINDS[mouse % len(BONUS_KINDS)]
    tiers, clips, kinds = [], [], []
    for tier, count in counts.items():
        shown = {"live_test_bonus": [live], "final_test_bonus": final}.get(tier, ["movie"])
        for part, kind in enumerate(shown):
            share = count // len(shown) + (part < count % len(shown))
            distinct = share if tier in ("train", "none") else distinct_clips(share)
            clips += [len(kinds) + trial % distinct for trial in range(share)]
            kinds += [kind] * distinct
            tiers += [tier] * share
    lengths = np.full(len(kinds), frames)
    odd = rng.uniform(size=len(kinds)) < 1 / 7
    longest = min(frames + 10, padded_frames)
    lengths[odd] = rng.integers(max(frames - 2, 1), longest + 1, odd.sum())
    order = rng.permutation(trials)
    return Schedule(
        tiers=np.array(tiers)[order],
        clips=np.array(clips)[order],
        presented=rng.permutation(trials) + 1,
        kinds=np.array(kinds),
        lengths=lengths,
    )


def of_images(rng: np.random.Generator, trials: int, train_share: float) -> Schedule:
    """A session of images: those of train are shown once, the others again and again."""
    tiers, clips, distinct = [], [], 0
    for tier, count in tier_counts(trials, train_share, REPEATED_IMAGES).items():
        shown = count if tier == "train" else distinct_images(count)
        clips += [distinct + trial % shown for trial in range(count)]
        tiers += [tier] * count
        distinct += shown
    order = rng.permutation(trials)
    return Schedule(
        tiers=np.array(tiers)[order],
        clips=np.array(clips)[order],
        presented=rng.permutation(trials) + 1,
        kinds=np.full(distinct, "image"),
        lengths=np.ones(distinct, int),
    )


def distinct_images(trials: int) -> int:
    """How many images share so many trials: 100 for 1000, fewer (and fewer repeats) for less."""
    return int(np.clip(round((10 * trials) ** 0.5), 1, max(trials // 2, 1)))


def tier_counts(trials: int, train_share: float, repeated=REPEATED) -> dict[str, int]:
    """Trials per tier: a share of train, the rest in the published proportions."""
    rest = trials - round(train_share * trials)
    total = sum(published for published, _ in repeated.values())
    counts = {
        tier: max(least, round(rest * published / total))
        for tier, (published, least) in repeated.items()
    }
    return {"train": max(1, trials - sum(counts.values()))} | counts


def distinct_clips(trials: int) -> int:
    """How many clips share so many trials: 6 for 60, fewer (and fewer repeats) for less."""
    return int(np.clip(round((0.6 * trials) ** 0.5), 1, 6))
