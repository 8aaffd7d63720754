"""Tables of runs: the same neurons for all, paired differences, and nothing unlike compared."""

import csv
import io
import json

import numpy as np
import pytest

from sensojax.errors import UserError
from sensojax.evaluation import comparison, comparison_page
from sensojax.evaluation.results import MouseScore, Score
from sensojax.evaluation.runs import Run

NEURONS = {"dynamic29515-10-12-Video-abc": 40, "made_up": 25}
CONFIG = {"seed": 0, "core": {"channels": [4, 4]}, "inputs": {"behavior": True}, "name": "a"}


def values(shift=0.0, noise=0, neurons=NEURONS):
    """{mouse: [neuron] correlations}: the same for all runs but for a shift and some noise."""
    rng = np.random.default_rng(0)
    of_all = {mouse: rng.uniform(0.1, 0.5, count) for mouse, count in NEURONS.items()}
    more = np.random.default_rng(noise)
    return {
        mouse: of_all[mouse][:count] + shift + 0.02 * bool(noise) * more.normal(size=count)
        for mouse, count in neurons.items()
    }


def run(name, found=None, config=None, seeds=(0,), tiers=("oracle",), others=(), **changed):
    """A run with the same correlations on every tier; changed: of its scores or of the run.

    others: other measures, {name: {mouse: [neuron]}}.
    """
    found = values() if found is None else found
    score = dict(
        step=7,
        normalization="per_neuron",
        protocol="strict",
        skip_frames=50,
        nan_rule="zero",
        seeds=seeds,
        ensemble=len(seeds) > 1,
        simulated=True,
    )
    score |= {key: changed.pop(key) for key in list(changed) if key in score}
    others = {m: {name: of[m] for name, of in dict(others).items()} for m in found}
    mice = {
        m: MouseScore(m, each, 0, 0.7, 6, 300, each + 0.2, others[m]) for m, each in found.items()
    }
    of_run = dict(
        config=CONFIG | {"seed": seeds[0]} | (config or {}),
        scores={tier: Score(tier=tier, mice=mice, **score) for tier in tiers},
        recordings={mouse: f"print of {mouse}" for mouse in found},
        neurons={mouse: np.arange(len(each)) for mouse, each in found.items()},
        parameters=1000,
        seconds=60.0,
    )
    return Run(name=name, **(of_run | changed))


def other(name="other", **more):
    return run(name, config={"inputs": {"behavior": False}}, **more)


def only(runs, tier="oracle", **how):
    """The cells of one column of the only table, by row."""
    (table,) = comparison.compare(runs, **how).tables
    return {row.name: row.cells[tier] for row in table.rows}


def test_a_cell_is_the_mean_over_all_neurons_with_its_interval():
    cells = only([run("base"), other(found=values(0.1, noise=1))])
    every = np.concatenate(list(values().values()))
    error = np.sqrt(sum(len(each) * each.var() for each in values().values())) / 65
    assert cells["base"].mean == pytest.approx(every.mean())
    assert cells["base"].high - cells["base"].low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert cells["base"].low < cells["base"].mean < cells["base"].high
    assert cells["base"].ceiling == pytest.approx(every.mean() + 0.2)
    assert cells["base"].difference is None and cells["base"].p_holm is None


def test_a_constant_difference_is_sure_where_the_means_are_not():
    cells = only([run("base"), other(found=values(0.01))])
    found = cells["other"]
    assert found.high - found.low > 0.04
    for name in ("difference", "difference_low", "difference_high"):
        assert getattr(found, name) == pytest.approx(0.01)
    assert found.p == 1 / 4001


def test_differences_are_antisymmetric():
    runs = [run("a"), other("b", found=values(0.005, noise=1))]
    forth, back = only(runs, base="a")["b"], only(runs, base="b")["a"]
    assert forth.difference == -back.difference
    assert forth.difference_low == pytest.approx(-back.difference_high, rel=1e-9)
    assert forth.difference_high == pytest.approx(-back.difference_low, rel=1e-9)
    assert forth.p == back.p and 0.01 < forth.p < 1
    again = only(runs[::-1], base="a")
    assert again["b"].difference == forth.difference and again["b"].p == forth.p


def test_p_is_corrected_for_the_number_of_other_runs():
    noisy = [run(f"run{i}", values(0.002, noise=i), {"a": i}) for i in (1, 2, 3)]
    cells = only([run("base"), *noisy])
    p = [cells[f"run{i}"].p for i in (1, 2, 3)]
    assert max(p) < 1
    lowest = f"run{1 + int(np.argmin(p))}"
    assert cells[lowest].p_holm == pytest.approx(min(1, 3 * min(p)))
    assert all(cells[f"run{i}"].p_holm >= cells[f"run{i}"].p for i in (1, 2, 3))
    alone = only([run("base"), noisy[0]])["run1"]
    assert alone.p == alone.p_holm == cells["run1"].p  # the other runs change nothing else
    assert alone.difference_low == pytest.approx(cells["run1"].difference_low)


