"""Cores, readouts, shifters and whole encoders against the published PyTorch code."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from sensojax import losses
from sensojax.interop import sensorium
from sensojax.models import behavior
from sensojax.models.cores import factorized3d
from sensojax.models.encoder import Encoder, assemble, separate
from sensojax.models.readouts import gaussian2d
from sensojax.types import Batch
from tests.goldens import Golden, assert_close, golden_files

# Allowed: up to ten times what float32 itself does to the published code (goldens' README).
OUTPUT, GRADIENT = 5e-6, 5e-5
SMOOTHNESS = {"LaplaceL2norm": "laplace_l2_norm", "LaplaceL2": "laplace_l2"}


def channels_last(array):
    """batch, channel, time, height, width -> ours."""
    return jnp.asarray(np.moveaxis(array, 1, -1))


def core_from(resolved: dict, settings: dict) -> factorized3d.Core:
    """The core that a golden file's list of really built layers describes."""
    kinds = ("spatial", "temporal", "norm", "nonlin")
    per_layer = [
        {kind: part for part in layer["parts"] for kind in kinds if kind in part["name"]}
        for layer in resolved["layers"]
    ]
    space = [layer["spatial"] for layer in per_layer]
    time = [layer["temporal"] for layer in per_layer]
    norm = per_layer[0].get("norm")
    padding = settings["laplace_padding"]
    return factorized3d.Core(
        space[0]["channels_in"],
        channels=[part["channels_out"] for part in space],
        spatial_kernels=[part["kernel"][1:] for part in space],
        temporal_kernels=[part["kernel"][0] for part in time],
        strides=[part["stride"][1] for part in space],
        spatial_dilations=[part["dilation"][1] for part in space],
        temporal_dilations=[part["dilation"][0] for part in time],
        padding=settings["padding"],
        bias=settings["bias"],
        batch_norm=norm is not None,
        norm_scale=settings["batch_norm_scale"],
        weight_of_new=settings["momentum"],
        nonlinearity=per_layer[0]["nonlin"]["type"] if "nonlin" in per_layer[0] else "none",
        spatial_smoothness=settings["gamma_input_spatial"],
        temporal_smoothness=settings["gamma_input_temporal"],
        smoothness=SMOOTHNESS[settings["input_regularizer"]],
        laplace_padding=1 if padding is None else padding,
        rngs=nnx.Rngs(0),
    )


def gradient_of(function, model):
    """Value, auxiliary output and gradient of function(model), the gradient as a model."""
    graph, weights = separate(model)

    @jax.jit
    def run(params):
        return jax.value_and_grad(
            lambda p: function(assemble(graph, weights.replace(params=p))), has_aux=True
        )(params)

    (value, aux), gradient = run(weights.params)
    return value, aux, assemble(graph, weights.replace(params=gradient))


def assert_gradients(golden, prefix, entries, zero_up_to_rounding):
    found = sensorium.export(entries)
    expected = golden.part(prefix)
    biggest = max(np.abs(value).max() for value in expected.values())
    for name, value in expected.items():
        if f"{prefix}/{name}" in zero_up_to_rounding:
            assert np.abs(found[name]).max() <= 1e-4 * biggest, name
        else:
            assert_close(found[name], value, GRADIENT, f"{prefix}/{name}")


@pytest.mark.parametrize("path", golden_files("01_core_factorized3d"))
def test_factorized_core_equals_the_published_one(path):
    golden = Golden(path)
    core = core_from(golden.config["resolved"], golden.config["settings"])
    entries = functools.partial(sensorium.factorized3d, core)
    sensorium.load(entries(), golden.part("param"))
    video, weights = channels_last(golden["input/x"]), channels_last(golden["input/loss_weights"])

    evaluated = jax.jit(functools.partial(core, train=False))(video)
    assert_close(evaluated, np.moveaxis(golden["output64/eval"], 1, -1), OUTPUT, "evaluation")
    assert video.shape[1] - evaluated.shape[1] == core.lost_frames

    def loss(core):
        out = core(video, train=True)
        return jnp.sum(out * weights), (out, separate(core)[1])

    _, (out, after), gradient = gradient_of(loss, core)
    assert_close(out, np.moveaxis(golden["output64/train"], 1, -1), OUTPUT, "training")
    after = sensorium.export(sensorium.factorized3d(assemble(separate(core)[0], after)))
    for name, value in golden.part("output/statistics_after_one_train_step").items():
        if "num_batches" not in name:
            assert_close(after[name], value, OUTPUT, name)
    zeros = golden.config["gradients_zero_up_to_rounding"]
    assert_gradients(golden, "grad", sensorium.factorized3d(gradient), zeros)

    parts = core.regularizers()
    assert_close(parts["core_spatial"], golden["output64/regularizer_spatial"], OUTPUT)
    assert_close(parts["core_temporal"], golden["output64/regularizer_temporal"], OUTPUT)
    _, _, gradient = gradient_of(lambda c: (sum(c.regularizers().values()), 0), core)
    assert_gradients(golden, "grad_regularizer", sensorium.factorized3d(gradient), ())


