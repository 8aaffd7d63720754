"""The page a run ends with: `report.html` for people, `report.json` for programs, and figures.

In go the scores, the journal's lines, and what is to be drawn besides; out come files in the run's
folder, none of which is ever half-written: everything is drawn before the first file is touched,
and each file is written under a temporary name and then renamed, the page last.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from sensojax.errors import UserError
from sensojax.evaluation import breakdowns, curves, figures, maps, page, tables, tables_page
from sensojax.evaluation.results import Fields, Score, Traces
from sensojax.evaluation.tables import Table
from sensojax.writing import plain

FORMAT = 2  # of report.json
KINDS = "kinds"  # stands behind its table, the others one after another
PICTURES = (
    *(KINDS, "learning_curves", "correlations", "traces"),
    *("cortex", "depth", "receptive_fields"),
)


def write(
    workdir: Path,
    config: Mapping,
    scores: Mapping[str, Score],
    lines: Iterable[Mapping],
    traces: Sequence[Traces] = (),
    fields: Iterable[Fields] = (),
    used: Mapping[str, float] = MappingProxyType({}),
) -> Path:
    """Writes the report of a run into its folder and returns the path of `report.html`.

    scores: by tier; the first is the one that figures show. lines: the journal's, as read. used:
    what the run cost, `parameters`, `seconds` and `peak_memory_bytes`. Whatever is missing (traces,
    cortical positions, ceilings, other kinds of stimuli than one) is left out of the page.
    """
    workdir, lines, config = Path(workdir), list(lines), plain(config)
    runs = [line for line in lines if line["kind"] == "run"]
    simulated = any(score.simulated for score in scores.values())
    simulated = simulated or any(run["simulated"] for run in runs)
    trained_on = config["data"]["tiers"] if "data" in config else ()
    by_kind = _by_kind(scores, trained_on)
    places = {each.mouse: each for each in fields}
    pictures = list(_pictures(scores, lines, traces, places, by_kind))
    of_kinds = next((picture for picture in pictures if picture.name == KINDS), None)
    contents = {
        "format": FORMAT,
        "simulated": simulated,
        "summary": {tier: plain(score.summary()) for tier, score in scores.items()},
        "run": {k: v for k, v in runs[-1].items() if k != "config"} if runs else None,
        "config": config,
        "used": dict(used),
        "figures": [f"figures/{picture.name}.png" for picture in pictures],
        "scores": {tier: score.to_json() for tier, score in scores.items()},
    }
    text = page.render(
        workdir.resolve().name,
        config,
        scores,
        lines,
        [picture for picture in pictures if picture is not of_kinds],
        simulated,
        breakdown=tables_page.section(by_kind, of_kinds) if by_kind else "",
        used=used,
    )
    files = {f"figures/{picture.name}.png": picture.png for picture in pictures}
    files["report.json"] = json.dumps(contents, allow_nan=False, ensure_ascii=False).encode()
    files["report.html"] = text.encode()
    _replace(workdir, files)
    for name in set(PICTURES) - {picture.name for picture in pictures}:
        (workdir / "figures" / f"{name}.png").unlink(missing_ok=True)
    return workdir / "report.html"


def read(path: Path) -> dict[str, Score]:
    """The scores by tier of a `report.json`; UserError when it is of another format."""
    contents = json.loads(Path(path).read_text(encoding="utf-8"))
    if contents["format"] != FORMAT:
        raise UserError(
            f"found {path} of format {contents['format']}, expected {FORMAT}; write the report "
            "again with this version."
        )
    return {tier: Score.from_json(score) for tier, score in contents["scores"].items()}


def _pictures(
    scores: Mapping[str, Score],
    lines: list[Mapping],
    traces: Sequence[Traces],
    fields: Mapping[str, Fields],
    by_kind: Sequence[Table],
) -> Iterator[page.Picture]:
    """The figures there is something to draw for, in the order of PICTURES."""
    score = next(iter(scores.values()), None)
    by_depth = tables.by_depth(score) if score else None
    several = by_depth is not None and len(by_depth.rows) > 1
    drawn = (
        breakdowns.figure(by_kind[0]) if by_kind else None,
        curves.learning_curves(lines),
        score and figures.correlation_histograms(score),
        figures.traces(traces),
        score and maps.cortex(score, fields),
        breakdowns.figure(by_depth) if several else None,
        maps.receptive_fields(fields),
    )
    words = (
        ("Kinds of stimuli", breakdowns.caption(by_kind[0]) if by_kind else ""),
        ("Learning curves", _curves_caption(lines)),
        ("Correlations", _histogram_caption(score)),
        ("Predicted and recorded responses", _traces_caption(traces)),
        (
            "Correlation over cortex",
            "Each dot is a neuron at its place in cortex, coloured by its correlation on one scale "
            "for all mice; patches of one colour mean that quality depends on place.",
        ),
        ("Correlation by depth", breakdowns.caption(by_depth) if several else ""),
        ("Learned receptive fields", _fields_caption(fields)),
    )
    for name, figure, (title, caption) in zip(PICTURES, drawn, words, strict=True):
        if figure is not None:
            yield page.Picture(name, title, caption, figures.png(figure))


def _by_kind(scores: Mapping[str, Score], trained_on: Sequence[str]) -> list[Table]:
    """Tables by kind of stimulus, of those scores that were counted alike and show several."""
    made = []
    for conditions in dict.fromkeys(score.conditions for score in scores.values()):
        alike = {tier: each for tier, each in scores.items() if each.conditions == conditions}
        if len({kind for score in alike.values() for kind in score.kinds}) > 1:
            made.append(tables.by_kind(alike, trained_on=trained_on))
    return made


def _curves_caption(lines: list[Mapping]) -> str:
    ceilings = (line["ceiling"] for line in lines if line["kind"] == "evaluation")
    dashed = "; the horizontal dashes are the best reachable score" if any(ceilings) else ""
    return (
        "Loss of the training steps (pale) and its running median, learning rate, and correlation "
        f"over all neurons (thick) and over those of each mouse (thin){dashed}."
    )


def _histogram_caption(score: Score | None) -> str:
    if score is None:
        return ""
    behind = ", in front of the ceilings that the noiseless rates reach" if score.ceiling else ""
    return (
        f"How the correlations of single neurons on {score.tier} are spread in each mouse{behind}; "
        f"{score.conditions}."
    )


def _traces_caption(traces: Sequence[Traces]) -> str:
    rates = (
        ", and the noiseless rate that the recording scatters about"
        if any(trace.rates is not None for trace in traces)
        else ""
    )
    return (
        "Predicted responses over recorded ones of well predicted and of median neurons"
        f"{rates}; a dotted line is where another trial begins."
    )


def _fields_caption(fields: Mapping[str, Fields]) -> str:
    truth = (
        ", and on the right the learned positions against the true ones"
        if any(each.true is not None for each in fields.values())
        else ""
    )
    return (
        "Neurons in cortex and, in the same colours, where in the image their readouts look "
        f"(-1 to 1 from left to right and from top to bottom): neighbours in cortex should stay "
        f"neighbours in the image{truth}."
    )


def _replace(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes every file under a temporary name, then renames them all in the given order."""
    partial = {folder / name: folder / f"{name}.partial" for name in files}
    try:
        for (path, temporary), content in zip(partial.items(), files.values(), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(content)
        for path, temporary in partial.items():
            os.replace(temporary, path)
    finally:
        for temporary in partial.values():
            temporary.unlink(missing_ok=True)