def test_runs_that_differ_in_the_seed_are_one_row_with_their_spread():
    seeds = [run(f"a{seed}", values(0.01 * seed), seeds=(seed,)) for seed in (0, 1, 2)]
    cells = only([*seeds, other()])
    assert list(cells) == ["a0", "other"]
    mean = np.concatenate(list(values().values())).mean()
    assert cells["a0"].mean == pytest.approx(mean + 0.01)
    assert cells["a0"].spread == pytest.approx(0.01)
    assert cells["a0"].of_runs == pytest.approx({f"a{s}": mean + 0.01 * s for s in (0, 1, 2)})
    assert cells["other"].spread is None
    assert cells["other"].difference == pytest.approx(-0.01)


def test_the_same_run_twice_and_an_ensemble_are_not_further_seeds():
    runs = [run("a"), run("twin"), run("ensemble", seeds=(0, 1, 2))]
    assert list(only(runs)) == ["a", "twin", "ensemble"]


def test_settings_that_change_nothing_do_not_part_seeds():
    runs = [run("a"), run("b", config={"name": "elsewhere"}, seeds=(1,))]
    assert list(only(runs)) == ["a", "b"]
    assert list(only(runs, ignored=("name",))) == ["a"]


def test_a_row_says_what_it_changes():
    config = {"core": {"channels": [8]}, "new": {"depth": 2}, "inputs": {}}
    (table,) = comparison.compare([run("base"), run("b", config=config, seeds=(4,))]).tables
    changed = {"core.channels": [8], "new.depth": 2, "inputs.behavior": "absent"}
    assert [row.changes for row in table.rows] == [{}, changed]


@pytest.mark.parametrize(
    "unlike",
    [
        dict(normalization="official"),
        dict(protocol="competition"),
        dict(skip_frames=51),
        dict(nan_rule="skip"),
        dict(simulated=False),
        dict(recordings=dict.fromkeys(NEURONS, "another print")),
        dict(found={"somebody else": np.full(10, 0.3)}),
    ],
)
def test_what_was_counted_differently_never_shares_a_table(unlike):
    found = comparison.compare([run("a"), other("b", **unlike), other("c", found=values(0.1))])
    assert [[row.name for row in table.rows] for table in found.tables] == [["a", "c"], ["b"]]
    assert found.tables[1].rows[0].cells["oracle"].difference is None


def test_a_run_that_lacks_a_tier_has_no_cell_there_and_the_others_do():
    runs = [run("a", tiers=("oracle", "test")), other("b")]
    runs += [run("c", values(0.1), {"x": 1}, tiers=("test",))]
    (table,) = comparison.compare(runs).tables
    assert [row.cells["test"] is None for row in table.rows] == [False, True, False]
    assert [row.cells["oracle"] is None for row in table.rows] == [False, False, True]
    assert table.rows[2].cells["test"].difference == pytest.approx(0.1)


def test_without_a_score_of_the_base_a_column_has_no_differences():
    runs = [run("a"), run("b", config={"x": 1}, tiers=("oracle", "test"))]
    cells = only(runs, "test")
    assert cells["a"] is None and cells["b"].difference is None and cells["b"].mean > 0


def test_runs_of_fewer_neurons_are_compared_on_those_that_all_have():
    """The second run has other neurons of one mouse, in another order, and none of the other."""
    mouse = next(iter(NEURONS))
    some = np.array([30, 3, 12])
    fewer = {mouse: values(0.05)[mouse][some]}
    small = other("small", found=fewer, neurons={mouse: some})
    found = comparison.compare([run("base"), small])
    (table,) = found.tables
    assert table.columns == {"oracle": {mouse: 3}}
    base, cell = (row.cells["oracle"] for row in table.rows)
    assert base.mean == pytest.approx(values()[mouse][some].mean())
    assert (cell.difference_low, cell.difference_high) == pytest.approx((0.05, 0.05))
    assert (base.own_neurons, cell.own_neurons) == (65, 3)
    assert base.own_mean == pytest.approx(np.concatenate(list(values().values())).mean())
    (said,) = found.remarks
    assert "3 neurons that all runs share" in said and "base reaches" in said


