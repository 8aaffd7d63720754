"""Ablations: the right changes, each run once, nothing wrong started, and a table at the end."""

import importlib.util
import json
import shutil
import sys

import jax
import pytest
from ml_collections import ConfigDict

from sensojax import ablate
from sensojax.errors import UserError
from sensojax.evaluation import report
from sensojax.experiments import variants
from sensojax.training import folder
from sensojax.writing import plain, write_atomically
from tests import runs
from tests.goldens import REPOSITORY

PAGES = sorted((REPOSITORY / "configs" / "ablations").glob("*.py"))
ON_THE_COMMAND_LINE = "positions"  # the page that is run as a user would
CHANGES = {
    "base": {},
    "no_behavior": {"inputs.behavior": False},
    "affine": {"shifter": dict(name="affine", l2=0.5)},
}
# Pages that ask for a base of their own: (config page, changes of the smallest config).
OWN_BASES = {
    "sensojax": (
        "dynamic_sensojax",
        {
            "core.channels": (3, 2, 2),
            "core.spatial_kernels": (5, 3, 1),
            "core.temporal_kernels": (3, 3, 1),
            "core.strides": (2, 1, 1),
        },
    )
}
SHORT = {
    "schedule.steps": 2,
    "schedule.warmup_steps": 1,
    "train.evaluate_every": 2,
    "train.log_every": 1,
    "train.checkpoint_every": 2,
}


@pytest.fixture
def base(data):
    return runs.config(data)


@pytest.fixture
def done(monkeypatch):
    """What was run and compared instead of training: names of folders."""
    told = {"run": [], "compared": []}

    def run(config, workdir):
        told["run"].append(workdir.name)
        if workdir.name in told.get("broken", ()):
            raise UserError("found a loss of nan.")
        if workdir.name == told.get("stopped"):
            raise KeyboardInterrupt
        write_atomically(workdir / folder.CONFIG, json.dumps(plain(config)))
        write_atomically(workdir / folder.REPORT, "{}")
        write_atomically(workdir / variants.PAGE, "")

    def compare(paths, tiers, out, *, base):
        told["compared"].append(([path.name for path in paths], tuple(tiers), base))
        return "the comparison"

    monkeypatch.setattr(ablate.main, "run", run)
    monkeypatch.setattr(ablate.comparing, "compare", compare)
    monkeypatch.setattr(ablate.comparison_page, "to_text", str)
    monkeypatch.setattr(ablate.build, "stores", lambda *settings: None)
    return told


