"""Files of weights become run folders and the other way round, with the same predictions."""

import json
import re

import jax
import numpy as np
import pytest
from flax import nnx

from configs import static
from scripts import export_checkpoint, import_checkpoint, show_model
from sensojax import build, evaluate
from sensojax.errors import UserError
from sensojax.experiments import exchange, looking
from sensojax.experiments.experiment import Experiment
from sensojax.interop import sensorium, state_dicts
from sensojax.models.encoder import Encoder, assemble, separate
from sensojax.models.readouts import factorized2d
from sensojax.recordings import published
from sensojax.training import checkpoints, mesh
from tests.goldens import GOLDEN, Golden, golden_files
from tests.interop import torch_files
from tests.interop.published_files import (
    PAGES,
    SEVEN,
    file_of,
    image_modules,
    modules_of,
    of_seven_mice,
    with_learned_positions,
)
from tests.models import made_up
from tests.models.made_up import QUICKLY, leaves
from tests.parity.encoders import case

FAST = "plus"  # every model compiles for a while
every_layout = pytest.mark.parametrize(
    "path",
    [
        pytest.param(*each.values, id=each.id, marks=() if FAST in each.id else pytest.mark.slow)
        for each in [*golden_files("09_"), *golden_files("10_")]
    ],
)
PLUS, LN = (GOLDEN / f"10_image_encoder-{name}_A.npz" for name in ("plus", "ln"))


def predicted(model, batches):
    graph, weights = separate(model)
    run = jax.jit(lambda weights: assemble(graph, weights)(batches), compiler_options=QUICKLY)
    return run(weights)


@pytest.fixture(scope="module")
def plus(tmp_path_factory):
    """A file with the layout of SENSORIUM+: four channels, a shifter."""
    return file_of(PLUS, tmp_path_factory.mktemp("plus"))


@pytest.fixture(scope="module")
def run(plus):
    """The run folder that is made of it."""
    import_checkpoint.main([str(plus), "--out", str(plus.parent / "run")])
    return plus.parent / "run"


@every_layout
def test_a_file_of_every_published_layout_predicts_what_its_model_predicted(path, tmp_path):
    golden = case(path)
    made = exchange.read_model(file_of(path, tmp_path), PAGES)
    assert made.unused == []
    golden.assert_equal_per_mouse("eval", predicted(made.model, golden.batches(0)))


@pytest.mark.slow
def test_an_older_file_with_learned_positions_predicts_the_same(tmp_path):
    golden = case(LN)
    (mouse,) = golden.config["mice_order"]
    arrays = golden.golden.part("param")
    old = with_learned_positions(arrays, {mouse: golden.golden[f"output/mu/{mouse}"]})
    assert (len(arrays), len(old)) == (31, 27)
    path = torch_files.save_arrays(tmp_path / "old.pth", old, modules_of(golden.config))
    model = exchange.read_model(path, PAGES).model
    golden.assert_equal_per_mouse("eval", predicted(model, golden.batches(0)))


def test_a_file_of_seven_mice_gives_each_its_weights_under_its_published_name(tmp_path):
    golden = case(LN)
    arrays = of_seven_mice(golden.golden.part("param"), *golden.config["mice_order"])
    modules = modules_of(golden.config, SEVEN)
    path = torch_files.save_arrays(tmp_path / "seven.pth", arrays, modules)
    made = exchange.read_model(path, PAGES)
    sessions = published.choose(set_name="2022")
    assert list(made.model.mice) == sorted(session.name for session in sessions)
    found = sensorium.export(sensorium.encoder(made.model))
    for session in sessions:
        for name in ("bias", "mu_transform.2.weight", "source_grid", "_features"):
            theirs = arrays[f"readout.{session.key}.{name}"]
            np.testing.assert_array_equal(found[f"readout.{session.name}.{name}"], theirs)


def test_readouts_with_masks_ask_for_the_size_of_their_frames(tmp_path):
    core = made_up.unfilled(lambda: made_up.encoder({"ada": 3})).core
    size = core.map_size(9, 11)

    def masks():
        return factorized2d.Readout(4, np.zeros((3, 3)), map_size=size, rngs=nnx.Rngs(0))

    model = Encoder(core, {"ada": made_up.unfilled(masks)})
    arrays = sensorium.export(sensorium.encoder(model))
    path = torch_files.save_arrays(tmp_path / "a.pth", arrays, ["core.features.layer0.nonlin"])
    made = exchange.read_model(path, PAGES, frame_size=(9, 11))
    assert made.about["config"]["readout"]["name"] == "factorized2d"
    assert made.model.readouts["ada"].spatial.shape == (3, *size)
    with pytest.raises(UserError, match=r"of 5x7 pixels, .* 36x64 give 32x60; say --frame-size"):
        exchange.read_model(path, PAGES)


