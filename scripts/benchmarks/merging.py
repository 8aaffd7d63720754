"""Results of several runs as one: every row keeps the run that it was measured in.

A run is what one `scripts/bench.py` measured: its command, machine, rates, rows, and sentences by
row. In: files of runs; out: a list of runs, the oldest first, in which of a row that was measured
twice only the newest stays, and the file for it.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from sensojax.errors import UserError
from sensojax.writing import write_atomically


def read(paths: Iterable[Path]) -> list[dict]:
    """The runs of these files in their order; UserError for a file that is not a benchmark's."""
    found = []
    for path in paths:
        try:
            content = json.loads(path.read_text())
            found += [_in_full(run) for run in content.get("runs", [content])]
        except (ValueError, KeyError, AttributeError) as error:
            raise UserError(
                f"found no benchmark in {path} ({error}), expected a file of --json; correct "
                "--merge."
            ) from error
    return found


def _in_full(run):
    """Files of before had no rates by size, and sentences without the row they belong to."""
    said = run["said"]
    older = dict(rates=dict(matmul={}, copy={}))
    return older | run | dict(said=said if isinstance(said, dict) else {"": said})


def joined(runs: Sequence[dict]) -> list[dict]:
    """Each row from the newest run that has it; a run without a row, and its sentences, go."""
    newest = {_key(row): number for number, run in enumerate(runs) for row in run["rows"]}
    kept = []
    for number, run in enumerate(runs):
        rows = [row for row in run["rows"] if newest[_key(row)] == number]
        names = {"", *(row["row"] for row in rows)}
        said = {name: each for name, each in run["said"].items() if name in names}
        if rows:
            kept.append(run | dict(rows=rows, said=said))
    return kept


def _key(row):
    return row["row"], row["work"], row["other"]


def write(path: Path, runs: Sequence[dict]) -> None:
    write_atomically(path, json.dumps({"runs": list(runs)}, indent=1) + "\n")
