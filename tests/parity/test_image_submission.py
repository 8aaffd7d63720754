"""From a recording of Sensorium 2022 to its submission files, beside those of the published code.

Conversion, statistics, scaling of images, behaviour planes, shifter and model all take part.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sensojax import build, conversion
from sensojax.evaluation import image_submission as files
from sensojax.experiments import predicting, submitting_images
from sensojax.interop import sensorium
from sensojax.models import behavior, outputs
from sensojax.models.encoder import Encoder, separate
from sensojax.models.readouts import gaussian2d
from sensojax.recordings import formats
from tests import runs
from tests.goldens import Golden, assert_close, golden_files
from tests.parity.encoders import core_from, words_of_videos

PREDICTION = 5e-5  # the pupil's mean is many times its spread: float32 numbers in place of float64
SCORE = 2e-4


def model_from(config: dict, neurons) -> Encoder:
    """The published model of one mouse."""
    settings = config["settings"]
    core, readout = core_from(config), settings["readout"]
    network = readout["grid_mean_predictor"] or {}
    named = {name: network[name] for name in network if name.startswith(("hidden", "final"))}
    made = gaussian2d.Readout(
        core.num_features,
        neurons.position_um,
        gaussian=readout["gauss_type"],
        positions="cortex" if network else "learned",
        bias=readout["bias"],
        rngs=nnx.Rngs(0),
        **named,
    )
    shifters = {}
    if settings["shifter"]:
        shifters[config["mouse"]] = behavior.MLPShifter(
            num_layers=settings["shifter"]["shift_layers"],
            hidden=settings["shifter"]["hidden_channels_shifter"],
            rngs=nnx.Rngs(0),
        )
    output = {config["mouse"]: outputs.Elu(offset=settings["elu_offset"])}
    return Encoder(core, {config["mouse"]: made}, shifters, output=output)


@pytest.fixture(scope="module", params=golden_files("15_submission_2022"))
def case(request, tmp_path_factory, cache):
    """The golden file, and the files that we write of its recording and model."""
    golden = Golden(request.param)
    folder = tmp_path_factory.mktemp("stores")
    config = words_of_videos(golden.config)
    source = golden.path.parent / config["recording"]
    (name,) = [each for each in formats.sessions(source) if config["mouse"] in each]
    conversion.write(folder, formats.read(source, name))
    settings = runs.preset("plus", "static")
    settings["data"] |= {"folder": str(folder), "mice": [name], "read_threads": 1}
    settings["inputs"]["behavior"] = (
        config["core_resolved"]["layers"][0]["parts"][0]["channels_in"] > 1
    )
    settings["evaluation"]["batch_size"] = 2
    opened = build.stores(settings["data"], {})
    config["mouse"] = name
    model = nnx.eval_shape(lambda: model_from(config, opened[name].neurons))
    nnx.update(model, jax.tree.map(lambda x: jnp.empty(x.shape, x.dtype), nnx.state(model)))
    weights = {
        key.replace(golden.config["mouse"], name): value
        for key, value in golden.part("param").items()
    }
    sensorium.load(sensorium.encoder(model), weights)
    member = (*separate(model), dict(config=settings, mice=build.described(opened), best_step=0,
                                     step=0))  # fmt: skip
    out = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patched, runs.cached(cache):
        patched.setattr(build, "load_members", lambda *_: [member])
        patched.setattr(predicting.build, "load_members", lambda *_: [member])
        written = submitting_images.submit("the golden model", out, truth=True)
    return golden, {path.stem: path for path in written}


def expected_names(golden) -> dict[str, str]:
    return {
        key.split("/")[1]: next(v for v in files.VALUES if f"{key.rsplit('/', 1)[0]}/{v}" in golden)
        for key in golden.arrays
        if key.startswith("output/") and key.endswith("/first_lines")
    }


def test_files_hold_what_the_published_ones_do(case):
    golden, written = case
    names = expected_names(golden)
    assert set(names) == set(written)
    for name, what in names.items():
        expected, found = golden.part(f"output/{name}"), files.read(written[name])
        np.testing.assert_array_equal(found.responses.trial_ids, expected["trial_indices"])
        np.testing.assert_array_equal(found.image_ids, expected["image_ids"])
        np.testing.assert_array_equal(found.responses.neuron_ids, expected["neuron_ids"])
        assert_close(found.responses.responses, expected[what], PREDICTION, name)


def test_scores_of_our_files_are_the_published_ones(case):
    golden, written = case
    for tier, name in files.NAMES.items():
        scores = files.score(written[name], written[files.TRUTH_NAMES[tier]])
        for measure, value in scores.items():
            expected = golden[f"output/score/{name.removeprefix('submission_file_')}/{measure}"]
            np.testing.assert_allclose(value, expected, rtol=SCORE, atol=SCORE, err_msg=measure)
