"""Submission files keep what they were given, in little memory, and are scored as the model is."""

import dataclasses
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sensojax import conversion
from sensojax.errors import UserError
from sensojax.evaluation import submission, submission_scores
from sensojax.evaluation.submission import Row
from sensojax.pipeline import transforms
from sensojax.pipeline.windows import SCORED_FRAMES, ScoredFrames
from sensojax.store import TrialStore
from tests import handmade, runs

MOUSE = "dynamic1-2-3-Video-handmade"
SKIPPED = ScoredFrames(skip_frames=10, most_frames=0, drop_last=0)
TIER = "oracle"


def made_up(count: int, neurons: int = 7, frames: int = 5, mouse: str = "a") -> list[Row]:
    rng = np.random.default_rng(count)
    ids = rng.permutation(10 * neurons)[:neurons].astype(np.uint32)
    return [
        Row(mouse, 3 * trial, rng.random((neurons, frames + trial), dtype=np.float32), ids)
        for trial in range(count)
    ]


def assert_same(found: list[Row], expected: list[Row]) -> None:
    assert [(row.mouse, row.trial) for row in found] == [(r.mouse, r.trial) for r in expected]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours.prediction, theirs.prediction)
        np.testing.assert_array_equal(ours.neuron_ids, theirs.neuron_ids)


@pytest.fixture(autouse=True)
def compiled_once(cache):
    with runs.cached(cache):
        yield


# What a file keeps -------------------------------------------------------------------------------


@pytest.mark.parametrize("group_values", [1, 100, 10**6])
@pytest.mark.parametrize("double", [True, False])
def test_rows_come_back_as_they_were_in_any_row_group(tmp_path, monkeypatch, group_values, double):
    """Two mice of different numbers of neurons, trials of different lengths."""
    monkeypatch.setattr(submission, "GROUP_VALUES", group_values)
    rows = [*made_up(4), *made_up(3, neurons=4, mouse="b")]
    path = tmp_path / "file"
    submission.write(path, rows, {"step": 3}, double=double)
    assert_same(list(submission.read(path)), rows)
    assert submission.about(path) == {"step": 3}
    file = pq.ParquetFile(path)
    element = "double" if double else "float"
    assert str(file.schema_arrow.field("prediction").type) == (
        f"list<element: list<element: {element}>>"
    )
    groups = file.num_row_groups
    assert groups == {1: 7, 10**6: 1}.get(group_values, groups) and (groups == 1 or groups >= 2)


def test_memory_is_that_of_a_row_group_however_many_rows_there_are(tmp_path):
    path = tmp_path / "file"

    def rows(count):
        ids = np.arange(500)
        for trial in range(count):
            yield Row("a", trial, np.full((500, 200), trial, np.float32), ids)

    peaks = []
    for count in (50, 200):  # 20 MB and 80 MB as 32-bit numbers
        pool = pa.proxy_memory_pool(pa.default_memory_pool())
        before = pa.default_memory_pool()
        pa.set_memory_pool(pool)
        tracemalloc.start()
        try:
            submission.write(path, rows(count), {})
            written = pool.max_memory(), tracemalloc.get_traced_memory()[1]
            tracemalloc.reset_peak()
            assert sum(1 for _ in submission.read(path)) == count
            peaks.append((*written, tracemalloc.get_traced_memory()[1]))
        finally:
            tracemalloc.stop()
            pa.set_memory_pool(before)
    np.testing.assert_array_less(peaks[1], 1.2 * np.array(peaks[0]) + 1e6)
    assert max(peaks[1][2], 0) < 4e6  # reading holds one trial


def test_files_as_the_published_code_writes_them_are_read(tmp_path):
    """One row group, the text of newer pandas, names of files for numbers of trials."""
    rows = made_up(5)
    table = pa.table(
        {
            "neuron_ids": [row.neuron_ids.tolist() for row in rows],
            "mouse": pa.array([row.mouse for row in rows], pa.large_string()),
            "trial_indices": [f"{row.trial}.npy" for row in rows],
            "prediction": [row.prediction.astype(float).tolist() for row in rows],
        }
    )
    path = tmp_path / submission.KIT_NAMES["live_test_main"]
    pq.write_table(table, path, compression="brotli")
    assert_same(list(submission.read(path)), rows)
    assert submission.about(path) == {}
    assert submission.find(tmp_path, "live_test_main") == path
    assert submission.find(tmp_path, "final_test_main") is None
    ours = tmp_path / submission.NAMES["live_test_main"]
    submission.write(ours, rows, {})
    assert submission.find(tmp_path, "live_test_main") == ours


