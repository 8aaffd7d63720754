"""The report: readable on its own, complete, and never half-written."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.image import imread
from ml_collections import ConfigDict

from sensojax.errors import UserError
from sensojax.evaluation import curves, figures, maps, report
from sensojax.evaluation.results import Fields
from tests.evaluation import made_up


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A complete report of two simulated mice, the folder and what it was made of."""
    workdir = tmp_path_factory.mktemp("run<1>")
    shown = {"oracle": ("movie",), "live_test_bonus": ("pink_noise", "flashed_images")}
    measured = ("correlation_to_average", "fev", "feve")
    scores = {
        tier: made_up.score(tier, kinds=kinds, depths=True, measures=measured)
        for tier, kinds in shown.items()
    }
    config = {
        "seed": 7,
        "data": {"tiers": ("train",)},
        "core": {"name": "factorized3d", "channels": (32, 64)},
        "note": "<b>",
    }
    main = scores["oracle"]
    lines, traces, fields = made_up.lines(main), made_up.traces(main), made_up.fields(main)
    report.write(workdir, config, scores, lines, traces, fields)
    return workdir, scores


class Page(HTMLParser):
    """Collects every address that a browser would fetch, and checks that tags are closed."""

    def __init__(self, text: str):
        super().__init__()
        self.addresses, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "img"):
            self.open.append(tag)
        named = ("src", "href", "srcset", "data", "action", "poster")
        self.addresses += [value for name, value in attributes if name in named]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page_needs_no_other_file_and_no_network(written):
    text = (written[0] / "report.html").read_text()
    page = Page(text)
    assert len(page.addresses) == len(report.PICTURES)
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert not page.open
    outside = re.sub(r'src="data:[^"]*"', "", text)
    assert not re.search(r"https?:|file:|url\(|@import|<script|<link|<iframe", outside)


def test_page_says_first_that_mice_are_simulated(written, tmp_path):
    text = (written[0] / "report.html").read_text()
    body = re.sub(r"<[^>]*>", "", text.split("<body>")[1]).strip()
    assert body.startswith("These are simulated mice.")
    score = made_up.score(simulated=False)
    path = report.write(tmp_path, {}, {"oracle": score}, made_up.lines(score))
    assert "simulated" not in path.read_text().split("<body>")[1]


def test_page_carries_scores_with_their_provenance_and_origin(written):
    workdir, scores = written
    text = (workdir / "report.html").read_text()
    for score in scores.values():
        assert score.describe() in text and f"<td>{score.correlation:.4f}</td>" in text
        assert score.conditions in text
    for part in ("c0ffee", "jax 0.10.2", "fingerprint-made_up", "configs/dynamic.py", "1 x cpu"):
        assert part in text
    assert "<code>[32, 64]</code>" in text and "core.channels" in text


def test_page_breaks_the_score_down_by_kind_where_there_are_several(written, tmp_path):
    workdir, scores = written
    text = (workdir / "report.html").read_text()
    title = "<h2>Scores by kind of stimulus</h2>"
    assert text.count(title) == 1
    table = text.split(title)[1].split("<h2>")[0]
    for name in ("pink_noise", "flashed_images"):
        value = scores["live_test_bonus"].of_kind(name).correlation
        assert f"{value:.4f}" in table and name.replace("_", " ") in table
    assert "in-domain from oracle" in table and "data:image/png" in table
    one = made_up.score(kinds=("movie",))
    assert title not in report.write(tmp_path, {}, {"oracle": one}, []).read_text()


def test_page_has_the_other_measures_and_why_one_is_missing(written, tmp_path):
    workdir, scores = written
    score = scores["oracle"]
    text = (workdir / "report.html").read_text()
    for name in ("correlation_to_average", "feve"):
        assert f"<td>{score.mean(name):.4f}</td>" in text
    (first, *_) = score.mice.values()
    first.left_out["signal_to_noise"] = "videos were shown 2 to 3 times"
    text = report.write(tmp_path, {}, {"oracle": score}, []).read_text()
    assert "videos were shown 2 to 3 times (29515-10-12)" in text
    first.left_out.clear()


