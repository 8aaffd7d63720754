"""One point of a scaling figure, measured in a process of its own.

    python -m scripts.benchmarks.scaling_points '{"kind": "step", "mice": 2, ...}'

In: settings as JSON; out: measurements as JSON, on the last line. A process of its own has a number
of devices of its own, and its peak memory is that of this point alone. A step that needs more
memory than there is, is not run: the compiler says so beforehand.
"""

import dataclasses
import itertools
import json
import sys
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import jax

from scripts.benchmarks import counting, machine, programs, session, subject
from scripts.benchmarks.measuring import in_turn, peak_memory, timed
from sensojax import build
from sensojax.store import TrialStore
from sensojax.training import mesh

GPU = "gpu"  # a step as GPUs lower it


def step(model: str, mice: int, neurons: int, clips: int, repeats: int, tiny: bool, **_) -> dict:
    """Seconds of training steps on all devices, what they do, and what they hold."""
    placement = mesh.Placement()
    with jax.set_mesh(placement.mesh):
        made = _programs(model, mice, neurons, clips, tiny, placement.copied)
        work = counting.work(made.step, *made.step_arguments)
        state, batches, *known = made.numbers()
        given = [
            placement.everywhere(state),
            placement.batch(batches),
            *placement.everywhere(known),
        ]
        compiled, compile_seconds = subject.compiled(made.step, *given)
        found = dict(
            operations=work.operations,
            moved=work.moved,
            compile_seconds=compile_seconds,
            memory=dataclasses.asdict(counting.memory(compiled)),
        )
        if (free := machine.free_memory()) and counting.memory(compiled).peak > free:
            return found | dict(refused=f"needs more than the {free / 1e9:.0f} GB that are free")

        def once():
            given[0], _ = compiled(*given)
            return given[0]

        other = machine.OtherWork(None)
        (seconds,) = in_turn(repeats, lambda: timed(once))
        return found | dict(seconds=seconds, others=other.cores(), peak_gb=peak_memory() / 1e9)


def compiled(
    model: str, mice: int, neurons: int, clips: int, tiny: bool, train: Mapping, lowered: str, **_
) -> dict:
    """What the compiler sets aside for a step of these sizes, of which nothing is allocated.

    train: settings of that section. lowered: GPU, or "" for this platform.
    """
    with _as_on(lowered):
        made = _programs(model, mice, neurons, clips, tiny, None, train)
        work = counting.work(made.step, *made.step_arguments)
        program, seconds = subject.compiled(made.step, *made.step_arguments)
    return dict(
        operations=work.operations,
        moved=work.moved,
        compile_seconds=seconds,
        memory=dataclasses.asdict(counting.memory(program)),
    )


def loader(store: str, threads: int, frames: int, windows: int, repeats: int, **_) -> dict:
    """Seconds of reading so many windows of these frames, in batches of 8, with these threads."""
    config = subject.configured(session.Sizes(), "factorised")
    opened = TrialStore.open(Path(store))
    longest = int(opened.trials.official_frames[opened.rows("train")].min())
    data = config["data"] | dict(window_frames=min(frames, longest), batch_size=8)
    batches = build.batches(data, {opened.mouse: opened}, 0)
    starts = itertools.count(step=windows // 8)

    def read():
        first = next(starts)
        stream = batches.iterate(
            first, first + windows // 8, num_threads=threads, prefetch_steps=max(2, threads)
        )
        return sum(len(each[opened.mouse].valid) for _, each in stream)

    other = machine.OtherWork(None)
    (seconds,) = in_turn(repeats, lambda: timed(read))
    return dict(
        seconds=seconds,
        windows=windows // 8 * 8,
        frames=data["window_frames"],
        others=other.cores(),
    )


def _programs(model, mice, neurons, clips, tiny, sharding, train=None) -> programs.Programs:
    sizes = session.TINY if tiny else session.Sizes()
    config = subject.configured(sizes, model)
    config["train"] |= dict(compute="float32") | dict(train or {})
    shapes = dict(height=sizes.height, width=sizes.width, trial_frames=sizes.trial_frames)
    made = programs.Sizes.of_mice(
        mice, neurons, clips=clips, frames=config["data"]["window_frames"], **shapes
    )
    return programs.Programs(config, made, sharding)


@contextmanager
def _as_on(lowered: str):
    """Inside, GPU: programs take the way that is for accelerators, whatever compiles them."""
    if lowered != GPU:
        yield
        return

    def default(*arguments, default, **_):
        return default(*arguments)

    with mock.patch.object(jax.lax, "platform_dependent", default):
        yield


KINDS: dict[str, Callable[..., dict]] = dict(step=step, compiled=compiled, loader=loader)


def main() -> None:
    settings = json.loads(sys.argv[1])
    print(json.dumps(KINDS[settings["kind"]](**settings)))


if __name__ == "__main__":
    main()
