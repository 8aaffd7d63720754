"""3-D cores, readouts and shifters against the published PyTorch code."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sensojax.interop import sensorium
from sensojax.models import behavior
from sensojax.models.encoder import assemble, separate
from sensojax.models.readouts import factorized2d, gaussian2d
from tests.goldens import Golden, assert_close, golden_files
from tests.parity.comparing import (
    GRADIENT,
    OUTPUT,
    assert_gradients,
    channels_last,
    gradient_of,
)
from tests.parity.cores3d import factorized3d_from, full3d_from

CORES = {
    "01_core_factorized3d": (factorized3d_from, sensorium.factorized3d),
    "02_core_basic3d": (full3d_from, sensorium.full3d),
}


@pytest.mark.parametrize("path", [path for case in CORES for path in golden_files(case)])
def test_a_3d_core_equals_the_published_one(path):
    golden = Golden(path)
    core_from, listed = CORES[golden.config["case"]]
    core = core_from(golden.config["resolved"], golden.config["settings"])
    sensorium.load(listed(core), golden.part("param"))
    video, weights = channels_last(golden["input/x"]), channels_last(golden["input/loss_weights"])

    evaluated = jax.jit(functools.partial(core, train=False))(video)
    assert_close(evaluated, np.moveaxis(golden["output64/eval"], 1, -1), OUTPUT, "evaluation")
    assert video.shape[1] - evaluated.shape[1] == core.lost_frames

    def loss(core):
        out = core(video, train=True)
        return jnp.sum(out * weights), (out, separate(core)[1])

    _, (out, after), gradient = gradient_of(loss, core)
    assert_close(out, np.moveaxis(golden["output64/train"], 1, -1), OUTPUT, "training")
    after = sensorium.export(listed(assemble(separate(core)[0], after)))
    for name, value in golden.part("output/statistics_after_one_train_step").items():
        if "num_batches" not in name:
            assert_close(after[name], value, OUTPUT, name)
    zeros = golden.config["gradients_zero_up_to_rounding"]
    assert_gradients(golden, "grad", listed(gradient), zeros)

    def penalty(core):
        parts = core.regularizers()
        return sum(parts.values()), parts

    _, parts, gradient = gradient_of(penalty, core)
    assert_close(parts["core_spatial"], golden["output64/regularizer_spatial"], OUTPUT)
    assert_close(parts["core_temporal"], golden["output64/regularizer_temporal"], OUTPUT)
    assert_gradients(golden, "grad_regularizer", listed(gradient), ())


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
        draws="frame" if settings["batch_sample"] else "batch",
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


@pytest.mark.parametrize("path", golden_files("07_factorized_readout"))
def test_factorized_readout_equals_the_published_one(path):
    golden = Golden(path)
    settings, variants = golden.config["settings"], golden.config["variants"]
    channels, height, width = settings["in_shape_channels_height_width"]
    # The source folds frames into the batch: here they are one clip.
    maps = channels_last(golden["input/x"])[None]
    for name, of_variant in variants.items():
        how = dict(of_variant)
        weight = how.pop("gamma_readout")
        make = functools.partial(
            factorized2d.Readout,
            channels,
            np.zeros((settings["neurons"], 3)),
            map_size=(height, width),
            rngs=nnx.Rngs(0),
            **how,
        )
        readout = make(l1="published", l1_weight=weight)
        sensorium.load(sensorium.factorized2d(readout), golden.part(f"param/{name}"))
        assert_close(readout.masks(), golden[f"output64/{name}/mask"], OUTPUT, "masks")
        out = jax.jit(readout)(maps)[0]
        assert_close(out, golden[f"output64/{name}/eval"], OUTPUT, name)
        published = golden[f"output64/{name}/l1_as_published"]
        assert_close(readout.regularizer(), published, OUTPUT, "published L1")
        right = make(l1_weight=1.0)
        sensorium.load(sensorium.factorized2d(right), golden.part(f"param/{name}"))
        intended = golden[f"output/{name}/l1_per_neuron_sum"]
        assert_close(right.regularizer(), intended, OUTPUT, "intended L1")


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
