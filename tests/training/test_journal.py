"""The journal: one history whatever happens, always readable, always valid JSON."""

import json
import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest

from sensojax import writing
from sensojax.errors import UserError
from sensojax.training import journal, provenance
from sensojax.training.journal import Journal

SCORE = {"tier": "oracle", "correlation": 0.25, "ceiling": None, "description": "oracle: 0.25"}


@pytest.fixture(autouse=True)
def _without_tensorboard(monkeypatch):
    """An import of it fails, as where it is not installed."""
    monkeypatch.setitem(sys.modules, "tensorboardX", None)


def begin(workdir, step=0, said=None, **other) -> Journal:
    say = None if said is None else said.append
    stores = {"mouse": "fingerprint"}
    settings = {"simulated": False, "total_steps": 100, "step": step, "say": say}
    return Journal(workdir, {"seed": 1, "sizes": (1, 2)}, stores, **(settings | other))


def take(book: Journal, *steps: int, loss=1.0):
    for step in steps:
        book.step(
            step,
            epoch=step / 10,
            loss=np.float32(loss),
            parts={"poisson": 0.5},
            gradient_norm=2.0,
            learning_rate=5e-3,
            clips_per_second=40.0,
            wait_fraction=0.02,
        )


def test_seconds_at_work_leave_out_the_pauses_between_runs():
    times = {"run": ("00:00", "02:00", "03:00"), "step": ("00:30", "01:00", "02:20")}
    order = ("run 0", "step 0", "step 1", "run 1", "step 2", "run 2")
    lines = []
    for kind, number in (each.split() for each in order):
        time = f"2026-01-01T10:{times[kind][int(number)]}.500+00:00"
        lines.append({"kind": kind, "step": 0, "time": time})
    assert journal.seconds(lines) == 60 + 20
    assert journal.seconds([]) == 0


def told(workdir, kind):
    return [line["step"] for line in journal.read(workdir / journal.NAME) if line["kind"] == kind]


def test_first_line_tells_the_run(tmp_path):
    with begin(tmp_path, simulated=True):
        pass
    (line,) = journal.read(tmp_path / journal.NAME)
    assert line["kind"] == "run" and line["config"] == {"seed": 1, "sizes": [1, 2]}
    assert line["stores"] == {"mouse": "fingerprint"} and line["simulated"] is True
    assert line["versions"]["jax"] and line["devices"][0].endswith("(cpu)")
    assert line["commit"] and line["command"].startswith("python")


def test_lines_are_readable_while_the_run_goes_on(tmp_path):
    book = begin(tmp_path)
    take(book, 1)
    assert told(tmp_path, "step") == [1]
    book.close()


def test_continuing_drops_the_steps_that_are_taken_again(tmp_path):
    with begin(tmp_path) as book:
        take(book, 1, 2, 3)
        book.evaluation(2, SCORE)
        book.evaluation(4, SCORE)
        book.note(4, "rate cut", "learning_rate_cut")
        take(book, 4, 5)
    with begin(tmp_path, step=3) as book:
        assert told(tmp_path, "step") == [1, 2, 3]
        take(book, 4, loss=9.0)
    lines = journal.read(tmp_path / journal.NAME)
    found = [f"{line['kind']} {line['step']}" for line in lines]
    assert found == ["run 0", "step 1", "step 2", "step 3", "evaluation 2", "run 3", "step 4"]
    assert lines[-1]["loss"] == 9.0


def test_beginning_again_begins_anew(tmp_path):
    with begin(tmp_path) as book:
        book.evaluation(0, SCORE)
        take(book, 1)
    with begin(tmp_path) as book:
        book.evaluation(0, SCORE)
    kinds = [line["kind"] for line in journal.read(tmp_path / journal.NAME)]
    assert kinds == ["run", "evaluation"]


def test_a_finished_run_that_is_scored_again_tells_it_once(tmp_path):
    for again in range(3):
        with begin(tmp_path, step=0 if again == 0 else 2) as book:
            if again == 0:
                take(book, 1, 2)
            book.evaluation(2, {**SCORE, "correlation": float(again)})
            book.evaluation(2, {**SCORE, "tier": "train"})
    lines = journal.read(tmp_path / journal.NAME)
    assert told(tmp_path, "run") == [0, 2] and told(tmp_path, "step") == [1, 2]
    found = {x["tier"]: x["correlation"] for x in lines if x["kind"] == "evaluation"}
    assert found == {"oracle": 2.0, "train": 0.25} and told(tmp_path, "evaluation") == [2, 2]


@pytest.mark.parametrize("torn", ['{"kind": "step", "st', '{"kind": "st\n', "\0\0\0\0", "{}\n"])
def test_a_torn_last_line_is_ignored_and_repaired(tmp_path, torn):
    with begin(tmp_path) as book:
        take(book, 1, 2)
    path = tmp_path / journal.NAME
    with path.open("a") as file:
        file.write(torn)
    assert told(tmp_path, "step") == [1, 2]
    with begin(tmp_path, step=2) as book:
        take(book, 3)
    assert told(tmp_path, "step") == [1, 2, 3]
    assert all(json.loads(row) for row in path.read_text().splitlines())


def test_every_cut_of_the_file_gives_a_beginning_of_its_history(tmp_path):
    with begin(tmp_path) as book:
        take(book, 1, 2)
    path = tmp_path / journal.NAME
    whole, lines = path.read_bytes(), journal.read(path)
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        found = journal.read(path)
        assert found == lines[: len(found)] and len(found) >= whole[:length].count(b"\n")


