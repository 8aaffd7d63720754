"""Every config: a page of plain, locked, typed values, each of which something reads.

Files and presets are found by listing the folder of configs, where each file has `PRESETS` and
`get_config(preset)`. Models are built abstractly, so even the published sizes cost nothing.
"""

import dataclasses
import importlib
import importlib.util
import os
import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags
from ml_collections import config_flags

from sensojax import build, main
from sensojax.build import naming
from sensojax.errors import UserError
from sensojax.models import encoder
from sensojax.models.encoder import assemble, separate
from sensojax.pipeline import cutmix
from sensojax.pipeline.transforms import Statistics
from sensojax.recordings import simulated
from sensojax.training import step
from sensojax.types import Batch, Neurons
from tests.goldens import REPOSITORY

PATHS = sorted((REPOSITORY / "configs").glob("*.py"))
# Sections whose keys our code reads one by one; the others are the arguments of what they name.
READ_HERE = ("data", "inputs", "train", "evaluation")
FIVE_MICE = (7863, 7908, 8202, 7939, 8122)  # neurons of the newer mice of Sensorium 2023


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MODULES = {path.stem: load(path) for path in PATHS}
CASES = [(name, preset) for name, module in MODULES.items() for preset in module.PRESETS]
SLOW = pytest.mark.slow
every_preset = pytest.mark.parametrize(("name", "preset"), CASES)


def config_of(name, preset):
    return MODULES[name].get_config(preset)


