"""Measures sensojax beside the published PyTorch code, at the sizes of the published benchmark.

    python scripts/bench.py --peer PEER_FOLDER --peer-python PEER_PYTHON --mice 1,5
    python scripts/bench.py --rows core,step,prediction --model gru --json gru.json ...
    python scripts/bench.py --rows none --merge docs/benchmarks.json gru.json --markdown PAGE.md

PEER_FOLDER holds checkouts of `neuralpredictors` and `sensorium_2023`, and of DwiseNeuro's
repository as `dwiseneuro` and of the closed-loop ViV1T's as `viv1t` when these models are measured;
PEER_PYTHON is an interpreter that has torch and what they import (einops and schedulefree among
it). Without them our side is measured alone. The page
is printed, and written where --markdown and --json say; --merge puts rows of earlier runs beside
the new ones, each with its own date, load and command. The first run simulates a session (minutes,
5 GB); --folder keeps it for the next one. On a GPU the same lines measure the GPU.
"""

import argparse
import contextlib
import dataclasses
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.benchmarks import (
    data_rows,
    epoch_rows,
    machine,
    merging,
    model_rows,
    part_rows,
    peer,
    pile_rows,
    pile_store_rows,
    session,
    stimulus_rows,
    subject,
    tables,
)
from scripts.benchmarks.measuring import Bench, Row
from sensojax.errors import UserError, check_name, command_line, nearest
from sensojax.models.narrowing import PRECISIONS
from sensojax.writing import write_atomically

ROWS: dict[str, Callable[[Bench], list[Row]]] = dict(
    core=part_rows.core,
    readout=part_rows.readout,
    step=model_rows.step,
    prediction=model_rows.prediction,
    loader=data_rows.loader,
    transfer=part_rows.transfer,
    epoch=epoch_rows.epoch,
    correlation=data_rows.correlation,
    store=data_rows.stored,
    conversion=data_rows.converting,
    gabors=stimulus_rows.gabors,
    video_ids=stimulus_rows.ids,
    statistics=stimulus_rows.statistics,
    motifs=pile_rows.motifs,
    order=pile_rows.order,
    pile=pile_store_rows.building,
)
WITHOUT_SESSION = ("motifs", "order", "pile")  # rows that make their own data
NONE = "none"
SIZES = dict(clips="batch", windows="windows", window_step="window_step")  # arguments, of `Sizes`


@command_line
def main(arguments: list[str] | None = None) -> None:
    args = _parser().parse_args(arguments)
    names, mice, models = _rows(args.rows), _mice(args.mice), _models(args.model)
    check_name(args.compute, PRECISIONS, "--compute")
    for name in ("repeats", *SIZES):
        count = getattr(args, name)
        if count is not None and count < 1:
            raise UserError(f"found --{name.replace('_', '-')} {count}, expected 1 or more.")
    runs = merging.read(args.merge)
    if names:
        runs.append(_measured(args, names, mice, models))
    runs = merging.joined(runs)
    if not runs:
        raise UserError("found no row to measure or to merge, expected --rows or --merge.")
    print(tables.page(runs))
    if args.json:
        merging.write(args.json, runs)
    if args.markdown:
        write_atomically(args.markdown, tables.page(runs))


