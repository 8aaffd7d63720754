"""Files of DwiseNeuro and ViV1T become run folders and the other way round, as published."""

import copy
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from scripts import export_checkpoint, import_checkpoint
from sensojax import build, ensemble, evaluate
from sensojax.errors import UserError
from sensojax.experiments import exchange, imported_mice, new_films
from sensojax.experiments.experiment import Experiment
from sensojax.interop import architecture, entries, families, state_dicts
from sensojax.interop import dwiseneuro as dwiseneuro_names
from sensojax.interop.told import File
from sensojax.models.encoder import assemble, separate
from sensojax.training import checkpoints, mesh
from tests import runs
from tests.goldens import GOLDEN, Golden, assert_close, golden_files
from tests.interop import torch_files
from tests.interop.published_files import PAGES
from tests.interop.published_models import file_of, shapes_of
from tests.models.made_up import QUICKLY
from tests.parity import dwiseneuro, viv1t
from tests.parity.comparing import OUTPUT

DWISENEURO, OF_2023, OF_2025 = (
    GOLDEN / f"{name}.npz"
    for name in ("dwiseneuro_model", "viv1t2023_behaviour_mlp", "viv1t_attention_readout")
)
CASES = ("viv1t2023_parallel", "viv1t2023_sequential", "viv1t2023_behaviour_mlp")
CASES += ("viv1t_causal", "viv1t_attention_readout", "dwiseneuro_model")
FAST = ("viv1t2023_behaviour_mlp", "viv1t_attention_readout", "dwiseneuro_model", "DwiseNeuro")


def marked(name: str):
    return () if name in FAST else pytest.mark.slow


every_layout = pytest.mark.parametrize(
    "path",
    [
        pytest.param(*each.values, id=each.id, marks=marked(each.id))
        for name in CASES
        for each in golden_files(name)
    ],
)
# Settings that shapes do not tell, and neither does a small number beside them.
UNTOLD = ("patch_frames", "max_frames", "heads", "padded", "causal", "final")


def case(path):
    return (dwiseneuro if path.stem.startswith("dwiseneuro") else viv1t).case(path)


def core_settings(path) -> dict:
    """Of a golden model, but for what only training leaves out."""
    config = Golden(path).config
    family = dwiseneuro if path.stem.startswith("dwiseneuro") else viv1t
    found = family.core_settings(config)
    return {name: value for name, value in found.items() if "drop" not in name}


def said(path) -> dict:
    """What a user says of a golden model, which is smaller than the published ones."""
    settings = core_settings(path)
    if path.stem.startswith("dwiseneuro"):
        return {"core.strides": tuple(settings["strides"])}
    return {f"core.{name}": settings[name] for name in UNTOLD if name in settings}


def frame_size(path) -> tuple[int, int]:
    return tuple(Golden(path).config.get("video_height_width", (36, 64)))


def read(path, folder, changes=None):
    """The model of a published file with other arrays (None: without)."""
    file = file_of(path, folder, changes)
    return exchange.read_model(file, PAGES, changes=said(path), frame_size=frame_size(path))


def assert_published(model, golden) -> None:
    """Names, types and numbers of a model's arrays are those of the golden file."""
    family = families.of(model)
    mice = {mouse: mouse.removeprefix("mouse") for mouse in model.mice}
    ours, theirs = entries.export(family.entries(model, mice)), golden.part("param")
    assert ours.keys() == set(family.deciding(theirs))
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name, strict=True)


@every_layout
def test_settings_and_weights_of_a_published_file_are_found(path, tmp_path):
    made = read(path, tmp_path)
    assert made.unused == []
    assert_published(made.model, Golden(path))
    config = made.about["config"]
    for name, value in core_settings(path).items():
        found = config["core"][name]
        assert found == (list(value) if isinstance(found, list) else value), name
    modes = Golden(path).config.get("modes", {})
    if not modes:
        assert config["data"]["fold"] == 3 and made.about["frame_size"] == [64, 64]
        return
    assert config["shifter"]["name"] == ("mlp" if modes["shifter_mode"] else "")
    assert config["inputs"]["behavior"] and config["inputs"]["pupil"]
    of_2023 = "parallel_attention" in modes
    assert config["data"]["normalization"] == ("viv1t2023" if of_2023 else "per_neuron")
    if modes["readout"] != "attention":
        readout = config["readout"]
        assert readout["reads_state"] == of_2023
        assert readout["cortex_dimensions"] == modes["readout_grid_mode"] + 1
        assert config["shifter"]["reads_state"] == (modes["shifter_mode"] == 2)


def inputs(made):
    return (made.clip("clip"),) if hasattr(made, "clip") else made.inputs()


