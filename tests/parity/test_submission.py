"""Submission files and their score against those that the published code made of the same model."""

from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
import pytest
from flax import nnx

from sensojax import build, conversion, submit
from sensojax.evaluation import submission
from sensojax.experiments import predicting
from sensojax.interop import sensorium
from sensojax.models import behavior
from sensojax.models.encoder import Encoder, separate
from sensojax.models.readouts import gaussian2d
from sensojax.recordings import sensorium2023
from tests import runs
from tests.goldens import Golden, assert_close, golden_files
from tests.parity.encoders import core_from

# The kit normalises in float64, we divide numbers rounded to float32: that moves the pupil, whose
# mean is many times its spread, and through the shifter the predictions.
PREDICTION = 5e-5
CORRELATION = 5e-5
PLAIN = MappingProxyType({"large_string": "string"})  # newer and older pandas


def model_from(config: dict, stores) -> Encoder:
    """The published model; fills in what this case leaves out of the core's settings."""
    settings = config["settings"]
    norm = next(p for p in config["core_resolved"]["layers"][0]["parts"] if p["name"] == "norm")
    core = {"batch_norm_scale": norm["own_scale_and_shift"], **settings["core"]}
    core = core_from({**config, "settings": {**settings, "core": core}})
    network = settings["readout"]["grid_mean_predictor"]
    readouts, shifters = {}, {}
    for mouse in config["mice_order"]:
        readouts[mouse] = gaussian2d.Readout(
            core.num_features,
            stores[mouse].neurons.position_um,
            gaussian=settings["readout"]["gauss_type"],
            positions="cortex" if network else "learned",
            hidden_features=network["hidden_features"],
            hidden_layers=network["hidden_layers"],
            final_tanh=network["final_tanh"],
            bias=settings["readout"]["bias"],
            rngs=nnx.Rngs(0),
        )
        if settings["shifter"]:
            shifters[mouse] = behavior.MLPShifter(
                num_layers=settings["shifter"]["shift_layers"],
                hidden=settings["shifter"]["hidden_channels_shifter"],
                rngs=nnx.Rngs(0),
            )
    return Encoder(core, readouts, shifters, batch_norm="per_mouse")


@pytest.fixture(scope="module", params=golden_files("15_submission_2023"))
def case(request, tmp_path_factory, cache):
    """The golden file, the stores of its mice, and the published model as if it were a run's."""
    golden = Golden(request.param)
    folder = tmp_path_factory.mktemp("stores")
    source = golden.path.parent / golden.config["recording"]
    mice = golden.config["mice_order"]
    for mouse in mice:
        conversion.write(folder, sensorium2023.read(source, mouse))
    config = runs.preset("sensorium")
    config["data"] |= {"folder": str(folder), "mice": mice, "read_threads": 1}
    opened = build.stores(config["data"], {})
    # Every array is loaded, so none needs to be drawn.
    model = nnx.eval_shape(lambda: model_from(golden.config, opened))
    empty = jax.tree.map(lambda like: jnp.empty(like.shape, like.dtype), nnx.state(model))
    nnx.update(model, empty)
    sensorium.load(sensorium.encoder(model), golden.part("param"))
    about = dict(config=config, mice=build.described(opened), best_step=0, step=0)
    member = (*separate(model), about)
    with pytest.MonkeyPatch.context() as patched, runs.cached(cache):
        patched.setattr(build, "load_members", lambda *_: [member])
        predictor = predicting.Predictor("the golden model", frames="kit", units="official")
        patched.setattr(submit, "Predictor", lambda *_, **__: predictor)
        yield golden, folder, predictor


def golden_rows(golden, name: str) -> list[dict]:
    found = golden.part(f"output/{name}")
    exact = golden.part(f"output64/{name}")
    rows = []
    while f"row{len(rows)}/mouse" in found:
        row = f"row{len(rows)}"
        rows.append({key: found[f"{row}/{key}"] for key in submission.COLUMNS})
        rows[-1]["prediction"] = exact[f"{row}/prediction"]
    return rows


@pytest.mark.parametrize("how_many", [1, pytest.param(None, marks=pytest.mark.slow)])
def test_submission_files_equal_the_published_ones(case, tmp_path, how_many):
    """Of the first mouse, and of all: each is a program of its own to be compiled."""
    golden, _, predictor = case
    mice = list(predictor.stores)[:how_many]
    submit.submit("the golden model", submission.TRACKS, tmp_path, mice=mice)
    for tier in submission.NAMES:
        published = submission.KIT_NAMES[tier]
        path = tmp_path / submission.NAMES[tier]
        rows = golden_rows(golden, published.split(".")[0])
        expected = [row for row in rows if str(row["mouse"]) in mice]
        found = list(submission.read(path))
        assert [row.mouse for row in found] == [str(row["mouse"]) for row in expected]
        assert [row.trial for row in found] == [int(row["trial_indices"]) for row in expected]
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours.neuron_ids, theirs["neuron_ids"])
            assert_close(ours.prediction, theirs["prediction"], PREDICTION, f"{tier} {ours.trial}")
        said = golden.config["files"][published]
        file = pq.ParquetFile(path)
        schema = file.schema_arrow
        assert schema.names == said["columns"] and file.metadata.num_rows == len(expected)
        assert len(rows) == said["rows"]
        types = {name: str(schema.field(name).type) for name in schema.names}
        assert types == {n: PLAIN.get(kind, kind) for n, kind in said["types"].items()}
        packed = {
            file.metadata.row_group(group).column(column).compression
            for group in range(file.num_row_groups)
            for column in range(file.metadata.num_columns)
        }
        assert packed == {said["compression"]}


@pytest.mark.slow
def test_score_of_a_file_equals_the_published_correlation(case, tmp_path):
    golden, folder, predictor = case
    path = tmp_path / "oracle.parquet.brotli"

    def rows():
        for mouse, store in predictor.stores.items():
            _, trials = predictor.trials(mouse, ["oracle"])
            for row, predicted in trials:
                trial = int(store.trials.index[row])
                yield submission.Row(mouse, trial, predicted.T, store.neurons.ids)

    submission.write(path, rows(), predictor.about)
    (found,) = submit.score([path], folder)
    for mouse in predictor.stores:
        expected = golden[f"output/single_trial_correlation_full/{mouse}"]
        found_ones = found.mice[mouse].correlation
        np.testing.assert_allclose(found_ones, expected, atol=CORRELATION)
    mean = golden["output/single_trial_correlation_full/mean"]
    assert abs(found.correlation - mean) <= CORRELATION