def test_a_stopped_writer_leaves_no_file_and_an_older_one_alone(tmp_path):
    path, rows = tmp_path / "file", made_up(3)
    submission.write(path, rows, {})

    def stopping():
        yield from rows[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        submission.write(path, stopping(), {})
    assert_same(list(submission.read(path)), rows)


@pytest.mark.parametrize("bits", [1, 10, 15, 23])
def test_fewer_bits_round_to_the_nearest(bits):
    values = np.array([0.0, 1.0, -1.0, np.pi, 1e-30, 3e38, np.inf, -np.inf], np.float32)
    found = submission.rounded(values, bits)
    finite = np.isfinite(found)
    assert np.all(finite[:6]) or bits == 1  # 3e38 may round to infinity
    error = np.abs(found[:5].astype(np.float64) - values[:5])
    assert np.all(error <= 2.0 ** -(bits + 1) * np.abs(values[:5]))
    np.testing.assert_array_equal(found[6:], values[6:])
    assert not np.any(found[finite].view(np.uint32) & ((1 << (23 - bits)) - 1))


def test_fifteen_bits_shrink_a_file_and_move_no_correlation(tmp_path):
    rng = np.random.default_rng(0)
    smooth = np.cumsum(rng.normal(size=(50, 400)), axis=1).astype(np.float32)
    observed = smooth + rng.normal(size=smooth.shape)
    sizes, found = [], []
    for bits in (23, 15):
        path = tmp_path / str(bits)
        submission.write(path, [Row("a", 0, smooth, np.arange(50))], {}, bits=bits)
        prediction = next(submission.read(path)).prediction
        found.append([np.corrcoef(*pair)[0, 1] for pair in zip(prediction, observed, strict=True)])
        sizes.append(path.stat().st_size)
    np.testing.assert_allclose(*found, atol=1e-5)
    assert sizes[1] < 0.75 * sizes[0]
    with pytest.raises(UserError, match="found bits 24, expected 1 to 23"):
        submission.rounded(smooth, 24)


def test_zip_holds_the_two_files_side_by_side_and_is_not_too_large(tmp_path, monkeypatch):
    files = [tmp_path / submission.NAMES[tier] for tier in submission.TRACKS["main"]]
    for file in files:
        submission.write(file, made_up(2), {})
    path = tmp_path / "submission_main.zip"
    submission.pack(path, files)
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [
            "predictions_live_main.parquet.brotli",
            "predictions_final_main.parquet.brotli",
        ]
        assert archive.read(files[1].name) == files[1].read_bytes()
    monkeypatch.setattr(submission, "LARGEST_ZIP", 100)
    with pytest.raises(UserError, match=r"GB, expected at most 0 GB; .* --bits 15"):
        submission.pack(path, files)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda path: path.unlink(), "cannot read the submission"),
        (lambda path: path.write_bytes(path.read_bytes()[:-50]), "cannot read the submission"),
        (
            lambda path: pq.write_table(pq.read_table(path).drop_columns("neuron_ids"), path),
            "found the columns mouse, trial_indices, prediction in .*, expected mouse",
        ),
        (lambda path: rewrite(path, "neuron_ids", [[1, 2]]), "has 7 neurons with 5 frames and 2"),
        (lambda path: rewrite(path, "trial_indices", ["x"]), "expected a number as the trial's"),
        (lambda path: rewrite(path, "prediction", [[[1.0]] * 6 + [[1.0, 2.0]]]), "1 or 2 frames"),
        (lambda path: rewrite(path, "prediction", [[[1.0]] * 6 + [[None]]]), "has 7 neurons"),
    ],
)
def test_a_damaged_file_is_refused_in_one_sentence(tmp_path, change, sentence):
    path = tmp_path / "file"
    submission.write(path, made_up(1), {})
    change(path)
    with pytest.raises(UserError, match=sentence) as refused:
        list(submission.read(path))
    assert "\n" not in str(refused.value)


def rewrite(path: Path, column: str, values: list) -> None:
    table = pq.read_table(path)
    place = table.schema.get_field_index(column)
    pq.write_table(table.set_column(place, column, pa.array(values)), path)


# What a file is worth ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> TrialStore:
    """Trials of tier oracle: 1 and 4, of 60 and 48 frames; the statistics cut one to 59."""
    return TrialStore.open(conversion.write(tmp_path_factory.mktemp("s"), handmade.recording()))


def predictions(store: TrialStore, frames: ScoredFrames = SKIPPED, tier: str = TIER) -> list[Row]:
    rng = np.random.default_rng(5)
    rows = []
    for row in store.rows(tier):
        count = int(store.trials.official_frames[row]) - frames.skip_frames - frames.drop_last
        prediction = rng.random((len(store.neurons), count), dtype=np.float32)
        rows.append(Row(MOUSE, int(store.trials.index[row]), prediction, store.neurons.ids))
    return rows


def score(tmp_path, rows, store, frames=SKIPPED, about=None, **others):
    submission.write(tmp_path / "file", rows, about or {})
    return submission_scores.score(tmp_path / "file", {MOUSE: store, **others}, frames=frames)


