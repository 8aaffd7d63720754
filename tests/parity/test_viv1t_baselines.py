"""The models that ViV1T's authors compare it with, against their code, from pieces of our own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sensojax.interop import entries
from sensojax.interop import viv1t_baselines as names
from sensojax.interop.viv1t import CONSTANTS
from sensojax.models import composed, outputs
from sensojax.models.behavior import MLPShifter
from sensojax.models.cores import factorized3d, linear, rotation_equivariant2d, v1t
from sensojax.models.encoder import Encoder, assemble, separate
from sensojax.models.readouts import dense, factorized2d, gaussian2d, grouped
from sensojax.models.recurrent import conv_gru
from sensojax.types import Batch
from tests.goldens import Golden, assert_close, golden_files
from tests.models.made_up import QUICKLY, unfilled
from tests.parity.comparing import GRADIENT, NOT_OURS, OUTPUT

pytestmark = pytest.mark.slow  # every model compiles for a while
CASES = ("viv1t_v1t", "viv1t_fcnn", "viv1t2023_fcnn", "viv1t_gru", "viv1t_linear")
ALL = pytest.mark.parametrize("path", [each for name in CASES for each in golden_files(name)])
COLUMNS = {1: 2}  # of behaviour that cores see, by the mode; of all others 4
# Constants of the published modules that are no weights of the model.
FIXED = ("gamma_input_spatial", "gamma_input_temporal", "gamma_input", "gamma_hidden", "gamma_rec")


def fcnn(channels, config, rngs):
    """Channels double from layer to layer; batch norm remembers mostly the newest batch."""
    kernels = config.get("kernels") or {
        f"{axis}_{place}": config[f"{name}_{kernel}_kernel"]
        for axis, name in (("space", "spatial"), ("time", "temporal"))
        for place, kernel in (("first", "input"), ("other", "hidden"))
    }
    first = config["first_width"] if "first_width" in config else config["hidden_dim"]
    layers = config["layers"] if "layers" in config else config["num_layers"]
    spatial, temporal = (
        (kernels[f"{axis}_first"], *[kernels[f"{axis}_other"]] * (layers - 1))
        for axis in ("space", "time")
    )
    return factorized3d.Core(
        channels,
        channels=[first * 2**layer for layer in range(layers)],
        spatial_kernels=spatial,
        temporal_kernels=temporal,
        padding=True,
        weight_of_new=config.get("batch_norm_momentum_torch", 0.7),
        nonlinearity="none" if config.get("linear") else "elu",
        rngs=rngs,
    )


def gru(channels, config, rngs):
    layers = config["cnn_layers"]
    core = rotation_equivariant2d.Core(
        channels,
        channels=[config["cnn_filters"]] * layers,
        kernels=[config["cnn_input_kernel"], *[config["cnn_hidden_kernel"]] * (layers - 1)],
        paddings=["valid", *["same"] * (layers - 1)],
        rotations=config["rotations"],
        weight_of_new=config["momentum"],
        rngs=rngs,
    )
    recurrence = conv_gru.Recurrence(
        core.num_features,
        channels=config["rnn_size"],
        input_kernel=config["rnn_input_kernel"],
        recurrent_kernel=config["rnn_kernel"],
        rngs=rngs,
    )
    return composed.Core(core, recurrence)


def frames_apart(channels, config, rngs):
    return v1t.Core(
        channels,
        features=config["emb_dim"],
        heads=config["num_heads"],
        hidden=config["mlp_dim"],
        blocks=config["num_blocks"],
        patch=config["patch_size"],
        stride=config["patch_stride"],
        behavior="network" if config["modes"]["behaviour_mode"] == 4 else "planes",
        patch_dropout=0.0,
        dropout=0.0,
        frame_size=tuple(config["video_height_width"]),
        rngs=rngs,
    )


def pixel_by_pixel(channels, config, rngs):
    return linear.Core(channels, frame_size=tuple(config["video_height_width"]), rngs=rngs)


CORES = dict(fcnn=fcnn, factorized_baseline=fcnn, gru_baseline=gru, v1t=frames_apart)
CORES |= dict(linear=pixel_by_pixel)
OUTPUTS = {
    "exponential": outputs.Exponential,
    "ELU + 1": outputs.Elu,
    "sigmoid": outputs.Sigmoid,
}


class Case:
    def __init__(self, golden: Golden):
        self.golden, self.config = golden, golden.config
        (self.mouse,) = self.config["mice"]
        self.model = unfilled(self._made)
        self.left = entries.load(names.encoder(self.model), golden.part("param"))
        self.graph, self.weights = separate(self.model)

    def _made(self) -> Encoder:
        config, modes, rngs = self.config, self.config["modes"], nnx.Rngs(0)
        self.columns = COLUMNS.get(modes["behaviour_mode"], 4)
        core = CORES[modes["core"]](1 + self.columns, config, rngs)
        position = self.golden[f"input/neuron_coordinates_{self.mouse}"]
        size = core.map_size(*config["video_height_width"])
        readout = {
            "factorized": functools.partial(
                factorized2d.Readout, map_size=size, bias=False, normalize=False
            ),
            "gaussian": gaussian2d.Readout,
            "conv": functools.partial(
                grouped.Readout, groups=config.get("readout_groups", 1), dropout=0.0
            ),
            "linear": functools.partial(dense.Readout, map_size=size, pool=0),
        }[modes["readout"]]
        mouse, shifters = self.mouse, {}
        if modes["shifter_mode"] and modes["readout"] != "factorized":  # which takes no notice
            shifters[mouse] = MLPShifter(reads_state=modes["shifter_mode"] == 2, rngs=rngs)
        output = OUTPUTS[config["output"]]()
        readouts = {mouse: readout(core.num_features, position, rngs=rngs)}
        return Encoder(core, readouts, shifters, output={mouse: output})

    def batch(self) -> Batch:
        keys = ("video", "behaviour", "pupil_centre")
        arrays = (np.moveaxis(self.golden[f"input/{key}"], 1, -1) for key in keys)
        video, behavior, pupil = map(jnp.asarray, arrays)
        planes = jnp.concatenate([behavior, pupil], axis=-1)[:, :, None, None, : self.columns]
        planes = jnp.broadcast_to(planes, (*video.shape[:-1], planes.shape[-1]))
        shape = video.shape[:2]
        video = jnp.concatenate([video, planes], axis=-1)
        valid, start = jnp.ones(shape, bool), jnp.zeros(shape[0], jnp.int32)
        return Batch(video, (), behavior, pupil, valid, start)

    def run(self, params, batch, train):
        """Features, responses, and the model after them."""
        model = assemble(self.graph, self.weights.replace(params=params))
        responses = model({self.mouse: batch}, train=train)[self.mouse]
        return responses, separate(model)[1]

    def backward(self, params, batch, train):
        """The sum that the file's gradients are of, with responses and the model after them."""
        responses, after = self.run(params, batch, train)
        weights = self.golden[f"input/loss_weights_{self.mouse}"].swapaxes(1, 2)
        return jnp.sum(responses * weights), (responses, after)

    def exported(self, weights) -> dict:
        return entries.export(names.encoder(assemble(self.graph, weights)))


