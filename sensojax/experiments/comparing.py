"""Comparing many runs in one process: folders in, one table out.

In go run folders (or patterns such as `runs/*`) and the tiers to score; out come the files of
`evaluation.comparison_page` and a `Comparison`. Stores and compiled programs are shared between
runs (`scoring`). A run that is damaged, unfinished or cannot be scored is left out with one
sentence, and the others go on.
"""

import functools
import glob
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from sensojax.errors import UserError, check_name, is_full_disk
from sensojax.evaluation import comparison, comparison_page, resampling
from sensojax.evaluation.comparison import Comparison
from sensojax.evaluation.measures import MEASURES, SINGLE_TRIAL
from sensojax.evaluation.results import Score
from sensojax.evaluation.runs import Run
from sensojax.experiments.scoring import Scorer, tiers_by_kind
from sensojax.pipeline import subsets
from sensojax.progress import track
from sensojax.training import folder, journal, provenance
from sensojax.types import STIMULUS_KINDS

KEPT = ("commit", "versions", "devices", "command")  # of what a checkpoint says of itself


def compare(
    runs: str | Path | Sequence[str | Path],
    tiers: Sequence[str] = (),
    out: str | Path | None = None,
    *,
    base: str = "",
    weights: str = "best",
    stores: str = "",
    measure: str = SINGLE_TRIAL,
    by_kind: bool = False,
    frames: str = "",
    normalization: str = "",
    unfinished: bool = False,
    unit: str = "neurons",
    samples: int = resampling.SAMPLES,
    seed: int = 0,
) -> Comparison:
    """Scores runs and puts them into tables, which are written into `out` unless it is None.

    runs: folders, or patterns of them. tiers: () is those of each run's config. base: name of the
    run that differences are taken to, "" the first. weights: "best" or "newest". stores: folder of
    the stores, when they have been moved. by_kind: a column for each kind of stimulus, of the first
    tier that shows it. measure: of `evaluation.measures`. frames, normalization: see
    `Scorer.score`. unfinished: also runs still going. unit, samples, seed: see
    `comparison.compare`. Names are the last parts of paths, as long as needed to differ. Raises
    UserError when there is no run, or none that can be scored.
    """
    paths = folders(runs)
    check_name(measure, MEASURES, "measure")
    scorer, scored, remarks, left_out = Scorer(), [], [], []
    how = dict(measures=(measure,), frames=frames, normalization=normalization)
    score = functools.partial(scorer.score, weights=weights, stores=stores, **how)
    named = dict(zip(names(paths), paths, strict=True))
    for name, path in track(named.items(), "scoring runs", len(named)):
        try:
            about = described(path, scorer.members(path, weights))
            if not (unfinished or about["finished"]):
                raise UserError(f"found step {about['step']:,} of a run that is not finished.")
            opened = scorer.opened(about, stores)
            trained_on, usual = about["config"]["data"]["tiers"], about["tiers"]
            usual = tiers_by_kind(opened, trained_on) if by_kind else usual
            scores = _scores(functools.partial(score, path), tiers or usual, name, remarks)
            scores = _by_kind(scores) if by_kind else scores
            scored.append(_run(name, path, about, scores, opened))
        except Exception as error:  # one run must not take the others with it
            if is_full_disk(error):
                raise
            left_out.append(f"{name} is left out: {_in_words(error)}")
    if not scored:
        raise UserError(f"found no run that can be scored; {' '.join(left_out)}")
    if base in named and base not in [run.name for run in scored]:
        base = ""  # why it is missing is said
    found = comparison.compare(
        scored,
        base=base,
        ignored=folder.MAY_CHANGE,
        measure=measure,
        unit=unit,
        samples=samples,
        seed=seed,
        remarks=remarks,
        left_out=left_out,
    )
    if out is not None and jax.process_index() == 0:
        comparison_page.write(out, found, provenance.circumstances())
    return found


