"""What a run writes while it runs: `journal.jsonl`, one JSON object per line, and the console.

In go the measurements of steps, scores and remarks; out comes a file that holds exactly one
history. Every line has `kind`, `step` and `time`. Kinds: `run` (config, commit, versions, devices,
store fingerprints; first line, and again wherever a run was continued), `step`, `evaluation`,
`note`. Lines are flushed one by one; a line torn by a kill is ignored by `read` and removed by the
next `Journal`, which also removes lines of steps that will be taken again. Numbers that JSON does
not know are written as "NaN", "Infinity", "-Infinity", which `float` reads.
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax

from sensojax.errors import UserError
from sensojax.training import provenance
from sensojax.writing import plain, write_atomically

NAME = "journal.jsonl"


class Journal:
    """An open journal; also prints one readable line for each line it writes.

    workdir: the run's folder. step: the step the run starts or continues from; 0 begins a new
    history, otherwise lines of later steps are dropped. stores: {mouse: fingerprint}.
    writes: False on all but one process of a run. say: where readable lines go, else None.
    Scalars also go to `tensorboard/` when tensorboardX is installed.
    """

    def __init__(
        self,
        workdir: Path,
        config: Mapping,
        stores: Mapping[str, str],
        *,
        simulated: bool,
        total_steps: int,
        step: int = 0,
        writes: bool = True,
        say: Callable[[str], None] | None = print,
    ):
        self.path = Path(workdir) / NAME
        self.total_steps = total_steps
        self._say = say if writes and say else lambda line: None
        self._paced_from = None
        self._file = self._board = None
        if not writes:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        kept = _kept(read(self.path), step) if self.path.exists() and step > 0 else []
        self._told = {_key(line) for line in kept if line["step"] == step}
        _write_whole(self.path, kept)
        self._file = self.path.open("a", encoding="utf-8")
        self._board = _tensorboard(self.path.parent / "tensorboard", step)
        if simulated:
            self._say("Simulated mice: the scores of this run say nothing about a recorded brain.")
        about = {"config": config, "stores": stores, "simulated": simulated}
        about |= {"total_steps": total_steps, **provenance.circumstances()}
        self._append("run", step, about)

    def step(
        self,
        step: int,
        *,
        epoch: float,
        loss: float,
        parts: Mapping[str, float],
        gradient_norm: float,
        learning_rate: float,
        clips_per_second: float,
        wait_fraction: float,
    ) -> None:
        """A training step: the loss and its parts, and how fast (share of time spent waiting)."""
        line = {
            "epoch": epoch,
            "loss": loss,
            "parts": parts,
            "gradient_norm": gradient_norm,
            "learning_rate": learning_rate,
            "clips_per_second": clips_per_second,
            "wait_fraction": wait_fraction,
        }
        self._append("step", step, line)
        scalars = {f"training/{k}": v for k, v in line.items() if k != "parts"}
        self._draw(step, scalars | {f"loss/{k}": v for k, v in parts.items()})
        self._say(
            f"step {step:,}/{self.total_steps:,}  epoch {float(epoch):.1f}  loss {float(loss):.4f}"
            f"  gradient {float(gradient_norm):.2e}  rate {float(learning_rate):.1e}"
            f"  {float(clips_per_second):.1f} clips/s  waiting {float(wait_fraction):.0%}"
            f"  {self._remaining(step)}".rstrip()
        )

    def evaluation(self, step: int, score: Mapping) -> None:
        """A score's `summary()`: `tier`, `correlation`, ..., `description`."""
        self._append("evaluation", step, score)
        numbers = {k: v for k, v in score.items() if isinstance(v, int | float)}
        self._draw(step, {f"{score['tier']}/{k}": v for k, v in numbers.items()})
        self._say(f"step {step:,}  {score['description']}")

    def note(self, step: int, text: str, event: str = "") -> None:
        """A remark. The report marks the events "restore" and "learning_rate_cut" in its curves."""
        self._append("note", step, {"event": event, "text": text})
        self._say(f"step {step:,}  {text}")

    def close(self) -> None:
        if self._file:
            self._file.close()
        if self._board:
            self._board.close()
        self._file = self._board = None

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _append(self, kind: str, step: int, content: Mapping) -> None:
        if self._file is None:
            return
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = {"kind": kind, "step": int(step), "time": now, **plain(content)}
        if _key(line) in self._told:  # a continued run says it again: the newer line stands
            self._file.close()
            _write_whole(self.path, [old for old in read(self.path) if _key(old) != _key(line)])
            self._file = self.path.open("a", encoding="utf-8")
        self._file.write(_encode(line))
        self._file.flush()

    def _draw(self, step: int, scalars: Mapping[str, float]) -> None:
        if self._board:
            for name, value in scalars.items():
                if math.isfinite(value):
                    self._board.add_scalar(name, float(value), step)

    def _remaining(self, step: int) -> str:
        """Time left at the pace since the first line, which came after compilation."""
        now = time.monotonic()
        if self._paced_from is None:
            self._paced_from = (step, now)
        first, started = self._paced_from
        if step <= first:
            return ""
        return f"{duration((self.total_steps - step) * (now - started) / (step - first))} left"


