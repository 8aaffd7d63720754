"""The same work on many things, on the cores of this machine or on those of a cluster.

In go a function, its arguments and how many processes (or the address of a dask scheduler); out
come the results in the order of the arguments. Nothing here depends on who did what, so one core
and a hundred give the same. The workers of a cluster must see the same folders under the same
paths, and have sensojax installed.
"""

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    as_completed,
)
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from sensojax.errors import UserError
from sensojax.progress import track
from sensojax.zarrs import cores

Task = TypeVar("Task")
Result = TypeVar("Result")
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
PATIENCE = "20s"  # for a scheduler to answer


class Workers:
    """Runs functions of one argument; to be used in a `with`, which ends its processes."""

    def __init__(self, processes: int = 0, scheduler: str = ""):
        """processes: 0 for one per core. scheduler: address of a dask scheduler, or ""."""
        if processes < 0:
            raise UserError(f"found {processes} workers, expected 0 (one per core) or more.")
        self.processes, self.scheduler = processes or cores(), scheduler
        self._stack = contextlib.ExitStack()
        self._executor: Executor | None = None

    def __enter__(self) -> "Workers":
        if self.scheduler:
            self._executor = self._stack.enter_context(_cluster(self.scheduler))
        elif self.processes > 1:
            self._executor = self._stack.enter_context(processes(self.processes))
        return self

    def __exit__(self, *error) -> None:
        self._stack.__exit__(*error)

    def run(
        self, work: Callable[[Task], Result], tasks: Sequence[Task], what: str
    ) -> list[Result | UserError]:
        """work(task) for every task; a UserError stands in the place of its result.

        work is a function of a module, and tasks can be pickled. Any other error ends the run.
        """
        done = self._one_by_one(work, tasks) if self._executor is None else self._out(work, tasks)
        found: list[Result | UserError] = [UserError("not done")] * len(tasks)
        for number, result in track(done, what, total=len(tasks)):
            found[number] = result
        return found

    def _one_by_one(self, work, tasks) -> Iterator[tuple]:
        for number, task in enumerate(tasks):
            try:
                yield number, work(task)
            except UserError as error:
                yield number, error

    def _out(self, work, tasks) -> Iterator[tuple]:
        futures = {self._executor.submit(work, task): i for i, task in enumerate(tasks)}
        try:
            for future in as_completed(futures):
                error = self._checked(future)
                yield futures[future], error or future.result()
        finally:
            for future in futures:
                future.cancel()

    def _checked(self, future: Future) -> UserError | None:
        """What a task refused; raises what else went wrong."""
        try:
            error = future.exception()
        except CancelledError as lost:
            raise UserError(
                f"the dask scheduler {self.scheduler} does not answer any more; start it again and "
                "give the same command, what is done stays."
            ) from lost
        if isinstance(error, BrokenProcessPool) or type(error).__name__ == "KilledWorker":  # dask's
            fewer = "on workers with more memory" if self.scheduler else "with fewer --workers"
            raise UserError(
                "a worker process ended without a word, probably because memory ran out; give the "
                f"same command {fewer}, what is done stays."
            ) from error
        if error is not None and not isinstance(error, UserError):
            raise error
        return error


def one_of_each(names: Sequence[str]) -> None:
    """UserError when two sessions have the same name, and so would have the same file."""
    name, times = Counter(names).most_common(1)[0] if names else ("", 0)
    if times > 1:
        raise UserError(
            f"found {times} sessions named {name}, expected names that differ; give the folders of "
            "their data sets one by one, each with an --out of its own."
        )


def refuse_failures(names: Sequence[str], found: Sequence, done: str) -> None:
    """UserError when a session of these names could not be `done`, with the reason of each.

    found: what `Workers.run` gave for each name; a name may come several times.
    """
    errors = {}
    for name, result in zip(names, found, strict=True):
        if isinstance(result, UserError):
            errors.setdefault(name, str(result))
    if errors:
        reasons = "".join(f"\n  {name}: {why}" for name, why in errors.items())
        raise UserError(
            f"{len(errors)} of {len(set(names))} sessions could not be {done}; put that right or "
            f"take them out and give the same command again, what is done stays.{reasons}"
        )


@contextlib.contextmanager
def processes(number: int) -> Iterator[Executor]:
    """So many new processes, each with one thread for its arithmetic."""
    # Spawned, since TensorStore's and BLAS's threads do not survive a fork; with one BLAS thread
    # each, which a process can only be told before it begins.
    context = multiprocessing.get_context("spawn")
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    try:
        with ProcessPoolExecutor(number, context, initializer=_quiet_interrupts) as executor:
            yield executor
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _quiet_interrupts() -> None:
    """Ctrl-C ends a worker at once and without a traceback; the command says what to do."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def _cluster(address: str) -> Iterator[Executor]:
    try:
        from dask.distributed import Client  # an extra, needed by few
    except ImportError as error:
        raise UserError(
            "found no dask.distributed, expected it for --scheduler; install it with "
            'pip install "sensojax[cluster]".'
        ) from error
    try:
        client = Client(address, timeout=PATIENCE)
    except (OSError, ValueError) as error:  # TimeoutError is an OSError
        raise UserError(
            f"found no dask scheduler at {address!r} ({error}), expected an address such as "
            "tcp://host:8786; start one with the command `dask scheduler`."
        ) from error
    if not client.nthreads():
        print(
            f"note: no worker has joined {address} yet; waiting for `dask worker {address}`.",
            file=sys.stderr,
            flush=True,
        )
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # else: pages of tracebacks
    with client:
        yield client.get_executor(pure=False)
