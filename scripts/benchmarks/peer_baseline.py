"""The published baselines from the published code; runs beside torch, in the worker.

In: batches as the kit's loader gives them and the settings of our core; out: the kit's model of
videos, which believes that it was built from its own loaders, or the parts of the model of images.
"""

import collections
import types
from collections.abc import Callable

import numpy as np
import torch

Batch = collections.namedtuple("Batch", ("videos", "responses", "behavior", "pupil_center"))


class OneByOne:
    """Stands for a loader of the kit: yields the given batches, and knows where neurons lie."""

    def __init__(self, batches: list[Batch], coordinates: np.ndarray):
        neurons = types.SimpleNamespace(cell_motor_coordinates=coordinates)
        self.batches, self.dataset = batches, types.SimpleNamespace(neurons=neurons)

    def __iter__(self):
        return iter(self.batches)


def baseline(
    make: Callable, loaders: dict[str, OneByOne], core: dict, recurrent: dict
) -> torch.nn.Module:
    """A published baseline (baselines 8.1), factorised or GRU, at the given widths and kernels.

    make: the kit's own builder; core, recurrent: our settings of both.
    """
    channels = next(iter(loaders.values())).batches[0].videos.shape[1]
    shift = dict(
        gamma_shifter=0, shift_layers=3, input_channels_shifter=2, hidden_channels_shifter=5
    )
    network = dict(
        type="cortex", input_dimensions=2, hidden_layers=1, hidden_features=30, final_tanh=True
    )
    core_of = _rotation_equivariant if recurrent["name"] else _factorised
    return make(
        loaders,
        seed=0,
        **core_of(core, channels),
        use_gru=bool(recurrent["name"]),
        gru_dict=_gru(core, recurrent) if recurrent["name"] else None,
        readout_type="gaussian",
        readout_dict=dict(
            bias=True,
            init_mu_range=0.2,
            init_sigma=1.0,
            gamma_readout=0.0,
            gauss_type="full",
            grid_mean_predictor=network,
        ),
        use_shifter=True,
        shifter_type="MLP",
        shifter_dict=shift,
    )


def _factorised(core, channels):
    return dict(
        core_type="3D_factorised",
        core_dict=dict(
            input_channels=channels,
            hidden_channels=core["channels"],
            spatial_input_kernel=(core["spatial_kernels"][0],) * 2,
            temporal_input_kernel=core["temporal_kernels"][0],
            spatial_hidden_kernel=(core["spatial_kernels"][1],) * 2,
            temporal_hidden_kernel=core["temporal_kernels"][1],
            layers=len(core["channels"]),
            gamma_input_spatial=core["spatial_smoothness"],
            gamma_input_temporal=core["temporal_smoothness"],
            momentum=core["weight_of_new"],
            bias=True,
            batch_norm=True,
            hidden_nonlinearities="elu",
            x_shift=0,
            y_shift=0,
            laplace_padding=None,
            input_regularizer="LaplaceL2norm",
            padding=False,
            final_nonlin=True,
        ),
    )


def _rotation_equivariant(core, channels):
    """All layers have one width there, and all but the first one kernel."""
    return dict(
        core_type="2D_equivariant",
        core_dict=dict(
            input_channels=channels,
            hidden_channels=core["channels"][0],
            input_kern=core["kernels"][0],
            hidden_kern=core["kernels"][1],
            layers=len(core["channels"]),
            num_rotations=core["rotations"],
            gamma_input=core["spatial_smoothness"],
            gamma_hidden=core["group_sparsity"],
            momentum=core["weight_of_new"],
            final_nonlinearity=core["final_nonlinearity"],
            pad_input=False,
            hidden_padding=None,
            bias=True,
            batch_norm=True,
            final_batchnorm_scale=True,
            laplace_padding=None,
            input_regularizer="LaplaceL2norm",
            use_avg_reg=False,
            stack=-1,
            skip=0,
        ),
    )


def _gru(core, recurrent):
    return dict(
        input_channels=core["channels"][-1] * core["rotations"],
        rec_channels=recurrent["channels"],
        input_kern=recurrent["input_kernel"],
        rec_kern=recurrent["recurrent_kernel"],
        gamma_rec=0,
    )


def of_images(library: dict, loaders: dict[str, OneByOne], core: dict) -> torch.nn.Module:
    """The published convolutional model of images (baselines 8.2) from the published modules.

    library: these classes by name. The present library gives every convolution a bias,
    which the model of 2022 did not have: they stay 0.
    """
    first = {mouse: each.batches[0].videos for mouse, each in loaders.items()}
    channels, height, width = next(iter(first.values())).shape[1:]
    made = library["Stacked2dCore"](
        input_channels=channels,
        hidden_channels=core["channels"][0],
        input_kern=core["kernels"][0],
        hidden_kern=core["kernels"][1],
        layers=len(core["channels"]),
        gamma_input=core["spatial_smoothness"],
        gamma_hidden=0,
        momentum=core["weight_of_new"],
        linear=core["linear"],
        pad_input=False,
        hidden_padding=None,
        bias=True,
        batch_norm=True,
        laplace_padding=None,
        input_regularizer="LaplaceL2norm",
        use_avg_reg=False,
        depth_separable=True,
        stack=-1,
    )
    features = tuple(made(torch.zeros(1, channels, height, width)).shape[1:])
    readouts = library["MultiReadoutSharedParametersBase"](
        base_readout=library["FullGaussian2d"],
        in_shape_dict=dict.fromkeys(loaders, features),
        n_neurons_dict={m: each.batches[0].responses.shape[1] for m, each in loaders.items()},
        bias=True,
        init_mu_range=0.3,
        init_sigma=0.1,
        gamma_readout=0.0076,
        gauss_type="full",
        grid_mean_predictor=dict(hidden_layers=1, hidden_features=30, final_tanh=True),
        grid_mean_predictor_type="cortex",
        source_grids={
            m: each.dataset.neurons.cell_motor_coordinates for m, each in loaders.items()
        },
    )
    return library["FiringRateEncoder"](made, readouts)
