"""The benchmark measures both sides in turn and says of its numbers what they are."""

import json
import os
import sys
import time

import jax
import numpy as np
import pytest

from scripts import bench
from scripts.benchmarks import (
    data_rows,
    machine,
    measuring,
    merging,
    parts,
    peer,
    programs,
    session,
    tables,
)
from sensojax.errors import UserError
from tests import runs

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
    """The newest run in the JSON, and the page, of a tiny run without a peer."""
    files = {"--json": folder / "result.json", "--markdown": folder / "PAGE.md"}
    named = [str(word) for pair in files.items() for word in pair]
    bench.main(["--tiny", "--repeats", "2", "--folder", str(folder), *named, *arguments])
    assert not list(folder.glob("*.partial"))
    *_, newest = json.loads(files["--json"].read_text())["runs"]
    return newest, files["--markdown"].read_text()


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    return *run(folder, "--rows", "loader,correlation,store,conversion"), folder


def test_every_row_is_in_the_json_with_all_its_values(measured):
    result, _, _ = measured
    found = {row["row"]: row for row in result["rows"]}
    assert list(found) == ["loader", "correlation", "store", "conversion"]
    # Loader and conversion from cache and disk, two kinds of responses stored.
    assert len(result["rows"]) == 7
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
        source, stored = (session.folder_bytes(folder / part) for part in (sources, stores))
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
    result, page = run(tmp_path, "--rows", "step,prediction", "--model", "gru,images")
    few = ["--mice", "2", "--clips", "1", "--compute", "bfloat16"]
    two_mice, _ = run(tmp_path, "--rows", "step", *few)
    assert "--clips 1" in two_mice["command"]
    steps = [*two_mice["rows"], *(row for row in result["rows"] if row["row"] == "step")]
    assert [row["work"] for row in steps] == [
        "bfloat16 training step, 2 mice x 1 clips",
        "GRU training step, 1 mouse x 2 clips",
        "CNN of images, training step, 1 mouse x 4 images",
    ]
    for row in steps:
        assert row["more"]["compile_seconds"] > 0 and row["more"]["program_gb"] > 0
        assert row["more"]["gflops"][0] > 0 and row["more"]["peak_gb"][0] > 0
    assert len(result["rows"]) == 5  # videos are predicted as clips and as whole trials
    assert "| CNN of images, prediction, 1 mouse x 4 images |" in page


@pytest.mark.slow
def test_parts_and_epochs_are_measured_beside_their_traffic(tmp_path):
    result, page = run(tmp_path, "--rows", "core,readout,transfer,epoch")
    work = [row["work"] for row in result["rows"]]
    assert work == [
        "core, forward, 2 clips",
        "core, forward and backward, 2 clips",
        "readout, forward, 2 clips, 20 neurons",
        "readout, forward and backward, 2 clips, 20 neurons",
        "host to device, a batch of 0.045 MB",
        "epoch from disk, 4 clips",
    ]
    for row in result["rows"][:4]:
        assert row["more"]["gbs"] > 0 and row["more"]["program_gb"] > 0
    (said,) = result["said"]["epoch"]
    assert "the device waited" in said and said in page


@pytest.mark.slow
def test_dwiseneuro_is_measured_on_clips_and_on_a_trial_in_windows(tmp_path):
    model = ["--model", "dwiseneuro"]
    result, _ = run(tmp_path, "--rows", "step,prediction", *model)
    fewer, _ = run(
        tmp_path, "--rows", "prediction", *model, "--windows", "11", "--window-step", "4"
    )
    rows = [*result["rows"], *fewer["rows"]]
    assert [row["work"] for row in rows] == [
        "DwiseNeuro, training step, 1 mouse x 2 clips",
        "DwiseNeuro, prediction, 1 mouse x 1 clips of 33 frames",
        "DwiseNeuro, prediction, 1 mouse x 1 clips of 41 frames, windows every 4 frames",
    ]
    assert all(row["more"]["gflops"][0] > 0 for row in rows)


