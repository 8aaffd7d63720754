"""Training: from gradients to checkpoints.

In go batches, an encoder and a loss; out come parameters, and a journal of how they came about. A
step is a function of (seed, step), so a run that was killed continues bit-equal: `schedules`
says how fast to learn and when to stop, `optimizers` turns gradients into updates, `step` does one
of them, `checkpoints` keeps them, `journal` writes what was measured,
`provenance` with which code, `mesh` spreads the work.
"""