class Trailing:
    """What is to be done after a step, done when the next one is under way.

    So the device never waits for the host, and the host is one step ahead of it and no more: its
    batches would fill the device, and it would wait for further ones while there is work.
    """

    def __init__(self):
        self._measured, self._then = None, None

    def add(self, measured: Any, then: Callable[[Any], None]) -> None:
        """then(measured), on the host, when these arrays are there; does what was added before."""
        self.finish()
        self._measured, self._then = measured, then

    def finish(self) -> None:
        """Waits for the newest step and does what is to be done after it."""
        if self._then is not None:
            measured, then = self._measured, self._then
            self._measured, self._then = None, None
            then(jax.device_get(measured))


class Pace:
    """Clips per second and the share of time spent waiting for data, since last asked."""

    def __init__(self):
        self._clips, self._since, self._waited = 0, time.monotonic(), 0.0

    def count(self, clips: int) -> None:
        self._clips += clips

    def ask(self, waited_seconds: float) -> dict[str, float]:
        now = time.monotonic()
        seconds = max(now - self._since, 1e-9)
        answer = dict(
            clips_per_second=self._clips / seconds,
            wait_fraction=(waited_seconds - self._waited) / seconds,
        )
        self._clips, self._since, self._waited = 0, now, waited_seconds
        return answer


def read(path: Path) -> list[dict]:
    """The lines of a journal; a torn last line is left out.

    Raises UserError when there is no such file or a line before the last is damaged.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8", errors="replace")
    except FileNotFoundError:
        raise UserError(
            f"found no journal {path}, expected the one of a run; give the folder of a run that "
            "was started."
        ) from None
    rows = [row for row in enumerate(text.split("\n"), start=1) if row[1].strip("\0 \r")]
    lines = []
    for number, row in rows:
        try:
            line = json.loads(row)
            line["kind"], line["step"]
        except (ValueError, KeyError, TypeError):
            if number == rows[-1][0]:
                break
            raise UserError(
                f"found line {number} of {path} damaged, expected one JSON object; remove that "
                "line and try again."
            ) from None
        lines.append(line)
    return lines


def seconds(lines: Iterable[Mapping]) -> float:
    """How long a run was at work: from each `run` line to the last line before the next one."""
    total, begun, last = 0.0, None, None
    for line in lines:
        now = datetime.fromisoformat(line["time"])
        if line["kind"] == "run":
            total += (last - begun).total_seconds() if begun else 0.0
            begun = now
        last = now
    return total + ((last - begun).total_seconds() if begun else 0.0)


def duration(seconds: float) -> str:
    """`2 d 3 h`, `1 h 12 min`, `3 min 20 s`, `8 s`."""
    whole = round(seconds)
    for large, small, unit, part in (
        (86_400, 3_600, "d", "h"),
        (3_600, 60, "h", "min"),
        (60, 1, "min", "s"),
    ):
        if whole >= large:
            return f"{whole // large} {unit} {whole % large // small} {part}"
    return f"{whole} s"


def _encode(line: Mapping) -> str:
    return json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n"


def _key(line: Mapping) -> tuple:
    """What a line is about: two lines of one history never share it."""
    return tuple(line.get(part, "") for part in ("kind", "step", "tier", "text"))


def _kept(lines: list[dict], step: int) -> list[dict]:
    """The history up to a step; of `run` lines only those whose run took a step."""
    return [
        line
        for line in lines
        if line["step"] < step or (line["step"] == step and line["kind"] != "run")
    ]


def _write_whole(path: Path, lines: list[dict]) -> None:
    write_atomically(path, "".join(_encode(line) for line in lines))


def _tensorboard(folder: Path, step: int):
    """A scalar writer that forgets steps to be taken again, or None without tensorboardX."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=step + 1 if step > 0 else 0)
