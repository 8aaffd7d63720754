"""The stream of batches is a function of seed and step, complete, in order, and shared evenly."""

import threading
import time

import jax
import numpy as np
import pytest

from sensojax.errors import UserError
from sensojax.pipeline import batches
from sensojax.pipeline.batches import Batches, to_device, trial_batches
from tests.pipeline import fakes
from tests.pipeline.fakes import MemoryStore

SETTINGS = {
    "window_frames": 6,
    "batch_size": 4,
    "rule": "uniform",
    "normalization": "official",
    "remainder": "wrap",
    "seed": 7,
}
TRIALS = {"a": 11, "b": 6}


def stores(trials=TRIALS, length=12):
    return {m: MemoryStore(m, lengths=(length,) * n, seed=ord(m)) for m, n in trials.items()}


def make(trials=TRIALS, length=12, **changes):
    rows = {mouse: np.arange(n) for mouse, n in trials.items()}
    return Batches(stores(trials, length), rows, **{**SETTINGS, **changes})


def equal(left, right):
    return jax.tree.all(jax.tree.map(np.array_equal, left, right))


def rows_of(*steps):
    """The rows shown by one mouse's batches: MemoryStore's responses are row * 100 + frame."""
    return [int(x) for batch in steps for x in batch.responses[:, 0, 0] // 100]


@pytest.mark.parametrize("remainder", batches.REMAINDERS)
def test_a_step_is_a_function_of_seed_and_step(remainder):
    first, second = make(remainder=remainder), make(remainder=remainder)
    jumped = [first[k] for k in (9, 2, 30, 2)]
    walked = dict(second.iterate(0, 31, num_threads=2, prefetch_steps=3))
    assert list(walked) == list(range(31))
    for k, batch in zip((9, 2, 30, 2), jumped, strict=True):
        assert equal(batch, walked[k])
    later = dict(second.iterate(28, 31, num_threads=0, prefetch_steps=0))
    assert list(later) == [28, 29, 30]
    assert equal(later[30], walked[30])
    assert list(second.iterate(3, 3, num_threads=1, prefetch_steps=1)) == []


def test_another_seed_gives_other_batches():
    assert not equal(make(seed=8)[0], make(seed=7)[0])


def test_a_mouse_does_not_depend_on_the_other_mice():
    assert equal(make()[5]["b"], make({"b": 6})[5]["b"])


def test_mice_are_shuffled_independently():
    step = make({"a": 11, "b": 11})[0]
    assert rows_of(step["a"]) != rows_of(step["b"])
    assert step["a"].start.tolist() != step["b"].start.tolist()


def test_mice_come_in_the_order_given():
    for mice in ({"a": 11, "b": 6}, {"b": 6, "a": 11}):
        assert list(make(mice)[3]) == list(mice)


def test_wrapped_stream_shows_every_trial_once_per_pass():
    stream = make()
    seen = {m: rows_of(*[stream[k][m] for k in range(33)]) for m in TRIALS}
    for mouse, trials in TRIALS.items():
        whole = len(seen[mouse]) // trials
        passes = [seen[mouse][i * trials : (i + 1) * trials] for i in range(whole)]
        assert all(sorted(p) == list(range(trials)) for p in passes)
        assert passes[0] != passes[1]
    assert stream.epoch_steps == 3


def test_short_epoch_is_the_published_round_robin():
    stream = make(remainder="short")
    assert stream.epoch_steps == 3
    orders = []
    for epoch in range(4):
        steps = [stream[epoch * 3 + j] for j in range(3)]
        assert [len(s["a"].valid) for s in steps] == [4, 4, 3]
        assert [len(s["b"].valid) for s in steps] == [4, 2, 4]
        a = rows_of(*[s["a"] for s in steps])
        b = rows_of(*[s["b"] for s in steps[:2]])
        assert sorted(a) == list(range(11))
        assert sorted(b) == list(range(6))
        assert len(set(rows_of(steps[2]["b"]))) == 4
        orders += [tuple(b), tuple(rows_of(steps[2]["b"]))]
    assert len(set(orders)) == len(orders)  # 6! orders: equal ones by chance in 1 of 25 seeds


def test_shuffle_of_one_seed_is_pinned():
    """NumPy and Grain decide; if this fails after an update, runs do not continue bit-equal."""
    stream = make()
    assert rows_of(*[stream[k]["b"] for k in range(3)]) == [3, 2, 5, 0, 1, 4, 1, 4, 2, 3, 0, 5]
    starts = [stream[k]["b"].start.tolist() for k in range(3)]
    assert starts == [[1, 4, 5, 3], [1, 5, 0, 2], [4, 4, 5, 6]]


def test_window_equals_the_slice_of_its_trial():
    made = stores()
    stream = Batches(made, {m: np.arange(n) for m, n in TRIALS.items()}, **SETTINGS)
    starts = set()
    for k in range(20):
        for mouse, batch in stream[k].items():
            for i, (row, start) in enumerate(zip(rows_of(batch), batch.start, strict=True)):
                trial = made[mouse].content[row]
                for name in fakes.FIELDS:
                    found = getattr(batch, name)[i]
                    np.testing.assert_array_equal(found, trial[name][start : start + 6])
                starts.add(int(start))
    assert starts == set(range(7))
    assert batch.video.dtype == np.uint8
    assert batch.valid.all()


def test_short_trials_are_padded_and_the_padding_is_not_valid():
    stream = make({"a": 5}, length=4)
    batch = stream[0]["a"]
    assert batch.valid.tolist() == [[True] * 4 + [False] * 2] * 4
    assert not batch.video[:, 4:].any()
    assert not batch.responses[:, 4:].any()


def test_official_windows_end_where_the_published_loader_cuts():
    store = MemoryStore(lengths=(12,) * 4, official=(8,) * 4)
    stream = Batches({"m": store}, {"m": np.arange(4)}, **SETTINGS)
    starts = np.concatenate([stream[k]["m"].start for k in range(20)])
    assert set(starts.tolist()) == {0, 1, 2}
    assert max(stop for _, _, stop in store.reads) == 8


@pytest.mark.parametrize("count", [2, 4])
def test_processes_together_read_the_batch_of_one(count):
    parts = [make(process_index=i, process_count=count) for i in range(count)]
    for k in (0, 3):
        joined = jax.tree.map(lambda *x: np.concatenate(x), *[p[k] for p in parts])
        assert equal(joined, make()[k])


def test_a_process_reads_only_its_own_part():
    store = MemoryStore(lengths=(12,) * 8)
    stream = Batches(
        {"m": store}, {"m": np.arange(8)}, **SETTINGS, process_index=1, process_count=4
    )
    stream[0]
    assert len(store.reads) == 1


def test_uneven_sharing_is_refused():
    with pytest.raises(UserError, match="batch of 4 examples for 3 processes"):
        make(process_index=0, process_count=3)
    with pytest.raises(UserError, match="'short' with 2 processes"):
        make(remainder="short", process_index=0, process_count=2)


def test_rows_that_cannot_be_trained_on_are_refused():
    with pytest.raises(UserError, match=r"trial 0 of mouse a.*12 frames"):
        make(rule="published", window_frames=12)
    with pytest.raises(UserError, match="no trials to train on for mouse b"):
        Batches(stores(), {"a": np.arange(3), "b": np.arange(0)}, **SETTINGS)
    with pytest.raises(UserError, match="no usable frame in trial 1 of mouse m"):
        store = MemoryStore(lengths=(12, 12), official=(12, 0))
        Batches({"m": store}, {"m": np.arange(2)}, **SETTINGS)
    store = MemoryStore(lengths=(12,) * 4)
    store.trials.has_responses[2] = False
    with pytest.raises(UserError, match=r"withheld responses.*trial 2 of mouse m"):
        Batches({"m": store}, {"m": np.arange(4)}, **SETTINGS)


def test_evaluation_shows_every_trial_whole_and_once():
    store = MemoryStore(lengths=(9, 12, 10, 7, 8), official=(9, 11, 10, 7, 8))
    rows = np.array([4, 1, 0, 3, 2])
    seen = list(trial_batches(store, rows, 2, 13, normalization="official", skip_frames=3))
    assert np.concatenate([r for r, _ in seen]).tolist() == rows.tolist()
    for found, batch in seen:
        assert batch.valid.shape == (2, 13)
        for i, row in enumerate(found):
            frames = store.trials.official_frames[row]
            counted = (np.arange(13) >= 3) & (np.arange(13) < frames)
            np.testing.assert_array_equal(batch.valid[i], counted)
            np.testing.assert_array_equal(
                batch.video[i, :frames], store.content[row]["video"][:frames]
            )
            assert not batch.video[i, frames:].any()
    assert seen[-1][0].tolist() == [2]
    assert not seen[-1][1].valid[1].any()


def test_trials_without_usable_frames_are_shown_without_any():
    store = MemoryStore(lengths=(9, 9), official=(0, 9))
    settings = {"normalization": "official", "skip_frames": 0}
    ((rows, batch),) = trial_batches(store, np.arange(2), 2, 9, **settings)
    assert rows.tolist() == [0, 1]
    assert batch.valid.sum(axis=1).tolist() == [0, 9]


def test_processes_share_evaluation_also_when_rows_run_out():
    store = MemoryStore(lengths=(9,) * 5)
    settings = {"normalization": "official", "skip_frames": 3}
    whole = list(trial_batches(store, np.arange(5), 4, 9, **settings))
    parts = [
        list(trial_batches(store, np.arange(5), 4, 9, **settings, process_index=i, process_count=2))
        for i in range(2)
    ]
    for (rows, batch), left, right in zip(whole, *parts, strict=True):
        assert np.concatenate([left[0], right[0]]).tolist() == rows.tolist()
        assert equal(jax.tree.map(lambda *x: np.concatenate(x), left[1], right[1]), batch)


def test_device_batches_are_put_ahead_in_order_and_waiting_is_measured():
    put = []

    def slow():
        for k in range(5):
            time.sleep(0.02)
            yield k, {"m": k}

    with to_device(slow(), lambda b: put.append(b) or b, depth=2) as ahead:
        first = next(ahead)
        assert first == (0, {"m": 0})
        assert ahead.waited_seconds > 0.01
        deadline = time.monotonic() + 5
        while len(put) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        assert len(put) == 4  # one taken, two waiting, one in hand; the fifth must wait
        waited = ahead.waited_seconds
        assert [k for k, _ in ahead] == [1, 2, 3, 4]
        assert ahead.waited_seconds - waited < 0.5
    with pytest.raises(StopIteration):
        next(ahead)


def test_reading_errors_reach_the_consumer():
    def broken():
        yield 0, {}
        raise UserError("the store is gone")

    with to_device(broken(), lambda b: b) as ahead:
        next(ahead)
        with pytest.raises(UserError, match="the store is gone"):
            next(ahead)


def test_leaving_early_leaves_no_thread_behind():
    before = threading.active_count()
    steps = make().iterate(0, 1000, num_threads=2, prefetch_steps=4)
    with to_device(steps, lambda b: b) as ahead:
        next(ahead)
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before
