"""A run folder with the checkpoint of a model that was never trained: enough to predict with."""

from collections.abc import Mapping
from pathlib import Path

import jax

from sensojax.experiments.experiment import Experiment
from sensojax.training import checkpoints, mesh
from tests import runs


def run(workdir: Path, data: Path, changes: Mapping = runs.NONE) -> Path:
    """Its first weights are also its best ones; changes: of `runs.config`. Returns the folder."""
    placement = mesh.Placement()
    with jax.set_mesh(placement.mesh), checkpoints.Checkpoints(workdir) as saved:
        Experiment(runs.config(data, changes), placement).save(saved)
    return workdir
