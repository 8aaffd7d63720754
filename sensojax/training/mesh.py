"""Where arrays live: one named mesh of devices, batches split over it, weights on every device.

The same program runs on one CPU, on several GPUs, or on several hosts after
`jax.distributed.initialize()`: the mesh holds every device of every process along the axis `data`.
`Placement.batch` turns the part of a batch that this process read into the global array,
`Placement.everywhere` copies weights and statistics to all devices.
"""

import logging
import os
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from sensojax.errors import UserError

Made = TypeVar("Made")


def join_processes() -> None:
    """Connects the processes of one run, when a launcher started several; else does nothing.

    By hand: set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID for each process.
    """
    # Else JAX tells every user of a CPU, through absl, that there is no TPU.
    logging.getLogger("jax._src.xla_bridge").setLevel(logging.WARNING)
    by_hand = "JAX_COORDINATOR_ADDRESS" in os.environ
    tasks = os.environ.get("SLURM_NTASKS") or os.environ.get("OMPI_COMM_WORLD_SIZE") or "1"
    if not by_hand and int(tasks) <= 1:
        return
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    if by_hand:
        for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"):
            if not os.environ.get(name, "").isdigit():
                raise UserError(
                    f"found JAX_COORDINATOR_ADDRESS and {name} {os.environ.get(name)!r}, expected "
                    "a number; set both numbers for each process, or none of the three."
                )
        jax.distributed.initialize(
            os.environ["JAX_COORDINATOR_ADDRESS"],
            num_processes=int(os.environ["JAX_NUM_PROCESSES"]),
            process_id=int(os.environ["JAX_PROCESS_ID"]),
        )
    else:
        jax.distributed.initialize()


def lead_first(make: Callable[[], Made]) -> Made:
    """make() on the first process of a run, then on the others: what it writes, they find."""
    if jax.process_count() == 1:
        return make()
    if jax.process_index() == 0:
        made = make()
    multihost_utils.sync_global_devices("lead_first")
    return made if jax.process_index() == 0 else make()


class Placement:
    """Puts arrays on the devices of a run. devices: all of them unless told otherwise."""

    def __init__(self, devices: list | None = None):
        devices = jax.devices() if devices is None else devices
        self.mesh = jax.sharding.Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))
        self.split = NamedSharding(self.mesh, PartitionSpec("data"))
        self.copied = NamedSharding(self.mesh, PartitionSpec())

    def check(self, batch_size: int, what: str) -> None:
        """UserError unless a batch can be split evenly over the devices."""
        if batch_size % self.mesh.size:
            raise UserError(
                f"found {what} of {batch_size} examples for {self.mesh.size} devices, expected a "
                f"multiple of {self.mesh.size}; change it or use fewer devices."
            )

    def batch(self, local: Any) -> Any:
        """This process's part of a batch (any tree of arrays [batch ...]), as global arrays."""
        return jax.tree.map(
            lambda x: jax.make_array_from_process_local_data(self.split, np.asarray(x)), local
        )

    def everywhere(self, tree: Any) -> Any:
        """A tree of arrays, copied whole to every device."""
        return jax.device_put(tree, self.copied)
