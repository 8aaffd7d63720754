"""Results of a benchmark as a page: markdown for people, from the same values as the JSON.

In: runs (`merging`); out: text. Every row says in which run it was measured, and a mark whether
other work disturbed it; what each row means is in `meaning`. Nothing of the machine's paths gets
into the page.
"""

import dataclasses
from collections.abc import Sequence

from scripts.benchmarks.meaning import MEANING
from scripts.benchmarks.measuring import Row, Side

BUSY = 0.2  # cores that other work keeps busy, from which on it disturbs
MARK = "†"


def page(runs: Sequence[dict]) -> str:
    """The whole page in markdown."""
    rows = [(_row(each), number) for number, run in enumerate(runs, 1) for each in run["rows"]]
    disturbed = [disturbs(row, runs[number - 1]) for row, number in rows]
    said = [each for run in runs for of_row in run["said"].values() for each in of_row]
    parts = [
        "# Benchmarks",
        "sensojax beside the published PyTorch code (neuralpredictors, the Sensorium 2023 kit, "
        "DwiseNeuro), measured by `scripts/bench.py`. The two sides take turns on the same arrays "
        f"and weights; a number is the median of {_count([row for row, _ in rows])}, with the "
        "smallest and the largest in parentheses. More is better. The last column is the run, "
        "see below.",
        _caution(runs, any(disturbed)),
        _table(rows, disturbed),
        "\n".join(f"* {sentence}" for sentence in said),
        "## Cost of our side, and how near the machine's limit",
        _costs(rows),
        "## What each row is",
        "\n".join(f"* **{row}**: {' '.join(MEANING[row].split())}" for row in _names(rows)),
        "## Where and when",
        "PEER_FOLDER holds checkouts of `neuralpredictors` and `sensorium_2023` (and of "
        "`dwiseneuro` and `viv1t` for their rows), PEER_PYTHON is an interpreter that has torch "
        "and what they import.",
        "\n".join(_run(number, run) for number, run in enumerate(runs, 1)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def line(row: Row) -> str:
    """A row in one line, to be shown as soon as it is measured."""
    beside = f", {row.other} {_side(row.theirs)}, ratio {row.ratio:.2f}" if row.theirs else ""
    return f"{row.work}: {_side(row.ours)} {row.unit}{beside}"


def plain(row: Row) -> dict:
    """A row as JSON can say it."""
    return dataclasses.asdict(row) | {"ratio": row.ratio}


def disturbs(row: Row, run: dict) -> bool:
    """Whether other work ran beside a row; rows of before say only how the run began."""
    others = row.more.get("others")
    return run["machine"]["load_before"] > 0.5 if others is None else others > BUSY


def _caution(runs: Sequence[dict], disturbed: bool) -> str:
    """What makes the numbers worthless, when something does."""
    said = []
    if any(run["tiny"] for run in runs):
        said.append("These are the sizes of --tiny: the times mean nothing.")
    if disturbed:
        said.append(
            f"Where the ratio has the mark {MARK}, other work ran beside the row (the table of "
            "costs says how many cores it took), so the ratio is only roughly right; as the "
            "threads of torch wait for each other, rather too good than too bad."
        )
    return f"**{' '.join(said)}**" if said else ""


def _row(row: dict) -> Row:
    sides = {name: row[name] and Side(tuple(row[name]["values"])) for name in ("ours", "theirs")}
    return Row(**{k: v for k, v in row.items() if k != "ratio"} | sides)


def _names(rows) -> list[str]:
    return [name for name in MEANING if name in {row.row for row, _ in rows}]


def _count(rows: Sequence[Row]) -> str:
    counts = sorted({len(row.ours.values) for row in rows if row.row != "store"}) or [1]
    return f"{counts[0]} repeats" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} repeats"


def _table(rows, disturbed) -> str:
    lines = [
        "| work | unit | sensojax | other | what the other is | ratio | run |",
        "|---|---|---|---|---|---|---|",
    ]
    for (row, run), mark in zip(rows, disturbed, strict=True):
        ratio = "" if row.ratio is None else f"**{row.ratio:.2f}**" + (f" {MARK}" if mark else "")
        other = row.other if row.theirs else "not run"
        cells = (row.work, row.unit, _side(row.ours), _side(row.theirs), other, ratio, str(run))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _side(side: Side | None) -> str:
    if side is None:
        return ""
    if len(side.values) == 1:
        return _number(side.median)
    return f"{_number(side.median)} ({_number(min(side.values))}-{_number(max(side.values))})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _costs(rows) -> str:
    lines = [
        "| work | compile, s | GFLOP/s, sensojax | other | GB/s, sensojax | program GB, sensojax "
        "| peak memory GB, sensojax | other | other work, cores | run |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row, run in rows:
        more = row.more
        if more:
            gflops = more.get("gflops", (None, None))
            peaks = more.get("peak_gb", (None, None))
            single = (more.get(name) for name in ("gbs", "program_gb"))
            values = (more.get("compile_seconds"), *gflops, *single, *peaks, more.get("others"))
            cells = ("" if value is None else _number(value) for value in values)
            lines.append(f"| {row.work} | {' | '.join(cells)} | {run} |")
    return "\n".join(lines) + (
        "\n\nGFLOP/s are the operations of the core (of a prediction: of all) over the time of "
        "everything, counted as direct convolutions, each layer once forward and twice backward; "
        "where a transform domain needs fewer operations, they pass what a matrix product reaches. "
        "GB/s are the least traffic over the same time: what products, convolutions, look-ups and "
        "sums read and write when all else is fused into them, much of it in a processor's caches. "
        "Program GB is what the compiler sets aside, arguments included. Peak memory is the "
        "largest resident size of the process while its row ran, the interpreter and the data of "
        "the row included; on an accelerator, the most it had held so far."
    )


def _run(number: int, run: dict) -> str:
    """Where and when a run was, and what its machine reaches."""
    machine, rates = run["machine"], run["rates"]
    ours = ", ".join(f"{name} {version}" for name, version in machine["ours"].items())
    where = machine.get("accelerator") or machine["device"]
    said = [
        f"{number}. `{run['command']}`, {machine['date']}; {machine['cpu']}, {machine['cores']} "
        f"cores; our side ran on {where}; load average before: {machine['load_before']}.",
        _rates(rates, run["matmul_gflops"]),
        f"Ours: {ours}.",
    ]
    if machine["peer"]:
        theirs = ", ".join(f"{name} {version}" for name, version in machine["peer"].items())
        device = machine.get("peer_device") or "cpu"
        said.append(f"Published code: {theirs}, {machine['peer_threads']} threads, on {device}.")
    if machine["stand_ins"]:
        names = " and ".join(machine["stand_ins"])
        said.append(
            f"Empty modules stood in for {names}, which it imports; of them only the seeding "
            "function of nnfabrik is called, before our weights replace its own."
        )
    if not run["rows"]:
        said.append("It measured the machine alone.")
    return " ".join(said)


def _rates(rates: dict, compared: Sequence[float | None]) -> str:
    ours, theirs = compared
    by_side = ", ".join(f"{_number(rate)} ({side})" for side, rate in rates["matmul"].items())
    by_size = ", ".join(f"{_number(rate)} ({size} MB)" for size, rate in rates["copy"].items())
    torch = f", by torch {_number(theirs)}" if theirs else ""
    matmul = f"A square matrix product reaches {by_side or _number(ours)} GFLOP/s{torch}"
    return f"{matmul}; adding one to an array moves {by_size} GB/s." if by_size else f"{matmul}."
