"""The result of a benchmark as a page: markdown for people, JSON for programs.

In: rows, sentences and what the numbers depend on; out: text. What each row means is said here
once, so that the page explains itself. Nothing of the machine's paths gets into it.
"""

import dataclasses
from collections.abc import Sequence

from scripts.benchmarks.measuring import Row, Side

BUSY = 0.5  # load average from which on other work disturbs

MEANING = dict(
    step="""One training step of the published factorised baseline (core 32, 64, 128 channels,
kernels 11, 5, 5 in space and in time; full Gaussian readout with cortex position network, sampled
for every frame and neuron; shifter; Poisson loss with the published scale; AdamW) on 80-frame clips
of 36 x 64 pixels and 7,863 neurons per mouse, 8 clips of each. Ours takes all mice in one step and
includes normalising the raw bytes; the published code takes one mouse after the other, adds up
gradients, and starts from normalised arrays. Neither reads files here. The GRU rows have the
published GRU baseline instead: a rotation-equivariant core (4 layers of 8 features in 8
orientations, kernels 9, 7, 7, 7) and a convolutional GRU of 64 channels with kernels of 9. The rows
of images have the published CNN of 2022 (four layers of 64 channels, kernels 9, 7, 7, 7, all but
the first depth-separable; full Gaussian readout; Adam) on 128 images, which ours makes smaller, 144
x 256 to 36 x 64 pixels, in its step and the published code has small already. The rows of
DwiseNeuro have its published model of 2023 (expansion 7, dropping residuals and channels; softplus;
AdamW) on clips of 31 frames, of which it sees 16, in 64 x 64 pixels.""",
    prediction="""The same model in evaluation mode, its published prediction function on the
other side: the 80-frame batch, and two whole 300-frame trials of each mouse (one at a time on the
published side, whose loader gives whole trials so). Frames are those of the input. DwiseNeuro
predicts the first 46 frames of a trial in all 16 windows of 31 frames that these have, several at a
time; its own code one after the other. A trial of 300 frames has 270.""",
    loader="""Random 80-frame windows of the train tier, normalised (official) and ready as float32
arrays with behaviour as channels, files in the page cache. Ours: `Batches.iterate` with its threads
from the store, then normalisation in jit. The published loader reads and normalises whole trials;
once with its cache off, which is how ten mice have to be read (148 GB), and once with every trial
already in its cache.""",
    correlation="""Single-trial correlation of every neuron over a tier that is in memory:
ours adds up sums trial by trial; numpy and the published function join all trials first.""",
    store="""Bytes of the published files for each byte of our store, on a simulated session: once
with small random numbers in place of the responses' exact zeros, which no packing makes smaller,
and once as simulated, mostly zeros. Recordings should lie between the two. All other rows read the
first one.""",
    conversion="""Published files to store, in megabytes of source per second, beside copying the
same files with `shutil.copytree` on the same disk, files in the page cache.""",
    gabors="""Direction, wavelength and frequency of the Gabor in every block of 25 frames, 72
possible ones; clips in memory. The other side is plain numpy by the rule of the published tool: one
correlation coefficient for every block and template, templates made beforehand.""",
    video_ids="""From the files of a session (in the page cache) to a number for each different
video. The other side compares whole videos in turn by the published rule, in plain numpy; its work
grows with the square of the trials, and a published session has ten times as many.""",
    statistics="""Minimum, maximum, median, mean and standard deviation of video, responses,
behaviour and pupil over the train tier, from the published files in the page cache. The other side
holds all trials of a variable in one float32 array and asks numpy.""",
    motifs="""All motifs of a synthetic session with the count statistics of the published pile, to
the finished table on disk, per CPU second of one process with one thread: from counts in memory
(sparse here, the published table of counts in Arrow there), and from disk (an event store, whose
spike times are put into bins on the way; the table in Parquet there). The other side is plain
numpy and a dictionary of patches, by the rule of the published script. Peak memory is that of a
process that does only this.""",
    order="""An order of the neurons of a session by cosine distance, from counts in memory, per CPU
second of one process with one thread: ours once from all bins (average linkage, exact leaf
ordering), the other side anew for each chunk with SciPy (Ward's linkage, its leaf ordering),
as the published script means to.""",
    pile="""A synthetic session with the count statistics of the published pile, in one process and
with everything in the page cache: from the spike times of an NWB file to what lies on disk (an
event store with every exact time, compressed and with checksums; there an uncompressed Arrow table
of counts), and from a store to counts in bytes, chunk by chunk (there NumPy's histogram over all
edges for each neuron, of times in memory, as the published builders count).""",
)


