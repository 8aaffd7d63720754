"""Files of Sensorium 2022: written as published, read back, and scored by their ids alone."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from sensojax import image_scores
from sensojax.errors import UserError
from sensojax.evaluation import image_submission as files
from tests.goldens import Golden, golden_files

NEURONS = np.array([15, 57, 4, 48])
SUFFIXES = (files.CSV, files.PARQUET)
every_golden = pytest.mark.parametrize("path", golden_files("15_submission_2022"))


def made_up(seed: int, images=6, repeats=4) -> list[files.Row]:
    rng = np.random.default_rng(seed)
    shown = rng.permutation(np.repeat(np.arange(images) * 7, repeats))
    signal = np.random.default_rng(0).gamma(2.0, size=(7 * images, len(NEURONS)))
    noise = rng.gamma(0.5, size=(len(shown), len(NEURONS)))
    return [
        files.Row(f"{number:032x}", int(image), (signal[image] + noise[number]).astype(np.float32))
        for number, image in enumerate(shown)
    ]


def written(path, rows, what="prediction", ids=NEURONS):
    files.write(path, iter(rows), ids, what)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("what", files.VALUES)
def test_what_is_read_is_what_was_written(tmp_path, suffix, what):
    rows = made_up(1)
    found = files.read(written(tmp_path / f"file{suffix}", rows, what))
    assert found.responses.trial_ids.tolist() == [row.trial for row in rows]
    np.testing.assert_array_equal(found.image_ids, [row.image for row in rows])
    np.testing.assert_array_equal(found.responses.neuron_ids, NEURONS)
    np.testing.assert_array_equal(found.responses.responses, [row.values for row in rows])
    assert [path.name for path in tmp_path.iterdir()] == [f"file{suffix}"]


@every_golden
def test_text_of_a_file_is_that_of_the_published_one(tmp_path, path):
    golden = Golden(path)
    for name in ("submission_file_live_test", "ground_truth_file_final_test"):
        found = golden.part(f"output/{name}")
        what = next(each for each in files.VALUES if each in found)
        rows = [
            files.Row(str(trial), int(image), values)
            for trial, image, values in zip(
                found["trial_indices"], found["image_ids"], found[what], strict=True
            )
        ]
        text = written(tmp_path / f"{name}.csv", rows, what, found["neuron_ids"]).read_text()
        said = str(found["first_lines"]).rstrip("\n")
        assert text.startswith(said) and len(said.splitlines()) > 1
        assert len(text.splitlines()) == len(rows) + 1


@every_golden
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_scores_of_files_are_the_published_ones_in_any_order(tmp_path, path, suffix):
    golden, rng = Golden(path), np.random.default_rng(3)
    for tier, short in (("test", "live_test"), ("final_test", "final_test")):
        paths = []
        for name, what in ((f"submission_file_{short}", 0), (f"ground_truth_file_{tier}", 1)):
            found = golden.part(f"output/{name}")
            trials, neurons = (
                rng.permutation(len(found[each])) for each in ("trial_indices", "neuron_ids")
            )
            rows = [
                files.Row(
                    str(found["trial_indices"][i]),
                    int(found["image_ids"][i]) if what else -1,  # only the truth is asked for them
                    found[files.VALUES[what]][i][neurons],
                )
                for i in trials
            ]
            ids = found["neuron_ids"][neurons]
            paths.append(written(tmp_path / f"{name}{suffix}", rows, files.VALUES[what], ids))
        scores = files.score(*paths)
        for name, value in scores.items():
            np.testing.assert_allclose(
                value, golden[f"output/score/{short}/{name}"], rtol=1e-5, err_msg=name
            )
        assert files.described(scores, *paths).startswith(paths[0].name)


def test_scores_of_files_are_those_of_their_arrays(tmp_path):
    predicted, observed = made_up(1), made_up(1)
    rng = np.random.default_rng(5)
    predicted = [
        files.Row(row.trial, row.image, row.values + rng.normal(size=4).astype(np.float32))
        for row in predicted
    ]
    scores = files.score(
        written(tmp_path / "a.csv", predicted), written(tmp_path / "b.csv", observed, "responses")
    )
    direct = image_scores.of_trials(
        [row.image for row in observed],
        np.stack([row.values for row in predicted]),
        np.stack([row.values for row in observed]),
    )
    assert scores["feve"] == pytest.approx(direct.mean_feve(), rel=1e-6)


def test_parquet_is_written_in_row_groups_and_smaller(tmp_path):
    rows = made_up(1, images=5, repeats=30)
    sizes = [written(tmp_path / f"a{s}", rows).stat().st_size for s in SUFFIXES]
    assert pq.ParquetFile(tmp_path / f"a{files.PARQUET}").num_row_groups == 3
    assert sizes[1] < sizes[0] / 2


def test_a_stopped_file_is_not_there(tmp_path):
    def stopped():
        yield from made_up(1)[:3]
        raise KeyboardInterrupt

    for suffix in SUFFIXES:
        with pytest.raises(KeyboardInterrupt):
            files.write(tmp_path / f"a{suffix}", stopped(), NEURONS, "prediction")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("image_ids", "images", 1), "expected trial_indices, image_ids"),
        (lambda text: text[: len(text) // 2], "columns, expected 4|is not as it should be"),
        (lambda text: text.replace("[15, 57, 4, 48]", "[15, 57, 4]", 1), "row 1 .* has 4 resp"),
        (lambda text: text.replace("[", "nothing", 1), "row 1 of .* is not as it should be"),
        (lambda text: text.splitlines()[0], "has no trials"),
        (lambda text: "", "found the columns none"),
    ],
)
def test_a_damaged_file_is_refused_in_one_sentence(tmp_path, change, said):
    path = written(tmp_path / "a.csv", made_up(1))
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=said) as refused:
        files.read(path)
    assert "\n" not in str(refused.value)


def test_files_of_other_trials_or_neurons_are_refused(tmp_path):
    rows = made_up(1)
    truth = written(tmp_path / "truth.csv", rows, "responses")
    with pytest.raises(UserError, match="trial id"):
        files.score(written(tmp_path / "a.csv", rows[1:]), truth)
    with pytest.raises(UserError, match="neuron id"):
        files.score(written(tmp_path / "b.csv", rows, ids=NEURONS + 1), truth)
    with pytest.raises(UserError, match=r"cannot read .*nowhere\.csv"):
        files.score(tmp_path / "nowhere.csv", truth)
    (tmp_path / f"c{files.PARQUET}").write_bytes(b"not parquet")
    with pytest.raises(UserError, match="cannot read"):
        files.read(tmp_path / f"c{files.PARQUET}")