def test_another_measure_is_compared_on_the_neurons_that_have_it_in_all_runs():
    """feve of neurons with enough explainable variance; not a number for one in the second run."""
    fev = {mouse: np.where(np.arange(count) < 10, 0.1, 0.5) for mouse, count in NEURONS.items()}
    first, second = ({"fev": fev, "feve": values(shift)} for shift in (0.2, 0.3))
    second["feve"][next(iter(NEURONS))][39] = np.nan
    runs = [run("a", others=first), other("b", others=second), run("c", config={"x": 1})]
    (table,) = comparison.compare(runs, measure="feve").tables
    assert list(table.columns["oracle"].values()) == [29, 15]
    a, b, none = (row.cells["oracle"] for row in table.rows)
    assert none is None
    parts = [each[10 : 39 if len(each) == 40 else 25] for each in values(0.2).values()]
    assert a.mean == pytest.approx(np.concatenate(parts).mean())
    assert b.difference == pytest.approx(0.1) and b.ceiling is None
    assert (a.own_neurons, b.own_neurons) == (45, 44)


def test_mice_can_be_resampled_instead():
    two = only([run("a"), other(found=values(0.1, noise=1))], unit="mice")
    means = [each.mean() for each in values().values()]
    assert (two["a"].low, two["a"].high) == pytest.approx((min(means), max(means)))
    assert two["other"].p == 0.5  # the smallest of two mice
    with pytest.raises(UserError, match="found one mouse"):
        comparison.compare([run("a", {"m": np.full(5, 0.1)})], unit="mice")


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(UserError, match="found no scored run"):
        comparison.compare([])
    with pytest.raises(UserError, match="did you mean 'base'"):
        comparison.compare([run("base")], base="bass")


# --- files ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found():
    """Two tables; seeds, a missing tier, and a name to be escaped."""
    runs = [run(f"base{s}", values(0.01 * s), seeds=(s,), tiers=("oracle", "test")) for s in (0, 1)]
    runs += [other("no <behavior>", found=values(-0.05, noise=1))]
    runs += [other("official", normalization="official")]
    return comparison.compare(runs, left_out=("broken: cannot be read.",))


@pytest.fixture(scope="module")
def folder(found, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared") / "new"
    comparison_page.write(folder, found, {"commit": "c0ffee"})
    return folder


def test_all_files_are_written_whole(folder):
    names = {path.name for path in folder.iterdir()}
    pictures = {"comparison.png", "comparison_2.png"}
    assert names == {"comparison.csv", "comparison.json", "comparison.html"} | pictures
    for name in pictures:
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_csv_has_a_line_for_each_row_and_run_of_a_tier(found, folder):
    lines = list(csv.DictReader(io.StringIO((folder / "comparison.csv").read_text())))
    level = [(line["level"], line["run"], line["tier"]) for line in lines]
    assert level.count(("configuration", "base0", "oracle")) == 1
    assert level.count(("run", "base1", "test")) == 1
    assert ("configuration", "no <behavior>", "test") not in level
    assert len(level) == len(set(level)) == 10
    cell = found.tables[0].rows[1].cells["oracle"]
    (line,) = (x for x in lines if (x["level"], x["run"]) == ("configuration", "no <behavior>"))
    assert float(line["difference"]) == cell.difference and float(line["p_holm"]) == cell.p_holm
    assert json.loads(line["changes"]) == {"inputs.behavior": False}
    assert (line["mice"], line["neurons"], line["normalization"]) == ("2", "65", "per_neuron")


def test_json_holds_everything(found, folder):
    told = json.loads((folder / "comparison.json").read_text())
    assert told["made"] == {"commit": "c0ffee"} and told["samples"] == 4000
    assert told["left_out"] == ["broken: cannot be read."]
    for table, expected in zip(told["tables"], found.tables, strict=True):
        assert table["conditions"] == expected.conditions
        for row, known in zip(table["rows"], expected.rows, strict=True):
            for tier, cell in known.cells.items():
                assert row["cells"][tier] == (cell and vars(cell))
            assert [each["name"] for each in row["runs"]] == [each.name for each in known.runs]
            assert row["runs"][0]["config"] == known.runs[0].config


def test_page_says_conditions_neurons_and_what_was_left_out(folder):
    page = (folder / "comparison.html").read_text()
    assert "no &lt;behavior&gt;" in page and "<behavior>" not in page
    assert "simulated mice" in page and "broken: cannot be read." in page
    mean = np.concatenate(list(values().values())).mean()
    assert f"65 neurons of 29515-10-12, made_up, ceiling {mean + 0.2:.4f}" in page
    assert "official normalization" in page and "not independent draws" in page
    assert page.count("data:image/png") == 2


def test_text_gives_every_row_a_line_and_a_dash_where_there_is_no_score(found):
    lines = comparison_page.to_text(found).splitlines()
    test = lines[lines.index("test:") + 1 :]
    assert test[0].split()[:3] == [
        "base0",
        f"{found.tables[0].rows[0].cells['test'].mean:.4f}",
        "±",
    ]
    assert test[1].split() == ["no", "<behavior>", "-"]
    assert lines[-1] == "broken: cannot be read."