def expected(golden, mouse):
    names = (f"output64/response_{mouse}", f"output/response_{mouse}", f"output64/eval_{mouse}")
    return next(golden[name] for name in names if name in golden)


@pytest.mark.slow
@every_layout
def test_a_published_file_predicts_as_published_and_goes_out_as_it_came(path, tmp_path, capsys):
    """The whole way, by the scripts: file, run folder, model, file."""
    golden, (height, width) = Golden(path), frame_size(path)
    line = [str(file_of(path, tmp_path)), "--out", str(tmp_path / "run")]
    line += [text for name, value in said(path).items() for text in ("--set", f"{name}={value}")]
    import_checkpoint.main([*line, "--frame-size", f"{height}x{width}"])
    assert "assumed as in all published models" in capsys.readouterr().out
    graph, weights, about = build.load_encoder(tmp_path / "run")
    made = copy.copy(case(path))
    made.graph = graph
    run = jax.jit(made.predict, compiler_options=QUICKLY)
    *_, responses = run(weights, *inputs(made))
    for mouse in made.mice:
        theirs = expected(golden, mouse)
        # DwiseNeuro's file has room for one neuron more than there are.
        ours = np.moveaxis(np.asarray(responses[mouse]), -1, 1)[:, : theirs.shape[1]]
        assert_close(ours, theirs, OUTPUT, mouse)
    export_checkpoint.main([str(tmp_path / "run"), "--out", str(tmp_path / "a.safetensors")])
    again = exchange.read_model(tmp_path / "a.safetensors", {})
    assert_published(again.model, golden)
    assert separate(again.model)[0] == graph
    assert all(again.about[name] == about[name] for name in exchange.SAID)
    back = state_dicts.read(tmp_path / "a.safetensors").tensors
    # All that PyTorch asks for; counters are those of a new model, and these left nothing out.
    for name, array in golden.part("param").items():
        assert back[name].dtype == array.dtype, name
        if not name.endswith(("keep_prob", dwiseneuro_names.COUNTER)):
            assert_close(back[name], array, 2e-5, name)  # sines of angles in single precision


@pytest.mark.slow
def test_published_models_of_several_folds_are_an_ensemble_once_they_are_imported(tmp_path):
    for fold in (4, 3):
        file = file_of(DWISENEURO, tmp_path)
        file = file.parent.rename(tmp_path / f"fold_{fold}") / file.name
        exchange.import_run(file, tmp_path / f"run{fold}", PAGES, changes=said(DWISENEURO))
    ensemble.gather([tmp_path / "run3", tmp_path / "run4"], tmp_path / "both")
    members = build.load_members(tmp_path / "both")
    assert [about["of_fold"]["fold"] for *_, about in members] == [3, 4]
    golden = Golden(DWISENEURO)
    for graph, weights, _ in members:
        assert_published(assemble(graph, weights), golden)


# File, part of its name, parameters, page of the config.
PUBLISHED = {
    "DwiseNeuro": ("dwiseneuro", "basic_e7_", 170_656_070, "dwiseneuro"),
    "distilled": ("dwiseneuro", "distilled_e6_", 170_058_402, "dwiseneuro"),
    "ViV1T of 2023": ("viv1t2023", "", 12_278_365, "viv1t2023"),
    "ViV1T of 2025": ("viv1t", "", 13_014_933, "viv1t2025"),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=marked(name)) for name in PUBLISHED])
def test_published_sizes_are_recognised_from_shapes_alone(name):
    """And the model that is made of them has the published number of parameters."""
    case, part, parameters, page = PUBLISHED[name]
    golden = Golden(GOLDEN / f"{case}_published_shapes.npz")
    shapes = shapes_of(golden, part)
    found = architecture.of(File(shapes, path=Path("fold_0/model.pth")))
    assert (found.page, dict(found.asked)) == (page, {})
    config = PAGES[page] | {n: {**PAGES[page][n], **each} for n, each in found.sections.items()}
    preset = {**PAGES[page]["core"]}
    if name == "distilled":
        preset["expansion"] = 6
    assert config["core"] == preset  # the page that trains this model
    mice = imported_mice.of_file(found)
    assert {about["name"] for about in mice.values()} == set(dwiseneuro_names.HEADS)
    neurons = {each: imported_mice.stand_in(about) for each, about in mice.items()}
    model = jax.eval_shape(lambda: build.new_encoder(config, neurons, 2, frame_size=(36, 64)))
    family = families.of(model)
    listed = {e.name: e for e in family.entries(model, {mouse: mouse for mouse in mice})}
    assert {n: e.shape for n, e in listed.items()} == {
        n: shapes[n] for n in family.deciding(shapes)
    }
    params = sum(leaf.size for leaf in jax.tree.leaves(separate(model)[1].params))
    idle = listed.get("core.vivit.reg_t_tokens")  # carried, but not trained
    assert params + (idle.variable.size if idle else 0) == parameters


