"""Tables of scores: mice or depths down; tiers, kinds of stimulus or measures across.

In go `Score`s; out come `Table`s of cells that each know over how many neurons and trials they
average, and `as_files` and `printed` of them. Scores that were counted in different ways never meet
in a table. An undefined cell is a dash: not shown to that mouse, withheld, or not to be had from
these trials.
"""

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sensojax.errors import UserError
from sensojax.evaluation.measures import MEASURES, SINGLE_TRIAL
from sensojax.evaluation.mouse_score import MouseScore, short_name
from sensojax.evaluation.predictions import JOINS
from sensojax.evaluation.results import Score
from sensojax.metrics import mean_over_neurons
from sensojax.reliability import FEV_THRESHOLD
from sensojax.types import STIMULUS_KINDS
from sensojax.writing import plain

FORMAT = 1  # of the JSON file
ALL_MICE = "all mice"
DASH = "-"
# Tiers of movies for the column in-domain, the best choice first; the others count as they come.
IN_DOMAIN = "in-domain"
MOVIE_TIERS = ("live_test_main+final_test_main", "final_test_main", "live_test_main", "oracle")
PLANES = 24  # more different depths than that are put into bins of
BIN_UM = 25  # micrometers, the distance of the planes of Sensorium 2023


@dataclass(frozen=True)
class Cell:
    """Mean of a measure over neurons, NaN where it is undefined; and what it was taken from.

    ceiling: the same mean of the noiseless rates, None where it is not known.
    """

    value: float
    measure: str
    tier: str
    num_mice: int
    num_neurons: int
    num_trials: int
    num_frames: int
    ceiling: float | None

    @property
    def fraction_of_ceiling(self) -> float | None:
        return self.value / self.ceiling if self.ceiling and self.ceiling > 0 else None


@dataclass(frozen=True)
class Table:
    """One table. by: what it divides by. title: what its numbers are; caption: of which trials.

    cells: by (row, column), those that are defined.
    """

    by: str
    title: str
    caption: str
    conditions: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: Mapping[tuple[str, str], Cell]

    def lines(self, text: Callable[[Cell], str | None]) -> list[list[str]]:
        """The rows as text, each with its name first; a dash where text gives nothing."""
        return [
            [row, *(self._said(text, row, column) for column in self.columns)] for row in self.rows
        ]

    def _said(self, text, row, column) -> str:
        cell = self.cells.get((row, column))
        said = None if cell is None or math.isnan(cell.value) else text(cell)
        return DASH if said is None else said


def by_tier(scores: Mapping[str, Score], measure: str = SINGLE_TRIAL) -> Table:
    """Mice down, tiers across."""
    columns = {tier: (tier, score.mice) for tier, score in scores.items()}
    return _of_mice("tier", "", scores, columns, measure)


def by_kind(
    scores: Mapping[str, Score],
    measure: str = SINGLE_TRIAL,
    trained_on: Sequence[str] = (),
) -> Table:
    """Mice down; across in-domain (movies) and the five kinds out of the domain of movies.

    In-domain is the first of `MOVIE_TIERS` among the scores, which may join tiers. A kind that a
    mouse saw in several scores counts from the first of them. trained_on: tiers of the training.
    """
    columns, twice = {IN_DOMAIN: _movies(scores)}, set()
    for kind in STIMULUS_KINDS[1:]:
        parts, tiers = {}, []
        for tier, score in scores.items():
            found = score.kinds.get(kind, {})
            twice |= {words_of(kind) for mouse in found if mouse in parts}
            tiers += [tier] if set(found) - set(parts) else []
            parts = {**found, **parts}
        columns[words_of(kind)] = " or ".join(tiers), parts
    sources = {}
    for name, (tier, _) in columns.items():
        if tier:
            sources.setdefault(tier, []).append(name)
    said = "; ".join(f"{', '.join(names)} from {tier}" for tier, names in sources.items())
    caption = f"Movies ({IN_DOMAIN}) and five kinds of stimuli out of their domain: {said}."
    tiers = {part for tier in sources for part in tier.replace(" or ", JOINS).split(JOINS)}
    if seen := [tier for tier in trained_on if tier in tiers]:
        caption += f" The model was trained on {', '.join(seen)} too."
    if twice:
        caption += f" Shown in several tiers, and taken from the first: {', '.join(sorted(twice))}."
    return _of_mice("kind", caption, scores, columns, measure)


