"""Names become objects; what nobody knows is refused with the nearest; a run folder is enough."""

import functools
import importlib.util
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import dynamic_dwiseneuro
from sensojax import build, conversion, losses, main
from sensojax.errors import UserError
from sensojax.experiments import scoring
from sensojax.models import cores
from sensojax.models.cores import dwiseneuro
from sensojax.models.encoder import assemble, separate
from sensojax.training import checkpoints, schedules, step
from sensojax.types import Neurons
from sensojax.writing import plain
from tests import handmade, runs
from tests.goldens import REPOSITORY
from tests.models import made_up
from tests.models.made_up import leaves

POSITIONS = {"ada": 5, "bob": 3}
FRAME = (16, 20)  # height and width of videos


def tiny_config() -> dict:
    """The tiny preset, as a plain dictionary."""
    path = REPOSITORY / "configs" / "dynamic.py"
    spec = importlib.util.spec_from_file_location("dynamic", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config("tiny").to_dict()


def neurons() -> dict[str, Neurons]:
    rng = np.random.default_rng(0)
    return {m: Neurons(np.arange(n), rng.normal(size=(n, 3))) for m, n in POSITIONS.items()}


def changed(section: str, **settings) -> dict:
    """The tiny config with settings of one section replaced or added."""
    config = tiny_config()
    return config | {section: config[section] | settings}


def build_part(section: str, config: dict):
    """Builds the object that a section names, as an experiment does."""
    if section in ("loss", "schedule"):
        return getattr(build, section)(config[section])
    if section == "optimizer":
        return build.optimizer(config)
    return abstract_encoder(config)


def abstract_encoder(config: dict):
    """The encoder of a config with shapes for arrays, which takes no time to make."""
    make = functools.partial(build.new_encoder, config, neurons(), 2, frame_size=FRAME)
    return jax.eval_shape(make)


@pytest.mark.parametrize(
    ("section", "misspelt", "meant"),
    [
        ("core", "factorised3d", "factorized3d"),
        ("recurrent", "conv_grue", "conv_gru"),
        ("readout", "gausian2d", "gaussian2d"),
        ("shifter", "mpl", "mlp"),
        ("output", "softplos", "softplus"),
        ("loss", "poison", "poisson"),
        ("optimizer", "admw", "adamw"),
        ("schedule", "plateu", "plateau"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(section, misspelt, meant):
    with pytest.raises(UserError, match=rf"{section}\.name '{misspelt}'.*did you mean '{meant}'"):
        build_part(section, changed(section, name=misspelt))


@pytest.mark.parametrize(
    ("section", "misspelt", "meant"),
    [
        ("core", "chanels", "channels"),
        ("readout", "init_sigmas", "init_sigma"),
        ("shifter", "hiden", "hidden"),
        ("output", "ofset", "offset"),
        ("loss", "epsilom", "epsilon"),
        ("optimizer", "weight_decays", "weight_decay"),
        ("schedule", "peek_rate", "peak_rate"),
    ],
)
def test_a_misspelt_setting_is_refused_with_the_nearest(section, misspelt, meant):
    with pytest.raises(UserError, match=f"{section}.{misspelt}.*did you mean '{meant}'"):
        build_part(section, changed(section, **{misspelt: 1}))


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("core", "input_channels"),
        ("core", "rngs"),
        ("readout", "position_um"),
        ("readout", "map_size"),
        ("loss", "predicted"),
        ("loss", "reduction"),
    ],
)
def test_what_the_program_supplies_is_no_setting(section, key):
    with pytest.raises(UserError, match=f"{section}.{key}, which"):
        build_part(section, changed(section, **{key: 1}))


def test_every_file_in_a_folder_of_components_is_one():
    files = {path.stem for path in (REPOSITORY / "sensojax/models/cores").glob("[!_]*.py")}
    assert set(build.components(cores, "Core")) == files


def test_only_losses_and_schedules_can_be_named_as_such():
    for name in ("dataset_scale", "reductions"):
        with pytest.raises(UserError, match=r"loss\.name"):
            build.loss({"name": name})
    for name in ("decision", "schedule"):
        with pytest.raises(UserError, match="expected one of constant, cosine, plateau"):
            build.schedule({"name": name})


def test_objects_are_made_with_the_settings_of_their_section():
    ones = jnp.ones((1, 2, 3))
    valid = jnp.array([[True, False]])
    found = build.loss({"name": "poisson", "epsilon": 0.5})(2 * ones, ones, valid)
    assert found == pytest.approx(losses.poisson(2 * ones, ones, valid, epsilon=0.5).item())
    made = build.schedule({"name": "plateau", "patience": 2, "initial_rate": 0.25})
    assert isinstance(made, schedules.Plateau)
    assert (made.patience, made.rate) == (2, 0.25)
    config = changed("core", channels=(2, 3)) | {"shifter": {"name": ""}}
    model = abstract_encoder(config)
    assert model.core.channels == (2, 3) and not model.shifters
    assert {mouse: r.num_neurons for mouse, r in model.readouts.items()} == POSITIONS


@pytest.mark.parametrize(
    ("inputs", "channels"),
    [
        (dict(behavior=False, pupil=False), 1),
        (dict(behavior=True, pupil=False), 3),
        (dict(behavior=True, pupil=True), 5),
        (dict(behavior=True, pupil=True, behavior_columns=(1,)), 4),
        (dict(behavior=False, behavior_columns=(1,)), 1),
    ],
)
def test_the_core_takes_as_many_channels_as_preparation_makes(inputs, channels):
    config = changed("inputs", **inputs)
    model = abstract_encoder(config)
    assert model.core.layers[0].spatial.shape[2] == channels


def test_behavior_that_was_not_recorded_is_refused():
    with pytest.raises(UserError, match="behavior_columns 1, 2, expected numbers from 0 to 1"):
        abstract_encoder(changed("inputs", behavior_columns=(1, 2)))


def test_a_recurrence_stands_behind_the_core_and_before_the_readouts():
    config = changed("recurrent", name="conv_gru", channels=7, input_kernel=3, padding=False)
    model = abstract_encoder(config)
    assert model.core.recurrence.reset_gate_input.kernel.shape == (3, 3, 4, 7)
    assert {readout.features.shape[1] for readout in model.readouts.values()} == {7}
    height, width = abstract_encoder(tiny_config()).core.map_size(*FRAME)
    assert model.core.map_size(*FRAME) == (height - 2, width - 2)


def test_masks_have_the_size_of_the_map_that_they_are_laid_on():
    config = changed("recurrent", name="conv_gru", channels=7, input_kernel=3, padding=False)
    config |= {"readout": {"name": "factorized2d"}, "shifter": {"name": ""}}
    model = abstract_encoder(config)
    assert {r.spatial.shape[1:] for r in model.readouts.values()} == {model.core.map_size(*FRAME)}


def test_a_readout_of_whole_maps_has_no_points_to_show(stores_folder):
    (opened,) = build.stores(data(stores_folder), {}).values()
    inputs = changed("inputs", pool=2)["inputs"]
    size = build.frame_size(opened, inputs)
    assert size == (opened.height // 2, opened.width // 2)
    config = tiny_config() | {"readout": {"name": "factorized2d"}, "shifter": {"name": ""}}
    make = functools.partial(build.new_encoder, config, {"ada": opened.neurons}, 2)
    made = jax.eval_shape(functools.partial(make, frame_size=size))
    found = build.fields("ada", made, opened, inputs)
    assert found.learned is None
    assert np.array_equal(found.cortex_um, opened.neurons.position_um[:, :2])


def test_biases_start_where_the_last_nonlinearity_gives_the_mean_responses():
    core = dict(name="dwiseneuro", **dwiseneuro.TINY)
    readout = dict(name="grouped", bias_start="matched")
    means = {mouse: np.linspace(0.3, 4, count) for mouse, count in POSITIONS.items()}
    config = tiny_config() | dict(core=core, readout=readout, shifter={"name": ""})
    for output in (dict(name="softplus", beta=0.5, learned=True), dict(name="elu", offset=-1.0)):
        made = build.new_encoder(config | {"output": output}, neurons(), 2, means)
        for mouse, count in POSITIONS.items():
            start = made.output[mouse](made.readouts[mouse].bias[...][:count])
            np.testing.assert_allclose(start, means[mouse], rtol=1e-5)


@pytest.mark.parametrize(
    ("section", "settings", "sentence"),
    [
        ("inputs", dict(frame_step=2), "found inputs.frame_step 2 and no evaluation.window_frames"),
        ("inputs", dict(frame_step=0), "found inputs.frame_step 0, expected 1 or more"),
        ("evaluation", dict(blending="liner"), "did you mean 'linear'"),
        ("evaluation", dict(windows_at_once=0), "found evaluation.windows_at_once 0"),
    ],
)
def test_windows_of_which_no_prediction_can_be_made_are_refused(section, settings, sentence):
    with pytest.raises(UserError, match=sentence):
        build.check(changed(section, **settings))


@pytest.mark.slow
def test_dwiseneuro_trains_is_scored_in_windows_and_comes_back(tmp_path):
    config = dynamic_dwiseneuro.get_config("tiny").to_dict()
    config["data"]["folder"] = str(tmp_path / "data")
    config["core"] |= dict(drop_path=0.2, cortex_drop_path=0.2)
    config["output"]["learned"] = True
    score = main.run(config, tmp_path / "run")["oracle"]
    assert np.isfinite(score.correlation)
    _, weights, _ = build.load_encoder(tmp_path / "run")
    betas = [x for name, x in leaves(weights.params).items() if "log_beta" in name]
    assert len(betas) == 2 and betas[0] != betas[1]
    again = scoring.Scorer().score(tmp_path / "run", ("oracle",))["oracle"]
    assert again.correlation == pytest.approx(score.correlation, abs=1e-6)


def test_places_in_a_canvas_are_places_in_the_video_that_lies_in_its_middle():
    """Of 12 x 20 pixels, pooled by 2, in 10 x 14: the first pixel of 6 x 10 is at (2, 2)."""
    seen = np.array([[6.5, 4.5], [2, 2]])  # x and y: the middle, and the first pixel's centre
    points = jnp.asarray(2 * seen / np.array([13, 9]) - 1)
    readout = SimpleNamespace(positions=lambda: points)
    model = SimpleNamespace(
        readouts={"ada": readout}, core=SimpleNamespace(map_to_image=lambda p, h, w: p)
    )
    opened = SimpleNamespace(width=20, height=12, neurons=neurons()["ada"], truth={})
    found = build.fields("ada", model, opened, dict(pool=2, canvas=(10, 14), rows=()))
    expected = [[0, 0], [2 * 0.5 / 19 - 1, 2 * 0.5 / 11 - 1]]
    np.testing.assert_allclose(found.learned, expected, atol=1e-6)


# --- stores ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stores_folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("stores")
    conversion.write(made, handmade.recording())
    return made


def data(where, mice=()):
    section = dict(recordings="sensorium2023", folder=str(where), mice=mice)
    return changed("data", **section)["data"]


def test_stores_are_those_of_the_folder_or_those_asked_for(stores_folder):
    mouse = handmade.recording().mouse
    assert list(build.stores(data(stores_folder), {})) == [mouse]
    assert build.stores(data(stores_folder, (mouse,)), {})[mouse].mouse == mouse


def test_a_mouse_without_a_store_is_refused_with_the_nearest(stores_folder):
    mouse = handmade.recording().mouse
    with pytest.raises(UserError, match=f"no store of mouse.*did you mean '{mouse}'"):
        build.stores(data(stores_folder, (mouse[:-1],)), {})


def test_a_folder_without_stores_is_refused_with_the_way_to_make_them(tmp_path):
    with pytest.raises(UserError, match=r"no stores in.*scripts/convert\.py"):
        build.stores(data(tmp_path), {})


def test_the_protocol_is_strict_for_the_train_tier_alone():
    assert build.protocol({"tiers": ["train"]}) == "strict"
    assert build.protocol({"tiers": ("train", "oracle")}) == "competition"


# --- load_encoder ---------------------------------------------------------------------------------


class Run:
    """A run folder as training leaves it, made without training: best and newest weights differ."""

    def __init__(self, workdir):
        self.workdir, config = workdir, tiny_config()
        means = {mouse: np.ones(count) for mouse, count in POSITIONS.items()}
        self.graph, _ = separate(abstract_encoder(config))

        @jax.jit
        def initial_state():
            model = build.new_encoder(config, neurons(), 2, means)
            return step.initial_state(model, build.optimizer(config))[1]

        state = initial_state()
        self.best = state.weights
        params = jax.tree.map(lambda x: x + 0.01, state.weights.params)
        self.newest = state.weights.replace(params=params)
        about = dict(
            config=plain(config),
            mice={m: dict(neurons=n, fingerprint="f" * 64) for m, n in POSITIONS.items()},
            behavior_columns=2,
            frame_size=FRAME,
            step=7,
        )
        with checkpoints.Checkpoints(workdir) as saved:
            saved.save(7, state.replace(step=jnp.int32(7), weights=self.newest), about)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return Run(tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize("which", ["best", "newest"])
def test_a_run_folder_alone_gives_back_the_model(finished, which):
    graph, weights, about = build.load_encoder(finished.workdir, which)
    expected = leaves(getattr(finished, which))
    found = leaves(weights)
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    assert about["step"] == 7 and about["config"] == json.loads(json.dumps(tiny_config()))
    model = assemble(graph, weights)
    assert model.mice == tuple(POSITIONS)
    # Real positions, not the stand-ins that the model was rebuilt with.
    original = assemble(finished.graph, getattr(finished, which))
    for mouse in POSITIONS:
        cortex = model.readouts[mouse].network.cortex[...]
        assert np.array_equal(cortex, original.readouts[mouse].network.cortex[...])


def test_the_loaded_model_predicts_what_the_saved_one_did(finished):
    graph, weights, _ = build.load_encoder(finished.workdir, "newest")
    batches = {mouse: made_up.batch(0, n, size=1) for mouse, n in POSITIONS.items()}

    def predict(graph):
        return jax.jit(lambda weights, batches: assemble(graph, weights)(batches))

    found = predict(graph)(weights, batches)
    expected = predict(finished.graph)(finished.newest, batches)
    assert all(np.array_equal(found[mouse], expected[mouse]) for mouse in POSITIONS)
    assert separate(assemble(graph, weights))[0] == graph


@pytest.mark.slow
def test_a_run_with_a_recurrence_and_masks_trains_reports_and_comes_back(tmp_path):
    parts = {
        "recurrent": dict(name="conv_gru", channels=4, input_kernel=3, recurrent_kernel=3),
        "readout": dict(name="factorized2d", l1_weight=0.1),
        "shifter.name": "",
    }
    scores = runs.run(tmp_path / "run", tmp_path / "data", parts)
    assert (tmp_path / "run" / "report.html").exists()
    assert not (tmp_path / "run" / "figures" / "receptive_fields.png").exists()
    graph, weights, about = build.load_encoder(tmp_path / "run")
    model = assemble(graph, weights)
    assert model.core.num_features == 4 and about["frame_size"] == [12, 14]
    again = runs.run(tmp_path / "run", tmp_path / "data", parts)
    assert again["oracle"].correlation == scores["oracle"].correlation


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no checkpoints in .*check --workdir"):
        build.load_encoder(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_run_without_a_finished_checkpoint_is_refused(tmp_path):
    (tmp_path / checkpoints.FOLDER).mkdir()
    with pytest.raises(UserError, match="no finished checkpoint"):
        build.load_encoder(tmp_path)


def test_weights_of_another_name_are_refused_with_the_nearest(finished):
    with pytest.raises(UserError, match="did you mean 'newest'"):
        build.load_encoder(finished.workdir, "newst")
