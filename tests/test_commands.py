"""The commands of the README, run as a user would type them, on small data."""

import json
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest

from sensojax import build, main
from sensojax.evaluation.results import Score
from sensojax.models.encoder import assemble
from sensojax.store import TrialStore
from tests import real_data, runs
from tests.goldens import GOLDEN, REPOSITORY
from tests.spikes.recorded import units, write_nwb

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
# What makes a line of the README small enough for a test, by the file or module it runs.
SMALLER = {
    "sensojax.main": [
        "--config.data.window_frames=60",
        "--config.data.batch_size=2",
        "--config.core.channels=(4, 4, 4)",
        "--config.schedule.epoch_limit=2",
        "--config.evaluation.batch_size=1",
    ],
    "scripts/download_sensorium.py": ["--list"],
    "scripts/simulate.py": [
        *("--neurons", "4", "--trials", "16", "--frames", "20"),
        *("--height", "12", "--width", "16"),
    ],
}


def readme_lines(start: str) -> list[str]:
    """The indented lines of the README that begin with these words."""
    return re.findall(rf"^    ({re.escape(start)}.*)$", README, flags=re.MULTILINE)


def typed(
    line: str, replaced: dict[str, str], *more: str, small: bool = False
) -> subprocess.CompletedProcess:
    """Runs a line of the README with parts of its words replaced, and more words at its end.

    small: these words make it small already.
    """
    words = shlex.split(line)
    assert words[0] == "python"
    program = words[2] if words[1] == "-m" else words[1]
    for found, put in replaced.items():
        words = [word.replace(found, put) for word in words]
    small = small or "tiny" in line + "".join(replaced.values())
    smaller = [] if small else SMALLER.get(program, [])
    words = [*words[1:], *smaller, *more]
    run = subprocess.run(
        [sys.executable, *words], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, f"{line}\n{run.stdout}{run.stderr}"
    return run


@pytest.mark.slow
def test_readme_lines_convert_train_and_score_the_mini_recording(tmp_path):
    """The golden mini recording (a zip with two sessions) through the public commands."""
    stores, run_folder = tmp_path / "stores", tmp_path / "run"
    replaced = {
        "RECORDINGS": str(GOLDEN / "mini_sensorium2023_A.zip"),
        "data/stores": str(stores),
        "runs/baseline": str(run_folder),
    }
    convert, train, score = (
        readme_lines(f"python {start}")[0]
        for start in (
            "scripts/convert.py",
            "-m sensojax.main --config configs/dynamic.py:sensorium",
            "-m sensojax.evaluate",
        )
    )
    assert "verified" in typed(convert, replaced).stdout
    typed(f"{train} --config.data.folder={stores}", replaced)
    assert (run_folder / "report.html").stat().st_size > 10_000
    said = typed(score, replaced).stdout
    assert "official normalization" in said and "strict protocol" in said

    scored = Score.from_json(json.loads((run_folder / "scores" / "oracle.json").read_text()))
    reported = json.loads((run_folder / "report.json").read_text())["scores"]["oracle"]
    for mouse, found in scored.mice.items():
        assert np.allclose(found.correlation, reported["mice"][mouse]["correlation"], atol=1e-6)
        assert found.num_neurons == len(TrialStore.open(stores / mouse).neurons)


@pytest.mark.slow
def test_readme_lines_simulate_mice(tmp_path):
    videos, images = readme_lines("python scripts/simulate.py")
    for line, kind in ((videos, "dynamic"), (images, "static")):
        said = typed(line, {"data/": f"{tmp_path}/"}).stdout
        assert "no animal was recorded" in said
        assert len(list(tmp_path.glob(f"*/{kind}*/meta/trials/tiers.npy"))) == 2


@pytest.mark.slow
def test_readme_lines_train_on_images_and_submit_them(tmp_path):
    """The golden mini recording of mice that saw images; its few neurons fit any preset."""
    stores, at = (
        tmp_path / "stores",
        {"runs/": f"{tmp_path}/runs/", "submission": f"{tmp_path}/out"},
    )
    convert, train, submit = (
        next(line for line in readme_lines("python") if words in line)
        for words in ("scripts/convert.py", "static.py:sensorium", "--track images")
    )
    source = str(GOLDEN / "mini_sensorium2022_A.zip")
    typed(convert, {"RECORDINGS": source, "data/stores": str(stores)})
    mouse = sorted(path.name for path in stores.iterdir())[0]
    typed(
        train,
        at,
        f"--config.data.folder={stores}",
        f"--config.data.mice=('{mouse}',)",
        "--config.data.batch_size=2",
        "--config.core.channels=(4, 4, 4, 4)",
        "--config.schedule.epoch_limit=2",
        small=True,
    )
    typed(submit, at)
    assert (tmp_path / "out" / "submission_file_live_test.csv").is_file()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the runs and stores that the README speaks of, on the smallest mice."""
    place = tmp_path_factory.mktemp("readme")
    config = runs.preset("tiny")
    config["data"]["folder"] = str(place / "data")
    main.run(config, place / "runs" / "dynamic")
    return place


@pytest.mark.slow
def test_readme_lines_evaluate_ensemble_ablate_submit_and_transfer(place):
    at = {"runs/": f"{place}/runs/", "submission": f"{place}/submission"}
    data = f"--config.data.folder={place / 'data'}"
    by_kind, compare, ensemble, ablate, submit, transfer = (
        next(line for line in readme_lines("python") if words in line)
        for words in (
            "--by kind", "--runs", "sensojax.ensemble", "sensojax.ablate", "sensojax.submit",
            "transfer.py",
        )
    )  # fmt: skip
    assert "in-domain" in typed(by_kind, at).stdout
    typed(ensemble, {"dynamic.py": "dynamic.py:tiny", **at}, data)
    said = typed(compare, at, "--out", str(place)).stdout
    assert "dynamic" in said and "ensemble" in said
    assert (place / "comparison.html").is_file()
    studies = str(place / "ablation")
    of_one = (data, "--workdir", studies, "--index", "1")  # all of them: tests/test_ablate.py
    typed(ablate, {"behavior.py": "behavior.py:tiny"}, *of_one)
    assert len(list((place / "ablation").glob("*/report.html"))) == 1
    typed(submit, at)
    assert list((place / "submission").glob("*.zip"))
    new = {"transfer.py": "transfer.py:tiny", "NEW_MICE": f"{place}/new"}
    typed(transfer, {**new, **at})
    assert (place / "runs" / "transfer" / "report.html").is_file()


@pytest.mark.slow
def test_readme_line_predicts_the_responses_of_every_mouse_to_a_film(place):
    film = np.random.default_rng(0).integers(0, 256, (60, 16, 20), np.uint8)
    np.save(place / "film.npy", film)
    (line,) = readme_lines("python -m sensojax.predict")
    at = {
        "runs/colliculus": f"{place}/runs/dynamic",
        "film.npy": f"{place}/film.npy",
        "predicted.npy": f"{place}/predicted.npz",  # of two mice
    }
    typed(line, at)
    with np.load(place / "predicted.npz") as found:
        assert len(found.files) == 2
        for mouse in found.files:
            assert len(found[mouse]) == len(film) and np.nanmin(found[mouse]) >= 0


@pytest.mark.slow
def test_readme_lines_of_the_tools_leave_a_file_for_every_mouse(place):
    at = {"data/stores": str(place / "data" / "stores")}
    tools = [line for line in readme_lines("python scripts/") if "data/stores --out" in line]
    assert len(tools) == 7
    for line in tools:
        out = line.split()[-1]
        typed(line, {**at, out: str(place / out)})
        found = [path for path in (place / out).rglob("*") if "dynamic9100" in str(path)]
        assert found, line


@pytest.mark.slow
def test_readme_line_downloads_what_the_list_names():
    (line,) = readme_lines("python scripts/download_sensorium.py")
    said = typed(line, {}).stdout  # with --list: there may be no network
    assert "29156-11-10" in said and "29515-10-12" in said


@pytest.mark.slow
def test_default_preset_comes_near_the_ceiling_of_simulated_mice(tmp_path):
    """What the README's first command promises: 0.6 of the best possible score on tier oracle."""
    config = runs.preset("simulated")
    config["data"]["folder"] = str(tmp_path / "data")
    score = main.run(config, tmp_path / "run")["oracle"]
    assert score.simulated and score.ceiling < 1
    assert score.fraction_of_ceiling >= 0.6

    graph, weights, _ = build.load_encoder(tmp_path / "run")
    encoder = assemble(graph, weights)
    stores = build.stores(config["data"], config["simulation"])
    for mouse, store in stores.items():
        fields = build.fields(mouse, encoder, store, config["inputs"])
        for axis in (0, 1):
            found = np.corrcoef(fields.learned[:, axis], fields.true[:, axis])[0, 1]
            assert found > 0.9  # the position network found the retinotopic map


def test_every_command_of_the_readme_is_run_here_or_by_the_continuous_integration():
    ci = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    lines = [line for line in readme_lines("") if line.startswith(("pip", "python"))]
    assert len(lines) >= 6
    test_command = next(line for line in lines if "pytest" in line)
    assert test_command in ci
    main_job = next(line for line in lines if line.startswith("pip") and "sensojax.main" in line)
    assert main_job.split("&& ")[1] in ci.replace(":tiny", "").replace("\\\n", "")
    for line in set(lines) - {test_command, main_job}:
        assert line.split()[1] in SMALLER or "scripts" in line or "sensojax." in line


@pytest.mark.slow
def test_readme_lines_of_the_pile_go_from_recordings_to_tokens_and_back(tmp_path):
    at = {"data/": f"{tmp_path}/data/"}
    for number, component in enumerate(("vcn", "ibl")):
        recorded = tmp_path / component / f"sub-{number}"
        recorded.mkdir(parents=True)
        write_nwb(recorded / f"sub-{number}.nwb", units(number))
        (build_line,) = readme_lines("python scripts/pile_build.py")
        stores = str(tmp_path / "data" / "pile" / component)
        typed(build_line.replace("vcn", component), at, str(recorded.parent), "--out", stores)
    lines = [line for line in readme_lines("python scripts/pile_") if "pile_build" not in line]
    assert len(lines) == 8
    for line in lines:
        typed(line, at)
        if "--out" in line:
            made = tmp_path / line.split("--out ")[1].split()[0]
            assert made.is_file() or any(made.iterdir()), line


@pytest.mark.slow
def test_readme_lines_import_show_and_export_a_released_model(tmp_path):
    models, name = real_data.found("sensorium2022_models"), "sensorium_sota_model.pth"
    at = {name: str(models / name), "runs/": f"{tmp_path}/runs/"}
    brought, shown, out = (
        readme_lines(f"python scripts/{start}")[0]
        for start in ("import_checkpoint.py", "show_model.py", "export_checkpoint.py")
    )
    assert "7,776 neurons" in typed(brought, at).stdout
    typed(shown, {**at, "first_look": f"{tmp_path}/first_look"}, "--neurons", "32")
    assert (tmp_path / "first_look.png").stat().st_size > 100_000
    assert "39 arrays" in typed(out, {**at, "released.safe": f"{tmp_path}/released.safe"}).stdout
