"""Tables of scores for people: lines in a terminal, a page in HTML, and the figures beside them.

In go `tables.Table`s; out come rich tables, and the files that `write` leaves in a run's folder:
CSV and JSON with everything, HTML and a figure to look at.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import rich.table
from rich import box

from sensojax.evaluation import breakdowns, figures, page, tables
from sensojax.evaluation.tables import ALL_MICE, Cell, Table
from sensojax.writing import write_atomically, write_bytes_atomically

TITLES = {
    "kind": "Scores by kind of stimulus",
    "tier": "Scores by tier",
    "depth": "Scores by depth",
    "area": "Scores by area of cortex",
    "layer": "Scores by layer of cortex",
    "mouse": "Scores by mouse",
}


def printed(made: Sequence[Table]) -> Iterator[rich.table.Table | str]:
    """Tables for the terminal, and what they have in common; ceilings as fractions in brackets."""
    for table in made:
        shown = rich.table.Table(
            title=table.title, title_style="bold", title_justify="left", box=box.SIMPLE_HEAD
        )
        for number, name in enumerate(_head(table)):
            shown.add_column(name, no_wrap=not number, justify="right" if number else "left")
        for line in table.lines(_value_and_fraction):
            shown.add_row(*line, style="bold" if line[0] == ALL_MICE else "")
        yield shown
    brackets = any(map(_has_ceilings, made))
    yield from _captions(made)
    yield "In brackets: fraction of the ceiling that the noiseless rates reach." if brackets else ""


def section(made: Sequence[Table], shown: page.Picture | None) -> str:
    """Tables as a section of a page, under one heading."""
    return f"<h2>{TITLES[made[0].by]}</h2>\n{rendered(made, shown)}"


def rendered(made: Sequence[Table], shown: page.Picture | None) -> str:
    """Tables as HTML: values, fractions of the ceiling where known, and over how much.

    shown: a picture of the first table, to stand behind it.
    """
    parts = [f'<p class="small">{page.escape(said)}</p>' for said in _captions(made)]
    for number, table in enumerate(made):
        parts.append(_table(table, _value, f"{table.title}."))
        if _has_ceilings(table):
            words = "The same as a fraction of the ceiling that the noiseless rates reach."
            parts.append(_table(table, _fraction, words))
        if not number:
            counts = _table(table, _counts)
            parts.append(page.details("Neurons / trials behind each of these numbers", counts))
            parts.append(page.image(shown) if shown else "")
    return "\n".join(parts)


def write(
    workdir: Path,
    name: str,
    made: Sequence[Table],
    *,
    simulated: bool,
    remarks: Sequence[str] = (),
) -> Mapping[str, Path]:
    """Writes scores/<name>.csv, .json, .html and figures/<name>.png; returns them by ending.

    remarks: sentences to be said above the tables.
    """
    folder, title = Path(workdir) / "scores", TITLES[made[0].by]
    paths = {ending: folder / f"{name}.{ending}" for ending in ("csv", "json", "html")}
    write_atomically(paths["csv"], tables.as_csv(made))
    write_atomically(paths["json"], tables.as_json(made, remarks))
    shown = picture(made[0], name)
    if shown is not None:
        paths["png"] = Path(workdir) / "figures" / f"{name}.png"
        write_bytes_atomically(paths["png"], shown.png)
    parts = [page.SIMULATED if simulated else "", f"<h1>{title}</h1>"]
    parts += [f'<p class="small">{page.escape(remark)}</p>' for remark in remarks]
    parts.append(rendered(made, shown))
    run = Path(workdir).resolve().name
    write_atomically(paths["html"], page.document(f"{run}: {title}", parts))
    return paths


def picture(table: Table, name: str) -> page.Picture | None:
    """The figure of a table, None where there is nothing to draw."""
    drawn = breakdowns.figure(table)
    if drawn is None:
        return None
    return page.Picture(name, TITLES[table.by], breakdowns.caption(table), figures.png(drawn))


def _table(table: Table, text: Callable[[Cell], str | None], words: str = "") -> str:
    return page.table(_head(table), table.lines(text), words, total=ALL_MICE)


def _head(table: Table) -> list[str]:
    return ["depth" if table.by == "depth" else "mouse", *map(tables.words_of, table.columns)]


def _captions(made: Sequence[Table]) -> list[str]:
    """What is to be said of the tables, each thing once."""
    said = dict.fromkeys(table.caption for table in made)
    said |= dict.fromkeys(f"Counted with {table.conditions}." for table in made)
    return [each for each in said if each]


def _value(cell: Cell) -> str:
    return f"{cell.value:.4f}"


def _fraction(cell: Cell) -> str | None:
    known = cell.fraction_of_ceiling
    return None if known is None else f"{known:.3f}"


def _value_and_fraction(cell: Cell) -> str:
    known = cell.fraction_of_ceiling
    return f"{cell.value:.3f}" + ("" if known is None else f" ({known:.2f})")


def _counts(cell: Cell) -> str:
    return f"{cell.num_neurons:,} / {cell.num_trials:,}"


def _has_ceilings(table: Table) -> bool:
    return any(cell.fraction_of_ceiling is not None for cell in table.cells.values())
