"""The 2-D cores and the penalties on weights against the published PyTorch code."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sensojax.interop import cores2d, entries
from sensojax.models import hermite, regularizers
from sensojax.models.encoder import assemble, separate
from tests.goldens import Golden, assert_close, golden_files
from tests.models.made_up import QUICKLY
from tests.parity.comparing import (
    GRADIENT,
    NOT_OURS,
    OUTPUT,
    assert_gradients,
    channels_last,
    gradient_of,
)
from tests.parity.cores2d import rotation_equivariant2d_from, stacked2d_from

PENALTIES = {
    "LaplaceL1": regularizers.laplace_l1,
    "LaplaceL2": regularizers.laplace_l2,
    "LaplaceL2_filter5": functools.partial(regularizers.laplace_l2, size=5),
    "LaplaceL2_filter7": functools.partial(regularizers.laplace_l2, size=7),
    "LaplaceL2norm": regularizers.laplace_l2_norm,
    "GaussianLaplaceL2": regularizers.gaussian_laplace_l2,
    "GaussianLaplaceL2Adaptive": regularizers.gaussian_laplace_l2,
    "LaplaceL23d": regularizers.laplace_l2_3d,
    "FlatLaplaceL23d": lambda kernel, **how: regularizers.laplace_l2(kernel[0], **how),
    "DepthLaplaceL21d": regularizers.temporal_l2_norm,
}


STACKED, EQUIVARIANT = "03_core_stacked2d", "04_core_rotation_equivariant"
PUBLISHED = {
    STACKED: (stacked2d_from, cores2d.stacked2d),
    EQUIVARIANT: (rotation_equivariant2d_from, cores2d.rotation_equivariant2d),
}
every_core = pytest.mark.parametrize("path", [*golden_files(STACKED), *golden_files(EQUIVARIANT)])


class Case:
    """A golden core: ours with its weights, the list of its entries, and its images."""

    def __init__(self, path):
        self.golden = golden = Golden(path)
        build, self.listed = PUBLISHED[next(name for name in PUBLISHED if name in path.name)]
        self.core = build(golden.config["resolved"], golden.config["settings"])
        left = entries.load(self.listed(self.core), golden.part("param"))
        assert all(name.endswith(NOT_OURS) for name in left), left
        # Images are videos of one frame here.
        self.video = channels_last(golden["input/x"])[:, None]

    def assert_output(self, found, name):
        assert found.shape[1] == 1 and found.shape[-1] == self.core.num_features
        theirs = self.golden[f"output64/{name}"]
        assert_close(np.moveaxis(found[:, 0], -1, 1), theirs, OUTPUT, name)


@every_core
def test_core_in_evaluation_equals_the_published_one(path):
    case = Case(path)
    evaluate = functools.partial(case.core, train=False)
    case.assert_output(jax.jit(evaluate, compiler_options=QUICKLY)(case.video), "eval")


@pytest.mark.slow
@every_core
def test_core_in_training_equals_the_published_one(path):
    case = Case(path)
    golden, video = case.golden, case.video
    weights = channels_last(golden["input/loss_weights"])[:, None]

    def loss(core):
        out = core(video, train=True)
        return jnp.sum(out * weights), (out, separate(core)[1])

    _, (out, after), gradient = gradient_of(loss, case.core)
    case.assert_output(out, "train")
    after = entries.export(case.listed(assemble(separate(case.core)[0], after)))
    for name, value in golden.part("output64/statistics_after_one_train_step").items():
        assert_close(after[name], value, OUTPUT, name)
    zeros = golden.config["gradients_zero_up_to_rounding"]
    assert_gradients(golden, "grad", case.listed(gradient), zeros)


@every_core
def test_penalties_of_a_core_equal_the_published_ones(path):
    case = Case(path)

    def penalties(core):
        parts = core.regularizers()
        return sum(parts.values()), parts

    golden, settings = case.golden, case.golden.config["settings"]
    total, parts, gradient = gradient_of(penalties, case.core)
    laplace = settings["gamma_input"] * golden["output64/laplace"]
    assert_close(parts["core_spatial"], laplace, OUTPUT, "roughness")
    groups = settings["gamma_hidden"] * golden["output64/group_sparsity"]
    assert_close(parts["core_sparsity"], groups, OUTPUT, "group sparsity")
    assert_close(total, golden["output64/regularizer"], OUTPUT, "penalties")
    assert_gradients(golden, "grad_regularizer", case.listed(gradient), ())


@pytest.mark.parametrize("path", golden_files(EQUIVARIANT))
def test_filters_basis_and_rotations_are_the_published_ones(path):
    case = Case(path)
    golden, core = case.golden, case.core
    draw = jax.jit(lambda: [layer.filters.kernel() for layer in core.layers])
    for index, found in enumerate(draw()):
        expected = golden[f"output64/weights_layer{index}"]
        assert_close(found.transpose(3, 2, 0, 1), expected, 1e-6, "filters")
        # What the file holds as basis and rotations is what we make.
        part = golden.config["resolved"]["layers"][index]["parts"][0]
        here = f"param/features.layer{index}.hermite_conv.rotate_hermite"
        basis = hermite.basis(part["filter_size"], part["upsampling"])
        assert_close(basis, golden[f"{here}.H"], 1e-7, "basis")
        for turn, matrix in enumerate(hermite.rotations(part["filter_size"], part["rotations"])):
            assert_close(matrix, golden[f"{here}.Rs.{turn}"], 1e-7, "rotation")


@pytest.mark.parametrize("path", golden_files("04b_weight_regularizers"))
def test_penalties_on_weights_equal_the_published_ones(path):
    golden = Golden(path)
    names = golden.part("output64")
    assert {name.split("/")[0] for name in names} <= set(PENALTIES)

    def ours(array):
        """out, in, extent -> extent, in, out."""
        return jnp.asarray(np.moveaxis(array, (0, 1), (-1, -2)))

    functions, kernels = {}, {}
    for name in names:
        penalty, options, weight = name.split("/")
        how = dict(average=options.endswith("mean"))
        if options.startswith("padding_") and "half_kernel" not in options:
            how["padding"] = int(options.split("_")[1])
        functions[name] = functools.partial(PENALTIES[penalty], **how)
        kernels[name] = ours(golden[f"input/{weight}"])

    @functools.partial(jax.jit, compiler_options=QUICKLY)
    def all_of_them(kernels):
        return {name: jax.value_and_grad(functions[name])(kernels[name]) for name in names}

    for name, (value, gradient) in all_of_them(kernels).items():
        assert_close(value, names[name], OUTPUT, name)
        assert_close(gradient, ours(golden[f"grad/{name}"]), GRADIENT, name)
