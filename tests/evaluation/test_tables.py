"""Tables of scores: each cell the mean it says it is, and nothing mixed that does not compare."""

import csv
import io
import json

import numpy as np
import pytest
from rich.console import Console

from sensojax.errors import UserError
from sensojax.evaluation import breakdowns, figures, tables, tables_page
from sensojax.types import STIMULUS_KINDS
from tests.evaluation import made_up

MICE = {"dynamic29515-10-12-Video-abc": 30, "ada": 20, "bob": 10}
FIRST, ADA, BOB = MICE
MOVIES, OTHERS = "live_test_main+final_test_main", "live_test_bonus+final_test_bonus"


@pytest.fixture(scope="module")
def scores():
    kinds = {"pink_noise": (FIRST, ADA), "drifting_gabor": (BOB,)}
    how = dict(mice=MICE, depths=True, measures=("correlation_to_average", "fev"))
    return {
        "oracle": made_up.score("oracle", kinds=("movie",), **how),
        OTHERS: made_up.score(OTHERS, kinds=kinds, **how),
        MOVIES: made_up.score(MOVIES, kinds=("movie",), **how),
    }


def test_columns_by_kind_are_in_domain_and_the_five_others(scores):
    table = tables.by_kind(scores)
    assert table.columns[0] == "in-domain" and len(table.columns) == 6
    assert table.columns[1:] == tuple(kind.replace("_", " ") for kind in STIMULUS_KINDS[1:])
    assert table.rows == ("29515-10-12", "ada", "bob", "all mice")


def test_cell_by_kind_is_the_mean_over_the_neurons_that_saw_it(scores):
    table = tables.by_kind(scores)
    noise = scores[OTHERS].kinds["pink_noise"]
    both = np.concatenate([noise[FIRST].correlation, noise[ADA].correlation])
    cell = table.cells["all mice", "pink noise"]
    assert cell.value == pytest.approx(both.mean())
    assert (cell.num_mice, cell.num_neurons, cell.num_trials) == (2, 50, 24)
    ceilings = np.concatenate([noise[FIRST].ceiling, noise[ADA].ceiling])
    assert cell.fraction_of_ceiling == pytest.approx(both.mean() / ceilings.mean())
    alone = table.cells["ada", "pink noise"]
    assert alone.value == pytest.approx(noise[ADA].correlation.mean())
    assert ("bob", "pink noise") not in table.cells
    gabor = scores[OTHERS].kinds["drifting_gabor"][BOB].correlation.mean()
    assert table.cells["all mice", "drifting gabor"].value == pytest.approx(gabor)  # only bob
    assert table.lines(lambda cell: "x")[2] == ["bob", "x", "-", "-", "-", "x", "-"]


def test_movies_come_from_the_best_tier_and_the_caption_says_so(scores):
    table = tables.by_kind(scores)
    assert table.cells["ada", "in-domain"].tier == MOVIES
    assert f"in-domain from {MOVIES}" in table.caption
    assert f"pink noise, drifting gabor from {OTHERS}" in table.caption
    without = {tier: score for tier, score in scores.items() if tier != MOVIES}
    assert tables.by_kind(without).cells["ada", "in-domain"].tier == "oracle"
    assert "trained on" not in tables.by_kind(scores, trained_on=("train", "oracle")).caption
    trained = tables.by_kind(without, trained_on=("train", "oracle", "live_test_bonus"))
    assert "The model was trained on oracle, live_test_bonus too." in trained.caption


def test_a_kind_in_two_scores_counts_from_the_first_and_this_is_said(scores):
    again = made_up.score("final_test_bonus", mice=MICE, kinds={"pink_noise": (BOB, ADA)})
    table = tables.by_kind({OTHERS: scores[OTHERS], "final_test_bonus": again})
    expected = scores[OTHERS].kinds["pink_noise"][ADA].correlation.mean()
    assert table.cells["ada", "pink noise"].value == pytest.approx(expected)
    assert ("bob", "pink noise") in table.cells
    assert "taken from the first: pink noise" in table.caption


def test_table_by_tier_is_the_score_of_each_tier(scores):
    table = tables.by_tier(scores, "correlation_to_average")
    assert table.columns == tuple(scores)
    for tier, score in scores.items():
        assert table.cells["all mice", tier].value == score.mean("correlation_to_average")
        assert table.cells["all mice", tier].ceiling is None  # that is of another measure


def test_table_by_mouse_has_every_measure_and_says_what_is_left_out(scores):
    score = scores["oracle"]
    score.mice[BOB].left_out["signal_to_noise"] = "no video was shown twice"
    table = tables.by_mouse(score)
    assert table.columns == ("single_trial_correlation", "correlation_to_average", "fev")
    assert table.cells["ada", "fev"].value == pytest.approx(score.mice[ADA].measures["fev"].mean())
    assert "Left out: signal_to_noise: no video was shown twice (bob)." in table.caption
    score.mice[BOB].left_out.clear()


def test_table_by_depth_divides_all_neurons_into_planes(scores):
    score = scores["oracle"]
    table = tables.by_depth(score)
    assert table.rows == ("200 µm", "225 µm", "250 µm", "275 µm")
    assert table.columns == ("29515-10-12", "ada", "bob", "all mice")
    every = [table.cells[row, "all mice"] for row in table.rows]
    assert sum(cell.num_neurons for cell in every) == 60
    whole = sum(cell.value * cell.num_neurons for cell in every) / 60
    assert whole == pytest.approx(score.correlation)
    ada = score.mice[ADA]
    expected = ada.correlation[ada.depth_um == 225].mean()
    assert table.cells["225 µm", "ada"].value == pytest.approx(expected)