def test_damage_before_the_last_line_is_an_error_that_names_it(tmp_path):
    with begin(tmp_path) as book:
        take(book, 1)
    path = tmp_path / journal.NAME
    rows = path.read_text().splitlines()
    path.write_text("\n".join([rows[0], rows[1][:20], rows[1], ""]))
    with pytest.raises(UserError, match=r"line 2 of .*journal\.jsonl damaged"):
        journal.read(path)


def test_no_journal_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match="found no journal"):
        journal.read(tmp_path / journal.NAME)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_json_does_not_know_are_valid_json_and_read_back(tmp_path, value):
    with begin(tmp_path) as book:
        take(book, 1, loss=value)

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    row = (tmp_path / journal.NAME).read_text().splitlines()[-1]
    found = float(json.loads(row, parse_constant=refuse)["loss"])
    np.testing.assert_equal(found, value)


def test_a_crash_while_repairing_keeps_the_old_journal(tmp_path, monkeypatch):
    with begin(tmp_path) as book:
        take(book, 1, 2, 3)
    before = (tmp_path / journal.NAME).read_bytes()

    def crash(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing.os, "replace", crash)
    with pytest.raises(OSError):
        begin(tmp_path, step=1)
    assert (tmp_path / journal.NAME).read_bytes() == before


def test_only_the_writing_process_writes_and_speaks(tmp_path):
    said = []
    with begin(tmp_path / "other", said=said, writes=False, simulated=True) as book:
        take(book, 1)
        book.evaluation(1, SCORE)
        book.note(1, "text")
    assert not (tmp_path / "other").exists() and said == []


def test_console_shows_rate_and_remaining_time(tmp_path, monkeypatch):
    said, now = [], iter((1000.0, 1090.0))
    monkeypatch.setattr(journal.time, "monotonic", lambda: next(now))
    with begin(tmp_path, said=said, simulated=True) as book:
        take(book, 10, 40)
        book.evaluation(40, SCORE)
    assert "imulated mice" in said[0]
    assert said[1].startswith("step 10/100  epoch 1.0  loss 1.0000") and "left" not in said[1]
    assert "40.0 clips/s  waiting 2%  3 min 0 s left" in said[2]  # 30 steps in 90 s, 60 to go
    assert said[3] == "step 40  oracle: 0.25"


def test_durations_are_readable():
    found = [journal.duration(s) for s in (0.2, 59.4, 200, 4330, 180_000)]
    assert found == ["0 s", "59 s", "3 min 20 s", "1 h 12 min", "2 d 2 h"]


def test_scalars_go_to_tensorboard_when_it_is_there(tmp_path, monkeypatch):
    drawn, purged = {}, []

    class Writer:
        def __init__(self, folder, purge_step):
            purged.append(purge_step)

        def add_scalar(self, name, value, step):
            drawn[name, step] = value

        def close(self):
            purged.append("closed")

    fake = types.SimpleNamespace(SummaryWriter=Writer)
    monkeypatch.setitem(sys.modules, "tensorboardX", fake)
    with begin(tmp_path) as book:
        take(book, 1)
        take(book, 2, loss=float("nan"))
        book.evaluation(2, SCORE)
    with begin(tmp_path, step=1):
        pass
    assert drawn["training/loss", 1] == 1.0 and drawn["loss/poisson", 1] == 0.5
    assert ("training/loss", 2) not in drawn and drawn["training/learning_rate", 2] == 5e-3
    assert drawn["oracle/correlation", 2] == 0.25 and ("oracle/ceiling", 2) not in drawn
    assert purged == [0, "closed", 2, "closed"]


def test_commit_is_unknown_outside_a_repository(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert provenance.commit() == "unknown"


def test_commit_names_changes_to_the_code(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", tmp_path.resolve())
    git = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    (tmp_path / "code.py").write_text("1")
    provenance._git(tmp_path, "init", "-q")
    provenance._git(tmp_path, "add", "code.py")
    provenance._git(tmp_path, *git, "commit", "-q", "--no-verify", "-m", "one")
    clean = provenance.commit()
    assert len(clean) == 40
    (tmp_path / "code.py").write_text("2")
    assert provenance.commit() == clean + "+changes"


def test_command_is_what_one_would_type_again(monkeypatch):
    main = types.ModuleType("__main__")
    main.__spec__ = types.SimpleNamespace(name="sensojax.main")
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(sys, "argv", ["/x/main.py", "--workdir", "my runs"])
    assert provenance.command() == "python -m sensojax.main --workdir 'my runs'"


def test_what_follows_a_step_is_done_when_the_next_one_is_under_way():
    """One step late and in order, with measurements from the device, and once each."""
    done, trailing = [], journal.Trailing()
    for step in range(3):
        measured = {"loss": jnp.float32(step)}  # as a step would return it
        trailing.add(measured, lambda found, step=step: done.append((step, found["loss"])))
        assert done == [(before, float(before)) for before in range(step)]
    trailing.finish()
    trailing.finish()
    assert done == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert all(isinstance(loss, np.ndarray | np.generic) for _, loss in done)


def test_what_a_diverged_step_says_is_heard_before_the_next_is_added():
    def refuse(measured):
        raise UserError("the loss is nan")

    trailing = journal.Trailing()
    trailing.add({}, refuse)
    with pytest.raises(UserError, match="nan"):
        trailing.add({}, lambda measured: None)
