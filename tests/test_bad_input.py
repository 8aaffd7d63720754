"""What bad input gets: one clear sentence, a non-zero exit, and nothing lost."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import pytest

from sensojax import build
from sensojax.errors import UserError, command_line
from sensojax.training import journal
from tests import runs

# Imports once and then forks, so that each command line costs no more than its own refusal.
COMMANDS = """
import json, os, runpy, sys
import sensojax.main
lines, out = json.loads(sys.argv[1]), sys.argv[2]
for number, line in enumerate(lines):
    child = os.fork()
    if not child:
        file = os.open(f"{out}/{number}", os.O_CREAT | os.O_WRONLY)
        os.dup2(file, 1), os.dup2(file, 2)
        sys.argv = ["sensojax.main", *line]
        runpy.run_module("sensojax.main", run_name="__main__")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    with open(f"{out}/{number}.code", "w") as file:
        file.write(str(os.waitstatus_to_exitcode(status)))
"""
DYNAMIC = str(runs.REPOSITORY / "configs" / "dynamic.py")
TINY = ("--config", f"{DYNAMIC}:tiny")
LINES = {
    (*TINY, "--config.core.chanels=(3,)"): ["chanels", "channels"],
    (*TINY, "--config.cores.name=x"): ["cores", "core"],
    (*TINY, "--config.seed=abc"): ["--config.seed=abc", "int"],
    (*TINY, "--config.train.log_every=2.5"): ["--config.train.log_every=2.5"],
    (*TINY, "--wrkdir=x"): ["wrkdir", "workdir"],
    (*TINY, "seed=3"): ["seed=3", "--name=value"],
    ("--config", f"{DYNAMIC}:tinny"): ["tinny", "simulated, sensorium, kit, tiny", "'tiny'?"],
    ("--config", "configs/dynamc.py"): ["configs/dynamc.py", "No such file"],
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """(exit code, everything that was printed) of each command line."""
    out = tmp_path_factory.mktemp("answers")
    lines = [[*line, "--workdir", str(out / "run")] for line in LINES]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COMMANDS, json.dumps(lines), str(out)],
        capture_output=True,
        text=True,
        cwd=runs.REPOSITORY,
        env=runs.environment(None, PYTHONPATH="."),
    )
    assert done.returncode == 0, done.stderr
    assert not (out / "run").exists()
    return {
        line: (int((out / f"{i}.code").read_text()), (out / str(i)).read_text())
        for i, line in enumerate(LINES)
    }


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[-1].rsplit("/", 1)[-1])
def test_wrong_command_line_is_answered_in_one_sentence(answers, line):
    code, said = answers[line]
    assert code == 1
    assert said.startswith("error: ") and said.count("\n") == 1
    for part in LINES[line]:
        assert part in said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"core.name": "factorised3d"},
            r"core\.name 'factorised3d', .*did you mean 'factorized3d'",
        ),
        ({"core.channels": (3, 4)}, r"1 values in core\.spatial_kernels .*expected 2"),
        ({"core.spatial_kernels": (25,)}, "12 rows of pixels for a kernel that reaches over 25"),
        ({"core": {"name": "factorized3d", "kernel": 3}}, r"core\.kernel, which .* does not have"),
        ({"readout.gaussian": "ful"}, r"readout\.gaussian 'ful', .*did you mean 'full'"),
        ({"loss.name": "poison"}, r"loss\.name 'poison', .*did you mean 'poisson'"),
        ({"optimizer.name": "adamm"}, r"optimizer\.name 'adamm', expected one of adam, adamw"),
        ({"schedule.name": "cosin"}, r"schedule\.name 'cosin', .*did you mean 'cosine'"),
        ({"schedule.steps": 1}, r"schedule\.warmup_steps 2 and schedule\.steps 1"),
        ({"encoder.batch_norm": "jont"}, r"encoder\.batch_norm 'jont', .*'joint'"),
        ({"data.mice": ("dynamic9",)}, r"no store of mouse 'dynamic9' in .*there are dynamic91001"),
        ({"data.tiers": ("trian",)}, r"no trial of tier 'trian'.*did you mean 'train'"),
        ({"data.window_rule": "unifrm"}, "'unifrm'.*did you mean 'uniform'"),
        ({"data.normalization": "offical"}, "'offical'.*did you mean 'official'"),
        ({"data.window_frames": 2}, r"data\.window_frames 2, expected more than the 2 frames"),
        ({"data.batch_size": 0}, r"data\.batch_size 0, expected 1 or more"),
        ({"train": dict(evaluate_every=0, log_every=0, checkpoint_every=1)}, r"train\.log_every 0"),
        ({"evaluation.validation": "oracl"}, "no trial of tier 'oracl'.*did you mean 'oracle'"),
        ({"evaluation.tiers": ("oracle", "oracl")}, "no trial of tier 'oracl'"),
        ({"evaluation.tiers": ()}, r"no evaluation\.tiers, expected at least one"),
        ({"evaluation.nan_rule": "zeros"}, r"evaluation\.nan_rule 'zeros', expected one of zero"),
        ({"evaluation.skip_frames": 40}, "skip_frames 40, expected fewer than the 40 frames"),
        ({"evaluation.skip_frames": 1}, "skip_frames 1, expected at least the 2 frames"),
        ({"inputs.pool": 5}, "pooling by 5 for a video of 12x14"),
    ],
)
def test_wrong_setting_is_refused_before_training(data, tmp_path, changes, said):
    runs_before = build.stores(runs.config(data)["data"], runs.SIMULATION)  # the mice are there
    assert len(runs_before) == 2
    with pytest.raises(UserError, match=said) as refused:
        runs.run(tmp_path / "run", data, changes)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run" / "checkpoints").exists() or not any(
        (tmp_path / "run" / "checkpoints").iterdir()
    )


def stored(folder) -> dict:
    """Changes that read a folder of stores rather than invent mice."""
    return {"data.recordings": "sensorium2023", "data.folder": str(folder)}


def copied_stores(data, folder):
    """A copy of the simulated mice's stores, to be spoilt, and the name of the first mouse."""
    build.stores(runs.config(data)["data"], runs.SIMULATION)
    shutil.copytree(data / "stores", folder)
    return sorted(path.name for path in folder.iterdir())[0]


