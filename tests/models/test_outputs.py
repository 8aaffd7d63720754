"""The last nonlinearity: positive, as published, and inverted where biases start."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sensojax.models import outputs
from sensojax.models.encoder import assemble, separate

MADE = {
    "elu": outputs.Elu(offset=0.5),
    "exponential": outputs.Exponential(),
    "sigmoid": outputs.Sigmoid(),
    "softplus": outputs.Softplus(beta=0.07),
    "learned": outputs.Softplus(beta=2.0, learned=True),
}
X = np.linspace(-30, 400, 50)


def test_every_output_is_tested():
    assert {type(each) for each in MADE.values()} == set(outputs.OUTPUTS.values())


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("elu", lambda x: np.where(x > -0.5, x + 1.5, np.exp(np.minimum(x + 0.5, 0)))),
        ("exponential", np.exp),
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
        ("softplus", lambda x: np.logaddexp(0, 0.07 * x) / 0.07),
        ("learned", lambda x: np.logaddexp(0, 2 * x) / 2),
    ],
)
def test_outputs_are_their_formulas(name, formula):
    x = X / 10
    np.testing.assert_allclose(MADE[name](jnp.float32(x)), formula(x), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", MADE)
def test_the_inverse_gives_the_rate_back_unless_it_is_nearly_zero(name):
    rates = np.array([0.2, 0.9, 1.0, 3.0, 17.0])
    rates = rates[rates < 1] if name == "sigmoid" else rates
    found = MADE[name](jnp.float32(MADE[name].inverse(rates)))
    np.testing.assert_allclose(found, rates, rtol=1e-5)
    assert np.isfinite(MADE[name].inverse(np.array([0.0, 1.0]))).all()


def test_softplus_is_a_line_far_above_zero_and_known_at_zero():
    made = MADE["softplus"]
    assert made(jnp.float32(20 / 0.07 + 1)) == pytest.approx(20 / 0.07 + 1)
    assert made(jnp.float32(0.0)) == pytest.approx(9.902, rel=1e-4)  # sota 1.2


def test_only_a_learned_softplus_has_a_parameter_and_training_reaches_it():
    assert not jax.tree.leaves(separate(MADE["softplus"])[1])
    graph, weights = separate(MADE["learned"])
    (first,), structure = jax.tree.flatten(weights.params)
    assert first == pytest.approx(np.log(2))

    def loss(log_beta):
        params = structure.unflatten([log_beta])
        return jnp.sum(assemble(graph, weights.replace(params=params))(jnp.float32(X / 50)))

    slope = (loss(first + 0.01) - loss(first - 0.01)) / 0.02
    assert jax.grad(loss)(first) == pytest.approx(float(slope), rel=1e-2)
