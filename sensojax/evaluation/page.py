"""The report as a page: HTML that needs no network and no other file.

In go scores, pictures (PNG bytes with a caption), the configuration and the journal's lines; out
comes one HTML text, dark on white, that also prints well. Everything that was not written by this
module is escaped.
"""

import base64
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from types import MappingProxyType

from sensojax.evaluation.figures import DPI
from sensojax.evaluation.measures import MEASURES, SINGLE_TRIAL
from sensojax.evaluation.results import Score, short_name

PIXELS_PER_INCH = 100  # on the page: figures are 9.4 inches wide, the page 940 pixels
STYLE = """
:root { color-scheme: light; }
body { max-width: 940px; margin: 2.5rem auto 5rem; padding: 0 1.2rem; background: #fff;
  color: #1c1c1c; font: 16px/1.55 Charter, "Bitstream Charter", Cambria, Georgia, serif; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 1rem 0 .6rem; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; border-bottom: 1px solid #ddd; }
.simulated { border-left: 4px solid #d55e00; background: #fdf3ec;
  padding: .55rem .9rem; margin: 0; }
.headline { font-size: 1.15rem; margin-bottom: .3rem; }
.small { font-size: .88rem; color: #444; max-width: 46rem; margin: 0; }
table { border-collapse: collapse; margin: .6rem 0 1.6rem; font-size: .88rem; line-height: 1.35;
  font-variant-numeric: tabular-nums lining-nums; border-top: 1.5px solid #333;
  border-bottom: 1.5px solid #333; }
th { font-weight: 600; border-bottom: 1px solid #333; vertical-align: bottom; }
th, td { padding: .22rem .7rem .22rem 0; text-align: right; }
th:last-child, td:last-child { padding-right: .2rem; }
th:first-child, td:first-child { text-align: left; padding-left: .2rem; }
table.words td, table.words th { text-align: left; vertical-align: top; overflow-wrap: anywhere; }
table.words td:first-child { white-space: nowrap; padding-right: 1.5rem; color: #444; }
tr.total td { border-top: 1px solid #999; font-weight: 600; }
.wide { overflow-x: auto; }
figure { margin: 1.4rem 0 2rem; break-inside: avoid; }
figure img { display: block; max-width: 100%; height: auto; }
figcaption { font-size: .9rem; color: #444; margin-top: .5rem; max-width: 46rem; }
code, pre { font: .82rem/1.5 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }
pre { background: #f6f6f6; padding: .6rem .8rem; white-space: pre-wrap; overflow-wrap: anywhere; }
details { margin: .6rem 0; } summary { cursor: pointer; color: #0b5a8a; }
ul.quotes { padding-left: 1.1rem; font-size: .88rem; }
@media print { body { margin: 0; max-width: none; font-size: 11pt; } a { color: inherit; }
  h2 { break-after: avoid; } .wide { overflow: visible; } }
"""

SIMULATED = (
    '<p class="simulated"><strong>These are simulated mice.</strong> The scores say how well a '
    "model recovers neurons that we made up, not a recorded brain.</p>"
)


@dataclass(frozen=True)
class Picture:
    """A figure of the report: file name without ending, heading, one sentence, PNG bytes."""

    name: str
    title: str
    caption: str
    png: bytes


def render(
    name: str,
    config: Mapping,
    scores: Mapping[str, Score],
    lines: Sequence[Mapping],
    pictures: Sequence[Picture],
    simulated: bool,
    breakdown: str = "",
    used: Mapping[str, float] = MappingProxyType({}),
) -> str:
    """The whole page. `config` holds plain values; `lines` are the journal's.

    breakdown: further tables of the scores, in HTML. used: see `report.write`.
    """
    parts = [f"<h1>{escape(name)}: how well the model predicts</h1>", _headline(scores)]
    if simulated:
        parts.insert(0, SIMULATED)
    parts += [_scores(scores), breakdown, *map(figure, pictures)]
    parts += [_cost(used), _origin(lines), _notes(lines)]
    parts += [details("Configuration", words(_flat(config)))]
    return document(f"{name}: report", parts)