def test_a_run_folder_gives_back_the_weights_and_what_is_known_of_them(run, plus):
    graph, weights, about = build.load_encoder(run)
    expected = state_dicts.read(plus).tensors
    found = sensorium.export(sensorium.encoder(assemble(graph, weights)))
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
    assert json.loads((run / "config.json").read_text()) == about["config"]
    assert about["config"]["inputs"]["pool_rule"] == "bilinear"
    assert about["config"]["inputs"]["behavior"] and about["behavior_columns"] == 3
    assert about["mice"] == {
        mouse: dict(neurons=count, fingerprint="")
        for mouse, count in (("mouse_one", 14), ("mouse_two", 11))
    }
    assert about["imported"]["file"] == plus.name and len(about["imported"]["sha256"]) == 64
    assert sorted(each.name for each in run.iterdir()) == ["checkpoints", "config.json"]
    stores = {m: dict(each, fingerprint="a") for m, each in about["mice"].items()}
    checkpoints.check_mice(about["mice"], stores)  # of stores nobody has seen, the count must do
    stores["mouse_two"]["neurons"] = 12
    with pytest.raises(
        UserError, match=r"one of 11 neurons \(store not known\), and now .* 12 neu"
    ):
        checkpoints.check_mice(about["mice"], stores)


def test_a_model_goes_out_under_the_published_names_and_comes_back_without_a_word(
    run, plus, tmp_path, capsys
):
    out = tmp_path / "a.safetensors"
    export_checkpoint.main([str(run), "--out", str(out)])
    published, ours = state_dicts.read(plus), state_dicts.read(out)
    assert ours.shapes == published.shapes  # so PyTorch loads it strictly
    for name, tensor in published.tensors.items():
        assert tensor.dtype == ours.tensors[name].dtype
        if not name.endswith(sensorium.COUNTER):
            np.testing.assert_array_equal(tensor, ours.tensors[name], err_msg=name)
    again = exchange.read_model(out, {})
    graph, weights, about = build.load_encoder(run)
    found = separate(again.model)
    assert found[0] == graph
    expected = leaves(weights)
    for name, array in leaves(found[1]).items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
    assert all(again.about[name] == about[name] for name in exchange.SAID)


@every_layout
def test_every_published_name_goes_out(path):
    model, expected = case(path).model, Golden(path).part("param")
    found = sensorium.export(sensorium.encoder(model))
    found |= sensorium.counters(model, found)
    assert {name: array.shape for name, array in found.items()} == {
        name: array.shape for name, array in expected.items()
    }
    for name in found:
        if name.endswith(sensorium.FILTERS):
            np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def altered(plus, tmp_path, changes, modules=None):
    """The file with other arrays (None: without)."""
    arrays = {n: np.asarray(t) for n, t in state_dicts.read(plus).tensors.items()}
    arrays = {n: a for n, a in {**arrays, **changes}.items() if a is not None}
    modules = modules_of(Golden(PLUS).config) if modules is None else modules
    return torch_files.save_arrays(tmp_path / "a.pth", arrays, modules or None)