@pytest.mark.slow
def test_viv1t_is_measured_on_whole_trials_with_a_few_of_its_blocks(tmp_path):
    result, _ = run(tmp_path, "--rows", "step,prediction", "--model", "viv1t")
    assert [row["work"] for row in result["rows"]] == [
        "ViV1T of few blocks, training step, 1 mouse x 1 clips",
        "ViV1T of few blocks, prediction, 1 mouse x 2 clips of 70 frames",
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


def core_operations(page: str) -> tuple[float, float]:
    """Of the published model on a clip of one mouse, forward and in training; by shapes alone."""
    config = runs.preset("sensorium", page)
    made = programs.Programs(config, programs.Sizes.published(config, 1, neurons=5, clips=1))
    seen = jax.eval_shape(made.prepare, made.batches, made.statistics)
    return parts.core_operations(made.graph, made.state.weights, seen)


def test_core_operations_are_those_counted_for_the_published_core():
    forward, training = core_operations("dynamic")
    assert forward / 2 == pytest.approx(2.3e10, rel=0.02)  # baselines 8.1: multiply-adds of a clip
    first = 2 * 80 * 26 * 54 * 3 * 32 * 11 * 11
    assert training == 3 * forward - first


@pytest.mark.slow
def test_recurrent_operations_are_those_counted_for_the_published_recurrence():
    forward, training = core_operations("dynamic_gru")
    first = 2 * 80 * 28 * 56 * 64 * 3 * 9 * 9
    core = first + 3 * 2 * 80 * 28 * 56 * 64 * 64 * 7 * 7
    # Baselines 8.1, where products with padding count as well: a ninth of all.
    assert 0.88 < forward / (2 * 2.5e11 + core) < 0.9
    assert training == pytest.approx(3 * forward - first)  # however often the states are made


@pytest.mark.slow
def test_operations_of_dwiseneuro_are_those_counted_for_the_published_core():
    forward, training = core_operations("dynamic_dwiseneuro")
    assert forward / 2 == pytest.approx(14.3e9 + 0.086e9, rel=0.01)  # sota 1.2, multiply-adds
    assert training == pytest.approx(3 * forward, rel=0.01)


def test_the_numpy_side_is_the_correlation():
    predicted, observed = np.random.default_rng(0).normal(size=(2, 3, 7, 4))
    joined = [x.reshape(21, 4) for x in (predicted, observed)]
    expected = [np.corrcoef(joined[0][:, i], joined[1][:, i])[0, 1] for i in range(4)]
    np.testing.assert_allclose(data_rows._joined(predicted, observed), expected, rtol=1e-12)


def test_rates_of_the_machine_are_told_by_size():
    rates = machine.rates(1, "float32", tiny=True)
    assert list(rates["matmul"]) == ["64", "128"] and list(rates["copy"]) == ["1"]
    assert min(*rates["matmul"].values(), *rates["copy"].values()) > 0


def test_other_work_is_what_this_process_did_not_do():
    work, began, wall = machine.OtherWork(None), time.process_time(), time.perf_counter()
    while time.process_time() - began < 0.3:
        pass
    cores, own = work.cores(), 0.3 / (time.perf_counter() - wall)
    # Clocks tick a hundred times a second.
    assert cores is None or 0 <= cores <= os.cpu_count() - own + 0.15 * os.cpu_count()


# Several runs as one page -------------------------------------------------------------------------


def made_run(command: str, *work: str, others: float | None = 0.0, ours: float = 2.0) -> dict:
    side, other = measuring.Side((ours, 2 * ours)), measuring.Side((1.0, 3.0))
    rows = [
        measuring.Row("step", each, "clips/s", side, "other", other, {"others": others})
        for each in work
    ]
    about = dict(date="2000-01-01", cpu="x", cores=2, device="cpu", load_before=0.1, ours={})
    return dict(
        command=command,
        tiny=False,
        machine=about | dict(peer=None, peer_threads=None, stand_ins=[]),
        rates=dict(matmul={"64": 3.0}, copy={"1": 4.0}),
        matmul_gflops=[3.0, None],
        rows=[tables.plain(row) for row in rows],
        said={"step": [f"said by {command}"]},
    )


def test_rows_of_several_runs_join_and_keep_what_they_were_measured_with(tmp_path):
    files = [tmp_path / name for name in ("a.json", "b.json")]
    merging.write(files[0], [made_run("first", "one", "two", others=1.0)])
    merging.write(files[1], [made_run("second", "two", "three", ours=5.0)])
    page, out = tmp_path / "PAGE.md", tmp_path / "c.json"
    words = ["--merge", *map(str, files), "--markdown", str(page), "--json", str(out)]
    bench.main(["--rows", "none", *words])
    text = page.read_text()
    assert "| one | clips/s | 3 (2-4) | 2 (1-3) | other | **1.50** † | 1 |" in text
    assert "| two | clips/s | 7.5 (5-10) | 2 (1-3) | other | **3.75** | 2 |" in text
    assert text.count("| two |") == 2  # of both tables, once each
    assert "1. `first`, 2000-01-01" in text and "2. `second`, 2000-01-01" in text
    assert "said by first" in text and "said by second" in text
    assert merging.read([out]) == merging.joined(merging.read(files))


def test_a_run_without_a_row_of_its_own_is_dropped_with_what_it_said():
    joined = merging.joined([made_run("old", "one"), made_run("new", "one")])
    assert [run["command"] for run in joined] == ["new"]
    assert tables.page(joined).count("said by") == 1


def test_a_file_that_is_no_benchmark_is_refused(tmp_path):
    path = tmp_path / "other.json"
    for content in ("[1]", "{}", "half"):
        path.write_text(content)
        with pytest.raises(SystemExit, match=r"found no benchmark in .*other\.json"):
            bench.main(["--rows", "none", "--merge", str(path)])


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
        (["--clips", "0"], "found --clips 0"),
        (["--window-step", "-1"], "found --window-step -1"),
        (["--compute", "float8"], "found --compute 'float8'"),
        (["--rows", "none"], "found no row to measure"),
        (["--peer", "nowhere"], "found no neuralpredictors in nowhere"),
    ],
)
def test_a_wrong_argument_gets_one_sentence(arguments, sentence):
    with pytest.raises(SystemExit, match=sentence):
        bench.main([*arguments, "--tiny"])
