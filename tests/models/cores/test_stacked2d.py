"""The stacked core beyond the contract of all cores: its geometry, its joins, its layers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sensojax.errors import UserError
from sensojax.interop import cores2d
from sensojax.models import geometry
from sensojax.models.cores import stacked2d
from tests.goldens import assert_close
from tests.models.made_up import QUICKLY, Running, normal

SMALL = dict(channels=(2, 3), kernels=(3, 3), paddings="same", separable=False)
GEOMETRIES = {
    "plain": dict(kernels=((4, 3), (3, 2)), strides=(2, 1), paddings="valid", dilations=(1, 2)),
    "separable": dict(kernels=(3, (5, 2)), strides=(1, 2), paddings=(1, "same"), separable=True),
}


def core(inputs=2, **settings):
    """A core with random numbers everywhere, biases and running statistics too.

    It is built from shapes alone, since compiling the initialisation would take seconds.
    """
    draw = np.random.default_rng(0)
    made = nnx.eval_shape(lambda: stacked2d.Core(inputs, **SMALL | settings, rngs=nnx.Rngs(0)))
    graph, params, statistics = nnx.split(made, nnx.Param, ...)
    params = jax.tree.map(lambda leaf: jnp.float32(draw.normal(size=leaf.shape) / 2), params)
    statistics = jax.tree.map(
        lambda leaf: jnp.float32(draw.uniform(0.5, 2, leaf.shape)), statistics
    )
    return nnx.merge(graph, params, statistics)


quick = functools.partial(jax.jit, compiler_options=QUICKLY)


def evaluated(made, video):
    return quick(lambda video: made(video, train=False))(video)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_receptive_fields_lie_where_map_to_image_says(name):
    made, (height, width) = core(1, **GEOMETRIES[name]), (31, 26)
    video = normal(0, 1, 1, height, width, 1)
    rows, columns = made.map_size(height, width)
    assert evaluated(made, video).shape == (1, 1, rows, columns, 3)

    @quick
    def pull(row, column):
        def at(video):
            return jnp.sum(made(video, train=False)[0, 0, row, column])

        return jax.grad(at)(video)[0, 0, ..., 0]

    # Away from the border, where padding would cut the fields off.
    for row, column in ((rows // 2, columns // 2), (rows // 2 + 1, columns // 2 - 1)):
        seen = np.nonzero(pull(row, column))
        found = [(each.min() + each.max()) / 2 for each in seen]
        point = jnp.array([[2 * column / (columns - 1) - 1, 2 * row / (rows - 1) - 1]])
        x, y = (np.asarray(made.map_to_image(point, height, width), np.float64)[0] + 1) / 2
        np.testing.assert_allclose(found, [y * (height - 1), x * (width - 1)], atol=1e-4)


def test_no_frame_sees_another():
    made = core(separable=True, se_blocks=1, se_reduction=2)
    pull = quick(jax.grad(lambda video: jnp.sum(made(video, train=False)[:, 3] ** 2)))
    reached = np.asarray(pull(normal(0, 1, 5, 6, 7, 2))).any(axis=(0, 2, 3, 4))
    assert reached.tolist() == [False, False, False, True, False]


def test_a_layer_reads_as_many_layers_as_skip_says_and_stack_names_those_that_come_out():
    how = dict(channels=(2, 3, 4, 5), kernels=1, batch_norm=False, linear=True)
    made = core(**how, skip=2, stack=(3, 0))
    video = normal(0, 1, 1, 2, 3, 2)
    w = [np.asarray(layer.filters.weight[...])[0, 0] for layer in made.layers]
    assert [len(each) for each in w] == [2, 2, 2 + 3, 3 + 4]
    first = video @ w[0]
    second = first @ w[1]
    third = np.concatenate([first, second], -1) @ w[2]
    fourth = np.concatenate([second, third], -1) @ w[3]
    assert_close(evaluated(made, video), np.concatenate([fourth, first], -1), 2e-6)
    for stack, width in (((), 14), (-1, 5), (-2, 9), (1, 12), ((1,), 3), ((3, 0), 7)):
        assert core(**how, stack=stack).num_features == width, stack


def test_a_core_that_ends_early_maps_points_as_its_last_layer_does():
    made = core(channels=(2, 2), kernels=(5, 3), strides=(1, 2), paddings="valid", stack=(0,))
    assert made.map_size(11, 13) == (7, 9)
    corner = made.map_to_image(jnp.array([[1.0, 1.0]]), 11, 13)
    np.testing.assert_allclose(corner, [[1 - 2 * 2 / 12, 1 - 2 * 2 / 10]], rtol=1e-6)


def test_a_separable_layer_is_an_ordinary_one_with_a_composed_kernel():
    filters = (
        stacked2d.Core(
            2, **SMALL | dict(separable=True), batch_norm=False, linear=True, rngs=nnx.Rngs(0)
        )
        .layers[1]
        .filters
    )
    ordinary = core().layers[1].filters
    composed = jnp.einsum("im,hwm,mo->hwio", *(part[...] for part in _parts(filters)))
    ordinary.weight[...] = composed
    x = normal(0, 1, 2, 6, 7, 2)
    assert_close(filters(x, idle_bias=False), ordinary(x, idle_bias=False), 2e-6)
    assert filters.kernel() is None and ordinary.kernel().shape == (3, 3, 2, 3)


def _parts(filters):
    return filters.mixing, filters.within, filters.remixing


@pytest.mark.parametrize("linear", [True, False])
def test_a_linear_core_adds_up_and_another_one_does_not(linear):
    one, two = normal(0, 1, 1, 6, 7, 2), normal(1, 1, 1, 6, 7, 2)
    made = core(linear=linear)
    # As four frames of one video, so that the core is compiled once.
    frames = jnp.concatenate([one, two, one + two, jnp.zeros_like(one)], axis=1)
    first, second, both, nothing = np.float64(evaluated(made, frames)[0])
    error = np.abs(both + nothing - first - second).max() / np.abs(both).max()
    assert error < 1e-5 if linear else error > 1e-2


def test_the_nonlinearity_is_shifted_on_both_sides_and_may_be_left_out_at_the_end():
    video = normal(0, 1, 1, 6, 7, 2)
    how = dict(channels=(3,), kernels=(3,), batch_norm=False)
    raw = np.float64(evaluated(core(**how, final_nonlinearity=False), video))
    shifted = evaluated(core(**how, elu_shift=(-0.2, 0.1)), video)
    expected = np.where(raw > -0.2, raw + 0.2, np.expm1(np.minimum(raw + 0.2, 0))) + 0.1
    assert_close(shifted, expected, 1e-6)
    assert raw.min() < -0.2 < raw.max()


def test_only_biases_that_batch_norm_takes_away_again_stand_still_in_training():
    made = core(separable=True, conv_bias=True)
    run = Running(made, lambda model, video: jnp.sum(model(video, train=True) ** 3))
    video = normal(0, 1, 2, 6, 7, 2)
    gradient = quick(jax.grad(lambda p: run.pure(run.weights.replace(params=p), video)))
    layers = gradient(run.weights.params)["layers"]
    assert not np.any(layers[0]["filters"]["bias"])
    first, second, third = (layers[1]["filters"]["biases"][i] for i in range(3))
    # The first one meets zeros at the border of the map before batch norm.
    assert np.abs(first).max() > 0 and not np.any(second) and not np.any(third)
    plain = core(conv_bias=(True, False), batch_norm=(False, True))
    assert plain.layers[0].filters.bias is not None and plain.layers[1].filters.bias is None
    assert plain.layers[0].norm is None and plain.layers[1].norm is not None


def test_squeeze_excitation_scales_whole_channels_of_the_last_layers():
    made = core(channels=(2, 6), se_blocks=1, se_reduction=2)
    assert made.layers[0].after is None
    squeeze = made.layers[1].after
    assert squeeze.squeeze.weight.shape == (6, 3)
    x = normal(0, 2, 3, 4, 5, 6)
    scale = np.asarray(squeeze(x) / x)
    assert np.ptp(scale, axis=(2, 3)).max() < 1e-5 and 0 < scale.min() < scale.max() < 1
    assert np.ptp(scale, axis=(0, 1)).min() > 1e-4  # another one for every frame
    squeeze.excite.bias[...] = jnp.full(6, 100.0)
    assert np.array_equal(squeeze(x), x)


def test_a_core_with_squeeze_excitation_has_no_published_names():
    with pytest.raises(UserError, match="for which there are no published names"):
        list(cores2d.stacked2d(core(se_blocks=1)))


def test_filters_start_with_the_published_spread():
    filters = stacked2d.Separable(64, 64, geometry.Step((7, 7)), False, nnx.Rngs(0))
    # A depthwise filter counts as one input and 64 outputs of 49 pixels: baselines 3.
    for weight, std in ((filters.within, 0.0251), (filters.mixing, np.sqrt(1 / 64))):
        assert np.std(weight[...]) == pytest.approx(std, rel=0.05)


@pytest.mark.parametrize(("inputs", "count", "published"), [(1, 4, 39_680), (4, 3, 43_776)])
def test_the_models_of_2022_have_the_published_number_of_parameters(inputs, count, published):
    def made():
        how = dict(
            channels=(64,) * count, kernels=(9, 7, 7, 7)[:count], paddings=("valid",) * count
        )
        return nnx.state(stacked2d.Core(inputs, **how, rngs=nnx.Rngs(0)), nnx.Param)

    assert sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(made))) == published


def test_penalties_are_scaled_by_their_settings_and_see_their_own_layers():
    made = core(channels=(2, 2, 2), kernels=3, group_sparsity=2.0, spatial_smoothness=3.0)
    before = made.regularizers()
    made.layers[0].filters.weight[...] += 1.0
    smoother = made.regularizers()
    assert smoother["core_spatial"] != before["core_spatial"]
    assert smoother["core_sparsity"] == before["core_sparsity"]
    made.layers[1].filters.weight[...] = jnp.zeros((3, 3, 2, 2))
    last = np.sqrt(np.square(made.layers[2].filters.weight[...]).sum((0, 1))).mean()
    assert made.regularizers()["core_sparsity"] == pytest.approx(2.0 * last / 2, rel=1e-6)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (dict(kernels=(3,)), "found 1 values in core.kernels"),
        (dict(conv_bias=(True,)), "found 1 values in core.conv_bias"),
        (dict(paddings="sane"), "did you mean 'same'"),
        (dict(nonlinearity="elo"), "did you mean 'elu'"),
        (dict(smoothness="laplace"), "core.smoothness 'laplace'"),
        (dict(stack=(2,)), r"found core.stack \(2,\), expected layers from -2 to 1"),
        (dict(stack=2), "found core.stack 2, expected layers from -2 to 1"),
        (dict(stack=(), paddings="valid"), "found core.stack .* and layer 1 with another size"),
        (
            dict(channels=(2, 2, 2), kernels=4, skip=2),
            "found core.skip 2 and layer 1 with another size",
        ),
    ],
)
def test_settings_that_make_no_core_are_refused_in_a_sentence(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        core(**settings)
