"""Stimulus ids of whole sessions: every different video looked at once, numbered by its kind.

In goes a `Shown` mouse; out come `<mouse>.npy`, the published numbers 0 to 5 of each trial's kind
with -1 for unknown ones and for tier none, `<mouse>.csv` with all that speaks for each video's
kind, and for a store its annotation "stimulus_kind". Where kinds are known (simulated mice, or
published numbers in the trial table), `confusion` says how often both agree.
"""

import csv
import hashlib
import io
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sensojax import progress, zarrs
from sensojax.errors import UserError
from sensojax.stimuli import kinds
from sensojax.stimuli.kinds import Evidence
from sensojax.tools import sources
from sensojax.tools.annotating import shown
from sensojax.tools.annotating.shown import Shown
from sensojax.types import STIMULUS_KINDS
from sensojax.writing import write_atomically

# Tiers in which the published tool expects movies, without looking.
MOVIE_TIERS = ("train", "oracle", "live_test_main", "final_test_main")
ANNOTATION = "stimulus_kind"


@dataclass(frozen=True)
class Found:
    """What each trial shows. video: [trial] the first trial of its video. tiers: [trial].

    evidence: of each video, by its first trial; trials of tier none have none.
    """

    tiers: tuple[str, ...]
    video: np.ndarray
    evidence: Mapping[int, Evidence]

    def codes(self, *, trust_tiers: bool = False) -> np.ndarray:
        """Published numbers, [trial]; trust_tiers: the tiers of movies are taken at their word."""
        found = np.full(len(self.tiers), -1, np.int64)
        for trial, tier in enumerate(self.tiers):
            evidence = self.evidence.get(int(self.video[trial]))
            if tier == "none" or evidence is None:
                continue
            kind = "movie" if trust_tiers and tier in MOVIE_TIERS else evidence.kind
            found[trial] = STIMULUS_KINDS.index(kind) if kind else -1
        return found

    def surprises(self) -> list[tuple[int, str, Evidence]]:
        """Videos of the tiers of movies that look like something else: trial, tier, evidence."""
        return [
            (trial, self.tiers[trial], evidence)
            for trial, evidence in self.evidence.items()
            if self.tiers[trial] in MOVIE_TIERS and evidence.kind != "movie"
        ]


def look(videos: Shown, workers: int = 0) -> Found:
    """Classifies every different video of a mouse once, with several threads.

    Which videos are the same is taken from the store or the trial table where known, else from
    their bytes. Raises UserError for a mouse that looked at images.
    """
    if videos.padded_frames == 1:
        raise UserError(
            f"found images in mouse {videos.mouse}, expected videos, of which there are several "
            "kinds; leave this mouse out."
        )
    used = [trial for trial, tier in enumerate(videos.tiers) if tier != "none"]
    first = np.arange(len(videos.tiers))
    known = _known_videos(videos)
    if known is not None:
        for video in set(known[used].tolist()) - {-1}:
            trials = np.flatnonzero(known == video)
            first[trials] = next(trial for trial in trials if videos.tiers[trial] != "none")
    todo = [trial for trial in used if first[trial] == trial]
    seen: dict[bytes, int] = {}
    turn = threading.Lock()

    def one(trial: int) -> tuple[bytes, Evidence | None]:
        video = videos.read(trial)
        digest = hashlib.blake2b(f"{video.shape}".encode(), digest_size=16)
        digest.update(np.ascontiguousarray(video))
        with turn:
            mine = seen.setdefault(digest.digest(), trial) == trial
        return digest.digest(), kinds.classify(video, videos.frame_rate_hz) if mine else None

    made = sources.read_ahead(todo, one, workers or zarrs.cores())
    looked = list(progress.track(made, f"looking at {videos.mouse}", len(todo)))
    evidence = {digest: found for digest, found in looked if found}
    firsts: dict[bytes, int] = {}
    for trial, (digest, _) in zip(todo, looked, strict=True):
        first[first == trial] = firsts.setdefault(digest, trial)
    return Found(videos.tiers, first, {trial: evidence[d] for d, trial in firsts.items()})


def _known_videos(videos: Shown) -> np.ndarray | None:
    if videos.store is not None:
        return videos.store.video_ids
    return videos.columns.get("video_ids")


def about(videos: Shown, *, trust_tiers: bool) -> dict:
    """What decides the numbers of a mouse."""
    return dict(videos=videos.version, trust_tiers=trust_tiers)


def is_done(folder: Path, videos: Shown, *, trust_tiers: bool) -> bool:
    """Whether `keep` has been here for these very videos."""
    if videos.store is not None and videos.store.annotation(ANNOTATION) is None:
        return False
    return shown.is_done(folder, videos.mouse, about(videos, trust_tiers=trust_tiers))


def keep(folder: Path, videos: Shown, found: Found, *, trust_tiers: bool) -> None:
    """Writes what was found; a store learns the names of the kinds."""
    codes = found.codes(trust_tiers=trust_tiers)
    write_atomically(folder / f"{videos.mouse}.csv", _table(found))
    if videos.store is not None:
        names = np.array([*STIMULUS_KINDS, kinds.UNKNOWN])
        videos.store.annotate(ANNOTATION, names[codes])
    shown.finish(folder, videos.mouse, codes, about(videos, trust_tiers=trust_tiers))


def _table(found: Found) -> str:
    """One line for each video: where it is shown, its kind, all scores and features."""
    features = next((each.features for each in found.evidence.values() if each.features), {})
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    scores = [f"score_{kind}" for kind in STIMULUS_KINDS]
    rows.writerow(["first_trial", "trials", "tier", "kind", *scores, *features])
    for trial, each in found.evidence.items():
        times = int((found.video == trial).sum())
        numbers = [f"{each.scores[kind]:.3f}" for kind in STIMULUS_KINDS]
        numbers += [f"{each.features[name]:.4g}" if each.features else "" for name in features]
        rows.writerow([trial, times, found.tiers[trial], each.kind, *numbers])
    return text.getvalue()


def known_codes(videos: Shown) -> np.ndarray | None:
    """The true kinds of a simulated mouse, or published ones, as numbers [trial]; None if none."""
    if "true_kind" in videos.columns:
        kind_of = {kind: code for code, kind in enumerate(STIMULUS_KINDS)}
        return np.array([kind_of.get(str(kind), -1) for kind in videos.columns["true_kind"]])
    if "stimulus_ids" in videos.columns:
        return np.asarray(videos.columns["stimulus_ids"], np.int64)
    return None


def confusion(known: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Trials by known and by found kind, [kind, kind and at last unknown] int.

    Trials whose kind nobody knows do not count.
    """
    counts = np.zeros((len(STIMULUS_KINDS), len(STIMULUS_KINDS) + 1), int)
    counted = known >= 0
    np.add.at(counts, (known[counted], codes[counted]), 1)  # -1 is the last column
    return counts


def confusion_rows(counts: np.ndarray) -> list[list[str]]:
    """A table with its headings."""
    heading = ["known \\ found", *STIMULUS_KINDS, "unknown"]
    lines = zip(STIMULUS_KINDS, counts.tolist(), strict=True)
    return [heading, *([kind, *map(str, row)] for kind, row in lines)]
