"""A comparison as files: `comparison.csv`, `.json`, `.png` and `.html`, and as text for a terminal.

In go a `Comparison` and where it comes from; out come files, each whole or not at all, the page
last. The CSV is tidy: a line for each run or configuration and tier. The JSON holds everything.
"""

import csv
import io
import json
from collections.abc import Mapping
from html import escape
from pathlib import Path

from sensojax.evaluation import comparison_figures, figures, page
from sensojax.evaluation.comparison import Cell, Comparison, Row, Table
from sensojax.evaluation.measures import MEASURES
from sensojax.evaluation.mouse_score import short_name
from sensojax.writing import plain, write_atomically, write_bytes_atomically

FORMAT = 1  # of comparison.json
NAME = "comparison"
METHOD = {
    "neurons": (
        "Brackets hold 95 % of {samples:,} resamplings of the neurons within each mouse, the same "
        "neurons for all runs. p tests by random signs of each neuron's difference whether the "
        "mean difference is 0, corrected (Holm) for the number of runs in a column. Neurons of a "
        "mouse are not independent draws: this says how sure the numbers are for such neurons of "
        "these mice and these trained models, not for other mice or seeds."
    ),
    "mice": (
        "Brackets hold 95 % of {samples:,} resamplings of whole mice, the same for all runs. p "
        "tests by signs of each mouse's difference whether the mean difference is 0, corrected "
        "(Holm) for the number of runs in a column; with m mice it cannot be below 2 to the power "
        "of 1 - m. Nothing here speaks of other seeds."
    ),
}


def write(folder: str | Path, found: Comparison, made: Mapping, name: str = NAME) -> Path:
    """Writes all files of a comparison into a folder; returns the path of the page.

    made: how it was made, in plain values (commit, versions, command).
    """
    folder, pictures = Path(folder), {}
    for number, table in enumerate(found.tables, start=1):
        figure = comparison_figures.scores_and_differences(table, MEASURES[found.measure].words)
        if figure is not None:
            stem = name if number == 1 else f"{name}_{number}"
            caption = (
                "Means over the shared neurons (left) and paired differences to the base (right), "
                f"sorted by score; {table.counted}."
            )
            title = "Scores and differences"
            pictures[number] = page.Picture(stem, title, caption, figures.png(figure))
    for picture in pictures.values():
        write_bytes_atomically(folder / f"{picture.name}.png", picture.png)
    write_atomically(folder / f"{name}.csv", to_csv(found))
    contents = json.dumps(plain(to_json(found) | {"made": made}), indent=1, ensure_ascii=False)
    write_atomically(folder / f"{name}.json", contents)
    write_atomically(folder / f"{name}.html", to_html(found, pictures, made))
    return folder / f"{name}.html"


def to_text(found: Comparison) -> str:
    """The tables in plain characters."""
    parts = []
    for table in found.tables:
        parts.append(f"{MEASURES[found.measure].words}; {table.counted}")
        for tier in table.columns:
            parts.append(f"{tier}:")
            width = max(len(row.name) for row in table.rows)
            for row in table.rows:
                cell = row.cells[tier]
                words = ("-",) if cell is None else (_score(cell), _difference(cell))
                parts.append(f"  {row.name:{width}}  {'   '.join(words)}".rstrip())
    return "\n".join(parts + list(found.remarks + found.left_out))


