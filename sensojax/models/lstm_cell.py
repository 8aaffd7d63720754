"""One step of a long short-term memory, of vectors or of maps of them.

In: what the gates are told (by the frame, and by the state before it) and the memory; out: the next
state and memory. With told = (enter, forget, new, leave), joined on channels in this order, and g
for the gate's nonlinearity,

    memory = g(forget) memory + g(enter) tanh(new)        state = g(leave) tanh(memory)

(Gers, Schmidhuber and Cummins 2000). The gates of Keras in 2017, and so of the published models,
are `hard_sigmoid`, a line between 0 and 1.
"""

import jax
import jax.numpy as jnp

GATES = {
    "hard_sigmoid": lambda x: jnp.clip(0.2 * x + 0.5, 0.0, 1.0),
    "sigmoid": jax.nn.sigmoid,
}


def step(told: jax.Array, memory: jax.Array, gate: str) -> tuple[jax.Array, jax.Array]:
    """State and memory [... channel] after a frame; told: [... 4*channel], gate: of GATES."""
    enter, forget, new, leave = jnp.split(told, 4, axis=-1)
    gated = GATES[gate]
    memory = gated(forget) * memory + gated(enter) * jnp.tanh(new)
    return gated(leave) * jnp.tanh(memory), memory


def first_biases(channels: int) -> jax.Array:
    """[4*channel]: 1 for `forget`, so that a memory at first stays, else 0."""
    return jnp.repeat(jnp.array([0.0, 1.0, 0.0, 0.0]), channels)
