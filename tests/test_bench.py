"""The benchmark measures both sides in turn and says of its numbers what they are."""

import json
import sys

import numpy as np
import pytest

from configs import dynamic, dynamic_dwiseneuro, dynamic_gru
from scripts import bench
from scripts.benchmarks import data_rows, measuring, peer, subject, tables, windowed
from sensojax.errors import UserError

# A worker that knows three requests; the real one needs torch.
WORKER = """
import json, sys
for line in sys.stdin:
    request = json.loads(line)
    if request["do"] == "die":
        sys.exit(7)
    known = {"double": lambda x: {"answer": 2 * x}, "fail": lambda: {"error": "ValueError: no"}}
    print(json.dumps(known[request["do"]](**request["with"])), flush=True)
"""


def run(folder, *arguments) -> tuple[dict, str]:
    """The JSON and the page of a tiny run without a peer."""
    files = {"--json": folder / "result.json", "--markdown": folder / "PAGE.md"}
    named = [str(word) for pair in files.items() for word in pair]
    bench.main(["--tiny", "--repeats", "2", "--folder", str(folder), *named, *arguments])
    assert not list(folder.glob("*.partial"))
    return json.loads(files["--json"].read_text()), files["--markdown"].read_text()


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    return *run(folder, "--rows", "loader,correlation,store,conversion"), folder


def test_every_row_is_in_the_json_with_all_its_values(measured):
    result, _, _ = measured
    found = {row["row"]: row for row in result["rows"]}
    assert list(found) == ["loader", "correlation", "store", "conversion"]
    assert len(result["rows"]) == 5  # two kinds of responses for the store
    for name, row in found.items():
        values = row["ours"]["values"]
        assert len(values) == (1 if name == "store" else 2)
        assert all(value > 0 for value in values)
    assert found["loader"]["theirs"] is None and found["loader"]["ratio"] is None
    numpy_side = found["correlation"]
    medians = [np.median(numpy_side[side]["values"]) for side in ("ours", "theirs")]
    assert numpy_side["ratio"] == pytest.approx(medians[0] / medians[1])


def test_store_rows_are_the_ratios_of_the_bytes_on_disk(measured):
    result, _, folder = measured
    rows = [row for row in result["rows"] if row["row"] == "store"]
    for row, sources, stores in zip(
        rows, ("published", "sparse"), ("stores", "sparse_stores"), strict=True
    ):
        source, stored = (subject.folder_bytes(folder / part) for part in (sources, stores))
        assert row["ours"]["values"] == [source / stored]
    assert rows[0]["ours"]["values"] < rows[1]["ours"]["values"]  # zeros pack better


def test_session_differs_from_the_simulated_one_in_its_zeros_alone(measured):
    _, _, folder = measured
    (path,) = (folder / "published").iterdir()
    for file in (path / "data" / "responses").iterdir():
        found, simulated = (
            np.load(file),
            np.load(folder / "sparse" / path.name / "data/responses" / file.name),
        )
        zero = simulated == 0
        assert zero.any() and (found[zero] > 0).all()
        np.testing.assert_array_equal(found[~zero], simulated[~zero])


def test_page_has_the_table_and_says_that_our_side_is_alone(measured):
    result, page, _ = measured
    for row in result["rows"]:
        assert f"| {row['work']} |" in page
    assert "The published code was not run, since no --peer was given" in page
    assert "sizes of --tiny" in page
    assert result["machine"]["cpu"] in page and result["machine"]["ours"]["jax"] in page


def test_page_names_no_path_of_this_machine(measured):
    result, page, folder = measured
    for text in (page, json.dumps(result)):
        assert str(folder) not in text and sys.executable not in text


@pytest.mark.slow
def test_model_rows_measure_speed_compilation_and_memory(tmp_path):
    models = ("--model", "factorised,gru,images")
    result, page = run(tmp_path, "--rows", "step,prediction", "--mice", "1,2", *models)
    steps = [row for row in result["rows"] if row["row"] == "step"]
    assert [row["work"].split(" x ")[0] for row in steps] == [
        "training step, 1 mouse",
        "training step, 2 mice",
        "GRU training step, 1 mouse",
        "GRU training step, 2 mice",
        "CNN of images, training step, 1 mouse",
        "CNN of images, training step, 2 mice",
    ]
    for row in steps:
        assert row["more"]["compile_seconds"] > 0
        assert row["more"]["gflops"][0] > 0 and row["more"]["peak_gb"][0] > 0
    assert len(result["rows"]) == 16
    assert "| CNN of images, prediction, 1 mouse x 4 images |" in page
    assert "| training step, 2 mice x 2 clips |" in page