def page(result: dict) -> str:
    """The whole page in markdown."""
    rows = [_row(each) for each in result["rows"]]
    parts = [
        "# Benchmarks",
        "sensojax beside the published PyTorch code (neuralpredictors and the Sensorium 2023 kit), "
        "measured in one run of\n\n"
        f"    {result['command']}\n\n"
        "where PEER_FOLDER holds checkouts of `neuralpredictors` and `sensorium_2023` (and of "
        "`dwiseneuro` for its rows), and PEER_PYTHON is an interpreter that has torch and what "
        "they import. The two sides take turns on the same arrays and weights; a number is the "
        "median of "
        f"{_count(rows)}, with the smallest and the largest in parentheses. More is better.",
        _caution(result),
        _table(rows),
        "\n".join(f"* {sentence}" for sentence in result["said"]),
        "## Cost of our side, and how near the machine's limit",
        _costs(rows, result["matmul_gflops"]),
        "## What each row is",
        "\n".join(f"* **{row}**: {' '.join(MEANING[row].split())}" for row in _names(rows)),
        "## Where and when",
        _machine(result["machine"]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def line(row: Row) -> str:
    """A row in one line, to be shown as soon as it is measured."""
    beside = f", {row.other} {_side(row.theirs)}, ratio {row.ratio:.2f}" if row.theirs else ""
    return f"{row.work}: {_side(row.ours)} {row.unit}{beside}"


def plain(row: Row) -> dict:
    """A row as JSON can say it."""
    return dataclasses.asdict(row) | {"ratio": row.ratio}


def _caution(result: dict) -> str:
    """What makes the numbers worthless, when something does."""
    load, said = result["machine"]["load_before"], []
    if result["tiny"]:
        said.append("These are the sizes of --tiny: the times mean nothing.")
    if load > BUSY:
        said.append(
            f"The machine was busy with other work (load average {load} before the run), so these "
            "times are not reliable; and as the threads of torch wait for each other, other work "
            "slows the published side more than ours."
        )
    return f"**{' '.join(said)}**" if said else ""


def _row(row: dict) -> Row:
    sides = {name: row[name] and Side(tuple(row[name]["values"])) for name in ("ours", "theirs")}
    return Row(**{k: v for k, v in row.items() if k != "ratio"} | sides)


def _names(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.row for row in rows))


def _count(rows: Sequence[Row]) -> str:
    counts = sorted({len(row.ours.values) for row in rows if row.row != "store"}) or [1]
    return f"{counts[0]} repeats" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} repeats"


def _table(rows: Sequence[Row]) -> str:
    lines = [
        "| work | unit | sensojax | other | what the other is | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        ratio = "" if row.ratio is None else f"**{row.ratio:.2f}**"
        other = row.other if row.theirs else "not run"
        cells = (row.work, row.unit, _side(row.ours), _side(row.theirs), other, ratio)
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


def _costs(rows: Sequence[Row], matmul: Sequence[float | None]) -> str:
    lines = [
        "| work | compile, s | core GFLOP/s, sensojax | other | peak memory GB, sensojax | other |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row.more:
            compiled = row.more.get("compile_seconds")
            gflops, peaks = (
                row.more.get("gflops", (None, None)),
                row.more.get("peak_gb", (None, None)),
            )
            values = (compiled, *gflops, *peaks)
            cells = ("" if value is None else _number(value) for value in values)
            lines.append(f"| {row.work} | {' | '.join(cells)} |")
    ours, theirs = matmul
    beside = f", {theirs:.0f} GFLOP/s by torch" if theirs else ""
    return "\n".join(lines) + (
        f"\n\nA square float32 matrix product reaches {ours:.0f} GFLOP/s by jax{beside}. GFLOP/s "
        "of a row are the operations of the core alone, counted as direct convolutions, over the "
        "time of everything. Peak memory is the largest resident size of the process while its row "
        "ran, the interpreter and the data of the row included."
    )


def _machine(machine: dict) -> str:
    ours = ", ".join(f"{name} {number}" for name, number in machine["ours"].items())
    lines = [
        f"{machine['date']}; {machine['cpu']}, {machine['cores']} cores; our side ran on "
        f"{machine['device']}; load average before: {machine['load_before']}. Ours: {ours}."
    ]
    if machine["peer"]:
        theirs = ", ".join(f"{name} {number}" for name, number in machine["peer"].items())
        lines.append(f"Published code: {theirs}, {machine['peer_threads']} threads, on the CPU.")
    if machine["stand_ins"]:
        names = " and ".join(machine["stand_ins"])
        lines.append(
            f"Empty modules stood in for {names}, which it imports; of them only the seeding "
            "function of nnfabrik is called, before our weights replace its own."
        )
    return " ".join(lines)