def document(title: str, parts: Iterable[str]) -> str:
    """A whole page of parts in HTML; empty parts are left out."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body>\n</html>\n"
    )


def _headline(scores: Mapping[str, Score]) -> str:
    if not scores:
        return "<p>No tier was scored.</p>"
    score = next(iter(scores.values()))
    ceiling = ""
    if score.fraction_of_ceiling is not None:
        ceiling = (
            f", <strong>{score.fraction_of_ceiling:.2f}</strong> of the ceiling "
            f"{score.ceiling:.3f} that the noiseless rates reach"
        )
    return (
        f'<p class="headline">Mean single-trial correlation on {escape(score.tier)}: '
        f"<strong>{score.correlation:.3f}</strong>{ceiling}.</p>\n"
        f'<p class="small">{escape(score.describe())}.</p>'
    )


def _scores(scores: Mapping[str, Score]) -> str:
    """One pair of tables for each way of counting, since those do not compare."""
    if not scores:
        return ""
    parts = ["<h2>Scores</h2>"]
    for conditions in dict.fromkeys(score.conditions for score in scores.values()):
        alike = [score for score in scores.values() if score.conditions == conditions]
        parts += [_tier_table(alike, conditions), _null_table(alike)]
        parts += [_mouse_table(alike), _measure_table(alike)]
    quotes = "".join(f"<li>{escape(score.describe())}</li>" for score in scores.values())
    parts.append(details("Each score as one line to quote", f'<ul class="quotes">{quotes}</ul>'))
    return "\n".join(parts)


def _tier_table(alike: Sequence[Score], conditions: str) -> str:
    columns = {
        "tier": lambda score: score.tier,
        "correlation": lambda score: f"{score.correlation:.4f}",
        "ceiling": lambda score: _or_dash(score.ceiling, ".4f"),
        "of ceiling": lambda score: _or_dash(score.fraction_of_ceiling, ".3f"),
        "Poisson loss": lambda score: f"{score.poisson_loss:.4f}",
        "mice": lambda score: f"{len(score.mice)}",
        "neurons": lambda score: f"{score.num_neurons:,}",
        "undefined": lambda score: f"{score.undefined:,}",
        "trials": lambda score: f"{score.num_trials:,}",
        "frames scored": lambda score: f"{score.num_frames:,}",
        "step": lambda score: f"{score.step:,}",
    }
    if all(score.ceiling is None for score in alike):
        del columns["ceiling"], columns["of ceiling"]
    rows = [[cell(score) for cell in columns.values()] for score in alike]
    caption = f"Mean single-trial correlation over all neurons; {conditions}."
    return table(list(columns), rows, caption)


def _null_table(alike: Sequence[Score]) -> str:
    """Of spikes: the model between a model that knows nothing and what can be known at all."""
    head = ["", "model", "null model", "other repeats", "noiseless rates"]
    rows = []
    for score in alike:
        if "null_poisson_loss" not in score.measures:
            continue
        beside = {
            "bits_per_spike": (0.0, math.nan),
            "competition_poisson_loss": (score.mean("null_poisson_loss"), math.nan),
            SINGLE_TRIAL: (0.0, score.mean("oracle_jackknife")),
        }
        for name, (null, repeats) in beside.items():
            numbers = (score.mean(name), null, repeats, score.ceiling_of(name))
            said = ["-" if math.isnan(number) else f"{number:.4f}" for number in numbers]
            rows.append([f"{MEASURES[name].words}, {score.tier}", *said])
    caption = (
        "Beside the null model, which says each neuron's mean over the training tier; beside the "
        "mean of an animal's other repeats of the film, which is a noisy answer but from the same "
        "neuron; and beside the rates that simulated spikes were drawn from."
    )
    return table(head, rows, caption) if rows else ""


def _mouse_table(alike: Sequence[Score]) -> str:
    mice = list(dict.fromkeys(mouse for score in alike for mouse in score.mice))
    head, rows = ["mouse", "neurons"], [[short_name(mouse)] for mouse in mice]
    for row, mouse in zip(rows, mice, strict=True):
        row.append(f"{max(s.mice[mouse].num_neurons for s in alike if mouse in s.mice):,}")
    for score in alike:
        means, ceilings = score.correlation_per_mouse, score.ceiling_per_mouse
        head += [score.tier] + (["ceiling"] if ceilings else [])
        for row, mouse in zip(rows, mice, strict=True):
            row.append(_or_dash(means.get(mouse), ".4f"))
            if ceilings:
                row.append(_or_dash(ceilings.get(mouse), ".4f"))
    return table(head, rows, "The same for each mouse, mean over its neurons.")


def _measure_table(alike: Sequence[Score]) -> str:
    """The measures beside single-trial correlation, and why one is not there."""
    names = dict.fromkeys(name for score in alike for name in (*score.measures, *score.left_out))
    names = [name for name in names if name not in (SINGLE_TRIAL, "poisson_loss")]
    if not names:
        return ""
    rows = [
        [MEASURES[name].words]
        + [f"{score.mean(name):.4f}" if name in score.measures else "-" for score in alike]
        for name in names
    ]
    why = {name: said for score in alike for name, said in score.left_out.items()}
    caption = "Other measures, means over the neurons of all mice for which they are defined."
    if why:
        said = "; ".join(f"{MEASURES[name].words}: {each}" for name, each in why.items())
        caption += f" A dash: {said}."
    return table(["measure", *(score.tier for score in alike)], rows, caption)


def figure(picture: Picture) -> str:
    """A heading, the picture inside the page, and its caption."""
    return f"<h2>{escape(picture.title)}</h2>\n{image(picture)}"


def image(picture: Picture) -> str:
    """The picture inside the page, and its caption."""
    pixels = int.from_bytes(picture.png[16:20], "big")  # the width in a PNG's header
    inches = pixels / DPI
    data = base64.b64encode(picture.png).decode("ascii")
    return (
        f'<figure><img width="{round(inches * PIXELS_PER_INCH)}" alt="{escape(picture.caption)}" '
        f'src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def _cost(used: Mapping[str, float]) -> str:
    if not used:
        return ""
    rows = {
        "parameters": f"{used['parameters']:,}",
        "time": f"{used['seconds']:,.0f} s",
        "most memory of the process": f"{used['peak_memory_bytes'] / 1e9:.2f} GB",
    }
    return "<h2>What it cost</h2>\n" + words(rows.items())


def _origin(lines: Sequence[Mapping]) -> str:
    runs = [line for line in lines if line["kind"] == "run"]
    if not runs:
        return ""
    last = runs[-1]
    versions = ", ".join(f"{name} {version}" for name, version in last["versions"].items())
    rows = {
        "code": last["commit"],
        "devices": ", ".join(last["devices"]),
        "versions": versions,
        "started": "; ".join(f"step {run['step']:,}, {run['time']}" for run in runs),
        **{f"store of {short_name(mouse)}": print_ for mouse, print_ in last["stores"].items()},
    }
    return (
        "<h2>Where it comes from</h2>\n<p>The same line makes this page again from the finished "
        f"run, or repeats the run in an empty folder:</p>\n<pre>{escape(last['command'])}</pre>"
        + words(rows.items())
    )


def _notes(lines: Sequence[Mapping]) -> str:
    notes = [(f"step {line['step']:,}", line["text"]) for line in lines if line["kind"] == "note"]
    return details("Remarks of the run", words(notes)) if notes else ""


def details(title: str, content: str) -> str:
    """Content that opens with a click on its title."""
    return f"<details><summary>{escape(title)}</summary>\n{content}</details>"


def words(rows: Iterable[tuple[str, object]]) -> str:
    """A table of names and what belongs to them."""
    cells = "".join(
        f"<tr><td>{escape(key)}</td><td><code>{escape(str(value))}</code></td></tr>\n"
        for key, value in rows
    )
    return f'<table class="words">{cells}</table>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str, total: str = "") -> str:
    """A table of numbers under its caption; every cell is escaped.

    total: the name of a row that sums up the others.
    """
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        ('<tr class="total">' if total and row[0] == total else "<tr>")
        + "".join(f"<td>{escape(cell)}</td>" for cell in row)
        + "</tr>\n"
        for row in rows
    )
    said = f'<p class="small">{escape(caption)}</p>\n' if caption else ""
    return (
        f'{said}<div class="wide"><table>\n'
        f"<thead><tr>{top}</tr></thead>\n<tbody>\n{body}</tbody></table></div>"
    )


def _flat(config: Mapping, above: str = "") -> list[tuple[str, str]]:
    """`("data.window_frames", "80")` for each setting, in the configuration's order."""
    rows = []
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            rows += _flat(value, f"{above}{key}.")
        else:
            rows.append((f"{above}{key}", json.dumps(value, ensure_ascii=False)))
    return rows


def _or_dash(number: float | None, form: str) -> str:
    return "-" if number is None else format(number, form)