def _movies(scores: Mapping[str, Score]) -> tuple[str, Mapping[str, MouseScore]]:
    """(tier, the scores of its movies by mouse) of the best choice of a tier."""
    movie = STIMULUS_KINDS[0]
    known = [tier for tier, score in scores.items() if movie in score.kinds]
    best = [tier for tier in MOVIE_TIERS if tier in known] + known
    return (best[0], scores[best[0]].kinds[movie]) if known else ("", {})


def by_mouse(score: Score) -> Table:
    """Mice down, measures across, of one tier."""
    columns = {name: name for name in score.measures}
    cells = {}
    for name in columns:
        for row, parts in _rows(score.mice, len(score.mice)).items():
            cells[row, name] = cell(parts, name, score.tier)
    said = "; ".join(f"{name}: {why}" for name, why in score.left_out.items())
    caption = f"Left out: {said}." if said else ""
    title = f"Means over neurons on {score.tier}"
    rows = tuple(_rows(score.mice, len(score.mice)))
    return Table("mouse", title, caption, score.conditions, rows, tuple(columns), _known(cells))


def by_depth(score: Score, measure: str = SINGLE_TRIAL) -> Table:
    """Depths down (imaging planes, in micrometers), mice across, of one tier."""
    placed = {m: s for m, s in score.mice.items() if s.depth_um is not None}
    planes = depths(s.depth_um for s in placed.values())
    cells = {}
    for name, (low, high) in planes.items():
        within = {
            mouse: s.at((s.depth_um >= low) & (s.depth_um < high)) for mouse, s in placed.items()
        }
        within = {mouse: s for mouse, s in within.items() if s.num_neurons}
        for column, parts in _rows(within, len(placed)).items():
            cells[name, column] = cell(parts, measure, score.tier)
    title = f"{heading(measure)} on {score.tier}"
    caption = "By the depth of neurons below the surface."
    columns = tuple(_rows(placed, len(placed))) if planes else ()
    return Table("depth", title, caption, score.conditions, tuple(planes), columns, _known(cells))


def by_group(score: Score, group: str, measure: str = SINGLE_TRIAL) -> Table:
    """Mice down, areas or layers of cortex (a name of `GROUPS`) across, of one tier.

    Raises UserError when no mouse's neurons are known to lie in one.
    """
    known = {mouse: each for mouse, each in score.mice.items() if group in each.groups}
    if not known:
        raise UserError(
            f"found no {group} of the neurons of {', '.join(score.mice)}, expected a column "
            f"{group!r} in the neuron table (meta/neurons/{group}.npy); break down by depth, or "
            "convert recordings that have it."
        )
    columns = {}
    for name in sorted({name for each in known.values() for name in each.groups[group].tolist()}):
        parts = {mouse: each.at(each.groups[group] == name) for mouse, each in known.items()}
        columns[name] = score.tier, {m: each for m, each in parts.items() if each.num_neurons}
    caption = f"By the {group} of cortex that neurons lie in, on {score.tier}."
    return _of_mice(group, caption, {score.tier: score}, columns, measure)