def test_text_of_others_is_escaped(written):
    text = (written[0] / "report.html").read_text()
    assert "back to &lt;step 100&gt;" in text and "<b>" not in text and "<1>" not in text


def test_scores_of_other_protocols_never_share_a_table(tmp_path):
    scores = {
        "oracle": made_up.score("oracle"),
        "live_test_bonus": made_up.score("live_test_bonus", protocol="competition"),
    }
    text = report.write(tmp_path, {}, scores, []).read_text()
    tables = re.findall(r"<table>.*?</table>", text, flags=re.S)
    assert len(tables) == 4
    assert not any("oracle" in table and "live_test_bonus" in table for table in tables)


def test_every_figure_is_a_file_with_something_in_it(written):
    workdir, _ = written
    contents = json.loads((workdir / "report.json").read_text())
    assert contents["figures"] == [f"figures/{name}.png" for name in report.PICTURES]
    for name in contents["figures"]:
        pixels = imread(workdir / name)[..., :3]
        height, width, _ = pixels.shape
        assert height > 200 and 400 < width <= 9.6 * figures.DPI
        ink = np.mean(pixels.min(axis=-1) < 0.9)
        assert 0.01 < ink < 0.6, f"{name}: {ink:.3f} of it drawn on"


def test_json_gives_back_the_scores(written):
    workdir, scores = written
    again = report.read(workdir / "report.json")
    assert list(again) == list(scores)
    for tier, score in scores.items():
        assert again[tier].describe() == score.describe()
        for mouse in score.mice:
            found, expected = again[tier].mice[mouse], score.mice[mouse]
            np.testing.assert_array_equal(found.correlation, expected.correlation)
    contents = json.loads((workdir / "report.json").read_text())
    assert contents["simulated"] and contents["run"]["commit"] == "c0ffee"
    assert contents["summary"]["oracle"]["correlation"] == scores["oracle"].correlation


def test_json_of_another_format_is_refused(tmp_path):
    (tmp_path / "report.json").write_text('{"format": 99}')
    with pytest.raises(UserError, match="format 99, expected 2"):
        report.read(tmp_path / "report.json")


def test_what_is_not_known_is_left_out(tmp_path):
    score = made_up.score(ceilings=False, simulated=False)
    lines = made_up.lines(score)
    traces = made_up.traces(score, rates=False)
    fields = made_up.fields(score, placed=False, true=False)
    text = report.write(tmp_path, {}, {"oracle": score}, lines, traces, fields).read_text()
    assert "ceiling" not in text and "noiseless" not in text
    assert "Correlation over cortex" not in text and not (tmp_path / "figures/cortex.png").exists()
    assert "Learned receptive fields" in text
    fields = [Fields(each.mouse, each.cortex_um) for each in made_up.fields(score)]
    text = report.write(tmp_path, {}, {"oracle": score}, lines, (), fields).read_text()
    assert "Correlation over cortex" in text and "Learned receptive fields" not in text
    left = {path.name for path in (tmp_path / "figures").iterdir()}
    assert left == {"learning_curves.png", "correlations.png", "cortex.png"}


def test_a_run_without_any_score_still_has_a_page(tmp_path):
    text = report.write(tmp_path, {"seed": 1}, {}, []).read_text()
    assert "No tier was scored." in text and report.read(tmp_path / "report.json") == {}


@pytest.mark.parametrize("mice", [{"one": 5}, {f"mouse{i}": 6 for i in range(10)}])
def test_one_mouse_of_five_neurons_and_ten_mice_are_drawn(mice):
    score = made_up.score(mice=mice)
    fields = {each.mouse: each for each in made_up.fields(score, true=len(mice) == 1)}
    drawn = (
        (figures.correlation_histograms(score), len(mice)),
        (maps.cortex(score, fields), len(mice)),
        (maps.receptive_fields(fields), 4 if len(mice) == 1 else 20),
    )
    for figure, expected in drawn:
        shown = [axes for axes in figure.axes if axes.get_visible() and axes.get_title("left")]
        assert len(shown) == expected
        assert all(axes.has_data() for axes in shown)
        assert len(mice) > 1 or figures.png(figure).startswith(b"\x89PNG")  # ten take seconds


