"""Rows of the model: training steps and predictions of the published factorised baseline.

In: a `Bench`; out: `Row`s, and in `bench.said` sentences that show that both sides compute the
same thing.
"""

import shutil

import numpy as np

from scripts.benchmarks.measuring import Bench, Row, row_of, timed
from scripts.benchmarks.subject import Model


def step(bench: Bench) -> list[Row]:
    """Training steps of the factorised baseline, data on the device."""
    rows: list[Row] = []
    for mice in bench.mice:
        with bench.memory(rows):
            model = _model(bench, mice)
            if bench.peer and mice == 1:
                _compare_objectives(bench, model)
            seconds = bench.sides(lambda m=model: timed(m.step), lambda: bench.peer.ask("step"))
            clips = mice * bench.sizes.batch
            rows.append(
                row_of(
                    "step",
                    f"training step, {_mice(mice)} x {bench.sizes.batch} clips",
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
    for mice in bench.mice:
        with bench.memory(rows):
            model = _model(bench, mice)
            if bench.peer:
                _compare_predictions(bench, model)
            for what, raw in (("batch", model.batch), ("trials", model.trials)):
                count, frames = next(iter(raw.values())).valid.shape
                seconds = bench.sides(
                    lambda m=model, r=raw: timed(lambda: m.predict(r)),
                    lambda w=what: bench.peer.ask("predict", what=w),
                )
                rows.append(
                    row_of(
                        "prediction",
                        f"prediction, {_mice(mice)} x {count} clips of {frames} frames",
                        "frames/s",
                        mice * count * frames,
                        seconds,
                        flops=mice * count * model.flops(frames, training=False),
                    )
                )
    return rows


def _model(bench, mice) -> Model:
    """Our model, and the peer's with the same weights and arrays."""
    model = Model(bench.session, bench.sizes, mice)
    if bench.peer:
        folder = bench.scratch / "model"
        folder.mkdir(exist_ok=True)
        model.write(folder)
        bench.peer.ask(
            "model",
            folder=str(folder),
            core=model.config["core"],
            mice=list(model.stores),
            num_files=model.num_files,
            rate=model.rate,
        )
        shutil.rmtree(folder)
    return model


def _mice(count: int) -> str:
    return f"{count} mouse" if count == 1 else f"{count} mice"


def _compare_objectives(bench, model):
    ours, theirs = model.objective(), bench.peer.ask("objective")
    bench.said.append(
        f"Training computes the same thing: with equal weights and clips, and every neuron read at "
        f"its mean, the objectives are {ours:.7g} (sensojax) and {theirs:.7g} (published), a "
        f"relative difference of {abs(ours - theirs) / abs(theirs):.1e}."
    )


def _compare_predictions(bench, model):
    path = bench.scratch / "predicted.npy"
    bench.peer.ask("predict", what="batch", path=str(path))
    theirs = np.load(path).swapaxes(1, 2)
    first = next(iter(model.stores))
    ours = np.asarray(model.predict(model.batch)[first])[:, -theirs.shape[1] :]
    bench.said.append(
        f"Prediction computes the same thing ({_mice(len(model.stores))}): with equal weights and "
        f"clips the {ours.size:,} predicted responses differ by at most "
        f"{np.abs(ours - theirs).max():.1e} (the largest is {theirs.max():.3g})."
    )
