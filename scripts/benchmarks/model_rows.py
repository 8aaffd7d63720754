"""Rows of the models: training steps and predictions of the published baselines.

In: a `Bench`; out: `Row`s, and in `bench.said` sentences that show that both sides compute the
same thing.
"""

import itertools
import shutil

import numpy as np

from scripts.benchmarks import counting
from scripts.benchmarks.measuring import Bench, Row, row_of, timed
from scripts.benchmarks.subject import Model

# What the rows of a model begin with; those of the factorised baseline came first.
LABELS = dict(
    factorised="",
    gru="GRU ",
    images="CNN of images, ",
    dwiseneuro="DwiseNeuro, ",
    viv1t="ViV1T of few blocks, ",
)


def step(bench: Bench) -> list[Row]:
    """Training steps, data on the device."""
    rows: list[Row] = []
    for name, mice in itertools.product(bench.models, bench.mice):
        bench.session.store_of(name)  # made before memory is measured
        with bench.memory(rows):
            model = model_of(bench, mice, name)
            if bench.peer and mice == 1:
                _compare_objectives(bench, model, name)
            seconds = bench.sides(lambda m=model: timed(m.step), lambda: bench.peer.ask("step"))
            size, _, words = shape_of(model.batch)
            rows.append(
                row_of(
                    "step",
                    f"{label(bench, name)}training step, {_mice(mice)} x {size} {words}",
                    f"{words}/s",
                    mice * size,
                    seconds,
                    flops=model.operations(),
                    moved=counting.work(model.train_step, *model.step_arguments).moved,
                    compile_seconds=model.compiled_step[1],
                    program_gb=counting.gigabytes(model.compiled_step[0]),
                )
            )
    return rows


def prediction(bench: Bench) -> list[Row]:
    """Predictions in evaluation mode: the batch of clips, and two whole trials of each mouse."""
    rows: list[Row] = []
    for name, mice in itertools.product(bench.models, bench.mice):
        bench.session.store_of(name)
        with bench.memory(rows):
            model = model_of(bench, mice, name)
            if bench.peer:
                _compare_predictions(bench, model, name)
            for what, raw in model.raw.items():
                count, frames, words = shape_of(raw)
                of_frames = f" of {frames} frames" if frames > 1 else ""
                if model.in_windows and bench.sizes.window_step > 1:
                    of_frames += f", windows every {bench.sizes.window_step} frames"
                seconds = bench.sides(
                    lambda m=model, r=raw: timed(lambda: m.predict(r)),
                    lambda w=what: bench.peer.ask("predict", what=w),
                )
                rows.append(
                    row_of(
                        "prediction",
                        f"{LABELS[name]}prediction, {_mice(mice)} x {count} {words}{of_frames}",
                        "frames/s" if frames > 1 else "images/s",
                        mice * count * frames,
                        seconds,
                        flops=model.operations(raw),
                    )
                )
    return rows


def shape_of(raw) -> tuple[int, int, str]:
    """How many clips a batch has of each mouse, of how many frames, and how to call them."""
    size, frames = next(iter(raw.values())).valid.shape
    return size, frames, "clips" if frames > 1 else "images"


def model_of(bench: Bench, mice: int, name: str) -> Model:
    """Our model, and the peer's with the same weights and arrays."""
    model = Model(bench.session, bench.sizes, mice, name, bench.compute)
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


def label(bench: Bench, name: str) -> str:
    """What the work of a model's rows begins with; predictions are always of float32."""
    return LABELS[name] + ("" if bench.compute == "float32" else f"{bench.compute} ")


def _mice(count: int) -> str:
    return f"{count} mouse" if count == 1 else f"{count} mice"


def _compare_objectives(bench, model, name):
    ours = model.objective()
    if ours is None:
        return
    theirs = bench.peer.ask("objective")
    bench.said.append(
        f"Training computes the same thing ({name}): with equal weights and clips, and every "
        f"neuron read at its mean, the objectives are {ours:.7g} (sensojax) and {theirs:.7g} "
        f"(published), a relative difference of {abs(ours - theirs) / abs(theirs):.1e}."
    )


def _compare_predictions(bench, model, name):
    path, (what, raw) = bench.scratch / "predicted.npy", next(iter(model.raw.items()))
    bench.peer.ask("predict", what=what, path=str(path))
    theirs = np.load(path).swapaxes(1, 2)
    first = next(iter(model.stores))
    ours = np.asarray(model.predict(raw)[first])[:, -theirs.shape[1] :]
    far = f"differ by at most {np.abs(ours - theirs).max():.1e} (the largest is {theirs.max():.3g})"
    if model.in_windows and bench.sizes.window_step > 1:
        alike = np.corrcoef(ours.ravel(), theirs.ravel())[0, 1]
        bench.said.append(
            f"With windows every {bench.sizes.window_step} frames predicted responses {far} from "
            f"those of all windows, and correlate with them by {alike:.5f} ({name}, first weights)."
        )
        return
    bench.said.append(
        f"Prediction computes the same thing ({name}, {_mice(len(model.stores))}): with equal "
        f"weights and clips the {ours.size:,} predicted responses {far}."
    )