def test_score_is_the_correlation_of_all_frames_of_the_tier_joined(tmp_path, store):
    """Numpy, of responses scaled by each frame's own statistic (baselines 1.3, 6.3)."""
    rows = predictions(store)
    found = score(tmp_path, rows, store)
    std = store.statistics.official["responses"]["std"]
    multiplier = transforms.response_multiplier(std, MOUSE)
    observed, predicted = [], []
    for row in rows:
        (place,) = np.flatnonzero(store.trials.index == row.trial)
        recorded = store.read(int(place))["responses"]
        scaled = recorded * multiplier[: len(recorded)]
        observed.append(scaled[10 : 10 + row.prediction.shape[1]])
        predicted.append(row.prediction.T)
    observed, predicted = np.concatenate(observed), np.concatenate(predicted)
    expected = [np.corrcoef(observed[:, n], predicted[:, n])[0, 1] for n in range(5)]
    np.testing.assert_allclose(found.mice[MOUSE].correlation, expected, rtol=1e-5)
    assert (found.tier, found.num_trials, found.num_frames) == (TIER, 2, len(observed))
    assert found.normalization == "official" and found.skip_frames == 10


def test_order_of_trials_and_neurons_does_not_matter(tmp_path, store):
    rows = predictions(store)
    expected = score(tmp_path, rows, store).mice[MOUSE].correlation
    order = np.random.default_rng(1).permutation(len(store.neurons))
    turned = [
        dataclasses.replace(row, prediction=row.prediction[order], neuron_ids=row.neuron_ids[order])
        for row in reversed(rows)
    ]
    found = score(tmp_path, turned, store).mice[MOUSE].correlation
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_what_a_file_says_of_itself_is_said_of_its_score(tmp_path, store):
    about = dict(protocol="strict", seeds=[4, 5], ensemble=True, step=70, trained_under="official")
    about |= SKIPPED._asdict()
    found = score(tmp_path, predictions(store), store, frames=None, about=about)
    assert (found.protocol, found.seeds, found.ensemble, found.step) == ("strict", (4, 5), True, 70)
    nothing_said = score(tmp_path, predictions(store), store)
    assert nothing_said.protocol == "competition" and nothing_said.seeds == ()


def test_a_mouse_whose_responses_were_withheld_is_passed_over(tmp_path, store):
    other = [dataclasses.replace(row, mouse="withheld") for row in predictions(store)]
    hidden = TrialStore.open(store.path)
    hidden.__dict__["trials"] = dataclasses.replace(
        store.trials, has_responses=np.zeros(len(store.trials), bool)
    )
    found = score(tmp_path, [*other, *predictions(store)], store, withheld=hidden)
    assert list(found.mice) == [MOUSE]
    with pytest.raises(UserError, match="withheld for all of"):
        submission_scores.score(tmp_path / "file", {"withheld": hidden}, frames=SKIPPED)


def wrong(**changes):
    return lambda rows: [dataclasses.replace(rows[0], **changes), *rows[1:]]


@pytest.mark.parametrize(
    ("change", "frames", "sentence"),
    [
        (lambda rows: [], SKIPPED, "has no trials, expected those of a tier"),
        (lambda rows: rows[1:], SKIPPED, "lacks 1 of the 2 trials of tier 'oracle' .* as trial 1;"),
        (lambda rows: [*rows, rows[0]], SKIPPED, "trial 1 of mouse .* is twice in"),
        (lambda rows: [rows[0], wrong(trial=0)(rows[1:])[0]], SKIPPED, "trial 0 .* not of tier"),
        (wrong(trial=99), SKIPPED, "has a trial 99 of mouse .* its store does not have"),
        (wrong(mouse="dynamic9"), SKIPPED, "has mouse dynamic9, expected one of the stores"),
        (lambda rows: [rows[0], wrong(mouse="b")(rows[1:])[0]], SKIPPED, "has mouse b, expected"),
        (
            wrong(neuron_ids=np.array([7, 8, 9, 10, 12])),
            SKIPPED,
            "has 5 neurons and the store has 5; 2 ids are only in one of them, as 11: expected",
        ),
        (
            wrong(neuron_ids=np.array([7, 7, 8, 9, 10])),
            SKIPPED,
            "has 5 neurons and the store has 5; 1 ids are only in one of them, as 11: expected",
        ),
        (
            wrong(prediction=np.ones((3, 49)), neuron_ids=np.array([7, 8, 9])),
            SKIPPED,
            "has 3 neurons and the store has 5; 2 ids",
        ),
        (lambda rows: rows, ScoredFrames(11, 0, 0), "has 49 frames, expected the 48 that are left"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_one_sentence(
    tmp_path, store, change, frames, sentence
):
    with pytest.raises(UserError, match=sentence) as refused:
        score(tmp_path, change(predictions(store)), store, frames)
    assert "\n" not in str(refused.value)


def test_frames_of_every_convention_are_those_of_its_name():
    """Of a trial of 300 frames: 50-299, 50-298, 51-299 (sota 0.4)."""
    left = {name: 300 - f.skip_frames - f.drop_last for name, f in SCORED_FRAMES.items()}
    assert left == {"kit": 250, "dwiseneuro": 249, "viv1t": 249, "viv1t_local": 250, "all": 300}
