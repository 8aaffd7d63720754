"""Made-up results for the tests of the report: small, optional parts may be left out."""

import numpy as np

from sensojax.evaluation.results import Fields, MouseScore, Score, Traces

MICE = {"dynamic29515-10-12-Video-abc": 40, "made_up": 25}


def mouse_score(mouse, neurons, seed=0, *, ceilings=True, depths=False, measures=()) -> MouseScore:
    rng = np.random.default_rng(seed)
    ceiling = rng.uniform(0.2, 0.8, neurons)
    correlation = ceiling * rng.uniform(0.2, 0.9, neurons)
    return MouseScore(
        mouse,
        correlation,
        2,
        0.75,
        12,
        3000,
        ceiling if ceilings else None,
        {name: rng.uniform(0.0, 1.0, neurons) for name in measures},
        {},
        200.0 + 25 * rng.integers(0, 4, neurons) if depths else None,
        {"area": rng.choice(["V1", "LM"], neurons)} if depths else {},
    )


def score(
    tier="oracle",
    *,
    ceilings=True,
    simulated=True,
    step=300,
    mice=MICE,
    kinds=(),
    depths=False,
    measures=(),
    **other,
) -> Score:
    """kinds: of stimuli, or {kind: mice that saw it}."""
    how = dict(ceilings=ceilings, depths=depths, measures=measures)
    found = {
        mouse: mouse_score(mouse, neurons, seed, **how)
        for seed, (mouse, neurons) in enumerate(mice.items())
    }
    saw = kinds if isinstance(kinds, dict) else dict.fromkeys(kinds, tuple(mice))
    parts = {
        kind: {mouse: mouse_score(mouse, mice[mouse], (seed, len(mouse)), **how) for mouse in who}
        for seed, (kind, who) in enumerate(saw.items())
    }
    settings = {
        "normalization": "per_neuron",
        "protocol": "strict",
        "skip_frames": 50,
        "nan_rule": "zero",
        "seeds": (7,),
        "ensemble": False,
    }
    settings |= dict(simulated=simulated, mice=found, kinds=parts)
    return Score(tier, step, **(settings | other))


def lines(of: Score) -> list[dict]:
    """A journal of 300 steps, with a restore and a cut, that ends with a score."""
    run = {
        "kind": "run",
        "step": 0,
        "time": "2026-01-01T00:00:00.000+00:00",
        "config": {},
        "stores": {mouse: f"fingerprint-{mouse}" for mouse in of.mice},
        "simulated": of.simulated,
        "total_steps": 300,
        "commit": "c0ffee",
        "versions": {"jax": "0.10.2"},
        "devices": ["1 x cpu (cpu)"],
        "processes": 1,
        "command": "python -m sensojax.main --config configs/dynamic.py",
    }
    steps = [
        {"kind": "step", "step": s, "loss": 2 + 1 / s, "learning_rate": 5e-3 if s < 200 else 1e-3}
        for s in range(1, 301)
    ]
    notes = [
        {"kind": "note", "step": 180, "event": "restore", "text": "back to <step 100>"},
        {"kind": "note", "step": 200, "event": "learning_rate_cut", "text": "rate cut"},
    ]
    scores = [
        {"kind": "evaluation", "step": s, **of.summary(), "correlation": of.correlation * s / 300}
        for s in (100, 200, 300)
    ]
    return [run, *steps, *notes, *scores]


def traces(of: Score, rates=True) -> list[Traces]:
    rng = np.random.default_rng(1)
    rate = rng.uniform(0.1, 1.0, 200)
    shown = []
    for mouse, each in of.mice.items():
        for label, quantile in (("95th percentile", 0.95), ("median", 0.5)):
            neuron = int(each.neurons_near(quantile, 1)[0])
            observed = rate * rng.gamma(1.0, 1.0, 200)
            numbers = (float(each.correlation[neuron]), 30.0, rate * 0.8, observed)
            known = rate if rates else None
            shown.append(Traces(mouse, neuron, label, of.tier, *numbers, known, (100,)))
    return shown


def fields(of: Score, *, placed=True, true=True) -> list[Fields]:
    rng = np.random.default_rng(2)
    found = []
    for mouse, each in of.mice.items():
        cortex = rng.uniform(-900, -300, (each.num_neurons, 2))
        centers = (cortex + 600) / 350
        learned = centers + rng.normal(0, 0.05, centers.shape)
        cortex = cortex if placed else np.full_like(cortex, np.nan)
        found.append(Fields(mouse, cortex, learned, centers if true else None))
    return found