@pytest.mark.slow
def test_dwiseneuro_is_measured_on_clips_and_on_a_trial_in_windows(tmp_path):
    result, _ = run(tmp_path, "--rows", "step,prediction", "--model", "dwiseneuro")
    assert [row["work"] for row in result["rows"]] == [
        "DwiseNeuro, training step, 1 mouse x 2 clips",
        "DwiseNeuro, prediction, 1 mouse x 1 clips of 33 frames",
    ]
    assert all(row["more"]["gflops"][0] > 0 for row in result["rows"])


# Pieces -------------------------------------------------------------------------------------------


def test_sides_take_turns_after_one_round_that_does_not_count():
    order = []

    def side(name, seconds):
        times = iter(seconds)

        def once():
            order.append(name)
            return next(times)

        return once

    found = measuring.in_turn(2, side("a", (9, 1, 2)), side("b", (9, 3, 4)))
    assert order == ["a", "b", "a", "b", "a", "b"]
    assert found == [[1, 2], [3, 4]]


def test_ratio_is_that_of_the_medians():
    ours = measuring.Side.rate(12.0, [1.0, 2.0, 100.0])
    theirs = measuring.Side.rate(12.0, [4.0, 3.0, 6.0])
    assert ours.median == 6.0
    row = measuring.Row("step", "training", "clips/s", ours, "other", theirs)
    assert row.ratio == 2.0
    assert tables.line(row) == "training: 6 (0.12-12) clips/s, other 3 (2-4), ratio 2.00"


def test_core_operations_are_those_counted_for_the_published_core():
    config = dynamic.get_config("sensorium")
    forward = subject.core_flops(config, 80, 36, 64, training=False)
    assert forward / 2 == pytest.approx(2.3e10, rel=0.02)  # baselines 8.1: multiply-adds of a clip
    training = subject.core_flops(config, 80, 36, 64, training=True)
    first = 2 * 80 * 26 * 54 * 3 * 32 * 11 * 11
    assert training == 3 * forward - first


def test_recurrent_operations_are_those_counted_for_the_published_recurrence():
    config = dynamic_gru.get_config("sensorium")
    both = subject.core_flops(config, 80, 36, 64, training=False)
    first = 2 * 80 * 28 * 56 * 64 * 3 * 9 * 9
    core = first + 3 * 2 * 80 * 28 * 56 * 64 * 64 * 7 * 7
    assert (both - core) / 2 == pytest.approx(2.5e11, rel=0.01)  # baselines 8.1
    assert subject.core_flops(config, 80, 36, 64, training=True) == 3 * both - first


def test_operations_of_dwiseneuro_are_those_counted_for_the_published_core():
    config = dynamic_dwiseneuro.get_config("sensorium").to_dict()
    of_clip = windowed.flops(config, 31, training=False)
    assert of_clip / 2 == pytest.approx(14.3e9 + 0.086e9, rel=0.01)  # sota 1.2, multiply-adds
    assert windowed.flops(config, 300, training=False) == 270 * of_clip
    assert windowed.flops(config, 31, training=True) == 3 * of_clip


def test_the_numpy_side_is_the_correlation():
    predicted, observed = np.random.default_rng(0).normal(size=(2, 3, 7, 4))
    joined = [x.reshape(21, 4) for x in (predicted, observed)]
    expected = [np.corrcoef(joined[0][:, i], joined[1][:, i])[0, 1] for i in range(4)]
    np.testing.assert_allclose(data_rows._joined(predicted, observed), expected, rtol=1e-12)


def test_peer_answers_or_says_in_its_own_words_why_not(tmp_path, monkeypatch):
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER)
    monkeypatch.setattr(peer, "WORKER", worker)
    with peer.Peer(tmp_path, sys.executable) as other:
        assert other.ask("double", x=21) == 42
        with pytest.raises(UserError, match="failed at 'fail': ValueError: no"):
            other.ask("fail")
        assert other.ask("double", x=1) == 2
        with pytest.raises(UserError, match="exit code 7 at 'die'"):
            other.ask("die")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--rows", "stepp"], "found --rows 'stepp'.*did you mean 'step'"),
        (["--mice", "1,none"], "found --mice '1,none'"),
        (["--model", "factorised,gro"], "found --model 'gro'.*did you mean 'gru'"),
        (["--repeats", "0"], "found --repeats 0"),
        (["--peer", "nowhere"], "found no neuralpredictors in nowhere"),
    ],
)
def test_a_wrong_argument_gets_one_sentence(arguments, sentence):
    with pytest.raises(SystemExit, match=sentence):
        bench.main([*arguments, "--tiny"])
