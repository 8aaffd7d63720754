"""The row of whole epochs: reading, normalising, steps, and the journal, from stores on disk.

In: a `Bench`; out: `Row`s, and in `bench.said` how long the device waited for data. Ours is what
`main.run` does between two evaluations; the published side reads with its own loader, its cache
off, and takes its own steps.
"""

from scripts.benchmarks import subject
from scripts.benchmarks.measuring import PUBLISHED, Bench, Row, Side, in_turn, timed
from scripts.benchmarks.model_rows import label, model_of
from sensojax.experiments.experiment import Experiment
from sensojax.training import journal, mesh

PEERS = ("factorised", "gru")  # models that the published loader of videos can feed
NEVER = 10**9


def epoch(bench: Bench) -> list[Row]:
    """One mouse, every clip of its train tier once."""
    rows: list[Row] = []
    for name in bench.models:
        store = bench.session.store_of(name)
        with bench.memory(rows):
            made = Experiment(_config(bench, name, store.path.parent), mesh.Placement())
            clips = made.batches.epoch_steps * made.config["data"]["batch_size"]
            has_peer = bench.peer is not None and name in PEERS
            read = _peer_with_loader(bench, name) if has_peer else 0
            with journal.Journal(
                bench.scratch / name,
                made.config,
                {},
                simulated=False,
                total_steps=made.total_steps,
                say=None,
            ) as notes:
                sides = [lambda e=made, n=notes: timed(lambda: e.train_to_next_evaluation(n, None))]
                sides += [lambda: bench.peer.ask("epoch")] if has_peer else []
                ours, *theirs = in_turn(bench.repeats, *sides)
            words = "clips" if store.max_frames > 1 else "images"
            other = Side.rate(read, theirs[0]) if theirs else None
            work = f"{label(bench, name)}epoch from disk, {clips} {words}"
            rows.append(Row("epoch", work, f"{words}/s", Side.rate(clips, ours), PUBLISHED, other))
        last = journal.read(notes.path)[-1]
        waited = float(last["wait_fraction"])
        bench.said.append(f"Epoch ({name}): the device waited {waited:.1%} of the time for data.")
    return rows


def _config(bench, name, folder):
    """The published model on the session's store, in a run that is neither scored nor saved."""
    config = subject.configured(bench.sizes, name)
    config["data"] |= dict(folder=str(folder), mice=())
    config["train"] |= dict(evaluate_every=0, log_every=NEVER, checkpoint_every=NEVER)
    config["train"]["compute"] = bench.compute
    if name != "images":
        config["evaluation"] |= dict(validation="oracle", tiers=("oracle",))
    return config


def _peer_with_loader(bench, name) -> int:
    """The same model on the published side, and its loader; clips that this reads in an epoch."""
    model_of(bench, 1, name)
    return bench.peer.ask(
        "open_loader",
        path=str(bench.session.path),
        batch_size=bench.sizes.batch,
        frames=bench.sizes.window_frames,
        cached=False,
    )
