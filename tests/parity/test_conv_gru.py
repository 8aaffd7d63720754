"""The convolutional GRU against the published PyTorch code: every state, every gradient."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sensojax.interop import entries, sensorium
from sensojax.models.recurrent import conv_gru
from tests.goldens import Golden, assert_close, golden_files
from tests.models.made_up import unfilled
from tests.parity.comparing import GRADIENT, OUTPUT, assert_gradients, channels_last, gradient_of


def recurrence_from(golden: Golden) -> conv_gru.Recurrence:
    """Ours with the weights of a golden file."""
    settings = golden.config["settings"]
    recurrence = unfilled(
        lambda: conv_gru.Recurrence(
            settings["input_channels"],
            channels=settings["rec_channels"],
            input_kernel=settings["input_kern"],
            recurrent_kernel=settings["rec_kern"],
            groups=settings["groups"],
            padding=settings["pad_input"],
            rngs=nnx.Rngs(0),
        )
    )
    assert not entries.load(sensorium.conv_gru(recurrence, "gru."), golden.part("param"))
    return recurrence


@pytest.mark.parametrize("path", golden_files("05_conv_gru"))
def test_states_and_gradients_equal_the_published_ones(path):
    golden = Golden(path)
    weights = channels_last(golden["input/loss_weights"])

    class WithInput(nnx.Module):
        """The recurrence and its input, so that the gradient is of both."""

        def __init__(self):
            self.recurrence = recurrence_from(golden)
            self.features = nnx.Param(channels_last(golden["input/x"]))

    def loss(model):
        out = model.recurrence(model.features[...])
        return jnp.sum(out * weights), out

    _, out, gradient = gradient_of(loss, WithInput())
    assert_close(np.moveaxis(out, -1, 1), golden["output64/states"], OUTPUT, "states")
    assert_close(
        np.moveaxis(out[0], -1, 0), golden["output64/states_first_sample_unbatched"], OUTPUT
    )
    zeros = golden.config["gradients_zero_up_to_rounding"]
    assert_gradients(golden, "grad", sensorium.conv_gru(gradient.recurrence, "gru."), zeros)
    d_x = np.moveaxis(gradient.features[...], -1, 1)
    assert_close(d_x, golden["grad_input/x"], GRADIENT, "features")
