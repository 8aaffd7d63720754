"""Rows of data: loader, correlation over a tier, size of the store, speed of conversion.

In: a `Bench`; out: `Row`s, and in `bench.said` what the sizes are and how exact the scores.
"""

import functools
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np

from scripts.benchmarks import subject
from scripts.benchmarks.measuring import PUBLISHED, Bench, Row, Side, in_turn, row_of, timed
from scripts.benchmarks.session import folder_bytes
from sensojax import build, conversion, metrics
from sensojax.pipeline.batches import to_device
from sensojax.recordings import sensorium2023


def loader(bench: Bench) -> list[Row]:
    """Random windows of the train tier, normalised (official): files in the page cache, and not."""
    rows: list[Row] = []
    sizes = bench.sizes
    trained = bench.session.store.trials.tier == "train"
    once = -(-np.sum(trained) // sizes.batch)
    warm, cold = _our_loader(bench, sizes.loader_steps), _our_loader(bench, int(once))
    cases = [("", False, sizes.loader_steps, warm)]
    if bench.peer:
        cases.append(("", True, sizes.loader_steps, warm))
    if hasattr(os, "posix_fadvise"):
        cases.append((", from the disk", False, int(once), cold))
    with bench.memory(rows):
        for where, cached, steps, ours in cases:
            forget = (lambda: _forget(bench.session)) if where else (lambda: None)
            theirs = functools.partial(_their_loader, bench, forget)
            if bench.peer:
                samples = bench.peer.ask(
                    "open_loader",
                    path=str(bench.session.path),
                    batch_size=sizes.batch,
                    frames=sizes.window_frames,
                    cached=cached,
                )
            seconds = bench.sides(lambda f=forget, run=ours: (f(), run())[1], theirs)
            ours_side = Side.rate(steps * sizes.batch, seconds[0])
            theirs_side = Side.rate(samples, seconds[1]) if bench.peer else None
            other = f"{PUBLISHED}, its cache {'full' if cached else 'off'}"
            work = f"loader, windows of {sizes.window_frames} frames{where}"
            rows.append(Row("loader", work, "windows/s", ours_side, other, theirs_side))
    return rows


def _their_loader(bench, forget):
    forget()
    return bench.peer.ask("load")


def _forget(session):
    """Has the system drop the files of a session from its page cache (those that are on disk)."""
    for folder in (session.path, session.store.path):
        for at, _, names in os.walk(folder, followlinks=True):
            for name in names:
                file = os.open(os.path.join(at, name), os.O_RDONLY)
                os.fsync(file)
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(file)


def _our_loader(bench, steps):
    """Seconds of reading, normalising and bringing to the device so many batches."""
    config = subject.configured(bench.sizes, "factorised")
    stores = {bench.session.store.mouse: bench.session.store}
    data = config["data"]
    batches = build.batches(data, stores, 0)
    statistics = build.statistics(data, stores)
    prepare = jax.jit(build.prepare(config["inputs"]))
    threads = dict(num_threads=data["read_threads"], prefetch_steps=data["prefetch_steps"])

    def run():
        stream = batches.iterate(0, steps, **threads)
        with to_device(stream, jax.device_put) as ready:
            for _, raw in ready:
                jax.block_until_ready(prepare(raw, statistics))

    return lambda: timed(run)


# --- correlation ----------------------------------------------------------------------------------


def correlation(bench: Bench) -> list[Row]:
    """Correlation over a tier in memory: ours streaming, numpy on joined arrays, the published."""
    sizes = bench.sizes
    frames = sizes.tier_trials * sizes.scored_frames
    work = f"correlation, {sizes.tier_trials} trials of {sizes.scored_frames} frames"
    rows: list[Row] = []
    rng = np.random.default_rng(0)
    shape = (sizes.tier_trials, sizes.scored_frames, sizes.neurons)
    observed = rng.standard_exponential(shape, dtype=np.float32)
    predicted = observed * np.float32(0.3) + rng.standard_exponential(shape, dtype=np.float32)
    with bench.memory(rows):
        if bench.peer:
            _hand_over(bench, predicted, observed)
        both = (predicted, observed)
        pairs = [[jax.device_put(x[i : i + 1]) for x in both] for i in range(len(observed))]
        valid = jnp.ones((1, sizes.scored_frames), bool)
        sides = [lambda: timed(lambda: _streamed(pairs, valid))]
        sides.append(lambda: timed(lambda: _joined(predicted, observed)))
        if bench.peer:
            sides.append(lambda: bench.peer.ask("correlation"))
        ours, *theirs = in_turn(bench.repeats, *sides)
        for name, seconds in zip(("numpy, joined arrays", PUBLISHED), theirs, strict=False):
            both_sides = [ours, seconds]
            moved = predicted.nbytes + observed.nbytes
            rows.append(
                row_of("correlation", work, "frames/s", frames, both_sides, name, moved=moved)
            )
    _compare_correlations(bench, _streamed(pairs, valid), predicted, observed)
    return rows


def _hand_over(bench, predicted, observed):
    """Gives the peer the tier, [trial neuron time]."""
    paths = {}
    for name, array in (("predicted", predicted), ("observed", observed)):
        paths[name] = str(bench.scratch / f"{name}.npy")
        np.save(paths[name], array.swapaxes(1, 2))
    bench.peer.ask("scored", **paths)


def _compare_correlations(bench, found, predicted, observed):
    """Says how far both are from float64, over the first neurons (all of them need 5 GB)."""
    exact = _joined(predicted[..., :200].astype(np.float64), observed[..., :200].astype(np.float64))
    sentence = f"sensojax differs by at most {np.abs(found[:200] - exact).max():.1e}"
    if bench.peer:
        path = bench.scratch / "correlation.npy"
        bench.peer.ask("correlation", path=str(path))
        theirs = np.abs(np.load(path)[:200] - exact).max()
        sentence += f", the published code (float32) by {theirs:.1e}"
    bench.said.append(f"Correlation, beside numpy in float64: {sentence}.")


def _streamed(pairs, valid):
    """[neuron], from sums over one trial at a time, as evaluation does it: the device sums up a
    trial while the host adds the sums of the one before."""
    (first, *others), total = pairs, None
    ahead = _sums(*first, valid)
    for pair in others:
        sums, ahead = ahead, _sums(*pair, valid)
        total = sums if total is None else total + sums
    return (ahead if total is None else total + ahead).value()


_sums = jax.jit(metrics.Correlation.of)


def _joined(predicted, observed):
    """[neuron], from all trials joined along time, in plain numpy."""
    x = np.concatenate(list(predicted))
    y = np.concatenate(list(observed))
    x = x - x.mean(axis=0)
    y = y - y.mean(axis=0)
    return (x * y).mean(axis=0) / np.sqrt((x * x).mean(axis=0) * (y * y).mean(axis=0))


# --- store ----------------------------------------------------------------------------------------


def stored(bench: Bench) -> list[Row]:
    """Bytes of the source for each byte of the store, for the worst and for sparse responses."""
    session, rows = bench.session, []
    for kind, path, made in (
        ("responses never zero", session.path, session.store),
        (f"{session.zeros:.0%} zeros", session.sparse_path, session.sparse_store),
    ):
        source, stored = folder_bytes(path), folder_bytes(made.path)
        sides = Side((source / stored,)), Side((1.0,))
        rows.append(Row("store", f"store, {kind}", "source/store", sides[0], "source", sides[1]))
        bench.said.append(
            f"{bench.sizes.trials} trials with {kind} take {source / 1e9:.2f} GB as published and "
            f"{stored / 1e9:.2f} GB as a store, {stored / source:.2f} of it."
        )
    return rows


def converting(bench: Bench) -> list[Row]:
    """Megabytes of source converted per second, beside plainly copying the same files: in the page
    cache, and from the disk to the disk."""
    rows: list[Row] = []
    source = folder_bytes(bench.session.path)
    cases = {"": lambda: None}
    if hasattr(os, "posix_fadvise"):
        cases[", from disk to disk"] = lambda: _forget(bench.session)
    with bench.memory(rows):
        for where, forget in cases.items():
            written = functools.partial(_written, bench, forget, synced=bool(where))
            seconds = in_turn(
                bench.repeats,
                lambda w=written: w(lambda to: conversion.write(to, _recording(bench))),
                lambda w=written: w(lambda to: shutil.copytree(bench.session.path, to / "copy")),
            )
            work = f"conversion, of source{where}"
            rows.append(row_of("conversion", work, "MB/s", source / 1e6, seconds, "plain copy"))
    return rows


def _recording(bench):
    return sensorium2023.read(bench.session.path)


def _written(bench, prepare, write, synced):
    """Seconds of writing into a folder that is then deleted; synced: until it is on the disk."""
    prepare()
    folder = bench.scratch / "written"
    folder.mkdir()

    def work():
        write(folder)
        if synced:
            os.sync()

    seconds = timed(work)
    shutil.rmtree(folder)
    return seconds