def readout_from(settings: dict, position_um: np.ndarray | None) -> gaussian2d.Readout:
    network = settings["position_network"]
    how = dict(positions="learned")
    if network is not None:
        how = dict(
            positions="cortex",
            hidden_features=network["hidden_features"],
            hidden_layers=network["hidden_layers"],
            final_tanh=network["final_tanh"],
        )
    return gaussian2d.Readout(
        settings["in_shape_channels_height_width"][0],
        np.zeros((settings["neurons"], 3)) if position_um is None else position_um,
        gaussian=settings["gauss_type"],
        init_mu_range=settings["init_mu_range"],
        init_sigma=settings["init_sigma"],
        bias=settings["bias"],
        one_draw_per_batch=not settings["batch_sample"],
        feature_l1=settings["effective_feature_weight"],
        rngs=nnx.Rngs(0),
        **how,
    )


@pytest.mark.parametrize("path", golden_files("06_gaussian_readout"))
def test_gaussian_readout_equals_the_published_one(path):
    golden = Golden(path)
    settings = golden.config["settings"]
    position_um = golden.arrays.get("input/cell_coordinates")
    readout = readout_from(settings, position_um)
    if position_um is not None:
        made = readout.network.cortex[...]
        assert_close(made, golden["param/source_grid"], 1e-6, "cortical positions")
    sensorium.load(sensorium.gaussian2d(readout), golden.part("param"))
    found_mu = readout.positions()[None, :, None]
    assert_close(found_mu, golden["output64/mu_before_clipping"], OUTPUT, "positions")
    readout.constrain()
    for name, value in golden.part("param_after").items():
        assert_close(sensorium.export(sensorium.gaussian2d(readout))[name], value, 1e-7, name)

    # The source folds frames into the batch: here they are the batch of one-frame clips.
    maps = channels_last(golden["input/x"])[:, None]
    shift = jnp.asarray(golden["input/shift"])[:, None]
    noise = jnp.asarray(golden["input/noise"])[:, None, :, 0]
    weights = jnp.asarray(golden["input/loss_weights"])[:, None]
    look_up = jax.jit(functools.partial(readout, maps))
    for name, arguments in {
        "eval": (None, None),
        "eval_shift": (shift, None),
        "sampled": (None, noise),
        "sampled_shift": (shift, noise),
        "train_mode_sampling_off_shift": (shift, None),
    }.items():
        out = look_up(*arguments)[:, 0]
        assert_close(out, golden[f"output64/{name}"], OUTPUT, name)
    points = readout.points(noise)[:, 0, :, None]
    assert_close(points, golden["output64/positions_sampled"], OUTPUT, "sampled positions")

    for prefix, arguments in {"grad": (shift, noise), "grad_eval": (shift, None)}.items():
        _, _, gradient = gradient_of(
            lambda r, a=arguments: (jnp.sum(r(maps, *a) * weights), 0), readout
        )
        assert_gradients(golden, prefix, sensorium.gaussian2d(gradient), ())
        for name in golden.config["gradients_exactly_zero"]:
            if name == f"{prefix}/sigma":
                assert not np.any(gradient.sigma[...])
    d_maps = jax.jit(jax.grad(lambda x: jnp.sum(readout(x, shift, noise) * weights)))(maps)
    assert_close(np.moveaxis(d_maps[:, 0], -1, 1), golden["grad_input/x"], GRADIENT, "features")

    assert_close(readout.regularizer(), golden["output64/regularizer_sum"], OUTPUT, "L1")