BIAS, NETWORK = "readout.mouse_one.bias", "readout.mouse_one.mu_transform.2.bias"
REFUSALS = {
    "not said": ({}, [], "weights that do not decide core.linear: .* say --set core.linear=VALUE"),
    "modulator": (
        {"modulator.mouse_one.w": np.zeros(2, np.float32)},
        None,
        "no part .* takes: mod",
    ),
    "missing": (
        {"readout.mouse_one.mu_transform.2.bias": None},
        None,
        "no readout.mouse_one.mu_transform.2.bias, whi",
    ),
    "shape": ({BIAS: np.zeros(3, np.float32)}, None, r"has shape \(3,\) in the file and \(14,\)"),
    "complex": ({BIAS: np.zeros(14, np.complex64)}, None, "mouse_one.bias holds complex numbers"),
    "nan": ({BIAS: np.full(14, np.nan, np.float32)}, None, "values that are not finite"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_does_not_fit_is_refused_before_anything_is_written(plus, tmp_path, name):
    changes, modules, said = REFUSALS[name]
    path = altered(plus, tmp_path, changes, modules)
    with pytest.raises(UserError, match=said):
        exchange.import_run(path, tmp_path / "run", PAGES)
    assert [each.name for each in tmp_path.iterdir()] == ["a.pth"]


def test_arrays_can_be_left_out_and_settings_said(plus, tmp_path):
    extra = {"modulator.mouse_one.w": np.zeros(2, np.float32)}
    path = altered(plus, tmp_path, extra, [])
    made = exchange.read_model(
        path,
        PAGES,
        changes={"core.linear": True},
        leave_out=["modulator."],
        mice={"mouse_one": "x"},
    )
    assert made.unused == ["modulator.mouse_one.w"]
    assert made.about["config"]["core"]["linear"] and list(made.about["mice"]) == ["x", "mouse_two"]
    assert made.about["config"]["data"]["mice"] == ["x", "mouse_two"]
    assert "core.paddings" in made.assumed and "core.linear" not in made.assumed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "core.liner=true"], "found core.liner, .* did you mean 'linear'"),
        (["--set", "coer.linear=true"], "found --set coer.linear, expected section.setting"),
        (["--set", "core.linear"], "found --set core.linear, expected NAME=VALUE"),
        (["--mouse", "mouse_on=x"], "found --mouse mouse_on=.*did you mean 'mouse_one'"),
        (["--mouse", "mouse_one=mouse_two"], "found two mice with the name mouse_two"),
        (["--frame-size", "36"], "found --frame-size 36, expected HEIGHTxWIDTH"),
        (["--stores", "nowhere"], "found no stores in nowhere"),
        (["--set", "core.channels=(6,6)"], "has shape|found 4 values"),
    ],
)
def test_arguments_that_cannot_be_are_answered_in_a_sentence(
    plus, tmp_path, capsys, arguments, said
):
    with pytest.raises(SystemExit) as caught:
        import_checkpoint.main([str(plus), "--out", str(tmp_path / "run"), *arguments])
    assert re.search(said, str(caught.value.code)), caught.value.code
    assert not list(tmp_path.iterdir())


def test_nothing_half_written_is_left(plus, run, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="run already, expected a new folder"):
        exchange.import_run(plus, run, PAGES)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints.Checkpoints, "save", fail)
    with pytest.raises(OSError, match="No space left"):
        exchange.import_run(plus, tmp_path / "run", PAGES)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported_is_said(run, tmp_path):
    with pytest.raises(UserError, match=r"expected a name that ends in \.safetensors"):
        exchange.export_run(run, tmp_path / "a.pth")
    (tmp_path / build.ENSEMBLE).write_text('{"members": []}')
    with pytest.raises(UserError, match="found an ensemble"):
        exchange.export_run(tmp_path, tmp_path / "a.safetensors")
    said = {name: {} for name in exchange.SAID}
    older = said | {"config": {"data": {}, "inputs": {}}}
    for notes in ("{", '{"config": {}}', "[]", json.dumps(said), json.dumps(older)):
        state_dicts.write(tmp_path / "a.safetensors", {"w": np.zeros(1)}, {exchange.NOTES: notes})
        with pytest.raises(UserError, match="its model that is damaged or of another version"):
            exchange.read_model(tmp_path / "a.safetensors", PAGES)


@pytest.fixture(scope="module")
def own_run(tmp_path_factory):
    """A run on simulated mice that look at images, never trained, and the folder of its stores."""
    folder = tmp_path_factory.mktemp("images")
    config = static.get_config("tiny").to_dict()
    config["data"]["folder"] = str(folder)
    placement = mesh.Placement()
    with jax.set_mesh(placement.mesh), checkpoints.Checkpoints(folder / "run") as saved:
        Experiment(config, placement).save(saved)
    exchange.export_run(folder / "run", folder / "run.safetensors")
    return folder


def score(run, stores=""):
    """The correlation of every neuron of every mouse."""
    scores = evaluate.evaluate(run, ["test"], stores=stores).scores["test"]
    return {mouse: found.correlation for mouse, found in scores.mice.items()}


