"""From `loss`, `optimizer`, `schedule` and `cutmix` to what a training step is made of."""

import functools
import inspect
from collections.abc import Callable, Mapping

import numpy as np
from flax import nnx

from sensojax import losses
from sensojax.build.data import training_rows
from sensojax.build.model import frozen_core
from sensojax.build.naming import call, chosen, functions
from sensojax.errors import check_name
from sensojax.models.encoder import Encoder
from sensojax.pipeline import cutmix
from sensojax.training import optimizers, schedules, step


def loss(section: Mapping) -> Callable:
    """(predicted, observed, valid) -> the sum over counted frames and neurons."""
    section = {key: value for key, value in section.items() if key != "weighting"}
    known = {
        name: each
        for name, each in functions(losses).items()
        if list(inspect.signature(each).parameters)[:3] == ["predicted", "observed", "valid"]
    }
    frame = ("predicted", "observed", "valid", "reduction")
    return functools.partial(chosen(known, "loss", section, frame), reduction="sum")


def mouse_weights(config: Mapping, opened: Mapping) -> dict[str, Callable[[int], float]]:
    """How much each mouse's summed loss counts, as a function of its clips in a batch."""
    rule = config["loss"]["weighting"]
    check_name(rule, losses.WEIGHTINGS, "loss.weighting")
    sizes = {mouse: len(store.trials) for mouse, store in opened.items()}
    if rule != "files":
        rows = training_rows(config["data"], opened)
        sizes = {mouse: len(of_mouse) for mouse, of_mouse in rows.items()}
    mean = float(np.mean(list(sizes.values())))
    weigh = losses.WEIGHTINGS[rule]
    return {m: functools.partial(weigh, own, mean, len(sizes)) for m, own in sizes.items()}


def augment(config: Mapping) -> Callable | None:
    """(key, prepared batches) -> batches, as the section `cutmix` says; None for no change."""
    return call({"cutmix": cutmix.mixing}, "cutmix", {"name": "cutmix", **config["cutmix"]})


def optimizer(config: Mapping) -> optimizers.Recipe:
    """The recipe of the section `optimizer`, slower for a core that another run has trained."""
    section, transfer = dict(config["optimizer"]), config["transfer"]
    if transfer["run"] and not frozen_core(config) and transfer["core_rate"] != 1.0:
        section["core_rate"] = section["core_rate"] * transfer["core_rate"]
    return call(functions(optimizers), "optimizer", section)


def initial_state(model: Encoder, config: Mapping) -> tuple[nnx.GraphDef, step.TrainState]:
    """The structure of a model and the state of a run of this config that has not begun."""
    averages = config["train"]["average"] > 0
    return step.initial_state(model, optimizer(config), averages=averages)


def schedule(section: Mapping) -> schedules.Schedule:
    known = {
        name: each
        for name, each in functions(schedules).items()
        if issubclass(each, schedules.Schedule) and each is not schedules.Schedule
    }
    return call(known, "schedule", section)
