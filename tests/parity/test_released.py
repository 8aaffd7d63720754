"""Released weights in our modules against what the published code predicts with them.

The files themselves are not in the repository (real_data.py says where they lie). Each goes the
whole way: read, recognised, put into a model.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sensojax.experiments import exchange
from sensojax.interop import sensorium, state_dicts
from sensojax.models.encoder import assemble, separate
from sensojax.types import Batch
from tests import real_data
from tests.goldens import Golden, assert_close, golden_files
from tests.interop.published_files import PAGES
from tests.models.made_up import QUICKLY
from tests.parity.comparing import OUTPUT, channels_last

FAST = "sota"  # each of these models compiles for a while
# Baselines 10: first six predictions; mean, std and sum of all; mean, std and three values of the
# core's output; shift; position of the first neuron; regularisers of core and readout.
TABLE = {
    "sensorium_ln_model": dict(
        first=(0.803100, 0.428786, 0.228040, 0.207969, 0.167932, 0.114213),
        all=(0.336668, 0.274958, 2617.929),
        core=(-0.166458, 0.349763, -0.362913, -0.026998, -0.401065),
        mu=(-0.031604, -0.341002),
        penalties=(23.177284, 471.072),
    ),
    "sensorium_sota_model": dict(
        first=(1.393986, 0.172695, 0.102356, 0.051269, 0.141182, 0.098281),
        all=(0.355556, 0.403982, 2764.805),
        core=(0.185105, 0.846389, -0.859306, 3.672939, -0.948756),
        mu=(-0.019941, -0.346920),
        penalties=(28.625250, 571.624),
    ),
    "sensorium_p_ln_model": dict(
        first=(0.210449, 0.099139, 0.137473, 0.136920, 0.197260, 0.147080),
        all=(0.295779, 0.229049, 2229.584),
        core=(-0.112426, 0.287779, 0.573856, -0.079204, -0.035101),
        shift=(0.198028, -0.375916),
        mu=(-0.120953, -0.288383),
        penalties=(17.452168, 666.836),
    ),
    "sensorium_p_sota_model": dict(
        first=(0.077015, 0.140685, 0.140454, 0.746131, 0.215474, 0.168330),
        all=(0.326604, 0.409906, 2461.943),
        core=(0.011936, 0.721555, -0.494299, 0.770829, -0.534299),
        shift=(-0.346299, -0.008516),
        mu=(0.477298, -0.210326),
        penalties=(23.534210, 839.833),
    ),
}


class Released:
    """A released model and its only mouse; its pieces in one compiled program."""

    def __init__(self, made: exchange.Imported):
        self.about, self.model = made.about, made.model
        (self.mouse,) = made.model.mice
        self.graph, self.weights = separate(made.model)
        self.run = jax.jit(self._run, compiler_options=QUICKLY)

    def _run(self, weights, images, pupil):
        model = assemble(self.graph, weights)
        features = model.core(images, train=False)
        shift = model.shift(self.mouse, pupil, 1)
        readout = model.readouts[self.mouse]
        batch = Batch(images, jnp.zeros(()), jnp.zeros(()), pupil, *[jnp.zeros(())] * 2)
        return dict(
            rate=model({self.mouse: batch})[self.mouse][:, 0],
            core=jnp.moveaxis(features[:, 0], -1, 1),
            logits=readout(features, shift)[:, 0],
            unshifted=readout(features)[:, 0],
            shift=shift,
            mu=readout.positions(),
            penalties=model.regularizers((self.mouse,)),
        )

    def __call__(self, images, pupil=None) -> dict:
        """images: [image channel height width], as in the files; pupil: [image 2]."""
        pupil = np.zeros((len(images), 2), np.float32) if pupil is None else pupil
        return self.run(self.weights, channels_last(images)[:, None], jnp.asarray(pupil)[:, None])


@functools.cache
def released(name: str) -> Released:
    """The model of a file; skips the test where it is not there."""
    path = real_data.found("sensorium2022_models") / name
    if not path.is_file():
        pytest.skip(f"{name} is not in {path.parent}")
    return Released(exchange.read_model(path, PAGES))


def penalties(found: dict) -> tuple[float, float]:
    core = float(found["penalties"]["core_spatial"] + found["penalties"]["core_sparsity"])
    return core, float(found["penalties"]["readout"])


def marked(name: str):
    return () if FAST in name else pytest.mark.slow


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(*each.values, id=each.id, marks=marked(each.id))
        for each in golden_files("14_checkpoint")
    ],
)
def test_released_weights_predict_what_the_published_code_predicts(path):
    golden = Golden(path)
    config, expected = golden.config, golden.part("output")
    model = released(config["checkpoint_file"])
    core = model.about["config"]["core"]
    assert len(core["channels"]) == config["layers"] and core["linear"] == config["linear"]
    (about,) = model.about["mice"].values()
    assert about["neurons"] == config["neurons"] and config["mouse"] in model.mouse
    assert bool(model.model.shifters) == config["shifter"]
    inputs = golden.part("input")
    pupil = next((value for name, value in inputs.items() if "pupil" in name), None)
    found = model(inputs["images"], pupil)
    names = {
        "rate": found["rate"],
        "rate_unshifted": jax.nn.elu(found["unshifted"]) + 1,
        "shift": found["shift"] if pupil is None else found["shift"][:, 0],
        "core_first_image": found["core"][0, ::4],
        "readout_before_nonlinearity_first_100": found["logits"][:, :100],
        "mu": found["mu"],
        "regularizer_core": np.float64(penalties(found)[0]),
        "regularizer_readout": np.float64(penalties(found)[1]),
    }
    assert set(expected) <= set(names)
    for name, value in {**expected, **golden.part("output64")}.items():
        assert_close(names[name], value, OUTPUT, name)


@pytest.mark.parametrize("name", [pytest.param(name, marks=marked(name)) for name in TABLE])
def test_released_weights_give_the_published_table(name):
    model, row = released(f"{name}.pth"), TABLE[name]
    height, width = np.arange(36)[:, None], np.arange(64)
    image = np.float32(np.sin(0.3 * height) + np.cos(0.2 * width))[None]
    planes = np.float32([0.5, -0.1, 0.2])[:, None, None] * np.ones((3, 36, 64), np.float32)
    plus = "shift" in row
    video = np.concatenate([image, planes]) if plus else image
    four = np.repeat(video[None], 4, axis=0)  # as many as above, for the same program
    found = model(four, np.float32([[0.3, -0.2]] * 4) if plus else None)
    rate, core = np.asarray(found["rate"][0], np.float64), np.asarray(found["core"][:1], np.float64)
    within = dict(rtol=2e-6, atol=1e-6)  # the table has six digits after the point
    np.testing.assert_allclose(rate[:6], row["first"], **within)
    np.testing.assert_allclose((rate.mean(), rate.std(ddof=1), rate.sum()), row["all"], **within)
    corner = core[0, :3, 10, 20]
    np.testing.assert_allclose((core.mean(), core.std(ddof=1), *corner), row["core"], **within)
    np.testing.assert_allclose(found["mu"][0], row["mu"], **within)
    np.testing.assert_allclose(penalties(found), row["penalties"], **within)
    if plus:
        np.testing.assert_allclose(found["shift"][0, 0], row["shift"], **within)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sensorium_sota_model", "sensorium_ln_model"])
def test_a_released_file_goes_out_again_as_it_was(name, tmp_path):
    """Imported, exported, and imported again: the same names, shapes, types and weights."""
    released(f"{name}.pth")
    path = real_data.found("sensorium2022_models") / f"{name}.pth"
    exchange.import_run(path, tmp_path / "run", PAGES)
    exchange.export_run(tmp_path / "run", tmp_path / "again.safetensors")
    first, again = (
        state_dicts.read(each).tensors for each in (path, tmp_path / "again.safetensors")
    )
    assert first.keys() == again.keys()
    for key, tensor in first.items():
        assert (tensor.shape, tensor.dtype) == (again[key].shape, again[key].dtype)
        if not key.endswith(sensorium.COUNTER):
            np.testing.assert_array_equal(tensor, again[key], err_msg=key)
    made = exchange.read_model(tmp_path / "again.safetensors", {})
    assert made.model.mice == released(f"{name}.pth").model.mice
