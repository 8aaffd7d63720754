"""A core goes from one run to another: frozen to the bit, fine-tuned, or by its features alone."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from sensojax import build
from sensojax.errors import UserError
from sensojax.experiments import transfer
from sensojax.experiments.experiment import Experiment
from sensojax.models import freezing
from sensojax.models.encoder import assemble
from sensojax.pipeline.features import DESCRIPTION
from sensojax.recordings import simulated
from sensojax.training import journal, mesh
from tests import runs

NEW_MOUSE = simulated.name(2)
pytestmark = pytest.mark.slow  # every test needs two trained runs


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with compiled programs, the source run, and the transferred runs of all tests."""
    folder = tmp_path_factory.mktemp("transfer")
    with runs.cached(folder / "cache"):
        runs.run(folder / "source", folder / "data")
        yield folder


def transferred(place: Path, name: str, **changes) -> Path:
    """The folder of a run on the new mouse, trained when it is not there yet."""
    workdir = place / name
    if not (workdir / "report.json").exists():
        settings = {f"transfer.{key}": value for key, value in changes.items()}
        settings["transfer.run"] = str(place / "source")
        settings["simulation"] = runs.SIMULATION | dict(mice=3)
        runs.run(workdir, place / "new", settings | {"data.mice": (NEW_MOUSE,), "seed": 1})
    return workdir


def core_of(workdir: Path, which: str = "best") -> dict[str, np.ndarray]:
    graph, weights, _ = build.load_encoder(workdir, which)
    found = freezing.arrays(assemble(graph, weights).core)
    return {jax.tree_util.keystr(p): np.asarray(x) for p, x in jax.tree.leaves_with_path(found)}


def losses(workdir: Path) -> np.ndarray:
    lines = journal.read(workdir / journal.NAME)
    return np.array([line["loss"] for line in lines if line["kind"] == "step"])


def step_flops(config: dict) -> float:
    placement = mesh.Placement()
    with jax.set_mesh(placement.mesh):
        made = Experiment(config, placement)
        step = made.train_step.lower(
            made.state, placement.batch(made.batches[0]), made.statistics, 0.1
        )
    return step.compile().cost_analysis()["flops"]


def assert_equal_cores(one: dict, other: dict):
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


def test_a_frozen_core_is_the_core_of_the_other_run_to_the_bit(place):
    workdir = transferred(place, "frozen")
    assert_equal_cores(core_of(place / "source"), core_of(workdir))
    _, weights, about = build.load_encoder(workdir)
    assert "core" not in weights.params and "core" not in weights.statistics
    assert list(about["mice"]) == [NEW_MOUSE]
    assert len(set(losses(workdir))) > 1


@pytest.mark.slow
def test_features_of_a_frozen_core_train_as_videos_do(place):
    from_videos = transferred(place, "frozen")
    from_features = transferred(place, "features", features=str(place / "files"))
    found, expected = losses(from_features), losses(from_videos)
    np.testing.assert_allclose(found, expected, rtol=2e-3)  # float16
    assert not np.array_equal(found, expected)


@pytest.mark.slow
def test_features_are_computed_once_and_a_lost_one_again(place):
    transferred(place, "features", features=str(place / "files"))
    files = sorted((place / "files").rglob("*.npy"))
    (described,) = (place / "files").rglob(DESCRIPTION)
    assert json.loads(described.read_text())["inputs"]["pool"] == 1
    assert all(np.load(file).dtype == np.float16 for file in files)
    before = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in files}
    files[0].unlink()
    transferred(place, "features again", features=str(place / "files"))
    assert files[0].read_bytes() == before[files[0]][1]
    assert all(file.stat().st_mtime_ns == before[file][0] for file in files[1:])
    np.testing.assert_array_equal(losses(place / "features"), losses(place / "features again"))


@pytest.mark.slow
def test_a_damaged_feature_is_refused_by_name(place):
    files = place / "damaged files"
    transferred(place, "features", features=str(place / "files"))
    shutil.copytree(place / "files", files)
    for file in files.rglob("*.npy"):
        file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(UserError, match=r"damaged files.*delete it"):
        transferred(place, "damaged", features=str(files))


@pytest.mark.slow
def test_a_fine_tuned_core_learns_and_at_rate_0_does_not(place):
    tuned = transferred(place, "tuned", core="fine_tuned")
    still = transferred(place, "still", core="fine_tuned", core_rate=0.0)
    source = core_of(place / "source")
    weights = [name for name in source if "spatial'" in name or "temporal'" in name]
    after = [core_of(workdir, "newest") for workdir in (tuned, still)]
    assert weights
    for name in weights:
        np.testing.assert_array_equal(after[1][name], source[name])
        assert np.abs(after[0][name] - source[name]).max() > 0


@pytest.mark.slow
def test_a_transferred_run_needs_the_other_one_no_more(place, tmp_path):
    workdir = transferred(place, "frozen")
    kept = tmp_path / "source"
    shutil.move(place / "source", kept)
    try:
        _, _, about = build.load_encoder(workdir)
        assert about["config"]["core"]["channels"] == [3]
        with pytest.raises(UserError, match=r"transfer\.run: found no checkpoints"):
            transferred(place, "too late")
    finally:
        shutil.move(kept, place / "source")


def test_what_cannot_be_transferred_is_refused(place):
    with pytest.raises(UserError, match=r"transfer\.core 'forzen'.*did you mean 'frozen'"):
        transferred(place, "misspelt", core="forzen")
    with pytest.raises(UserError, match="without a frozen core"):
        transferred(place, "contradiction", core="fine_tuned", features="somewhere")


@pytest.mark.slow
def test_no_backward_pass_goes_through_a_frozen_core(place):
    """By XLA's own count; of this smallest of cores the backward pass is a third of a step."""
    config = runs.config(place / "new", {"transfer.run": str(place / "source")})
    assert build.frozen_core(transfer.resolved(config, transfer.source(config)))
    flops = {}
    for core in ("frozen", "fine_tuned"):
        config["transfer"]["core"] = core
        flops[core] = step_flops(config)
    assert flops["frozen"] < 0.75 * flops["fine_tuned"]
