"""Rows of the parts of a step: core, readout, and bringing a batch to the device.

In: a `Bench`; out: `Row`s. Both sides have the weights and arrays of the whole model, as in
`model_rows`. The core is timed on normalised clips, the readout on the core's features of them.
"""

import jax
import numpy as np

from scripts.benchmarks import counting, parts
from scripts.benchmarks.measuring import Bench, Row, in_turn, row_of, timed
from scripts.benchmarks.model_rows import label, model_of, shape_of
from scripts.benchmarks.subject import Model, compiled
from sensojax.training import mesh


def core(bench: Bench) -> list[Row]:
    """The core of one mouse's batch: forward, and forward and backward."""
    rows: list[Row] = []
    for name in bench.models:
        bench.session.store_of(name)
        with bench.memory(rows):
            model = model_of(bench, 1, name)
            operations = parts.core_operations(model.graph, model.state.weights, model.prepared)
            ways = (
                ("forward", parts.core(model.graph, bench.compute)),
                ("forward and backward", parts.core_backward(model.graph, bench.compute)),
            )
            given = (model.state.weights, model.prepared)
            for (way, program), flops in zip(ways, operations, strict=True):
                rows.append(_row(bench, "core", name, way, program, given, flops))
    return rows


def readout(bench: Bench) -> list[Row]:
    """The readout of one mouse: at the mean of every neuron, and sampled, with gradients."""
    rows: list[Row] = []
    for name in bench.models:
        bench.session.store_of(name)
        with bench.memory(rows):
            model = model_of(bench, 1, name)
            given = (model.state.weights, _features(model), model.prepared)
            for way, program in (
                ("forward", parts.readout(model.graph)),
                ("forward and backward", parts.readout_backward(model.graph)),
            ):
                rows.append(_row(bench, "readout", name, way, program, given, None))
    return rows


def _features(model: Model) -> dict[str, jax.Array]:
    seen = model.state.weights, model.prepared
    return jax.block_until_ready(parts.core(model.graph)(*seen))


def _row(bench, part, name, way, program, given, flops) -> Row:
    """One part, one way; the peer does the same by the same name."""
    made, seconds = compiled(program, *given)
    clips, _, words = shape_of(given[-1])
    neurons = f", {bench.sizes.neurons:,} neurons" if part == "readout" else ""
    return row_of(
        part,
        f"{label(bench, name)}{part}, {way}, {clips} {words}{neurons}",
        f"{words}/s",
        clips,
        bench.sides(
            lambda: timed(lambda: made(*given)),
            lambda: bench.peer.ask(part, backward=way != "forward"),
        ),
        flops=flops,
        moved=counting.work(program, *given).moved,
        compile_seconds=seconds,
        program_gb=counting.gigabytes(made),
    )


def transfer(bench: Bench) -> list[Row]:
    """A raw batch from the host to the device, as training does it, beside a plain copy of it."""
    rows: list[Row] = []
    with bench.memory(rows):
        model = Model(bench.session, bench.sizes, 1, "factorised")
        on_host = jax.tree.map(np.array, jax.device_get(model.batch))
        placement = mesh.Placement()
        size = sum(each.nbytes for each in jax.tree.leaves(on_host))
        seconds = in_turn(
            bench.repeats,
            lambda: timed(lambda: placement.batch(on_host)),
            lambda: timed(lambda: jax.tree.map(np.copy, on_host)),
        )
        work = f"host to device, a batch of {size / 1e6:.3g} MB"
        rows.append(row_of("transfer", work, "GB/s", size / 1e9, seconds, "copy on the host"))
    return rows