def test_table_by_area_is_the_mean_over_the_neurons_of_each_area(scores):
    score = scores["oracle"]
    table = tables.by_group(score, "area")
    assert table.columns == ("LM", "V1") and table.rows[-1] == "all mice"
    cells = [table.cells["all mice", name] for name in table.columns]
    assert sum(cell.num_neurons for cell in cells) == 60
    whole = sum(cell.value * cell.num_neurons for cell in cells) / 60
    assert whole == pytest.approx(score.correlation)
    ada = score.mice[ADA]
    expected = ada.correlation[ada.groups["area"] == "LM"].mean()
    assert table.cells["ada", "LM"].value == pytest.approx(expected)
    with pytest.raises(UserError, match=r"found no layer of the neurons .*meta/neurons/layer\.npy"):
        tables.by_group(score, "layer")


def test_many_depths_are_put_into_bins_and_unknown_ones_left_out():
    every = np.linspace(130.0, 220.0, 60)
    found = tables.depths([every[:30], np.append(every[30:], np.nan)])
    assert list(found) == ["125-150 µm", "150-175 µm", "175-200 µm", "200-225 µm"]
    assert sum(((every >= low) & (every < high)).sum() for low, high in found.values()) == 60
    assert tables.depths([np.array([np.nan])]) == {}
    assert not tables.by_depth(made_up.score()).cells  # nobody knows them


def test_scores_that_were_counted_differently_never_share_a_table(scores):
    other = made_up.score(MOVIES, mice=MICE, kinds=("movie",), drop_last=1)
    for make in (tables.by_kind, tables.by_tier):
        with pytest.raises(UserError, match="counted in 2 ways"):
            make({**scores, MOVIES: other})


def test_files_hold_every_cell_with_its_counts_and_conditions(scores, tmp_path):
    made = [tables.by_kind(scores), tables.by_kind(scores, "fev")]
    said = ["Without responses, and left out: <eve>."]
    paths = tables_page.write(tmp_path, "by_kind", made, simulated=True, remarks=said)
    assert set(paths) == {"csv", "json", "html", "png"}
    rows = list(csv.DictReader(io.StringIO(paths["csv"].read_text())))
    assert len(rows) == sum(len(table.cells) for table in made)
    for row in rows:
        table = made[row["measure"] == "fev"]
        cell = table.cells[row["row"], row["column"]]
        assert float(row["mean"]) == cell.value and int(row["num_neurons"]) == cell.num_neurons
        assert row["conditions"] == table.conditions and "strict protocol" in row["conditions"]
        assert (row["ceiling"] == "") == (cell.ceiling is None)
    written = json.loads(paths["json"].read_text())
    assert written["format"] == tables.FORMAT and written["remarks"] == said
    cells = written["tables"][0]["cells"]
    assert {(cell["row"], cell["column"]) for cell in cells} == set(made[0].cells)
    text = paths["html"].read_text()
    assert text.index("These are simulated mice.") < text.index("<table>")
    assert made[0].conditions in text and made[0].caption in text
    assert "left out: &lt;eve&gt;." in text
    assert not list(tmp_path.rglob("*.partial"))


def test_terminal_shows_the_numbers_with_fractions_of_the_ceiling(scores):
    console = Console(file=io.StringIO(), width=160)
    made = [tables.by_kind(scores)]
    console.print(*tables_page.printed(made), sep="\n")
    said = console.file.getvalue()
    cell = made[0].cells["all mice", "in-domain"]
    assert f"{cell.value:.3f} ({cell.fraction_of_ceiling:.2f})" in said
    assert "strict protocol" in said and "fraction of the ceiling" in said


@pytest.mark.parametrize("by", ["kind", "tier", "depth", "area", "mouse"])
def test_figure_shows_what_the_table_holds(scores, by):
    table = {
        "kind": lambda: tables.by_kind(scores),
        "tier": lambda: tables.by_tier(scores),
        "depth": lambda: tables.by_depth(scores["oracle"]),
        "area": lambda: tables.by_group(scores["oracle"], "area"),
        "mouse": lambda: tables.by_mouse(scores["oracle"]),
    }[by]()
    drawn = breakdowns.figure(table)
    if by == "mouse":  # measures in different units
        assert drawn is None
        return
    (panel,) = drawn.axes
    if by == "depth":
        thick = next(line for line in panel.get_lines() if line.get_linewidth() > 2)
        expected = [table.cells[row, "all mice"].value for row in table.rows]
        np.testing.assert_allclose(thick.get_xdata(), expected)
        assert panel.yaxis_inverted()
    else:
        heights = {round(bar.get_height(), 9) for bar in panel.patches}
        for column in table.columns:
            cell = table.cells.get(("all mice", column))
            if cell is not None:
                assert {round(cell.value, 9), round(cell.ceiling, 9)} <= heights
    assert figures.png(drawn).startswith(b"\x89PNG")


def test_one_mouse_alone_has_a_table_and_a_figure():
    score = made_up.score(mice={"one": 5}, kinds=("movie",), ceilings=False, depths=True)
    table = tables.by_kind({"oracle": score})
    assert table.rows == ("one",) and list(table.cells) == [("one", "in-domain")]
    assert breakdowns.figure(table) and breakdowns.figure(tables.by_depth(score))
    assert "each dot" not in breakdowns.caption(table)
