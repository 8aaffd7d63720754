"""From the sections `loss`, `optimizer` and `schedule` to what a training step is made of."""

import functools
import inspect
from collections.abc import Callable, Mapping

import optax

from sensojax import losses
from sensojax.build.model import frozen_core
from sensojax.build.naming import call, chosen, functions
from sensojax.training import optimizers, schedules


def loss(section: Mapping) -> Callable:
    """(predicted, observed, valid) -> the sum over counted frames and neurons."""
    known = {
        name: each
        for name, each in functions(losses).items()
        if list(inspect.signature(each).parameters)[:3] == ["predicted", "observed", "valid"]
    }
    frame = ("predicted", "observed", "valid", "reduction")
    return functools.partial(chosen(known, "loss", section, frame), reduction="sum")


def optimizer(config: Mapping) -> optax.GradientTransformation:
    """The recipe of the section `optimizer`, slower for a core that another run has trained."""
    recipe, transfer = (
        call(functions(optimizers), "optimizer", config["optimizer"]),
        config["transfer"],
    )
    if not transfer["run"] or frozen_core(config) or transfer["core_rate"] == 1.0:
        return recipe
    return optimizers.slower_core(recipe, transfer["core_rate"])


def schedule(section: Mapping) -> schedules.Schedule:
    known = {
        name: each
        for name, each in functions(schedules).items()
        if issubclass(each, schedules.Schedule) and each is not schedules.Schedule
    }
    return call(known, "schedule", section)
