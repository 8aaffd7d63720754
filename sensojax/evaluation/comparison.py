"""Several runs beside each other: tables of mean correlations, their differences, and how sure.

In go scored `Run`s; out comes a `Comparison` of tables. A row is a configuration (runs that differ
in nothing but the seed are one row, averaged neuron by neuron), a column is a tier. Everything in a
column is taken over the same neurons, those that all its runs have, with the same resampled ones
for all (see `resampling`). Runs that must not be compared (see `runs`) never share a table. Nothing
is read or written here.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sensojax.errors import UserError, check_name, nearest
from sensojax.evaluation import resampling
from sensojax.evaluation.measures import MEASURES, SINGLE_TRIAL
from sensojax.evaluation.runs import CEILING, SEED, Run, changes, grouped, in_tables, shared


@dataclass(frozen=True)
class Cell:
    """A row's score in one column.

    mean: over the column's neurons, with its 95 % interval low..high. of_runs: the mean of each of
    the row's runs, by name; spread: their standard deviation, None for a single one. difference:
    mean minus that of the base, with its paired interval; p: of the sign-flip test that it is 0,
    and corrected for the number of rows (Holm); all None in the base itself. own_mean: over all of
    the row's own own_neurons. ceiling: mean of the noiseless rates, None where they are not known.
    """

    mean: float
    low: float
    high: float
    of_runs: Mapping[str, float]
    spread: float | None
    own_mean: float
    own_neurons: int
    ceiling: float | None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    p: float | None = None
    p_holm: float | None = None


@dataclass(frozen=True, eq=False)
class Row:
    """One configuration: its runs, what it changes of the base, and its cells (None: no score)."""

    runs: tuple[Run, ...]
    changes: Mapping[str, object]
    cells: Mapping[str, Cell | None]

    @property
    def name(self) -> str:
        return self.runs[0].name

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(seed for run in self.runs for seed in run.seeds)


@dataclass(frozen=True, eq=False)
class Table:
    """Runs that may be compared.

    base: the name of the row that differences are taken to. conditions, counted: how all scores
    were counted, as values and in words. columns: {tier: {mouse: how many neurons are shared}}.
    """

    base: str
    conditions: Mapping[str, object]
    counted: str
    columns: Mapping[str, Mapping[str, int]]
    rows: tuple[Row, ...]


@dataclass(frozen=True, eq=False)
class Comparison:
    """All tables, which measure they are of, and how sureness was found.

    remarks: sentences on what to know of the numbers; left_out: one for each run that is missing.
    """

    tables: tuple[Table, ...]
    measure: str
    unit: str
    samples: int
    seed: int
    remarks: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def compare(
    runs: Sequence[Run],
    *,
    base: str = "",
    ignored: Iterable[str] = (),
    measure: str = SINGLE_TRIAL,
    unit: str = "neurons",
    samples: int = resampling.SAMPLES,
    seed: int = 0,
    remarks: Sequence[str] = (),
    left_out: Sequence[str] = (),
) -> Comparison:
    """Puts runs into tables.

    base: the run that differences are taken to, where a table has it; "" is the first. ignored:
    dotted names of settings that do not change what comes out. measure: of `evaluation.measures`,
    which the scores must have; neurons without it in any run are left out. unit: "neurons" or
    "mice" are resampled, `samples` times. remarks, left_out: sentences to be kept with the tables.
    Raises UserError for no run, a base nobody knows, or one mouse where mice are to be resampled.
    """
    if not runs:
        raise UserError("found no scored run, expected at least one; name folders of runs.")
    check_name(unit, resampling.UNITS, "unit to resample")
    check_name(measure, MEASURES, "measure")
    names = [run.name for run in runs]
    if base and base not in names:
        raise UserError(
            f"found no run {base!r} to compare with{nearest(base, names)}; there are "
            f"{', '.join(names)}."
        )
    ignored = frozenset(ignored)
    groups, how = grouped(runs, ignored), dict(unit=unit, samples=samples, seed=seed)
    said = list(remarks)
    tables = []
    for members in in_tables(groups):
        first = next((g for g in members if base in [run.name for run in g]), members[0])
        tables.append(_table(members, first, ignored, measure, how))
        said += _cuts(tables[-1])
    whole = dict(measure=measure, remarks=tuple(said), left_out=tuple(left_out))
    return Comparison(tuple(tables), **whole, **how)


def _table(groups, base, ignored, measure, how) -> Table:
    columns = dict.fromkeys(name for group in groups for run in group for name in run.scores)
    cells: list[dict[str, Cell | None]] = [{} for _ in groups]
    for name in columns:
        scored = {i: [r for r in g if r.has(name, measure)] for i, g in enumerate(groups)}
        scored = {i: group for i, group in scored.items() if group}
        every = [run for group in scored.values() for run in group]
        neurons = shared(every, [run.defined(name, measure) for run in every]) if every else {}
        columns[name] = {mouse: len(each) for mouse, each in neurons.items()}
        made = {}
        if neurons:
            at = next((i for i, g in enumerate(scored.values()) if g[0] in base), None)
            found = _column(name, list(scored.values()), neurons, at, measure, how)
            made = dict(zip(scored, found, strict=True))
        for i, row in enumerate(cells):
            row[name] = made.get(i)
    rows = tuple(
        Row(tuple(group), changes(base[0].config, group[0].config, {*ignored, SEED}), of_group)
        for group, of_group in zip(groups, cells, strict=True)
    )
    return Table(base[0].name, base[0].conditions, base[0].counted, columns, rows)


def _column(name, groups, neurons, base, measure, how) -> list[Cell]:
    """The cells of one column. base: which of the groups, None when it has no score here."""
    mouse = np.repeat(np.arange(len(neurons)), [len(each) for each in neurons.values()])
    of_runs = [[run.values(name, measure, neurons) for run in group] for group in groups]
    values = np.array([np.mean(each, axis=0) for each in of_runs])
    resampled = resampling.means(values, mouse, **how)
    lows, highs = resampling.interval(resampled)
    cells = []
    for i, group in enumerate(groups):
        means = [float(np.mean(each)) for each in of_runs[i]]
        own = np.concatenate(
            [each.defined(measure) for run in group for each in run.scores[name].mice.values()]
        )
        cells.append(
            Cell(
                mean=float(values[i].mean()),
                low=float(lows[i]),
                high=float(highs[i]),
                of_runs=dict(zip([run.name for run in group], means, strict=True)),
                spread=float(np.std(means, ddof=1)) if len(means) > 1 else None,
                own_mean=float(own.mean()),
                own_neurons=len(own) // len(group),
                ceiling=_ceiling(group[0], name, neurons) if measure == SINGLE_TRIAL else None,
            )
        )
    return cells if base is None else _against(cells, values, resampled, base, mouse, how)


def _against(cells, values, resampled, base, mouse, how) -> list[Cell]:
    """The cells with their differences to that of the base."""
    lows, highs = resampling.interval(resampled - resampled[:, base : base + 1])
    p = resampling.p_values(values - values[base], mouse, **how)
    others = [i for i in range(len(cells)) if i != base]
    corrected = dict(zip(others, resampling.holm(p[others]), strict=True))
    return [
        cell
        if i == base
        else dataclasses.replace(
            cell,
            difference=cell.mean - cells[base].mean,
            difference_low=float(lows[i]),
            difference_high=float(highs[i]),
            p=float(p[i]),
            p_holm=float(corrected[i]),
        )
        for i, cell in enumerate(cells)
    ]


def _ceiling(run: Run, column: str, neurons) -> float | None:
    mice = run.scores[column].mice
    if any(mice[mouse].ceiling is None for mouse in neurons):
        return None
    return float(run.values(column, CEILING, neurons).mean())


def _cuts(table: Table) -> list[str]:
    """What has to be said where runs of a table have neurons that others lack."""
    said = []
    for column, mice in table.columns.items():
        count = sum(mice.values())
        cells = {row.name: row.cells[column] for row in table.rows if row.cells[column]}
        larger = [
            f"{name} reaches {cell.own_mean:.4f} ({cell.own_neurons:,})"
            for name, cell in cells.items()
            if cell.own_neurons > count
        ]
        if larger:
            said.append(
                f"{column}: compared on the {count:,} neurons that all runs share; "
                f"over all their own, {', '.join(larger)}."
            )
    return said
