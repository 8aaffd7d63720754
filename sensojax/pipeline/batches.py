"""Steps of batches: stores go in, `{mouse: Batch}` of raw numbers comes out, step by step.

`Batches` is the training stream: `batches[k]` is a function of the seed and of k alone, so a run
that was killed goes on where it stopped. Per mouse it is one chain of Grain transformations (rows,
shuffled anew each epoch, a random window of each, a batch); the mice are zipped into steps.
`iterate` reads steps ahead with Grain's threads and `to_device` moves them to the device ahead of
use. `trial_batches` is the evaluation stream: whole trials, each exactly once. With several
processes each one reads only its own contiguous block of every batch.
"""

import functools
import math
import queue
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import grain
import numpy as np
from grain.experimental import ZipMapDataset

from sensojax.errors import UserError, check_name
from sensojax.pipeline import windows
from sensojax.pipeline.windows import Window
from sensojax.types import Batch

REMAINDERS = ("wrap", "short")


def read_batch(
    store, samples: Sequence[Window], num_frames: np.ndarray, skip_frames: int, shape: tuple
) -> Batch:
    """The windows of one mouse as a raw batch of numpy arrays.

    num_frames: usable frames of every trial, [trial] (`windows.usable_frames`). shape: examples
    and frames of the batch. Frames past the usable ones, and examples past the last window, are
    zeros and not valid.
    """
    arrays = store.empty(shape)
    valid = np.zeros(shape, dtype=bool)
    start = np.zeros(shape[0], dtype=np.int32)
    under_way, images = [], []
    for i, window in enumerate(samples):
        frames = int(num_frames[window.row])
        stop = max(min(window.start + window.length, frames), window.start)
        count = stop - window.start
        for array in arrays.values():
            array[i, count:] = 0
        if count and store.max_frames == 1:
            images.append((window.row, i))
        elif count:
            places = {name: array[i, :count] for name, array in arrays.items()}
            under_way.append(store.read_into(window.row, window.start, stop, places))
        valid[i] = windows.valid_frames(window, frames, skip_frames)
        start[i] = window.start
    for array in arrays.values():
        array[len(samples) :] = 0
    if images:
        under_way.append(store.read_images_into(*np.transpose(images), arrays))
    for wait in under_way:
        wait()
    return Batch(**arrays, valid=valid, start=start)


def own_block(size: int, process_index: int, process_count: int) -> slice:
    """The contiguous part of a batch of `size` that this process reads; UserError if uneven."""
    if size % process_count:
        raise UserError(
            f"found a batch of {size} examples for {process_count} processes, expected a multiple "
            f"of {process_count}; change the batch size."
        )
    share = size // process_count
    return slice(process_index * share, (process_index + 1) * share)


