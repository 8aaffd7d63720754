"""DwiseNeuro as golden files describe it, with its clips and its published gradients."""

import functools
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from sensojax import build
from sensojax.interop import dwiseneuro as names
from sensojax.interop import entries
from sensojax.models import outputs
from sensojax.models.cores import dwiseneuro
from sensojax.models.encoder import Encoder, assemble, separate
from sensojax.models.readouts import grouped
from sensojax.types import Batch, Neurons
from tests.goldens import Golden
from tests.models.made_up import QUICKLY, unfilled


def core_settings(config: dict) -> dict:
    """The settings of our core for those of a file."""
    return dict(
        features=config["core_features"],
        strides=config["spatial_strides"],
        expansion=config["expansion_ratio"],
        spatial_kernel=config["spatial_kernel"],
        temporal_kernel=config["temporal_kernel"],
        squeeze=config["squeeze_excite_reduction"],
        cortex=config["cortex_features"],
        groups=config["groups"],
        drop_path=config["drop_path_rate"],
        cortex_drop_path=config["drop_path_rate"],
        weight_of_new=config["batch_norm_momentum_torch"],
    )


def abstract_encoder(config: dict, counts: Sequence[int]) -> Encoder:
    """The model of a config for mice of so many neurons, with shapes for arrays."""
    mice = {f"mouse{i}": Neurons(np.arange(n), np.zeros((n, 3))) for i, n in enumerate(counts)}
    return jax.eval_shape(lambda: build.new_encoder(config, mice, 2, frame_size=(36, 64)))


@functools.cache
def case(path: Path) -> "Case":
    return Case(Golden(path))


class Case:
    """A model with its published weights, and the programs that the tests of a file share."""

    def __init__(self, golden: Golden):
        self.golden, self.config = golden, golden.config
        self.mice = [f"mouse{i}" for i in range(len(self.config["neurons_per_mouse"]))]
        self.model = unfilled(self._made)
        self.left = entries.load(names.encoder(self.model), golden.part("param"))
        self.graph, self.weights = separate(self.model)
        self.evaluate = jax.jit(self.predict, compiler_options=QUICKLY)
        self.train = jax.jit(self._train, compiler_options=QUICKLY)

    def _made(self) -> Encoder:
        config, rngs = self.config, nnx.Rngs(0)
        core = dwiseneuro.Core(config["input_channels"], **core_settings(config), rngs=rngs)
        made, output = {}, {}
        for mouse, count in zip(self.mice, config["neurons_per_mouse"], strict=True):
            made[mouse] = grouped.Readout(
                core.num_features,
                np.zeros((count, 3)),
                groups=config["groups"],
                dropout=config["drop_rate"],
                rngs=rngs,
            )
            output[mouse] = outputs.Softplus(beta=config["softplus_beta"])
        return Encoder(core, made, output=output)

    def clip(self, name: str) -> jax.Array:
        return jnp.asarray(np.moveaxis(self.golden[f"input/{name}"], 1, -1))

    def batches(self, video: jax.Array) -> dict[str, Batch]:
        """The same clip for every mouse, as the published model predicts it."""
        size, time = video.shape[:2]
        none = jnp.zeros((size, time, 2))
        valid = jnp.ones((size, time), bool)
        batch = Batch(video, (), none, none, valid, jnp.zeros(size, jnp.int32))
        return dict.fromkeys(self.mice, batch)

    def predict(self, weights, video):
        """The mean over pixels, the cortex's features and the responses of every mouse."""
        model = assemble(self.graph, weights)
        pooled = model.core.pooled(video, train=False)
        features = model.core(video, train=False)
        return pooled, features, self._responses(model, features)

    def _responses(self, model, features):
        return {m: model.output[m](model.readouts[m](features)) for m in self.mice}

    def weighted(self, predicted) -> jax.Array:
        """The sum that the file's gradients are of."""
        return sum(
            jnp.sum(predicted[mouse] * self.golden[f"input/loss_weights_{mouse}"].swapaxes(1, 2))
            for mouse in self.mice
        )

    def _train(self, weights, video):
        """Responses, running statistics and gradient in training mode; all mice see one clip."""

        def loss(params):
            model = assemble(self.graph, weights.replace(params=params))
            predicted = self._responses(model, model.core(video, train=True))
            return self.weighted(predicted), (predicted, separate(model)[1])

        gradient, (predicted, after) = jax.grad(loss, has_aux=True)(weights.params)
        return predicted, after, gradient

    def exported_parameters(self) -> set[str]:
        """The names of what is trained."""
        ones = jax.tree.map(jnp.ones_like, self.weights.params)
        zeros = jax.tree.map(jnp.zeros_like, self.weights)
        return {name for name, x in self.exported(zeros.replace(params=ones)).items() if x.any()}

    def exported(self, weights) -> dict[str, np.ndarray]:
        return entries.export(names.encoder(assemble(self.graph, weights)))
