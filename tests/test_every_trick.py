"""The contract of every way of training: it is a setting that each model can be trained with.

Models are the smallest presets of all pages of configs and, of the cores that none of these has,
their smallest settings in configs/dynamic.py. Each takes a step with as many of the settings as go
together; its shapes alone are traced here, what each setting does to numbers is tested where it is
made.
"""

import sys

import jax
import pytest

from sensojax import build
from sensojax.build.naming import components
from sensojax.models import cores
from sensojax.models.encoder import assemble, separate
from sensojax.training import checkpoints, step
from sensojax.training.distillation import Teacher
from tests.test_configs import MODULES, abstract_batches, config_of, neurons, new_encoder

MICE = {"a": neurons(3), "b": neurons(4)}
STEP = ("average", "compute", "recompute", "mice_at_once")  # settings of `train` that a step has
# Two kinds of averages exclude each other, and so do a teacher and groups of mice.
TOGETHER = {
    "averaged and taught": dict(
        data=dict(batch_size=2),
        train=dict(average=0.999, compute="bfloat16"),
        optimizer=dict(name="adamw", core_rate=2.0, core_weight_decay=0.1, clip_percentile=10.0),
        cutmix=dict(probability=0.5),
        encoder=dict(channel_dropout=0.4),
        output=dict(name="softplus", beta=0.07, learned=True),
        loss=dict(name="poisson_correlation", weighting="balanced", weight=1000.0),
        distillation=dict(run="runs/teacher", ratio=0.36),
    ),
    "schedule-free and in groups": dict(
        train=dict(average=0.0, compute="bfloat16", recompute=True, mice_at_once=1),
        optimizer=dict(name="schedule_free", clip_norm=1.0),
        encoder=dict(batch_norm="per_mouse"),
        output=dict(name="softplus", beta=0.07, learned=False),
        loss=dict(name="poisson", weighting="equal"),
        distillation=dict(run=""),
    ),
}


CORES = components(cores, "Core")
OF_PAGES = {config_of(page, "tiny").core.name for page in MODULES}
MODELS = [*MODULES, *(f"dynamic+{core}" for core in CORES if core not in OF_PAGES)]


def changed(model: str, tricks: dict) -> dict:
    """The config of a model with these settings; sections with a name are replaced."""
    page, _, core = model.partition("+")
    config = config_of(page, "tiny").to_dict()
    if core:
        config["core"] = dict(name=core, **sys.modules[CORES[core].__module__].TINY)
        config["data"]["window_frames"] = 8  # as long as learned codes of time are there
    for section, settings in tricks.items():
        config[section] = settings if "name" in settings else config[section] | settings
    build.check(config)
    return config


CASES = [
    pytest.param(model, how, marks=() if model == "dynamic" else pytest.mark.slow)
    for model in MODELS
    for how in TOGETHER
]


@pytest.mark.parametrize(("name", "how"), CASES)
def test_every_model_can_be_trained_in_every_way(name, how):
    config = changed(name, TOGETHER[how])
    model = jax.eval_shape(lambda: new_encoder(config, MICE))
    graph, weights = separate(model)
    state = jax.eval_shape(lambda w: build.initial_state(assemble(graph, w), config)[1], weights)
    taught = bool(config["distillation"]["run"])
    take_step = step.make_train_step(
        graph,
        build.optimizer(config),
        build.loss(config["loss"]),
        build.prepare(config["inputs"]),
        num_files={"a": 10, "b": 20},
        seed=0,
        augment=build.augment(config),
        teacher=Teacher(graph, weights, config["distillation"]["ratio"]) if taught else None,
        **{name: config["train"][name] for name in STEP},
    )
    given = state, *abstract_batches(config, MICE), 0.1
    given = (take_step.func, *given, weights) if taught else (take_step, *given)
    after, measured = jax.eval_shape(*given)
    assert jax.tree.map(kind, after) == jax.tree.map(kind, state)
    assert ({"a", "b", "distilled"} if taught else {"a", "b"}) <= set(measured["parts"])
    assert (after.average is not None) == (config["train"]["average"] > 0)
    params = checkpoints.flatten(state.weights.params)
    assert any("log_beta" in param for param in params) == config["output"]["learned"]


def kind(array) -> tuple:
    return array.shape, array.dtype