@pytest.mark.parametrize("path", golden_files("08_shifter"))
def test_shifters_equal_the_published_ones(path):
    golden = Golden(path)
    settings = golden.config["settings"]
    for mouse in golden.config["mice"]:
        if golden.config["variant"].startswith("mlp"):
            hidden, count = settings["hidden_channels_shifter"], settings["shift_layers"]
            module = behavior.MLPShifter(num_layers=count, hidden=hidden, rngs=nnx.Rngs(0))
        else:
            module = behavior.AffineShifter(l2=settings["gamma_shifter"], rngs=nnx.Rngs(0))
        weights = {name: golden["param/" + name] for name in golden.part("param") if mouse in name}
        sensorium.load(sensorium.shifter(module, f"{mouse}."), weights)
        pupil = jnp.asarray(golden[f"input/pupil_center/{mouse}"])
        loss_weights = jnp.asarray(golden[f"input/loss_weights/{mouse}"])
        assert_close(module(pupil), golden[f"output64/shift/{mouse}"], OUTPUT, mouse)
        if f"output64/regularizer/{mouse}" in golden:
            assert_close(module.regularizer(), golden[f"output64/regularizer/{mouse}"], OUTPUT)
        _, _, gradient = gradient_of(
            lambda m, p=pupil, w=loss_weights: (jnp.sum(m(p) * w), 0), module
        )
        found = sensorium.export(sensorium.shifter(gradient, f"{mouse}."))
        for name in weights:
            assert_close(found[name], golden["grad/" + name], GRADIENT, name)


class Case:
    """A golden encoder: the model with its first weights, its batches and its objective."""

    def __init__(self, path):
        self.golden = golden = Golden(path)
        self.config = config = golden.config
        settings = config["settings"]
        core = core_from(config["core_resolved"], settings["core"])
        network = settings["readout"]["grid_mean_predictor"]
        readouts, shifters = {}, {}
        for mouse in config["mice_order"]:
            readouts[mouse] = gaussian2d.Readout(
                core.channels[-1],
                golden[f"input/cell_coordinates/{mouse}"],
                gaussian=settings["readout"]["gauss_type"],
                positions="cortex" if network else "learned",
                hidden_features=network["hidden_features"],
                hidden_layers=network["hidden_layers"],
                final_tanh=network["final_tanh"],
                bias=settings["readout"]["bias"],
                feature_l1=config["feature_weight"],
                rngs=nnx.Rngs(0),
            )
            shifters[mouse] = behavior.MLPShifter(
                num_layers=settings["shifter"]["shift_layers"],
                hidden=settings["shifter"]["hidden_channels_shifter"],
                rngs=nnx.Rngs(0),
            )
        self.model = Encoder(core, readouts, shifters, batch_norm="per_mouse")
        sensorium.load(sensorium.encoder(self.model), golden.part("param"))

    def batches(self, step: int) -> dict[str, Batch]:
        found = {}
        for mouse in self.config["mice_order"]:
            part = self.golden.part(f"input/step{step}/{mouse}")
            video, swap = channels_last(part["videos"]), lambda x: jnp.asarray(x.swapaxes(1, 2))
            found[mouse] = Batch(
                video=video,
                responses=swap(part["responses"]),
                behavior=swap(part["behavior"]),
                pupil_center=swap(part["pupil_center"]),
                valid=jnp.ones(video.shape[:2], bool),
                start=jnp.zeros(len(video), jnp.int32),
            )
        return found

    def objective(self, model, batches, train):
        """The kit's objective of every mouse: scaled Poisson sum plus its regularisers."""
        predicted = model(batches, train=train)
        core = sum(model.core.regularizers().values())
        parts = {}
        for mouse, batch in batches.items():
            frames = predicted[mouse].shape[1]
            observed, valid = batch.responses[:, -frames:], batch.valid[:, -frames:]
            files = self.config["mice"][mouse]["number_of_files_M"]
            scale = math.sqrt(files / len(batch.video))
            poisson = losses.poisson(
                predicted[mouse],
                observed,
                valid,
                epsilon=self.config["poisson_epsilon"],
                reduction="sum",
            )
            parts[mouse] = scale * poisson + core + model.readouts[mouse].regularizer()
        return sum(parts.values()), (predicted, parts, separate(model)[1])

    def assert_equal_per_mouse(self, name, values, tolerance=OUTPUT):
        for mouse in self.config["mice_order"]:
            assert_close(values[mouse], self.golden[f"output64/{name}/{mouse}"], tolerance, name)


@pytest.fixture(scope="module", params=golden_files("09_video_encoder-factorized"))
def case(request):
    return Case(request.param)


