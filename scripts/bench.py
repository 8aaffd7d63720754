"""Measures sensojax beside the published PyTorch code, at the sizes of the published benchmark.

    python scripts/bench.py --peer PEER_FOLDER --peer-python PEER_PYTHON --mice 1,5
    python scripts/bench.py --rows step,prediction --model gru ...

PEER_FOLDER holds checkouts of `neuralpredictors` and `sensorium_2023`, and of DwiseNeuro's
repository as `dwiseneuro` when that model is measured; PEER_PYTHON is an
interpreter that has torch and what they import. Without them our side is measured alone. The page
is printed, and written where --markdown and --json say. The first run simulates a session (minutes,
5 GB); --folder keeps it for the next one.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.benchmarks import (
    data_rows,
    machine,
    model_rows,
    peer,
    pile_rows,
    pile_store_rows,
    stimulus_rows,
    subject,
    tables,
)
from scripts.benchmarks.measuring import Bench, Row
from sensojax.errors import UserError, check_name, command_line, nearest

ROWS: dict[str, Callable[[Bench], list[Row]]] = dict(
    step=model_rows.step,
    prediction=model_rows.prediction,
    loader=data_rows.loader,
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


@command_line
def main(arguments: list[str] | None = None) -> None:
    args = _parser().parse_args(arguments)
    names = _rows(args.rows)
    mice = _mice(args.mice)
    models = _models(args.model)
    if args.repeats < 1:
        raise UserError(f"found --repeats {args.repeats}, expected 1 or more.")
    sizes = subject.TINY if args.tiny else subject.Sizes()
    if args.folder:
        args.folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        other, why_not = peer.start(args.peer, args.peer_python)
        if other:
            stack.enter_context(other)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=args.folder)))
        result = dict(
            command=_command(args, names, mice, models),
            tiny=args.tiny,
            machine=machine.described(other),
        )
        needed = not set(names) <= set(WITHOUT_SESSION)
        session = subject.Session(args.folder or scratch, sizes) if needed else None
        bench = Bench(sizes, session, scratch, other, args.repeats, mice, models)
        if other is None:
            bench.said.append(
                f"The published code was not run, since {why_not}: our side is measured alone."
            )
        result["matmul_gflops"] = machine.matmul_rate(args.repeats, other)
        rows = []
        for name in names:
            for row in ROWS[name](bench):
                rows.append(row)
                print(tables.line(row), file=sys.stderr, flush=True)
        result |= dict(rows=[tables.plain(row) for row in rows], said=bench.said)
    print(tables.page(result))
    if args.json:
        _write(args.json, json.dumps(result, indent=1) + "\n")
    if args.markdown:
        _write(args.markdown, tables.page(result))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", type=Path, help="folder of the published checkouts")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter with torch")
    parser.add_argument("--rows", default=",".join(ROWS), help=f"of {','.join(ROWS)}")
    parser.add_argument("--mice", default="1", help="numbers of mice for step and prediction: 1,5")
    parser.add_argument(
        "--model",
        default="factorised",
        help=f"baselines for these rows, of {','.join(subject.MODELS)}",
    )
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds of each row")
    parser.add_argument("--folder", type=Path, help="keeps the simulated session (else deleted)")
    parser.add_argument("--json", type=Path, help="file for every measured value")
    parser.add_argument("--markdown", type=Path, help="file for the page: BENCHMARKS.md")
    parser.add_argument("--tiny", action="store_true", help="meaningless sizes, to try it out")
    return parser


def _rows(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in ROWS:
            raise UserError(
                f"found --rows {name!r}, expected some of {', '.join(ROWS)}{nearest(name, ROWS)}."
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
    words.append(f"--mice {','.join(map(str, mice))} --repeats {args.repeats}")
    words.append("--tiny" if args.tiny else "--markdown BENCHMARKS.md")
    return " ".join(words)


def _write(path: Path, text: str) -> None:
    """Under another name first, so that a page is never half there."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    os.replace(partial, path)


if __name__ == "__main__":
    main()
