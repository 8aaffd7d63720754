"""The scripts behind the figures and tables in docs/, from their first line to the file they write.

At preset tiny: whether the numbers are what they should be is for the studies themselves.
"""

import json
import subprocess
import sys

import pytest

from scripts import rank_models, transfer_curve
from tests import runs

pytestmark = pytest.mark.slow


def finished(script, folder, *arguments) -> str:
    """What a script says that is run as users run it, in an empty folder."""
    done = subprocess.run(
        [sys.executable, script.__file__, *map(str, arguments)],
        cwd=folder,
        env=runs.environment(folder / "compiled"),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_ranking_has_a_row_for_each_model_and_ours_as_an_ensemble(tmp_path):
    chosen = ["frame-wise linear", rank_models.OURS]
    asked = ("--tiny", "--seeds", "0,1", "--out", "ranking.md", "--models", *chosen)
    said = finished(rank_models, tmp_path, *asked)
    page = (tmp_path / "ranking.md").read_text()
    assert page in said
    rows = [line.split("|")[1:-1] for line in page.splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in row] for row in rows]
    assert head[0] == "model" and head[-1] == "all out-of-domain" and len(head) == 10
    names = [row[0] for row in rows]
    assert names == [*chosen, f"{rank_models.OURS}, ensemble of 2"]
    for row in rows:
        for cell in row[3:]:
            score, part = cell.rstrip(")").split(" (")
            assert -1 <= float(score.partition(" ±")[0]) <= 1 and abs(float(part)) < 2
            assert ("±" in score) == (row != rows[-1])


def test_no_model_gets_less_arithmetic_than_ours_unless_it_has_twice_the_steps():
    configs = {n: rank_models.configured(*m, True) for n, m in rank_models.MODELS.items()}
    steps = configs[rank_models.OURS]["schedule"]["steps"]
    found = rank_models.budgeted(configs)
    budget = found[rank_models.OURS][2]
    for config, taken, done in found.values():
        assert config["schedule"]["steps"] == taken >= steps
        dearest = done / taken  # the last step does not quite fit
        assert done > budget - dearest or taken == rank_models.LONGEST * steps


def test_the_transfer_curve_has_a_point_for_every_share_both_ways(tmp_path):
    page = runs.REPOSITORY / "configs" / "dynamic.py"
    base = [sys.executable, "-m", "sensojax.main", "--config", f"{page}:tiny"]
    environment = runs.environment(tmp_path / "compiled")
    subprocess.run(
        [*base, "--workdir", "base"], cwd=tmp_path, env=environment, check=True, timeout=600
    )
    finished(
        transfer_curve,
        tmp_path,
        *("--preset", "tiny"),
        *("--run", "base", "--workdir", "curve", "--figure", "curve.png", "--shares", "0.5,1"),
    )
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads((tmp_path / "curve" / "transfer.json").read_text())
    assert set(found) == set(transfer_curve.KINDS)
    for points in found.values():
        few, many = sorted(map(float, points))
        assert many == pytest.approx(2 * few, rel=0.2)
        assert len({ceiling for _, ceiling in points.values()}) == 1