def values(config, prefix=""):
    """Every value by its dotted name; a tuple is a value."""
    for key, value in config.items():
        if hasattr(value, "items"):
            yield from values(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def neurons(count):
    return Neurons(np.arange(count), np.random.default_rng(0).normal(size=(count, 3)))


def of_images(config):
    return config["data"]["window_frames"] == 1


def video_size(config):
    """(height, width) of the videos or images that a config is made for."""
    if config["data"]["recordings"] == "colliculus2017" and not config["simulation"]:
        return 96, 128
    height, width = (144, 256) if of_images(config) else (36, 64)
    return config["simulation"].get("height", height), config["simulation"].get("width", width)


def behavior_columns(config):
    return 3 if of_images(config) else 2  # the pupil's dilation, its derivative, running speed


def new_encoder(config, mice):
    height, width = video_size(config)
    size = build.frame_size(SimpleNamespace(height=height, width=width), config["inputs"])
    return build.new_encoder(config, mice, behavior_columns(config), frame_size=size)


def abstract_weights(config, counts):
    """The arrays of a config's encoder as shapes."""
    mice = {f"mouse{i}": neurons(count) for i, count in enumerate(counts)}
    return jax.eval_shape(lambda: separate(new_encoder(config, mice))[1])


def abstract_batches(config, mice):
    """Raw batches of mice and what is known of them, as shapes."""
    frames, clips = config["data"]["window_frames"], config["data"]["batch_size"]
    columns, shape = behavior_columns(config), jax.ShapeDtypeStruct

    def batch(count):
        return Batch(
            video=shape((clips, frames, *video_size(config)), jnp.uint8),
            responses=shape((clips, frames, count), jnp.float32),
            behavior=shape((clips, frames, columns), jnp.float32),
            pupil_center=shape((clips, frames, 2), jnp.float32),
            valid=shape((clips, frames), bool),
            start=shape((clips,), jnp.int32),
        )

    def statistics(count):
        one, pixels = shape((1, 2), jnp.float32), shape((1, 1, 1), jnp.float32)
        of_behavior, responses = (shape((1, n), jnp.float32) for n in (columns, count))
        normalization = config["data"]["normalization"]
        return Statistics(pixels, pixels, responses, of_behavior, one, one, normalization)

    sizes = {mouse: len(each) for mouse, each in mice.items()}
    return [{mouse: make(n) for mouse, n in sizes.items()} for make in (batch, statistics)]


def size(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_there_are_configs():
    assert "dynamic" in MODULES


@pytest.mark.parametrize("name", MODULES)
def test_the_page_names_its_presets_and_refuses_others_with_the_nearest(name):
    module = MODULES[name]
    for preset in module.PRESETS:
        assert preset in module.__doc__
    with pytest.raises(UserError, match=f"did you mean '{module.PRESETS[0]}'"):
        module.get_config(module.PRESETS[0][:-1])


def test_the_default_preset_needs_no_recordings():
    config = MODULES["dynamic"].get_config()
    assert config.data.recordings == "simulated" and config.simulation.mice > 0


@every_preset
def test_every_value_has_a_type(name, preset):
    for key, value in values(config_of(name, preset)):
        parts = value if isinstance(value, tuple) else (value,)
        for part in parts:
            assert isinstance(part, (bool, int, float, str)), f"{key} is {value!r}"


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # in ml_collections
@every_preset
def test_every_value_can_be_given_on_the_command_line_and_no_other(name, preset, monkeypatch):
    config = config_of(name, preset)
    page = f"--config={REPOSITORY / 'configs' / name}.py:{preset}"

    def parsed(*overrides):
        known = flags.FlagValues()
        holder = config_flags.DEFINE_config_file("config", lock_config=True, flag_values=known)
        arguments = ["main", page, *overrides]
        monkeypatch.setattr(sys, "argv", arguments)
        known(arguments)
        return holder.value

    given = [f"--config.{key}={value}" for key, value in values(config)]
    assert dict(values(parsed(*given))) == dict(values(config))
    with pytest.raises(AttributeError, match="batch_size"):
        parsed("--config.data.batchsize=1")
    locked = parsed()
    for section in config:
        with pytest.raises((AttributeError, KeyError)):
            setattr(locked, section + "x", 1)


@pytest.mark.parametrize("name", MODULES)
def test_presets_have_the_same_settings(name):
    first, *others = (config_of(name, preset) for preset in MODULES[name].PRESETS)
    for other in others:
        assert set(other) == set(first)
        for section in (*READ_HERE, "encoder", "shifter"):
            assert set(other[section]) == set(first[section]), section


@pytest.mark.parametrize("name", MODULES)
def test_every_setting_is_read_by_someone(name):
    source = "".join(p.read_text() for p in sorted((REPOSITORY / "sensojax").rglob("*.py")))
    config = config_of(name, MODULES[name].PRESETS[0])
    for section in config:
        assert f'["{section}"]' in source, section
    for section in READ_HERE:
        for key in config[section]:
            assert f'["{key}"]' in source, f"{section}.{key} is read by nobody"


# What `build` gives them beside the settings of their sections.
GIVEN = {"core", "readouts", "shifters", "output", "shared", "gains", "frozen_core"}


@pytest.mark.parametrize("name", MODULES)
def test_sections_without_a_name_show_every_setting_that_there_is(name):
    """Those with a name show the settings of what they name, which others do not have."""
    config = config_of(name, MODULES[name].PRESETS[0])
    assert set(config.encoder) == set(naming.arguments(encoder.Encoder)) - GIVEN
    assert set(config.cutmix) == set(naming.arguments(cutmix.mixing))


@every_preset
def test_what_a_preset_names_can_be_built_from_its_other_settings(name, preset):
    config = config_of(name, preset).to_dict()
    fields = {field.name for field in dataclasses.fields(simulated.Settings)}
    assert set(config["simulation"]) <= fields
    simulated.Settings(**config["simulation"])
    schedule = build.schedule(config["schedule"])
    assert schedule.rate_at(1) > 0  # some begin with 0
    assert schedule.total_steps(10) > 0
    ones = jnp.ones((1, 2, 3))
    assert np.isfinite(build.loss(config["loss"])(ones, ones, jnp.ones((1, 2), bool)))


# Tracing a step takes seconds: fast for the first preset of each page, the one users begin with.
FIRST = [pytest.param(n, p, marks=() if p == MODULES[n].PRESETS[0] else SLOW) for n, p in CASES]


@pytest.mark.parametrize(("name", "preset"), FIRST)
def test_a_whole_training_step_fits_together(name, preset):
    """Encoder, optimizer, loss and preparation of a preset, traced on shapes alone."""
    config = config_of(name, preset).to_dict()
    mice = {"a": neurons(3)}
    model = jax.eval_shape(lambda: new_encoder(config, mice))
    optimizer = build.optimizer(config)
    graph, weights = separate(model)
    state = jax.eval_shape(
        lambda weights: step.initial_state(assemble(graph, weights), optimizer)[1], weights
    )
    assert model.core.lost_frames < config["data"]["window_frames"]
    assert model.core.lost_frames <= config["evaluation"]["skip_frames"] or preset != "sensorium"

    take_step = step.make_train_step(
        graph,
        optimizer,
        build.loss(config["loss"]),
        build.prepare(config["inputs"]),
        num_files={"a": 10},
        seed=config["seed"],
    )
    after, measured = jax.eval_shape(take_step, state, *abstract_batches(config, mice), 0.1)
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
    assert measured["loss"].shape == ()
    assert {"a", "readout", "shifter"} <= set(measured["parts"])
    penalties = jax.eval_shape(lambda w: assemble(graph, w).core.regularizers(), weights)
    assert model.frozen_core or set(penalties) <= set(measured["parts"])


# Parameters of the published models of the five newer mice, or of the mouse of a track of images
# (baselines 8, 13): of the core, of the recurrence, of all together.
PUBLISHED = {
    ("dynamic", "sensorium"): (382_176, 0, 5_707_743),
    ("dynamic_gru", "sensorium"): (44_152, 1_991_040, 4_798_583),
    ("dynamic_gru", "demo"): (618_368, 1_204_608, 4_586_367),
    ("dynamic_frames", "sensorium"): (50_624, 0, 2_814_015),
    ("dynamic_dwiseneuro", "sensorium"): (9_076_028, 0, 91_109_792),  # sota 1.2
    ("dynamic_dwiseneuro", "distilled"): (8_478_360, 0, 90_512_124),
    # ViV1T (sota 2.3, 3.4). Published are 2,688 more in the core of 2025, which cannot matter.
    ("dynamic_viv1t", "sensorium2025"): (3_784_354, 0, 3_784_354 + 4_685_023),
    ("dynamic_viv1t", "sensorium2023"): (2_916_074, 0, 2_916_074 + 4_752_223),
    ("dynamic_3d", "sensorium"): (1_946_688, 0, 4_710_079),
    ("dynamic_3d", "demo_factorized"): (527_808, 0, 3_291_199),
    ("dynamic_3d", "demo_factorized_readout"): (527_808, 0, 527_808 + 94_800_512),
    ("static", "sensorium"): (39_680, 0, 576_376),
    ("static", "sensorium_ln"): (28_224, 0, 564_920),
    ("static", "plus"): (55_232, 0, 575_563),
    ("static", "plus_ln"): (43_776, 0, 564_107),
}
ONE_MOUSE = {"sensorium": (7776,), "plus": (7538,)}  # of the tracks of 2022


@pytest.mark.parametrize(("name", "preset"), PUBLISHED)
def test_published_models_have_the_published_numbers_of_parameters(name, preset):
    mice = ONE_MOUSE[preset.removesuffix("_ln")] if name == "static" else FIVE_MICE
    params = abstract_weights(config_of(name, preset).to_dict(), mice).params
    of_core, of_recurrence = params["core"], {}
    if "recurrence" in of_core:
        of_core, of_recurrence = of_core["core"], of_core["recurrence"]
    assert (size(of_core), size(of_recurrence), size(params)) == PUBLISHED[name, preset]


def test_a_page_finds_its_neighbours_wherever_it_lies(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "configs", None)  # put back afterwards
    folder = tmp_path / "configs"
    (folder / "deeper").mkdir(parents=True)
    (folder / "neighbour.py").write_text("answer = 42")
    for page in ("page.py", "deeper/page.py"):
        for arguments in (["--config", f"{folder / page}:tiny"], [f"--config={folder / page}"]):
            del sys.modules["configs"]
            main.let_pages_import_each_other(["main", "--config.seed=1", *arguments])
            assert importlib.import_module("configs.neighbour").answer == 42
            del sys.modules["configs.neighbour"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--config=configs/dynamic.py:tiny", "--config.data.batchsize=4"), "batch_size"),
        (("--config=configs/dynamic.py:tinny",), "did you mean 'tiny'"),
        (("--config=configs/dynamc.py",), "no readable config"),
        (("--config=configs/dynamic.py:tiny", "--config.seed=one"), "config.seed=one"),
    ],
)
def test_a_misspelt_command_line_ends_in_one_sentence(tmp_path, arguments, sentence):
    done = subprocess.run(
        [sys.executable, "-m", "sensojax.main", *arguments, f"--workdir={tmp_path / 'run'}"],
        cwd=REPOSITORY,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert sentence in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()
