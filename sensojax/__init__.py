"""Digital twins of the visual system in JAX: stimulus video and behaviour in, responses out.

The folders are the path of the data: recordings -> store -> pipeline -> models -> losses, metrics
-> training -> evaluation. `build` turns the names in a config into objects, `main` is one
experiment on one page.
"""

__version__ = "0.1.0"
