"""Rows of the models: training steps and predictions of the published baselines.

In: a `Bench`; out: `Row`s, and in `bench.said` sentences that show that both sides compute the
same thing.
"""

import itertools
import shutil

import numpy as np

from scripts.benchmarks.measuring import Bench, Row, row_of, timed
from scripts.benchmarks.subject import Model

# What the rows of a model begin with; those of the factorised baseline came first.
LABELS = dict(factorised="", gru="GRU ")


def step(bench: Bench) -> list[Row]:
    """Training steps, data on the device."""
    rows: list[Row] = []
    for name, mice in itertools.product(bench.models, bench.mice):
        with bench.memory(rows):
            model = _model(bench, mice, name)
            if bench.peer and mice == 1:
                _compare_objectives(bench, model, name)
            seconds = bench.sides(lambda m=model: timed(m.step), lambda: bench.peer.ask("step"))
            clips = mice * bench.sizes.batch
            rows.append(
                row_of(
                    "step",
                    f"{LABELS[name]}training step, {_mice(mice)} x {bench.sizes.batch} clips",
                    "clips/s",
                    clips,
                    seconds,
                    flops=clips * model.flops(bench.sizes.window_frames, training=True),
                    compile_seconds=model.compile_seconds,
                )
            )
    return rows


def prediction(bench: Bench) -> list[Row]:
    """Predictions in evaluation mode: the batch of clips, and two whole trials of each mouse."""
    rows: list[Row] = []
    for name, mice in itertools.product(bench.models, bench.mice):
        with bench.memory(rows):
            model = _model(bench, mice, name)
            if bench.peer:
                _compare_predictions(bench, model, name)
            for what, raw in (("batch", model.batch), ("trials", model.trials)):
                count, frames = next(iter(raw.values())).valid.shape
                seconds = bench.sides(
                    lambda m=model, r=raw: timed(lambda: m.predict(r)),
                    lambda w=what: bench.peer.ask("predict", what=w),
                )
                rows.append(
                    row_of(
                        "prediction",
                        f"{LABELS[name]}prediction, {_mice(mice)} x {count} clips of {frames} "
                        "frames",
                        "frames/s",
                        mice * count * frames,
                        seconds,
                        flops=mice * count * model.flops(frames, training=False),
                    )
                )
    return rows


def _model(bench, mice, name) -> Model:
    """Our model, and the peer's with the same weights and arrays."""
    model = Model(bench.session, bench.sizes, mice, name)
    if bench.peer:
        folder = bench.scratch / "model"
        folder.mkdir(exist_ok=True)
        model.write(folder)
        bench.peer.ask(
            "model",
            folder=str(folder),
            core=model.config["core"],
            recurrent=model.config["recurrent"],
            mice=list(model.stores),
            num_files=model.num_files,
            rate=model.rate,
        )
        shutil.rmtree(folder)
    return model


def _mice(count: int) -> str:
    return f"{count} mouse" if count == 1 else f"{count} mice"


def _compare_objectives(bench, model, name):
    ours, theirs = model.objective(), bench.peer.ask("objective")
    bench.said.append(
        f"Training computes the same thing ({name}): with equal weights and clips, and every "
        f"neuron read at its mean, the objectives are {ours:.7g} (sensojax) and {theirs:.7g} "
        f"(published), a relative difference of {abs(ours - theirs) / abs(theirs):.1e}."
    )


def _compare_predictions(bench, model, name):
    path = bench.scratch / "predicted.npy"
    bench.peer.ask("predict", what="batch", path=str(path))
    theirs = np.load(path).swapaxes(1, 2)
    first = next(iter(model.stores))
    ours = np.asarray(model.predict(model.batch)[first])[:, -theirs.shape[1] :]
    bench.said.append(
        f"Prediction computes the same thing ({name}, {_mice(len(model.stores))}): with equal "
        f"weights and clips the {ours.size:,} predicted responses differ by at most "
        f"{np.abs(ours - theirs).max():.1e} (the largest is {theirs.max():.3g})."
    )