def test_encoder_outputs_equal_the_published_ones(case):
    model, batches = case.model, case.batches(0)
    predict = jax.jit(lambda batches, noise: model(batches, noise=noise))
    case.assert_equal_per_mouse("eval", predict(batches, None))
    noise = {
        mouse: jnp.asarray(case.golden[f"input/noise/{mouse}"]).reshape(
            len(batches[mouse].video), -1, readout.num_neurons, 2
        )
        for mouse, readout in model.readouts.items()
    }
    case.assert_equal_per_mouse("eval_sampled", predict(batches, noise))
    frames = batches[model.mice[0]].video.shape[1] - model.core.lost_frames
    shifts = {m: model.shift(m, b.pupil_center, frames) for m, b in batches.items()}
    case.assert_equal_per_mouse("shift", shifts)
    positions = {m: r.positions()[None, :, None] for m, r in model.readouts.items()}
    case.assert_equal_per_mouse("mu", positions)


@pytest.mark.parametrize(("train", "gradient_name"), [(False, "grad_eval"), (True, "grad")])
def test_encoder_losses_and_gradients_equal_the_published_ones(case, train, gradient_name):
    batches = case.batches(0)
    _, (predicted, parts, _), gradient = gradient_of(
        lambda model: case.objective(model, batches, train), case.model
    )
    case.assert_equal_per_mouse("train_mode" if train else "eval", predicted)
    case.assert_equal_per_mouse("loss_train" if train else "loss_eval", parts)
    zeros = case.config["gradients_zero_up_to_rounding"]
    assert_gradients(case.golden, gradient_name, sensorium.encoder(gradient), zeros)
    for name in case.config["gradients_exactly_zero"]:
        if name.startswith(gradient_name + "/"):
            assert not np.any(sensorium.export(sensorium.encoder(gradient))[name.split("/", 1)[1]])


@pytest.mark.parametrize("frozen", [True, False])
def test_training_trajectory_equals_the_published_one(case, frozen):
    """Four AdamW steps with one-mouse-at-a-time batch norm.

    With the biases in front of batch norm left out everything agrees to rounding. With them the
    trajectory of losses does, but not those biases nor what follows them: Adam turns their rounding
    noise into full steps, in the published code too (goldens' README, trap 1).
    """
    settings, golden = case.config["optimizer"], case.golden
    graph, weights = separate(case.model)
    names = {e.name: e.variable for e in sensorium.encoder(assemble(graph, weights))}
    assert set(case.config["frozen_biases"]) <= set(names)
    mask = assemble(graph, weights)
    for entry in sensorium.encoder(mask):
        trained = not (frozen and entry.name in case.config["frozen_biases"])
        entry.variable[...] = jnp.full(entry.variable.shape, trained)
    mask = jax.tree.map(lambda leaf: bool(leaf.all()), separate(mask)[1].params)
    adamw = optax.adamw(
        settings["learning_rate"],
        settings["beta1"],
        settings["beta2"],
        settings["epsilon"],
        weight_decay=settings["weight_decay"],
    )
    optimizer = optax.chain(
        optax.masked(adamw, mask),
        optax.masked(optax.set_to_zero(), jax.tree.map(lambda keep: not keep, mask)),
    )
    state = optimizer.init(weights.params)

    @jax.jit
    def update(weights, state, batches):
        def loss(params):
            return case.objective(assemble(graph, weights.replace(params=params)), batches, True)

        gradient, (_, parts, after) = jax.grad(loss, has_aux=True)(weights.params)
        changes, state = optimizer.update(gradient, state, weights.params)
        return after.replace(params=optax.apply_updates(weights.params, changes)), state, parts

    found = []
    for step in range(case.config["optimizer_steps"]):
        weights, state, parts = update(weights, state, case.batches(step))
        found.append([float(parts[mouse]) for mouse in case.config["mice_order"]])

    prefix = "frozen_" if frozen else ""
    assert_close(np.array(found), golden[f"output64/{prefix}trajectory_loss"], 5e-6, "losses")
    model = assemble(graph, weights)
    final = sensorium.export(sensorium.encoder(model))
    if frozen:
        case.assert_equal_per_mouse("frozen_eval_after", jax.jit(model)(case.batches(0)), 2e-5)
        for name, value in golden.part("output/frozen_param_final").items():
            assert_close(final[name], value, 2e-5, name)
    else:
        loose = [name.removesuffix("bias") for name in case.config["frozen_biases"]]
        for name, value in golden.part("output64/param_final").items():
            follows_noise = name.endswith("running_mean") or name.removesuffix("bias") in loose
            if name in final and not follows_noise:
                assert_close(final[name], value, 2e-5, name)