class Batches:
    """An endless sequence of training steps: `batches[k]` is `{mouse: Batch}` of numpy arrays.

    stores and rows: per mouse its TrialStore and the rows to train on; the order of `stores` is
    the order of mice in every step. rule: `published` or `uniform` (see windows). normalization:
    decides how much of a trial is usable. remainder: `wrap` (every batch is full, the shuffled
    stream runs on across epochs) or `short` (published: the last batch of a pass is smaller; an
    epoch begins with a fresh pass over every mouse, and a mouse that runs out within it restarts
    in another order). batch_size is per mouse and over all processes together.
    """

    def __init__(
        self,
        stores: Mapping[str, object],
        rows: Mapping[str, np.ndarray],
        *,
        window_frames: int,
        batch_size: int,
        rule: str,
        normalization: str,
        remainder: str,
        seed: int,
        process_index: int = 0,
        process_count: int = 1,
    ):
        check_name(remainder, REMAINDERS, "remainder")
        if remainder == "short" and process_count > 1:
            raise UserError(
                f"found remainder 'short' with {process_count} processes, expected one, since "
                "short batches cannot be shared evenly; use remainder 'wrap'."
            )
        block = own_block(batch_size, process_index, process_count)
        self.epoch_steps = max(math.ceil(len(rows[mouse]) / batch_size) for mouse in stores)
        self.mice, self.stores, self.rows = tuple(stores), dict(stores), dict(rows)
        chains = []
        for mouse, store in stores.items():
            num_frames = windows.usable_frames(store.trials, normalization)
            check_rows(store, rows[mouse], num_frames, window_frames, rule)
            order_seed, window_seed = seeds_of(seed, mouse)
            chains.append(
                self._chain(
                    rows[mouse],
                    order_seed,
                    # Default arguments bind this mouse's values, not the loop's last ones.
                    lambda row, rng, n=num_frames: windows.draw(
                        row, int(n[row]), window_frames, rule, rng
                    ),
                    window_seed,
                    batch_size,
                    lambda samples, s=store, n=num_frames: read_batch(
                        s, samples[block], n, 0, (len(samples[block]), window_frames)
                    ),
                    remainder,
                )
            )
        self._steps = ZipMapDataset(chains)

    def _chain(self, rows, order_seed, draw, window_seed, batch_size, read, remainder):
        """One mouse's batches. Windows cost nothing, so `read` loads a whole batch of them."""
        rows = grain.MapDataset.source(rows).map_with_index(shuffle(rows, order_seed))
        if remainder == "wrap":
            samples = rows.repeat().random_map(draw, seed=window_seed)
            return samples.batch(batch_size, drop_remainder=True, batch_fn=read)
        passes = rows.random_map(draw, seed=window_seed).batch(batch_size, batch_fn=read)
        restarts = math.ceil(self.epoch_steps / len(passes))
        return passes.repeat(restarts)[: self.epoch_steps].repeat()

    def __getitem__(self, step: int) -> dict[str, Batch]:
        """The batches of one step, read now; any step in any order."""
        return dict(zip(self.mice, self._steps[step], strict=True))

    def iterate(
        self, start_step: int, stop_step: int, *, num_threads: int, prefetch_steps: int
    ) -> Iterator[tuple[int, dict[str, Batch]]]:
        """Yields (k, batches[k]) for k from start_step to stop_step - 1, in order.

        num_threads read up to prefetch_steps steps ahead, one step each; 0 of either reads when
        asked.
        """
        threads = min(num_threads, prefetch_steps)
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch_steps)
        reader = iter(self._steps[start_step:stop_step].to_iter_dataset(options))
        try:
            for step, batches in zip(range(start_step, stop_step), reader, strict=True):
                yield step, dict(zip(self.mice, batches, strict=True))
        finally:
            reader.close()


def shuffle(rows: np.ndarray, seed: int) -> Callable[[int, object], int]:
    """For Grain's map_with_index: the row at a place of the endless stream, in epochs of all rows.

    Not Grain's own shuffle, which needs 65,536 / len(rows) rounds for each index (0.3 ms with 60
    trials, 4 ms with 4) and shuffles few rows unevenly.
    """

    @functools.lru_cache(maxsize=4)  # threads read around the border of two epochs
    def order(epoch: int) -> np.ndarray:
        return np.random.default_rng([seed, epoch]).permutation(rows)

    def at(index: int, _) -> int:
        epoch, place = divmod(index, len(rows))
        return int(order(epoch)[place])

    return at


def seeds_of(seed: int, mouse: str) -> tuple[int, int]:
    """Two seeds of a mouse, for its order and its windows, whichever the other mice are."""
    words = np.random.SeedSequence([seed, zlib.crc32(mouse.encode())]).generate_state(2)
    return int(words[0]), int(words[1])