ZEROS = np.zeros((2, 3), np.float32)
REFUSALS = [
    (DWISENEURO, {"ema.decay": ZEROS}, "no part of our model takes: ema.decay; without them"),
    (DWISENEURO, {"cortex.layers.1.bn_sc.bn.bias": None}, "file has no cortex.layers.1.bn_sc.bn.b"),
    (DWISENEURO, {"readouts.1.layer.1.bias": ZEROS}, r"readouts.1.layer.1.bias has shape \(2, 3\)"),
    (OF_2023, {"critic.w": ZEROS}, "no part of our model takes: critic.w; without them"),
    (OF_2023, {"readouts.B.bias": np.full(8, np.nan, np.float32)}, "values that are not finite"),
    (OF_2025, {"core.vivit.reg_t_tokens": None}, "the file has no core.vivit.reg_t_tokens, which"),
    (OF_2025, {"core.tokenizer.norm.weight": ZEROS}, r"tokenizer.norm.weight has shape \(2, 3\)"),
]


@pytest.mark.parametrize(("path", "changes", "said"), REFUSALS)
def test_what_does_not_fit_is_refused_in_a_sentence(tmp_path, path, changes, said):
    with pytest.raises(UserError, match=said):
        read(path, tmp_path, changes)


STEM = dict.fromkeys(["core.stem.0.weight"], (4, 5, 1, 1, 1))
STRANGE = [
    ({**STEM, "core.stem.0.weight": (4, 2, 1, 1, 1)}, "that sees 2 channels, expected one of 1, 3"),
    ({"core.blocks.3.conv_pw.0.weight": (8, 5, 1, 1, 1)}, "which do not fit each other"),
    ({"core.blocks.1.se.conv_reduce.weight": None}, "expected all of them; get the file again"),
    ({"cortex.layers.0.conv.weight": None}, "without cortex"),
    ({"readouts.0.layer.1.weight": None}, "without readouts"),
    ({"core.blocks.3.temp_covn_dw.0.weight": (16, 1, 3, 1, 1)}, "temporal kernels 5, 3 in one Dw"),
    ({"core.blocks.3.se.conv_reduce.weight": (9, 16, 1, 1, 1)}, "squeeze-excite of 4, 9 of 8, 16"),
]