def test_folder_without_stores_is_refused(data, tmp_path):
    with pytest.raises(UserError, match=r"no stores in .*nowhere.*scripts/convert\.py"):
        runs.run(tmp_path / "run", data, stored(tmp_path / "nowhere"))


def test_incomplete_store_is_no_store(data, tmp_path):
    mouse = copied_stores(data, tmp_path / "stores")
    (tmp_path / "stores" / mouse).rename(tmp_path / "stores" / f"{mouse}.partial")
    changes = stored(tmp_path / "stores") | {"data.mice": (mouse,)}
    with pytest.raises(UserError, match=f"no store of mouse '{mouse}'"):
        runs.run(tmp_path / "run", data, changes)


def test_store_of_another_version_is_refused(data, tmp_path):
    mouse = copied_stores(data, tmp_path / "stores")
    path = tmp_path / "stores" / mouse / "store.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(UserError, match=f"{mouse} has format 99, this sensojax reads format"):
        runs.run(tmp_path / "run", data, stored(tmp_path / "stores"))


def test_withheld_tier_is_refused(data, tmp_path):
    mouse = copied_stores(data, tmp_path / "stores")
    path = tmp_path / "stores" / mouse / "trials.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines[1:]:
        line["has_responses"] &= line["tier"] != "final_test_main"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    described = tmp_path / "stores" / mouse / "store.json"
    fingerprint = hashlib.sha256(path.read_bytes()).hexdigest()
    described.write_text(
        json.dumps(json.loads(described.read_text()) | {"fingerprint": fingerprint})
    )
    changes = stored(tmp_path / "stores") | {"evaluation.tiers": ("oracle", "final_test_main")}
    with pytest.raises(UserError, match=r"withheld responses .* tier 'final_test_main' of mouse"):
        runs.run(tmp_path / "run", data, changes)