def as_strangers_write_it(folder):
    """The same weights with the numbers of the sessions as names, and without a description."""
    weights = state_dicts.read(folder / "run.safetensors").tensors
    arrays = {
        re.sub(r"static(\d+-\d+-\d+)-[^.]*", r"\1", name): np.asarray(each)
        for name, each in weights.items()
    }
    mice = {name.split(".")[1] for name in arrays if name.startswith("readout.")}
    modules = {f"readout.{mouse}.mu_transform.3" for mouse in mice}
    modules |= image_modules(2, linear=False)
    return torch_files.save_arrays(folder / "strange.pth", arrays, modules), arrays


# How stimuli reach the model, which no file tells.
SIMULATED = {
    "inputs.pool": 1,
    "inputs.behavior_scale": 0.03,
    "data.normalization": "per_neuron",
}


@pytest.mark.slow
def test_an_imported_model_scores_on_stores_as_the_run_it_came_from(own_run, tmp_path):
    """Once with its own description, and once as strangers would have written it."""
    expected, stores = score(own_run / "run"), str(own_run / "stores")
    exchange.import_run(own_run / "run.safetensors", tmp_path / "ours", PAGES)
    strange, _ = as_strangers_write_it(own_run)
    how = dict(stores=stores, changes=SIMULATED)
    made = exchange.import_run(strange, tmp_path / "strange", PAGES, **how)
    assert made.about["frame_size"] == [16, 20]
    assert made.about["mice"] == build.load_encoder(own_run / "run")[2]["mice"]
    renamed = {mouse.split("-")[0]: mouse for mouse in expected}
    short = {f"{start[6:]}-1-1": mouse for start, mouse in renamed.items()}
    how = dict(mice=short, changes=SIMULATED)
    exchange.import_run(strange, tmp_path / "unbound", PAGES, **how)
    for name in ("ours", "strange", "unbound"):
        found = score(tmp_path / name, stores)
        assert found.keys() == expected.keys()
        for mouse, correlation in found.items():
            np.testing.assert_array_equal(correlation, expected[mouse], err_msg=name)


@pytest.mark.slow
def test_stores_of_other_neurons_are_refused(own_run, tmp_path):
    _, arrays = as_strangers_write_it(own_run)
    (grid, *_) = (name for name in arrays if name.endswith("source_grid"))
    mouse = grid.split(".")[1]
    stores = str(own_run / "stores")
    modules = image_modules(2, linear=False)
    how = dict(stores=stores, changes=SIMULATED | {"readout.final_tanh": True})

    def refused(arrays, **more):
        path = torch_files.save_arrays(tmp_path / "a.pth", arrays, modules)
        with pytest.raises(UserError) as caught:
            exchange.read_model(path, PAGES, **how | more)
        return str(caught.value)

    turned = {**arrays, grid: arrays[grid][::-1]}
    assert re.match("found 1[0-2] of 12 neurons of mouse static91001.* elsewhere", refused(turned))
    few = {n: a for n, a in arrays.items() if mouse in n}
    few = {n: a[..., :9] if n.endswith("_features") else a for n, a in few.items()}
    core = {n: a for n, a in arrays.items() if n.startswith("core")}
    assert "found 12 neurons in the store of mouse static91001" in refused(core | few)
    assert "found no store of mouse x" in refused(core | few, mice={mouse: "x"})


@pytest.mark.slow
def test_a_run_is_drawn_with_made_up_and_with_recorded_images(own_run, tmp_path, capsys):
    out, stores = tmp_path / "look.png", ["--stores", str(own_run / "stores")]
    line = [str(own_run / "run"), "--out", str(out), "--neurons", "3"]
    for more in ([], [*stores, "--tier", "train"]):
        show_model.main([*line, *more])
        assert f"figure: {out}" in capsys.readouterr().out
        content = out.read_bytes()
        assert content.startswith(b"\x89PNG") and len(content) > 50_000
        out.unlink()
    for more, said in (
        (["--mouse", "ada"], "found mouse 'ada', expected one of static91001"),
        (["--neurons", "0"], "found --neurons 0"),
        ([*stores, "--tier", "oracle"], "oracle"),
        (stores, "found 2 different images in tier 'validation'"),
    ):
        with pytest.raises(SystemExit) as caught:
            show_model.main([*line, *more])
        assert said in str(caught.value.code)
    seen = looking.look(own_run / "run", neurons=3, stores=stores[1], tier="train")
    assert seen.unit == " (µm)" and seen.labels[0].startswith("image ")
    assert seen.stills.shape == (5, 16, 20) and seen.deviations.shape == (5, 12)