def to_csv(found: Comparison) -> str:
    """Tidy values: a line per table, configuration (or single run) and tier."""
    file, lines = io.StringIO(), []
    for number, table in enumerate(found.tables):
        for row in table.rows:
            for tier, cell in row.cells.items():
                if cell is not None:
                    lines += _csv_lines(number, table, row, tier, cell)
    names = dict.fromkeys(name for line in lines for name in line)
    writer = csv.DictWriter(file, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return file.getvalue()


def _csv_lines(number: int, table: Table, row: Row, tier: str, cell: Cell) -> list[dict]:
    shared = dict(table=number, tier=tier, base=table.base, **table.conditions)
    shared |= dict(mice=len(table.columns[tier]), neurons=sum(table.columns[tier].values()))
    values = {key: value for key, value in vars(cell).items() if key != "of_runs"}
    whole = dict(
        level="configuration",
        run=row.name,
        seeds=" ".join(map(str, row.seeds)),
        parameters=row.runs[0].parameters,
        changes=json.dumps(plain(row.changes)),
    )
    lines = [{**shared, **whole, **values}]
    for run in row.runs:
        if run.name in cell.of_runs:
            own = dict(level="run", run=run.name, seeds=" ".join(map(str, run.seeds)))
            own |= dict(parameters=run.parameters, step=run.step, seconds=run.seconds)
            own |= dict(mean=cell.of_runs[run.name])
            lines.append({**shared, **own})
    return lines


def to_json(found: Comparison) -> dict:
    """Everything but the values of single neurons."""
    tables = [
        dict(
            base=table.base,
            conditions=table.conditions,
            counted=table.counted,
            columns=table.columns,
            rows=[
                dict(
                    name=row.name,
                    changes=row.changes,
                    cells={tier: cell and vars(cell) for tier, cell in row.cells.items()},
                    runs=[
                        dict(
                            name=run.name,
                            seeds=run.seeds,
                            ensemble=run.ensemble,
                            step=run.step,
                            parameters=run.parameters,
                            seconds=run.seconds,
                            recordings=run.recordings,
                            config=run.config,
                            **run.about,
                        )
                        for run in row.runs
                    ],
                )
                for row in table.rows
            ],
        )
        for table in found.tables
    ]
    names = ("measure", "unit", "samples", "seed", "remarks", "left_out")
    how = {name: getattr(found, name) for name in names}
    return dict(format=FORMAT, interval=0.95, **how, tables=tables)


def to_html(found: Comparison, pictures: Mapping[int, page.Picture], made: Mapping) -> str:
    """The page; pictures: by the number of the table, from 1."""
    rows = [row for table in found.tables for row in table.rows]
    runs = [run for row in rows for run in row.runs]
    title = f"{len(runs)} run{'s' * (len(runs) != 1)} compared"
    parts = [f"<h1>{title}</h1>"]
    if any(table.conditions.get("simulated") for table in found.tables):
        parts.append(page.SIMULATED)
    if found.remarks + found.left_out:
        listed = "".join(f"<li>{escape(each)}</li>" for each in found.left_out + found.remarks)
        parts.append(f'<ul class="quotes">{listed}</ul>')
    method = f'<p class="small">{METHOD[found.unit].format(samples=found.samples)}</p>'
    for number, table in enumerate(found.tables, start=1):
        several = f" {number}" if len(found.tables) > 1 else ""
        parts += [f"<h2>Scores{several}</h2>", _score_table(table, found), _difference_table(table)]
        parts += [method, page.figure(pictures[number]) if number in pictures else ""]
        parts += [f"<h2>Runs{several}</h2>", _run_table(table)]
    origin = {run.name: json.dumps(plain(run.about), ensure_ascii=False) for run in runs}
    how = {key: json.dumps(plain(value), ensure_ascii=False) for key, value in made.items()}
    parts.append(page.details("Where the runs come from", page.words(origin.items())))
    parts.append(page.details("How this page was made", page.words(how.items())))
    return page.document(title, parts)


def _score_table(table: Table, found: Comparison) -> str:
    rows = [[row.name, *(_score(row.cells[tier]) for tier in table.columns)] for row in table.rows]
    of = "; ".join(
        f"{tier}: {sum(mice.values()):,} neurons of {', '.join(map(short_name, mice))}"
        + _ceiling(table, tier)
        for tier, mice in table.columns.items()
    )
    caption = f"Mean {MEASURES[found.measure].words}. {of}. {table.counted}."
    return page.table(["run", *table.columns], rows, caption)


def _ceiling(table: Table, tier: str) -> str:
    """The ceiling of a column, which is the same for all its rows."""
    known = [row.cells[tier].ceiling for row in table.rows if row.cells[tier]]
    return f", ceiling {known[0]:.4f}" if known and known[0] is not None else ""


def _difference_table(table: Table) -> str:
    others = [
        row for row in table.rows if any(c and c.difference is not None for c in row.cells.values())
    ]
    if not others:
        return ""
    rows = [[row.name, *(_difference(row.cells[tier]) for tier in table.columns)] for row in others]
    caption = f"Difference to {table.base}, with p corrected for the number of runs."
    return page.table(["run", *table.columns], rows, caption)


def _run_table(table: Table) -> str:
    head = ["run", "changes", "seeds", "parameters", "training step", "training time"]
    rows = [
        [
            row.name,
            ", ".join(f"{key} = {value}" for key, value in row.changes.items()) or "-",
            ", ".join(map(str, row.seeds)),
            f"{row.runs[0].parameters:,}",
            ", ".join(f"{run.step:,}" for run in row.runs),
            ", ".join(_time(run.seconds) for run in row.runs),
        ]
        for row in table.rows
    ]
    return page.table(head, rows, f"What was trained; changes are those to {table.base}.")


def _score(cell: Cell | None) -> str:
    if cell is None:
        return "-"
    spread = "" if cell.spread is None else f" ± {cell.spread:.4f} ({len(cell.of_runs)} seeds)"
    return f"{cell.mean:.4f}{spread} [{cell.low:.4f}, {cell.high:.4f}]"


def _difference(cell: Cell | None) -> str:
    if cell is None or cell.difference is None:
        return "-"
    bounds = f"[{cell.difference_low:+.4f}, {cell.difference_high:+.4f}]"
    return f"{cell.difference:+.4f} {bounds} p {cell.p_holm:.4f}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.1f} min"