@functools.cache
def case(path) -> Case:
    return Case(Golden(path))


@ALL
def test_all_weights_are_used_and_responses_equal_the_published_ones(path):
    made = case(path)
    left = [name for name in made.left if not name.endswith((*NOT_OURS, *FIXED))]
    if made.config["modes"]["readout"] == "factorized":
        left = [name for name in left if not name.startswith("shifters.")]
    assert not [name for name in left if name.rpartition(".")[2] not in CONSTANTS]
    evaluate = jax.jit(
        lambda batch: made.run(made.weights.params, batch, False)[0], compiler_options=QUICKLY
    )
    found = np.moveaxis(np.asarray(evaluate(made.batch())), -1, 1)
    name = f"response_{made.mouse}"
    theirs = made.golden.part("output64").get(name, made.golden[f"output/{name}"])
    assert_close(found, theirs, 2 * OUTPUT)


@ALL
def test_gradients_and_statistics_equal_the_published_ones(path):
    made = case(path)
    mode = made.config.get("gradient_mode", made.config["gradients"])
    train = "training" in mode
    run = jax.jit(
        jax.grad(functools.partial(made.backward, train=train), has_aux=True),
        compiler_options=QUICKLY,
    )
    gradient, (responses, after) = run(made.weights.params, made.batch())
    if train:
        theirs = made.golden[f"output/train_response_{made.mouse}"]
        assert_close(np.moveaxis(np.asarray(responses), -1, 1), theirs, 2 * OUTPUT)
        statistics = made.exported(after)
        for name, theirs in made.golden.part("output/after_train_forward").items():
            assert_close(statistics[name], theirs, 2 * OUTPUT, name)
    found = made.exported(made.weights.replace(params=gradient))
    expected = made.golden.part("grad64") or made.golden.part("grad")
    biggest = max(np.abs(each).max() for each in expected.values())
    compared = 0
    for name, theirs in expected.items():
        if name.startswith("input_"):
            continue
        if name.startswith("shifters.") and not made.model.shifters:
            assert not theirs.any(), name  # masks take no notice of the pupil
            continue
        # A shift in front of batch norm has no effect: its gradient is rounding noise.
        if np.abs(theirs).max() < 1e-8 * biggest:
            assert np.abs(found[name]).max() < 1e-5 * biggest, name
        else:
            assert_close(found[name], theirs, GRADIENT, name)
            compared += 1
    assert compared > 3