def folders(runs: str | Path | Sequence[str | Path]) -> list[Path]:
    """The folders that paths and patterns name, each once, sorted within a pattern."""
    patterns = [runs] if isinstance(runs, str | Path) else runs
    # A folder's own name may hold what means something in a pattern.
    parts = [[p] if Path(p).is_dir() else sorted(glob.glob(str(p))) for p in patterns]
    found = [Path(each) for part in parts for each in part]
    found = [path for path in dict.fromkeys(found) if path.is_dir()]
    if not found:
        raise UserError(
            f"found no folder {' '.join(map(str, patterns))}, expected run folders of "
            "sensojax.main; check --runs."
        )
    return found


def names(paths: Sequence[Path]) -> list[str]:
    """What is left of the paths without the part that all have in common."""
    if len(paths) == 1:
        return [paths[0].resolve().name]
    common = os.path.commonpath([path.absolute().parent for path in paths])
    return [str(path.absolute().relative_to(common)) for path in paths]


def described(path: Path, members: Sequence[tuple]) -> dict:
    """What a run folder (or that of an ensemble) says of itself; members: `build.load_members`.

    config, mice, recordings (fingerprints), tiers (of its evaluation), finished, step, parameters,
    seconds of training.
    """
    abouts = [about for _, _, about in members]
    trained = [arrays.params for _, arrays, _ in members]
    first = abouts[0]
    return dict(
        first,
        recordings={mouse: each["fingerprint"] for mouse, each in first["mice"].items()},
        tiers=tuple(first["config"]["evaluation"]["tiers"]),
        finished=all(about["finished"] for about in abouts),
        step=min(about["step"] for about in abouts),
        parameters=sum(leaf.size for leaf in jax.tree.leaves(trained)),
        seconds=seconds(path / journal.NAME) if len(abouts) == 1 else None,
    )


def seconds(path: Path) -> float | None:
    """How long a run trained, by its journal: from each start to the last line of that process."""
    try:
        lines = journal.read(path)
    except UserError:
        return None
    total, started = 0.0, None
    for line, after in zip(lines, [*lines[1:], None], strict=True):
        now = np.datetime64(line["time"].removesuffix("+00:00"))
        if line["kind"] == "run":
            started = now
        if started is not None and (after is None or after["kind"] == "run"):
            total += (now - started) / np.timedelta64(1, "s")
    return float(total)


def _scores(score, tiers, name, remarks) -> dict[str, Score]:
    """The scores by tier; tiers that cannot be scored are remarked on, if others can."""
    try:
        return score(tiers)
    except UserError:
        if len(tiers) == 1:
            raise
    scores, refused = {}, []
    for tier in tiers:
        try:
            scores |= score([tier])
        except UserError as error:
            refused.append(f"{name} has no score on {tier}: {error}")
    if not scores:
        raise UserError(" ".join(refused))
    remarks += refused
    return scores


def _by_kind(scores: Mapping[str, Score]) -> dict[str, Score]:
    """A score for each kind of stimulus, named with the first tier that shows it."""
    found = {}
    for kind in STIMULUS_KINDS:
        tier = next((tier for tier, score in scores.items() if kind in score.kinds), None)
        if tier is not None:
            found[f"{kind} of {tier}"] = scores[tier].of_kind(kind)
    if not found:
        raise UserError(
            "found no kinds of stimuli, expected them to be known; find them with python "
            "scripts/assign_stimulus_ids.py STORES"
        )
    return found


def _run(name, path, about, scores, opened) -> Run:
    return Run(
        name=name,
        config=about["config"],
        scores=scores,
        recordings=about["recordings"],
        neurons={mouse: subsets.columns(store) for mouse, store in opened.items()},
        parameters=about["parameters"],
        seconds=about["seconds"],
        about={"folder": str(path)} | {key: about[key] for key in KEPT},
    )


def _in_words(error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error)
    said = " ".join(str(error).split())[:300]
    return (
        f"it cannot be scored ({type(error).__name__}: {said}); was it written by another version? "
        "python -m sensojax.evaluate --workdir shows more."
    )