def test_constant_scores_and_positions_are_drawn():
    score = made_up.score(ceilings=False, mice={"one": 4})
    score.mice["one"].correlation[:] = 0
    fields = {"one": Fields("one", np.zeros((4, 2)), np.zeros((4, 2)), np.zeros((4, 2)))}
    drawn = (
        figures.correlation_histograms(score),
        maps.cortex(score, fields),
        maps.receptive_fields(fields),
    )
    assert all(figures.png(figure) for figure in drawn)
    assert drawn[2].axes[2].get_title("left") == "x: correlation undefined"


def test_learning_curves_mark_events_and_the_ceiling_and_survive_a_diverged_loss():
    score = made_up.score()
    lines = made_up.lines(score)
    lines[300] = {"kind": "step", "step": 300, "loss": "NaN", "learning_rate": 0.0}
    figure = curves.learning_curves(lines)
    loss, _, correlation = figure.axes
    marked = [line.get_xdata()[0] for line in loss.get_lines() if len(set(line.get_xdata())) == 1]
    assert sorted(marked) == [180, 200]
    heights = [line.get_ydata()[0] for line in correlation.get_lines()]
    assert score.ceiling in heights
    assert np.isfinite(np.concatenate([line.get_ydata() for line in loss.get_lines()])).all()


def test_learning_curves_are_drawn_of_scores_alone_and_not_of_nothing():
    (_, *_, last) = made_up.lines(made_up.score(ceilings=False))
    figure = curves.learning_curves([last])
    assert figures.png(figure) and figure.axes[2].has_data()
    assert curves.learning_curves([]) is None


def test_settings_may_be_a_config_dict(tmp_path):
    config = ConfigDict({"core": {"name": "factorized3d"}, "rates": (0.5, 1.0)})
    report.write(tmp_path, config, {}, [])
    contents = json.loads((tmp_path / "report.json").read_text())
    assert contents["config"] == {"core": {"name": "factorized3d"}, "rates": [0.5, 1.0]}


def test_shown_agreement_is_the_correlation_with_the_true_centers():
    score = made_up.score()
    fields = made_up.fields(score)
    figure = maps.receptive_fields({each.mouse: each for each in fields})
    expected = np.corrcoef(fields[0].learned[:, 1], fields[0].true[:, 1])[0, 1]
    assert figure.axes[3].get_title("left") == f"y: correlation {expected:.2f}"


def test_position_colors_tell_places_apart_and_leave_unknown_ones_gray():
    corners = np.array([(-1, -1), (1, -1), (-1, 1), (1, 1), (np.nan, 0)], float)
    colors = maps.position_colors(corners)
    assert ((colors >= 0) & (colors <= 1)).all()
    assert np.ptp(colors[4]) == 0
    between = np.linalg.norm(colors[:4, None] - colors[None, :4], axis=-1)
    assert between[~np.eye(4, dtype=bool)].min() > 0.3


@pytest.mark.parametrize("moment", ["while drawing", "while writing"])
def test_a_crash_in_the_middle_leaves_the_old_report(tmp_path, monkeypatch, moment):
    old = made_up.score(step=1)
    report.write(tmp_path, {}, {"oracle": old}, made_up.lines(old))
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert len(before) == 4

    def crash(*_, **__):
        raise OSError(28, "No space left on device")

    if moment == "while drawing":
        monkeypatch.setattr(maps, "receptive_fields", crash)
    else:
        monkeypatch.setattr(report.os, "replace", crash)
    new = made_up.score(step=2, mice={"other": 9})
    with pytest.raises(OSError):
        report.write(tmp_path, {}, {"oracle": new}, made_up.lines(new))
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_drawing_leaves_the_settings_of_matplotlib_alone():
    import matplotlib

    before = dict(matplotlib.rcParams)
    figures.png(figures.correlation_histograms(made_up.score()))
    assert dict(matplotlib.rcParams) == before