@pytest.fixture
def compiled_quickly():
    """Programs that run twice: 40 % less time for such a run."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()  # or other tests would go on with these programs, whose last bits differ


def load(page):
    spec = importlib.util.spec_from_file_location(page.stem, page)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_change_is_the_base_with_these_settings_alone(base):
    made = variants.of(base, CHANGES)
    assert [variant.name for variant in made] == ["base", "no_behavior", "affine"]
    assert made[0].config == base
    assert made[1].config == {**base, "inputs": {**base["inputs"], "behavior": False}}
    assert made[2].config == {**base, "shifter": dict(name="affine", l2=0.5)}
    assert base == runs.config(base["data"]["folder"])  # and the base stays as it was


def test_every_change_is_repeated_over_seeds_which_have_their_own_folders(base):
    made = variants.of(base, CHANGES, (0, 3))
    names = ["base", "no_behavior", "affine", "base-seed3", "no_behavior-seed3", "affine-seed3"]
    assert [variant.name for variant in made] == names
    assert [variant.config["seed"] for variant in made] == [0, 0, 0, 3, 3, 3]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"no_behavior": {"inputs.behavior": False}}, "expected the base itself"),
        ({}, "expected the base itself"),
        ({"base": {}, "b": {"inputs.behaviour": False}}, "did you mean 'inputs.behavior'"),
        ({"base": {}, "b": {"core.channels.0": 3}}, "expected a setting of the base"),
        ({"base": {}, "b": {"depth": 3}}, "expected a setting of the base"),
        ({"base": {}, "b": {"core.name": "factorized4d"}}, "b: found core.name"),
        ({"base": {}, "b": {"shifter": dict(name="mlp", width=3)}}, "b: found shifter.width"),
        ({"base": {}, "b": {"data.batch_size": 0}}, "b: found data.batch_size"),
        ({"base": {}, "b": {"data.train_share": 1.5}}, "b: found data.train_share"),
        ({"base": {}, "b": {"schedule": dict(name="none")}}, "b: found schedule.name"),
        ({"base": {}, "a/b": {"inputs.behavior": False}}, "becomes a folder"),
        ({"base": {}, "b": {"inputs.behavior": True}}, "'b' and 'base' for the same run"),
    ],
)
def test_a_wrong_change_is_refused_before_anything_runs(base, done, tmp_path, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        ablate.run(base, changes, tmp_path / "work")
    assert not done["run"] and not (tmp_path / "work").exists()


def test_runs_come_one_after_another_and_then_the_table(base, done, tmp_path):
    assert ablate.run(base, CHANGES, tmp_path) == "the comparison"
    assert done["run"] == list(CHANGES)
    assert done["compared"] == [(list(CHANGES), ("oracle",), "base")]


def test_finished_runs_are_passed_over(base, done, tmp_path, capsys):
    done["broken"] = ["no_behavior"]
    with pytest.raises(UserError, match="1 of 3 runs failed: no_behavior"):
        ablate.run(base, CHANGES, tmp_path)
    assert done["run"] == list(CHANGES)  # the others went on
    assert "run 2 of 3, no_behavior: failed: found a loss of nan." in capsys.readouterr().out
    assert not done["compared"]

    done["broken"], done["run"] = [], []
    ablate.run(base, CHANGES, tmp_path)
    assert done["run"] == ["no_behavior"] and len(done["compared"]) == 1
    assert "run 1 of 3, base: finished before" in capsys.readouterr().out
    ablate.run(base, CHANGES, tmp_path)
    assert done["run"] == ["no_behavior"]  # a third time does nothing but compare
    ablate.run(base, CHANGES, tmp_path, seeds=(0, 1))
    assert done["run"] == ["no_behavior", *(f"{name}-seed1" for name in CHANGES)]


def test_an_interrupted_ablation_goes_on_where_it_was(base, done, tmp_path):
    done["stopped"] = "no_behavior"
    with pytest.raises(KeyboardInterrupt):
        ablate.run(base, CHANGES, tmp_path)
    done["stopped"] = ""
    ablate.run(base, CHANGES, tmp_path)
    assert done["run"] == ["base", "no_behavior", "no_behavior", "affine"]
    assert len(done["compared"]) == 1


def test_an_index_is_one_run_and_the_last_of_them_makes_the_table(base, done, tmp_path):
    with pytest.raises(UserError, match="found no finished run"):
        ablate.run(base, CHANGES, tmp_path, table=True)
    for index, name in ((2, "affine"), (0, "base")):
        assert ablate.run(base, CHANGES, tmp_path, index=index) is None
        assert done["run"][-1] == name
    with pytest.raises(UserError, match="found --index 3, expected 0 to 2"):
        ablate.run(base, CHANGES, tmp_path, index=3)
    ablate.run(base, CHANGES, tmp_path, table=True)
    assert done["compared"] == [(["base", "affine"], ("oracle",), "base")]
    assert len(done["run"]) == 2
    ablate.run(base, CHANGES, tmp_path, index=1)
    assert done["compared"][1:] == [(list(CHANGES), ("oracle",), "base")]


def test_a_folder_of_other_settings_is_refused_before_anything_runs(base, done, tmp_path):
    ablate.run(base, CHANGES, tmp_path, index=1)
    other = runs.config(base["data"]["folder"], {"readout.init_sigma": 0.7})
    with pytest.raises(UserError, match=r"no_behavior holds a run of another config: readout\.in"):
        ablate.run(other, CHANGES, tmp_path)
    elsewhere = runs.config("elsewhere", {"train.log_every": 7})  # changes nothing
    ablate.run(elsewhere, CHANGES, tmp_path)
    assert done["run"] == ["no_behavior", "base", "affine"]


def test_an_index_is_a_number_or_that_of_a_job_array(monkeypatch):
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    assert ablate.numbered("") is None and ablate.numbered("12") == 12
    for wrong in ("array", "-1", "two"):
        with pytest.raises(UserError, match="expected a number from 0 on"):
            ablate.numbered(wrong)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "4")
    assert ablate.numbered("array") == 4
    assert ablate.numbered("") is None and ablate.numbered("3") == 3


def test_a_page_without_changes_is_refused(tmp_path):
    with pytest.raises(UserError, match="found no get_changes"):
        variants.get_changes(REPOSITORY / "configs" / "dynamic.py", ConfigDict())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_page_has_changes_that_can_be_built(page):
    """Of simulated mice and of a published baseline; others are run as a whole below."""
    module = load(page)
    assert f"python -m sensojax.ablate --config configs/ablations/{page.name}" in module.__doc__
    for preset in module.PRESETS[:2]:
        config = module.get_config(preset).lock()
        changes = variants.get_changes(page, config)
        made = variants.of(config.to_dict(), changes)
        assert len(made) >= 3
        for variant, change in zip(made, changes.values(), strict=True):
            assert variant.changes == change


# --- whole ablations ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.stem != ON_THE_COMMAND_LINE], ids=lambda page: page.stem
)
@pytest.mark.usefixtures("compiled_quickly")
def test_every_page_runs_to_its_table(page, data, cache, tmp_path, tmp_path_factory, monkeypatch):
    """From the smallest base, whose own run serves all pages."""
    monkeypatch.setattr(report, "_pictures", lambda *about: ())
    of, more = OWN_BASES.get(page.stem, ("dynamic", {}))
    base = runs.config(data, {**SHORT, **more}, of)
    changes = load(page).get_changes(ConfigDict(base))
    first = next(iter(changes))
    shared = tmp_path_factory.getbasetemp() / f"base of ablations of {of}"
    if shared.exists():
        shutil.copytree(shared, tmp_path / first)
    with runs.cached(cache):
        found = ablate.run(base, changes, tmp_path)
    if not shared.exists():
        shutil.copytree(tmp_path / first, shared)
    (table,) = found.tables
    assert [row.name for row in table.rows] == list(changes)
    for row, change in zip(table.rows, changes.values(), strict=True):
        assert bool(row.changes) == bool(change)
        assert (row.cells["oracle"].difference is None) == (row.name == first)
    assert (tmp_path / "comparison.png").exists() and not found.left_out


@pytest.mark.slow
def test_ablation_on_the_command_line_as_jobs_of_an_array_and_as_a_whole(cache, tmp_path):
    """A shipped one at preset tiny: listed, one run of it, all, and with a misspelt setting."""

    def command(*more, **environment):
        line = [sys.executable, "-m", "sensojax.ablate", "--workdir", str(tmp_path / "work")]
        line += [
            "--config",
            f"configs/ablations/{ON_THE_COMMAND_LINE}.py:tiny",
            "--config.schedule.steps=3",
        ]
        line += [f"--config.data.folder={tmp_path / 'data'}", *more]
        return runs.finish(line, cache, env=runs.environment(cache, **environment))

    listed = command("--list", "--seeds=0,1")
    assert listed.returncode == 0, listed.stderr
    rows = [line.split("\t")[:3] for line in listed.stdout.splitlines()]
    names = ["cortex", "free", "wider_network"]
    every = [*names, *(f"{name}-seed1" for name in names)]
    assert rows == [[str(number), name, "-"] for number, name in enumerate(every)]

    job = command("--index=array", SLURM_ARRAY_TASK_ID="1")
    assert job.returncode == 0, job.stderr
    assert {path.name for path in (tmp_path / "work").iterdir() if path.is_dir()} == {"free"}
    whole = command()
    assert whole.returncode == 0, whole.stderr
    assert "run 2 of 3, free: finished before" in whole.stdout
    told = json.loads((tmp_path / "work" / "comparison.json").read_text())
    (table,) = told["tables"]
    assert [row["name"] for row in table["rows"]] == names
    assert table["rows"][1]["changes"] == {"readout.positions": "learned"}
    assert "-m sensojax.ablate" in told["made"]["command"]

    wrong = command("--config.core.channel=(3,)")
    assert wrong.returncode == 1 and wrong.stderr.count("\n") == 1 and "channels" in wrong.stderr
