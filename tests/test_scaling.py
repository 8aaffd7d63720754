"""Scaling figures: their points are measured once, kept, and drawn with what bounds them."""

import json

import numpy as np
import pytest

from scripts import scaling as command
from scripts.benchmarks import scaling, scaling_figures, scaling_points
from sensojax.errors import UserError
from sensojax.evaluation.figures import png

TINY = scaling.Study(tiny=True, repeats=2)
RATES = dict(matmul={"64": 10.0, "128": 40.0}, copy={"1": 50.0, "256": 8.0})
CARD = dict(gb=24.0, gflops=1000.0, gbs=100.0, steps=60)
MEMORY = dict(arguments=10**9, results=0, temporary=2 * 10**9)


def made_up(settings: dict) -> dict:
    """A point as it would be measured: 2e12 operations and 1e11 bytes."""
    if settings["kind"] == "loader":
        return dict(seconds=[1.0, 2.0, 4.0], windows=16, frames=settings["frames"])
    return dict(operations=2e12, moved=1e11, memory=MEMORY, seconds=[3.0, 4.0, 5.0])


@pytest.fixture
def measured(monkeypatch):
    """The settings that were measured, in a world where that takes no time."""
    asked = []

    def one(settings):
        asked.append(settings)
        return made_up(settings)

    monkeypatch.setattr(scaling, "_measured", one)
    monkeypatch.setattr(scaling, "_store", lambda study: {})
    monkeypatch.setattr(scaling.machine, "rates", lambda *_, **__: RATES)
    return asked


@pytest.mark.parametrize(
    "figure",
    [
        pytest.param(name, marks=[] if name in ("mice", "card", "loader") else pytest.mark.slow)
        for name in scaling.FIGURES
    ],
)
def test_every_figure_is_drawn_and_its_points_are_kept(figure, measured, tmp_path):
    words = ["--tiny", "--figures", figure, "--out", str(tmp_path), "--folder", str(tmp_path)]
    command.main(words)
    kept = json.loads((tmp_path / f"{figure}.json").read_text())
    assert [each["at"] for each in kept["points"]] == scaling.Study(tiny=True).points(figure)
    assert kept["rates"] == RATES and kept["machine"]["cores"] > 0
    assert (tmp_path / f"{figure}.png").read_bytes().startswith(b"\x89PNG")


def test_points_that_are_there_are_not_measured_again(measured, tmp_path):
    path = tmp_path / "mice.json"
    first = scaling.measure(TINY, "mice", path)
    assert [each["mice"] for each in measured] == [1, 2]
    assert scaling.measure(TINY, "mice", path) == first and len(measured) == 2
    cut = first | dict(points=first["points"][:1])
    path.write_text(json.dumps(cut))
    assert scaling.measure(TINY, "mice", path) == first
    assert [each["mice"] for each in measured] == [1, 2, 2]


def test_points_of_other_sizes_stay_in_the_file_but_not_in_the_figure(measured, tmp_path):
    path = tmp_path / "batch.json"
    scaling.measure(TINY, "batch", path)
    more_mice = scaling.Study(tiny=True, model="gru")
    assert {
        each["at"]["model"] for each in scaling.measure(more_mice, "batch", path)["points"]
    } == {"gru"}
    assert len(json.loads(path.read_text())["points"]) == 4


def test_a_damaged_file_is_refused(tmp_path):
    (tmp_path / "mice.json").write_text('{"points": [')
    with pytest.raises(UserError, match=r"found .*mice\.json damaged"):
        scaling.measure(TINY, "mice", tmp_path / "mice.json")


def test_bounds_are_operations_and_bytes_over_the_rates_of_the_machine():
    point = dict(at=TINY.points("mice")[0], **made_up(dict(kind="step")))
    figure = scaling_figures.drawn("mice", dict(points=[point], rates=RATES), CARD)
    lines = {line.get_label(): line.get_ydata() for line in figure.axes[0].get_lines()}
    assert lines["arithmetic alone, at 40 GFLOP/s"] == [2e12 / 40e9]
    assert lines["bytes alone, none of them in caches, at 8 GB/s"] == [1e11 / 8e9]
    (bars,) = figure.axes[0].containers
    assert list(bars.lines[0].get_ydata()) == [4.0]
    np.testing.assert_allclose(bars.lines[2][0].get_segments()[0][:, 1], [3.0, 5.0])
    held = {line.get_label(): line.get_ydata() for line in figure.axes[1].get_lines()}
    assert list(held["all that the step needs"]) == [3.0]


def test_an_epoch_on_a_card_takes_the_longer_of_both_to_their_sum():
    point = made_up(dict(kind="compiled"))
    assert scaling_figures.epoch_minutes(point, CARD) == (2.0, 3.0)


def test_a_step_that_did_not_fit_is_drawn_without_a_time():
    fit, refused = (dict(at=at, **made_up(at)) for at in TINY.points("mice"))
    del refused["seconds"]
    refused["refused"] = "needs more than there is"
    figure = scaling_figures.drawn("mice", dict(points=[fit, refused], rates=RATES), CARD)
    (bars,) = figure.axes[0].containers
    assert list(bars.lines[0].get_xdata()) == [1]
    assert [text.get_text() for text in figure.axes[1].texts] == ["not run"]
    assert png(figure)


def test_a_wrong_card_gets_one_sentence():
    with pytest.raises(SystemExit, match="found --card '24 GB'"):
        command.main(["--card", "24 GB"])


@pytest.mark.slow
def test_a_point_is_measured_in_a_process_of_its_own(tmp_path):
    """Four clips on two devices: each holds about half of what one would."""
    asked = TINY._step(clips=4, devices=2)
    found = scaling._measured(asked)
    assert len(found["seconds"]) == 2 and min(found["seconds"]) > 0
    assert found["operations"] > 0 and found["peak_gb"] > 0
    alone = scaling_points.compiled(**asked | dict(train={}, lowered=""))
    assert alone["operations"] == found["operations"]
    assert alone["moved"] == pytest.approx(found["moved"], rel=0.01)
    share = found["memory"]["temporary"] / alone["memory"]["temporary"]
    assert 0.3 < share < 0.8


@pytest.mark.slow
def test_a_step_for_a_card_is_compiled_as_cards_lower_it():
    ways = (
        scaling_points.compiled(**TINY._compiled("as published", mice=1, clips=2, lowered=each))
        for each in ("", "gpu")
    )
    on_cpu, on_card = ways
    assert on_cpu["operations"] == on_card["operations"]
    assert on_cpu["memory"]["arguments"] == on_card["memory"]["arguments"]
    assert on_cpu["memory"]["temporary"] != on_card["memory"]["temporary"]