@pytest.mark.slow
def test_checkpoint_of_other_mice_is_refused_and_kept(data, cache, tmp_path):
    """The store was made anew with other neurons: the trained weights belong to nobody in it."""
    copied_stores(data, tmp_path / "stores")
    build.stores(runs.config(tmp_path / "other")["data"], runs.SIMULATION | {"neurons": 5})
    with runs.cached(cache):
        runs.run(tmp_path / "run", data, stored(tmp_path / "stores"))
        before = runs.final(tmp_path / "run")
        said = (
            r"trained on one of 6 neurons \(store [0-9a-f]{12}\), and now there is one of 5 neurons"
        )
        with pytest.raises(UserError, match=said):
            runs.run(tmp_path / "run", data, stored(tmp_path / "other" / "stores"))
    assert runs.final(tmp_path / "run") == before


def test_another_config_in_the_folder_is_refused_and_its_run_kept(data, cache, tmp_path):
    with runs.cached(cache):
        runs.run(tmp_path / "run", data)
        before = runs.final(tmp_path / "run"), runs.history(tmp_path / "run")
        with pytest.raises(
            UserError, match=r"holds a run of another config: .*seed was 0 and is 1"
        ):
            runs.run(tmp_path / "run", data, {"seed": 1})
    assert (runs.final(tmp_path / "run"), runs.history(tmp_path / "run")) == before


def test_loss_that_is_no_number_ends_the_run_and_keeps_the_last_checkpoint(data, cache, tmp_path):
    """A rate that rises from harmless to absurd: the steps before are whole, the rest not taken."""
    changes = {"schedule.peak_rate": 1e12, "schedule.warmup_steps": 7}
    with runs.cached(cache):
        with pytest.raises(UserError, match=r"the (loss|gradient_norm) at step \d+ is (nan|inf)"):
            runs.run(tmp_path / "run", data, changes)
        steps = [line[1] for line in runs.history(tmp_path / "run") if line[0] == "step"]
        assert len(steps) < 8
        assert not (tmp_path / "run" / "report.html").exists()
        for path in (tmp_path / "run" / "checkpoints").glob("*"):
            assert int(path.name) <= max(steps, default=0)


# --- how a sentence reaches the user --------------------------------------------------------------


def ending(error: BaseException) -> str:
    @command_line
    def main():
        raise error

    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, str)  # Python prints it and exits with 1
    assert "\n" not in ended.value.code
    return ended.value.code


def test_mistakes_of_the_user_and_of_the_disk_become_sentences(tmp_path):
    assert ending(UserError("found a, expected b.")) == "error: found a, expected b."
    assert ending(KeyboardInterrupt()).startswith("interrupted: the same command again continues")
    full = ending(OSError(28, "No space left on device", str(tmp_path / "file")))
    assert full.startswith("error: the disk is full: writing") and "file" in full
    worded = ending(ValueError("writing failed: File too large [os_error_code='27']\nat line 3"))
    assert worded.startswith("error: the disk is full")
    assert "Permission denied" in ending(PermissionError(13, "Permission denied", "/locked/run"))


def test_our_own_mistakes_stay_visible():
    @command_line
    def main():
        raise ValueError("a defect")

    with pytest.raises(ValueError, match="a defect"):
        main()


def test_work_folder_that_cannot_be_made_is_an_error_of_its_path(data):
    with pytest.raises(NotADirectoryError) as refused:
        runs.run(os.path.join(os.devnull, "run"), data)
    assert refused.value.filename
    assert not os.path.exists(os.path.join(os.devnull, "run", journal.NAME))