def depths(of_mice: Iterable[np.ndarray]) -> dict[str, tuple[float, float]]:
    """Names of depths and the range [low, high) of each, ascending, in micrometers.

    Imaging planes where there are few different depths, else bins. Unknown ones (NaN) are left out.
    """
    every = np.concatenate([np.empty(0), *of_mice])
    every = np.round(every[np.isfinite(every)])
    planes = np.unique(every)
    if len(planes) <= PLANES:
        return {f"{plane:.0f} µm": (plane - 0.5, plane + 0.5) for plane in planes}
    starts = np.unique(every // BIN_UM * BIN_UM)
    return {f"{low:.0f}-{low + BIN_UM:.0f} µm": (low, low + BIN_UM) for low in starts}


def cell(parts: Sequence[MouseScore], measure: str, tier: str) -> Cell:
    """A measure over the neurons of these mice together."""
    ceilings = [part.ceiling_of(measure) for part in parts]
    known = all(each is not None for each in ceilings) and not MEASURES[measure].lower_is_better
    defined = [part.defined(measure) for part in parts]
    return Cell(
        value=mean_over_neurons(defined),
        measure=measure,
        tier=tier,
        num_mice=sum(bool(len(each)) for each in defined),
        num_neurons=sum(len(each) for each in defined),
        num_trials=sum(part.num_trials for part in parts),
        num_frames=sum(part.num_frames for part in parts),
        ceiling=mean_over_neurons(each[np.isfinite(each)] for each in ceilings) if known else None,
    )


def words_of(kind: str) -> str:
    """A kind of stimulus as a heading."""
    return kind.replace("_", " ")


def heading(measure: str) -> str:
    """What a table of a measure holds."""
    said = f"Mean {MEASURES[measure].words} over neurons"
    return said + (f" with {FEV_THRESHOLD} explainable or more" if measure == "feve" else "")


def as_csv(tables: Sequence[Table]) -> str:
    """Every cell as a line, with everything that belongs to it."""
    file = io.StringIO()
    names = ("by", "row", "column", "mean", *_COUNTS, "fraction_of_ceiling", "conditions")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(names)
    for table in tables:
        for (row, column), each in table.cells.items():
            counts = [getattr(each, name) for name in (*_COUNTS, "fraction_of_ceiling")]
            said = ["" if value is None else value for value in (each.value, *counts)]
            writer.writerow([table.by, row, column, *said, table.conditions])
    return file.getvalue()


_COUNTS = ("measure", "tier", "num_mice", "num_neurons", "num_trials", "num_frames", "ceiling")


def as_json(tables: Sequence[Table], remarks: Sequence[str] = ()) -> str:
    """The same, with captions and remarks; an undefined cell is left out."""
    written = []
    for table in tables:
        cells = [
            {"row": row, "column": column, **vars(each),
             "fraction_of_ceiling": each.fraction_of_ceiling}
            for (row, column), each in table.cells.items()
        ]  # fmt: skip
        written.append({**vars(table), "cells": cells})
    said = {"format": FORMAT, "remarks": list(remarks), "tables": plain(written)}
    return json.dumps(said, allow_nan=False)


def _of_mice(by, caption, scores, columns, measure) -> Table:
    """columns: {name: (tier, {mouse: its score})}; rows are all mice of these."""
    conditions = {score.conditions for score in scores.values()}
    if len(conditions) > 1:
        raise UserError(
            f"found scores that were counted in {len(conditions)} ways, expected one; put them "
            "into tables of their own."
        )
    mice = dict.fromkeys(mouse for _, parts in columns.values() for mouse in parts)
    cells = {}
    for name, (tier, parts) in columns.items():
        for row, of_row in _rows(parts, len(mice)).items():
            cells[row, name] = cell(of_row, measure, tier)
    rows = tuple(_rows(mice, len(mice)))
    return Table(by, heading(measure), caption, *conditions, rows, tuple(columns), _known(cells))


def _rows(mice: Mapping[str, MouseScore], num_mice: int) -> dict[str, list[MouseScore]]:
    """The scores of each row of mice: one by one, and together where the table has several."""
    rows = {short_name(mouse): [score] for mouse, score in mice.items()}
    return rows | ({ALL_MICE: list(mice.values())} if num_mice > 1 and mice else {})


def _known(cells: Mapping) -> dict:
    return {place: each for place, each in cells.items() if not math.isnan(each.value)}