def check_rows(store, rows, num_frames, window_frames: int, rule: str) -> None:
    """UserError when a mouse's rows cannot be trained on: none, empty, withheld or too short."""
    if len(rows) == 0:
        raise UserError(
            f"found no trials to train on for mouse {store.mouse}, expected at least one; choose "
            "other tiers."
        )
    for row in rows:
        trial = f"trial {store.trials.index[row]} of mouse {store.mouse}"
        if not num_frames[row]:
            raise UserError(f"found no usable frame in {trial}, expected some; leave it out.")
        if not store.trials.has_responses[row]:
            raise UserError(
                f"found withheld responses (zeros) in {trial}, expected recorded ones; train on "
                "other tiers."
            )
        try:
            windows.count_starts(rule, int(num_frames[row]), window_frames)
        except UserError as error:
            raise UserError(f"{trial}: {error}") from None


def trial_batches(
    store,
    rows: np.ndarray,
    batch_size: int,
    length: int,
    *,
    normalization: str,
    skip_frames: int,
    num_frames: np.ndarray | None = None,
    process_index: int = 0,
    process_count: int = 1,
    num_threads: int = 1,
    prefetch_batches: int = 2,
) -> Iterator[tuple[np.ndarray, Batch]]:
    """Whole trials for evaluation: yields (rows, Batch), every row exactly once and in order.

    Every batch has `batch_size` examples (with several processes this one's share of them) of
    `length` frames; rows are those of this process's examples, and examples past the last row have
    no valid frame. num_frames: of every trial, [trial], when fewer than the usable ones are to be
    shown. Raises UserError when a trial is longer than `length`.
    """
    if num_frames is None:
        num_frames = windows.usable_frames(store.trials, normalization)
    samples = [windows.whole(int(row), int(num_frames[row]), length) for row in rows]
    block = own_block(batch_size, process_index, process_count)
    blocks = [samples[i : i + batch_size][block] for i in range(0, len(samples), batch_size)]

    def read(own):
        batch = read_batch(store, own, num_frames, skip_frames, (block.stop - block.start, length))
        return np.array([window.row for window in own], dtype=int), batch

    threads = min(num_threads, prefetch_batches)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch_batches)
    reader = iter(grain.MapDataset.source(blocks).map(read).to_iter_dataset(options))
    try:
        yield from reader
    finally:
        reader.close()


class DevicePrefetch:
    """Batches on the device ahead of use; made by `to_device`. Iterate once, inside `with`.

    waited_seconds: how long the consumer has waited for batches so far; near zero when reading
    keeps up with training.
    """

    def __init__(self, batches: Iterable, put: Callable, depth: int):
        self.waited_seconds = 0.0
        self._batches = batches
        self._put = put
        self._ready = queue.Queue(maxsize=depth)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="to-device", daemon=True)
        self._thread.start()

    def _work(self):
        """Runs in the background: what it hands over is (item, None), or (None, how it ended)."""
        try:
            for step, batches in self._batches:
                if not self._offer(((step, self._put(batches)), None)):
                    return
            self._offer((None, StopIteration()))
        except Exception as error:  # handed to the consumer, who raises it
            self._offer((None, error))
        finally:
            if hasattr(self._batches, "close"):
                self._batches.close()

    def _offer(self, item) -> bool:
        """Waits for room in the queue; False when the consumer has left."""
        while not self._stopped.is_set():
            try:
                self._ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def __iter__(self) -> "DevicePrefetch":
        return self

    def __next__(self):
        if self._stopped.is_set():
            raise StopIteration
        began = time.perf_counter()
        item, ended = self._ready.get()
        self.waited_seconds += time.perf_counter() - began
        if ended is not None:
            self.close()
            raise ended
        return item

    def close(self) -> None:
        """Stops reading ahead and waits for the background thread to end."""
        self._stopped.set()
        self._thread.join()

    def __enter__(self) -> "DevicePrefetch":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def to_device(batches: Iterable, put: Callable, depth: int = 2) -> DevicePrefetch:
    """Yields (step, put(batches)) of (step, batches), up to `depth` steps ahead of their use.

    put: brings the numpy batches of a step to the device, e.g. jax.device_put with a sharding. A
    background thread calls it and decides nothing. Up to depth + 3 steps are on the device: those
    waiting, the one in use, the next that training has begun, and the one being brought.
    """
    return DevicePrefetch(batches, put, depth)