def _measured(
    args: argparse.Namespace, names: list[str], mice: tuple[int, ...], models: tuple[str, ...]
) -> dict:
    """Measures these rows now; the run as `merging` describes it."""
    sizes = session.TINY if args.tiny else session.Sizes()
    chosen = {field: getattr(args, name) for name, field in SIZES.items()}
    sizes = dataclasses.replace(sizes, **{field: n for field, n in chosen.items() if n})
    if args.folder:
        args.folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        other, why_not = peer.start(args.peer, args.peer_python)
        if other:
            stack.enter_context(other)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=args.folder)))
        run = dict(
            command=_command(args, names, mice, models),
            tiny=args.tiny,
            machine=machine.described(other),
            said={},
            rows=[],
        )
        if other is None:
            run["said"][""] = [
                f"The published code was not run, since {why_not}: our side is measured alone."
            ]
        needed = not set(names) <= set(WITHOUT_SESSION)
        made = session.Session(args.folder or scratch, sizes) if needed else None
        rates = run["rates"] = machine.rates(args.repeats, args.compute, tiny=args.tiny)
        theirs = machine.peer_matmul(args.repeats, other)
        run["matmul_gflops"] = [max(rates["matmul"].values()), theirs]
        bench = Bench(sizes, made, scratch, other, args.repeats, mice, models, args.compute)
        for name in names:
            work = machine.OtherWork(other)
            rows, others = ROWS[name](bench), work.cores()
            for row in rows:
                row.more["others"] = others
                print(tables.line(row), file=sys.stderr, flush=True)
            run["rows"] += [tables.plain(row) for row in rows]
            run["said"][name], bench.said = bench.said, []
    return run


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", type=Path, help="folder of the published checkouts")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter with torch")
    parser.add_argument("--rows", default=",".join(ROWS), help=f"of {','.join(ROWS)}, or {NONE}")
    parser.add_argument("--mice", default="1", help="numbers of mice for step and prediction: 1,5")
    parser.add_argument(
        "--model",
        default="factorised",
        help=f"of {','.join(subject.MODELS)}, for core, readout, step, prediction and epoch",
    )
    parser.add_argument("--clips", type=int, help="of each mouse in a batch (8, as published)")
    parser.add_argument("--windows", type=int, help="of 31 frames in DwiseNeuro's trial (16)")
    parser.add_argument(
        "--window-step", type=int, help="DwiseNeuro's windows of ours begin every so many frames"
    )
    parser.add_argument("--compute", default="float32", help=f"of cores: {' or '.join(PRECISIONS)}")
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds of each row")
    parser.add_argument("--folder", type=Path, help="keeps the simulated session (else deleted)")
    parser.add_argument(
        "--merge", type=Path, nargs="+", default=[], help="files of --json, the oldest first"
    )
    parser.add_argument("--json", type=Path, help="file for every measured value")
    parser.add_argument("--markdown", type=Path, help="file for the page: BENCHMARKS.md")
    parser.add_argument("--tiny", action="store_true", help="meaningless sizes, to try it out")
    return parser


def _rows(text: str) -> list[str]:
    names = [] if text == NONE else text.split(",")
    for name in names:
        if name not in ROWS:
            raise UserError(
                f"found --rows {name!r}, expected some of {', '.join(ROWS)}, or {NONE}"
                f"{nearest(name, ROWS)}."
            )
    return names


def _mice(text: str) -> tuple[int, ...]:
    counts = text.split(",")
    if not all(count.isdecimal() and int(count) for count in counts):
        raise UserError(f"found --mice {text!r}, expected numbers of mice, such as 1,5.")
    return tuple(int(count) for count in counts)


def _models(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    for name in names:
        check_name(name, subject.MODELS, "--model")
    return names


def _command(
    args: argparse.Namespace, names: list[str], mice: tuple[int, ...], models: tuple[str, ...]
) -> str:
    """The command that measures this again, with names instead of this machine's paths."""
    words = ["python scripts/bench.py"]
    if args.peer:
        words.append("--peer PEER_FOLDER --peer-python PEER_PYTHON")
    if names != list(ROWS):
        words.append(f"--rows {','.join(names)}")
    if models != ("factorised",):
        words.append(f"--model {','.join(models)}")
    if args.compute != "float32":
        words.append(f"--compute {args.compute}")
    for name in SIZES:
        if getattr(args, name):
            words.append(f"--{name.replace('_', '-')} {getattr(args, name)}")
    words.append(f"--mice {','.join(map(str, mice))} --repeats {args.repeats}")
    return " ".join([*words, *(["--tiny"] if args.tiny else [])])


if __name__ == "__main__":
    main()
