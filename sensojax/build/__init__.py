"""Names in a config become objects here, and nowhere else.

In: the sections of a config (its headings are our folders) and, where needed, stores; out: stores,
batches, encoder, loss, optimizer, schedule, evaluators. `name` in a section is a file (core,
readout, recurrence) or a function or class of the section's file (loss, optimizer, schedule); the
other keys are its arguments, spelled the same. `load_encoder` rebuilds a trained model from its run
folder alone.
"""

from sensojax.build.checks import check
from sensojax.build.data import (
    batches,
    described,
    frame_size,
    prepare,
    protocol,
    statistics,
    stores,
    training_rows,
)
from sensojax.build.learning import loss, optimizer, schedule
from sensojax.build.loading import ENSEMBLE, load_encoder, load_members
from sensojax.build.model import frozen_core, mean_responses, new_core, new_encoder, predictor
from sensojax.build.naming import components
from sensojax.build.scoring import evaluator, fields

__all__ = [
    "ENSEMBLE",
    "batches",
    "check",
    "components",
    "described",
    "evaluator",
    "fields",
    "frame_size",
    "frozen_core",
    "load_encoder",
    "load_members",
    "loss",
    "mean_responses",
    "new_core",
    "new_encoder",
    "optimizer",
    "predictor",
    "prepare",
    "protocol",
    "schedule",
    "statistics",
    "stores",
    "training_rows",
]