def small_dwiseneuro(changes) -> dict:
    shapes = {"core.stem.0.weight": (4, 5, 1, 1, 1)}
    for place, (inputs, outputs) in ((1, (4, 8)), (3, (8, 8))):
        here, hidden = f"core.blocks.{place}.", 2 * inputs
        shapes[f"{here}conv_pw.0.weight"] = (hidden, inputs, 1, 1, 1)
        shapes[f"{here}spat_covn_dw.0.weight"] = (hidden, 1, 1, 3, 3)
        shapes[f"{here}temp_covn_dw.0.weight"] = (hidden, 1, 5, 1, 1)
        shapes[f"{here}se.conv_reduce.weight"] = (hidden // 2, hidden, 1, 1, 1)
        shapes[f"{here}conv_pwl.0.weight"] = (outputs, hidden, 1, 1, 1)
    shapes |= {"cortex.layers.0.conv.weight": (12, 4, 1), "readouts.0.layer.1.weight": (6, 6, 1)}
    return {name: shape for name, shape in {**shapes, **changes}.items() if shape is not None}


def test_what_weights_of_dwiseneuro_do_not_say_is_asked_for():
    found = architecture.of(File(small_dwiseneuro({})))
    assert set(found.asked) == {"core.strides", "data.fold"}
    assert found.sections["core"]["squeeze"] == 2 and found.spare == 1
    given = {"core.strides": (1, 2), "data.folds": 0}
    assert not architecture.of(File(small_dwiseneuro({}), given=given)).asked


@pytest.mark.parametrize(("changes", "said"), STRANGE)
def test_strange_shapes_of_dwiseneuro_are_refused(changes, said):
    with pytest.raises(UserError, match=said):
        architecture.of(File(small_dwiseneuro(changes)))


BLOCK = "core.vivit.spatial_transformer.blocks.0."
STRANGE_TOKENS = [
    (OF_2025, {}, {}, {"core.heads", "core.patch_frames", "core.patch"}),
    (OF_2025, {"core.patch": 5}, {}, {"core.heads", "core.patch_frames"}),
    (OF_2025, {"core.patch": 9}, {}, "patches of 500 numbers, which cannot be those of 9 pixels"),
    (OF_2025, {"core.heads": 5}, {}, "12 wide in all and heads of 2.4, expected a multiple"),
    (OF_2025, {}, {f"{BLOCK}attn_out.weight": None}, "expected maps of a parallel or a sequential"),
    (OF_2025, {}, {"readouts.B.neuron_query": None}, "no readouts in the file that we know"),
    (OF_2023, {}, {"core.vivit.tokenizer.spatial_pos_embedding": (1, 1, 37, 12)}, "37 places"),
]


@pytest.mark.parametrize(("path", "given", "changes", "said"), STRANGE_TOKENS)
def test_strange_shapes_of_viv1t_are_asked_for_or_refused(path, given, changes, said):
    """Without the small numbers beside the weights, which tell how wide a head is."""
    shapes = {name: array.shape for name, array in Golden(path).part("param").items()}
    inv_freq = {name: None for name in shapes if name.endswith("inv_freq")}
    shapes = {n: s for n, s in {**shapes, **inv_freq, **changes}.items() if s is not None}
    file = File(shapes, given=given, frame_size=frame_size(path))
    if isinstance(said, set):
        assert set(architecture.of(file).asked) == said
    else:
        with pytest.raises(UserError, match=said):
            architecture.of(file)


def untrained(page: str, folder: Path) -> dict:
    """A run on simulated mice, never trained, in folder/run; returns its config."""
    config = runs.preset("tiny", page)
    config["data"]["folder"] = str(folder)
    placement = mesh.Placement()
    with jax.set_mesh(placement.mesh), checkpoints.Checkpoints(folder / "run") as saved:
        Experiment(config, placement).save(saved)
    return config


def score(run, stores=""):
    scores = evaluate.evaluate(run, ["oracle"], stores=stores).scores["oracle"]
    return {mouse: found.correlation for mouse, found in scores.mice.items()}


@pytest.mark.slow
@pytest.mark.parametrize("page", ["dynamic_dwiseneuro", "dynamic_viv1t"])
def test_an_imported_model_scores_on_stores_as_the_run_it_came_from(page, tmp_path):
    """As strangers would have written it: without a word on what weights do not tell."""
    with runs.cached(tmp_path / "cache"):
        config = untrained(page, tmp_path)
        expected, stores = score(tmp_path / "run"), str(tmp_path / "stores")
        exchange.export_run(tmp_path / "run", tmp_path / "run.safetensors")
        arrays = state_dicts.read(tmp_path / "run.safetensors").tensors
        arrays = {name: np.asarray(array) for name, array in arrays.items()}
        file = torch_files.save_arrays(tmp_path / "strange.pt", arrays)
        untold = dict(
            inputs=list(config["inputs"]),
            evaluation=list(config["evaluation"]),
            data=("normalization", "folds", "fold", "tiers"),
        )
        mice = {}
        if page == "dynamic_dwiseneuro":
            untold |= dict(core=("strides",), output=("beta",))
            mice = {str(number): mouse for number, mouse in enumerate(sorted(expected))}
        else:
            untold["core"] = ("patch", "patch_frames", "stride", "max_frames")
        changes = {f"{part}.{n}": config[part][n] for part, names in untold.items() for n in names}
        how = dict(stores=stores, changes=changes)
        exchange.import_run(file, tmp_path / "strange", PAGES, mice=mice, **how)
        found = score(tmp_path / "strange", stores)
        film = np.random.default_rng(0).integers(0, 256, (40, 16, 20), np.uint8)
        np.save(tmp_path / "film.npy", film)
        told = (
            new_films.predict(tmp_path / name, tmp_path / "film.npy", stores=stores)
            for name in ("run", "strange")
        )
        of_film = [each.responses for each in told]
    for mouse, predicted in of_film[0].items():
        np.testing.assert_array_equal(of_film[1][mouse], predicted)
    assert found.keys() == expected.keys()
    for mouse, correlation in found.items():
        np.testing.assert_array_equal(correlation, expected[mouse], err_msg=mouse)
    if mice:
        with pytest.raises(UserError, match=r"found no store of mouse 0 in .*--mouse 0=STORE"):
            exchange.read_model(file, PAGES, **how)


def test_a_one_hot_filter_that_only_cuts_patches_is_no_weight(tmp_path):
    """As one of the ways to make tokens of 2025 has it, all of which compute the same."""
    cutting = {"core.tokenizer.tokenizer.weight": np.zeros((5, 1, 4, 5, 5), np.float32)}
    made = read(OF_2025, tmp_path, cutting)
    assert made.unused == []


def test_a_model_with_gains_is_not_exchanged():
    with pytest.raises(UserError, match="found gains in the model"):
        families.of(SimpleNamespace(gains={"ada": None}))
