"""A merged table has whole sessions in its splits, and says of itself what is true."""

import json

import numpy as np
import pytest

from sensojax.errors import UserError
from sensojax.spikes import merging, splits, statistics
from sensojax.spikes.counts import Counts
from sensojax.spikes.rows import Row, Settings
from sensojax.spikes.session import CountsSession
from sensojax.spikes.statistics import Tally


def sessions(components: int, number: int) -> list[CountsSession]:
    """Three sessions of each subject."""
    found = []
    for component in range(components):
        for each in range(number):
            counts = Counts.of_dense(np.full((2, 8), each % 4), 0.02)
            made = CountsSession(f"c{component}-{each}", counts, f"sub-{each // 3}", f"ses-{each}")
            made.component = ("vcn", "ibl", "own")[component]
            found.append(made)
    return found


def rows_of(found: list) -> list[Row]:
    return [
        Row(i, segment, 2 * segment, 2 * segment + 2)
        for i in range(len(found))
        for segment in range(4)
    ]


@pytest.mark.parametrize("level", ["session", "subject"])
def test_every_session_or_subject_is_in_one_split(level):
    found = sessions(2, 150)
    rows = rows_of(found)
    parts = splits.split(found, rows, level, 0.2, seed=3)
    every = parts["train"] + parts["test"]
    assert len(every) == len(rows) and set(every) == set(rows)

    def whose(part: str) -> set:
        own = [found[row.session] for row in parts[part]]
        names = [(each.component, each.subject, each.session) for each in own]
        return {name[: 3 if level == "session" else 2] for name in names}

    assert not whose("train") & whose("test")
    share = len(parts["test"]) / len(rows)
    assert abs(share - 0.2) < 4 * np.sqrt(0.16 / (300 if level == "session" else 100))


def test_a_data_set_added_later_moves_nothing_and_seeds_differ():
    few, many = sessions(1, 100), sessions(3, 100)
    tested = {
        seed: [splits.is_tested(each, "session", 0.3, seed) for each in few] for seed in (0, 1)
    }
    again = [splits.is_tested(each, "session", 0.3, 0) for each in many]
    assert again[:100] == tested[0] != tested[1]


def test_the_published_split_leaks_and_is_had_by_name_only():
    found = sessions(1, 60)
    rows = rows_of(found)
    parts = splits.split(found, rows, "chunk_leaking", 0.1, seed=0)
    assert len(parts["test"]) == 24
    both = {row.session for row in parts["test"]} & {row.session for row in parts["train"]}
    assert len(both) > 15
    with pytest.raises(UserError, match=r"found split 'chunk', expected one of session, subject"):
        splits.split(found, rows, "chunk", 0.1, seed=0)


def test_rows_are_in_a_random_order_that_the_seed_decides():
    found = sessions(1, 60)
    rows = rows_of(found)
    orders = [splits.split(found, rows, "session", 0.0, seed) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2] and list(orders[0]) == ["train"]
    places = [rows.index(row) for row in orders[0]["train"]]
    assert abs(np.corrcoef(places, range(240))[0, 1]) < 0.3
    for share in (-0.1, 1.0):
        with pytest.raises(UserError, match="found a test share of"):
            splits.split(found, rows, "session", share, 0)


def test_statistics_and_page_say_what_the_table_holds(tmp_path):
    found = sessions(2, 12)
    rows = rows_of(found)
    parts = splits.split(found, rows, "subject", 0.4, seed=1)
    assert set(parts) == {"train", "test"}
    tallies = {}
    for name, own in parts.items():
        tallies[name] = {}
        for row in own:
            session = found[row.session]
            tally = Tally.of(session.counts(0.02, row.start, row.stop))
            known = tallies[name].get(session.component, Tally())
            tallies[name][session.component] = known + tally
    how = {"level": "subject", "share": 0.4, "seed": 1}
    settings = Settings(0.02, 10_000_000)
    numbers = merging.describe(tmp_path, found, parts, tallies, settings, how)
    assert json.loads((tmp_path / "statistics.json").read_text()) == numbers
    assert numbers["all"]["tokens"] == 24 * 16 and numbers["all"]["largest_count"] == 3
    assert numbers["all"]["spikes"] == 24 * 16 * 1.5
    assert numbers["all"]["times"] == {str(count): 96 for count in range(4)}
    assert numbers["all"]["entropy_bits"] == pytest.approx(2.0)
    assert sum(part["rows"] for part in numbers["splits"].values()) == 96
    assert numbers["components"]["vcn"]["subjects"] == 4
    assert numbers["components"]["ibl"]["sessions"] == 12
    tested = sum(part["test_tokens"] for part in numbers["components"].values())
    assert tested == numbers["splits"]["test"]["tokens"] > 0
    shares = np.zeros(4)
    for tally in tallies["train"].values():
        for count, times in tally.times.items():
            shares[count] += times / numbers["splits"]["train"]["tokens"]
    np.testing.assert_allclose(
        numbers["class_weights"], statistics.class_weights(shares), rtol=1e-6
    )
    page = (tmp_path / "README.md").read_text()
    assert page.startswith("---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train")
    assert "path: data/train-*" in page and "Each subject is in one split as a whole" in page
    assert "[VCN](https://dandiarchive.org/dandiset/000021)" in page and "CC-BY-4.0" in page
    assert f"{numbers['all']['tokens']:,}" in page and "bins of 20 ms" in page
    leaking = merging.card(numbers | {"split": how | {"level": "chunk_leaking"}}, settings)
    assert "scores on them say little about new recordings" in leaking


def test_a_session_from_two_places_is_refused():
    with pytest.raises(UserError, match="found session c0-0 of vcn in 2 of the sources"):
        merging.check_names([*sessions(1, 4), *sessions(1, 1)])


def test_weights_beyond_the_tenth_are_its_own():
    weights = statistics.class_weights(np.array([0.5, 0.25, *[0.02] * 9, 0.01, 0.0]))
    assert weights[0] == 2 and len(weights) == 13 and weights.dtype == np.float32
    assert weights[10] == weights[11] == weights[12] == pytest.approx(50)
    assert len(statistics.class_weights(np.array([0.9, 0.1]))) == 2
