"""Names in a config become objects here, and nowhere else.

In: the sections of a config (its headings are our folders) and, where needed, stores; out: stores,
batches, encoder, loss, optimizer, schedule, evaluators. `name` in a section is a file (core,
readout, recurrence) or a function or class of the section's file (loss, optimizer, schedule); the
other keys are its arguments, spelled the same. `load_encoder` rebuilds a trained model from its run
folder alone.
"""

from sensojax.build.checks import check, check_recorded
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
from sensojax.build.learning import (
    augment,
    initial_state,
    loss,
    mouse_weights,
    optimizer,
    schedule,
)
from sensojax.build.loading import ENSEMBLE, load_encoder, load_members
from sensojax.build.model import (
    frozen_core,
    lost_frames,
    mean_responses,
    new_core,
    new_encoder,
    predictor,
)
from sensojax.build.naming import components
from sensojax.build.scoring import evaluator, fields, null_means

__all__ = [
    "ENSEMBLE",
    "augment",
    "batches",
    "check",
    "check_recorded",
    "components",
    "described",
    "evaluator",
    "fields",
    "frame_size",
    "frozen_core",
    "initial_state",
    "load_encoder",
    "load_members",
    "loss",
    "lost_frames",
    "mean_responses",
    "mouse_weights",
    "new_core",
    "new_encoder",
    "null_means",
    "optimizer",
    "predictor",
    "prepare",
    "protocol",
    "schedule",
    "statistics",
    "stores",
    "training_rows",
]
