"""Folds for cross-validation in which no film is both trained on and scored, in whatever mouse.

In go stores; out comes the fold of every trial, or stores in which the trials of one fold belong to
the tier "held_out" and to no other. Mice are shown the same films, so trials drawn at random would
leak. Two rules: `identity` keeps trials with the same video together, over all mice that were
numbered together (scripts/assign_video_ids.py --across), and spreads every tier of every mouse
evenly; `hash` is the published one, a perceptual hash of five frames modulo the number of folds
(sota 1.8), which sees equal films only when they are equally long and neither spreads nor seeds.
Trials of tier none, and those without a frame, are in no fold: -1.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sensojax.errors import UserError, check_name
from sensojax.stimuli import hashing
from sensojax.stimuli.identity import NUMBERING
from sensojax.store import TrialStore

RULES = ("identity", "hash")
HELD_OUT = "held_out"


def hold_out(
    stores: Mapping[str, TrialStore],
    tiers: Sequence[str],
    *,
    folds: int,
    fold: int,
    rule: str,
    seed: int,
) -> dict[str, TrialStore]:
    """The stores with the trials of one fold, of these tiers, under the tier "held_out".

    What is left of the tiers are the other folds. folds 0: the stores as they are. Raises UserError
    for a fold that does not exist, and when a mouse has too few videos for so many folds.
    """
    check_name(rule, RULES, "data.fold_rule")
    if not folds:
        if fold != -1:
            raise UserError(f"found data.fold {fold} but no data.folds; set data.folds as well.")
        return dict(stores)
    if folds < 2 or not 0 <= fold < folds:
        raise UserError(
            f"found data.folds {folds} and data.fold {fold}, expected two folds or more and one of "
            "them, counted from 0; correct them."
        )
    of_trials = assigned(stores, folds, rule, seed)
    changed = {}
    for mouse, store in stores.items():
        used = np.isin(store.trials.tier, tiers)
        held = used & (of_trials[mouse] == fold)
        if not held.any() or held[used].all():
            raise UserError(
                f"found no trial of mouse {mouse} {'outside' if held.any() else 'in'} fold {fold} "
                f"of {folds}, expected some of tiers {', '.join(tiers)}; use fewer folds."
            )
        changed[mouse] = store.with_tiers(np.where(held, HELD_OUT, store.trials.tier))
    return changed


def hold_out_all(
    stores: Mapping[str, TrialStore],
    tiers: Sequence[str],
    *,
    folds: int,
    rule: str,
    seed: int,
) -> tuple[dict[str, TrialStore], dict[str, np.ndarray]]:
    """For models that were trained without a fold each: stores with all these trials held out.

    And the fold of every trial, {mouse: [trial]}, that decides which model may be asked.
    """
    of_trials, changed = assigned(stores, folds, rule, seed), {}
    for mouse, store in stores.items():
        held = np.isin(store.trials.tier, tiers) & (of_trials[mouse] >= 0)
        changed[mouse] = store.with_tiers(np.where(held, HELD_OUT, store.trials.tier))
    return changed, of_trials


def assigned(
    stores: Mapping[str, TrialStore], folds: int, rule: str, seed: int
) -> dict[str, np.ndarray]:
    """The fold of every trial by a rule of `RULES`, {mouse: [trial]}, -1 for none."""
    check_name(rule, RULES, "data.fold_rule")
    return by_hash(stores, folds) if rule == "hash" else by_identity(stores, folds, seed)


def by_hash(stores: Mapping[str, TrialStore], folds: int) -> dict[str, np.ndarray]:
    """The published folds, {mouse: [trial]}: the hash of the video modulo the number of folds."""
    return {mouse: _hash_folds(store, folds) for mouse, store in stores.items()}


def _hash_folds(store: TrialStore, folds: int) -> np.ndarray:
    found = np.full(len(store.trials), -1)
    known: dict[tuple[int, int], int] = {}
    for trial in np.flatnonzero(_counted(store)):
        video = int(store.trials.clip[trial]), int(store.trials.num_frames[trial])
        if video not in known:
            frames = [_frame(store, int(trial), at) for at in hashing.used_frames(video[1])]
            known[video] = hashing.combine(hashing.hash_frames(np.stack(frames))) % folds
        found[trial] = known[video]
    return found


def _frame(store: TrialStore, trial: int, at: int) -> np.ndarray:
    arrays = store.empty((1,))
    del arrays["responses"]
    store.read_into(trial, int(at), int(at) + 1, arrays)()
    return arrays["video"][0]


def by_identity(stores: Mapping[str, TrialStore], folds: int, seed: int) -> dict[str, np.ndarray]:
    """Folds of whole videos, {mouse: [trial]}, a function of the videos and the seed.

    Trials are in one fold when they have the same video id or the same clip. Videos are dealt out
    from the most often shown to the least, each to the fold that has least of its mice and tiers.
    Raises UserError when the mice were not numbered together.
    """
    _check_numbered_together(stores)
    mice = list(stores)
    counted = {mouse: np.flatnonzero(_counted(store)) for mouse, store in stores.items()}
    films = dict(zip(mice, _films(stores, counted), strict=True))
    every = max((int(each.max(initial=-1)) for each in films.values()), default=-1) + 1
    shown = []  # for each tier of each mouse: how often each film, [film]
    for mouse, trials in counted.items():
        tiers = stores[mouse].trials.tier[trials]
        of_tiers = [films[mouse][tiers == tier] for tier in np.unique(tiers)]
        shown.append(np.array([np.bincount(each, minlength=every) for each in of_tiers]))
    of_mice = np.array([each.sum(axis=0) for each in shown])
    fold_of = _dealt([np.concatenate(shown), of_mice], folds, np.random.default_rng(seed))
    found = {}
    for mouse, trials in counted.items():
        found[mouse] = np.full(len(stores[mouse].trials), -1)
        found[mouse][trials] = fold_of[films[mouse]]
    return found


def _dealt(shown: Sequence[np.ndarray], folds: int, rng: np.random.Generator) -> np.ndarray:
    """The fold of each film, [film].

    shown: how often each film is shown to each part of the data, [part film], the finest division
    into parts first; the next ones decide between folds that are equally good by the ones before.
    """
    shares = [each / np.maximum(each.sum(axis=1, keepdims=True), 1) for each in shown]
    loads = [np.zeros((folds, len(each))) for each in shares]
    times = shown[0].sum(axis=0)
    fold_of = np.zeros(len(times), int)
    order = rng.permutation(len(times))
    for film in order[np.argsort(-times[order], kind="stable")]:
        best = np.arange(folds)
        for load, share in zip(loads, shares, strict=True):
            cost = (load @ share[:, film])[best]
            best = best[cost < cost.min() + 1e-12]
        fold_of[film] = rng.choice(best)
        for load, share in zip(loads, shares, strict=True):
            load[fold_of[film]] += share[:, film]
    return fold_of


def _films(stores, counted) -> list[np.ndarray]:
    """For each mouse the film of each counted trial, numbered over all mice, [trial] each."""
    by_id = [stores[mouse].video_ids[trials] for mouse, trials in counted.items()]
    clips, unknown = [], 0
    for mouse, trials in counted.items():
        own = stores[mouse].trials.clip[trials]
        clips.append(own + unknown)
        unknown += int(stores[mouse].trials.clip.max()) + 1
    joined, ids = np.concatenate(clips), np.concatenate(by_id)
    known = ids >= 0
    ends = joined[known], unknown + ids[known]
    size = unknown + int(ids.max(initial=-1)) + 1
    graph = coo_array((np.ones(known.sum()), ends), shape=(size, size))
    _, together = connected_components(graph, directed=False)
    _, films = np.unique(together[joined], return_inverse=True)
    return np.split(films, np.cumsum([len(each) for each in clips])[:-1])


def _counted(store: TrialStore) -> np.ndarray:
    return (store.trials.tier != "none") & (store.trials.num_frames > 0)


def _check_numbered_together(stores: Mapping[str, TrialStore]) -> None:
    if len(stores) == 1:
        return
    numberings = set()
    for store in stores.values():
        told = store.annotation(NUMBERING)
        if told is None and "frame_image_id" in store.trials.columns:
            numberings |= {"as published"}  # images have one number in all mice
        else:
            numberings |= {f"none of {store.mouse}"} if told is None else set(told.tolist())
    if len(numberings) > 1:
        folder = next(iter(stores.values())).path.parent
        raise UserError(
            f"found mice whose videos were not numbered together ({', '.join(stores)}), expected "
            "one numbering, since mice see the same films; make one with python "
            f"scripts/assign_video_ids.py {folder} --across"
        )
