"""ViV1T as golden files describe it, of 2023 and of 2025, with clips and published gradients."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from sensojax.interop import entries
from sensojax.interop import viv1t as names
from sensojax.models import outputs
from sensojax.models.behavior import MLPShifter
from sensojax.models.cores import viv1t, viv1t2023
from sensojax.models.encoder import Encoder, assemble, separate
from sensojax.models.readouts import attention, gaussian2d
from sensojax.types import Batch
from tests.goldens import Golden
from tests.models.made_up import QUICKLY, unfilled

CODES_2023 = {
    0: ("none", "none"),
    1: ("joint", "none"),
    2: ("convolution", "convolution"),
    3: ("learned", "learned"),
    4: ("learned", "sines"),
    5: ("sines", "sines"),
}
CODES_2025 = {
    0: ("none", "none"),
    1: ("joint", "none"),
    2: ("learned", "learned"),
    3: ("learned", "sines"),
    4: ("sines", "sines"),
    5: ("rotary", "rotary"),
    6: ("learned", "rotary"),
    7: ("grid", "rotary"),
}
# Behaviour modes: columns that the core sees, the pupil's after those of the behaviour; and whether
# they are planes beside the picture, or a network tells tokens of them.
BEHAVIORS = {0: (0, False), 1: (2, False), 2: (4, False), 3: (2, True), 4: (4, True)}
OUTPUTS_2023 = {0: outputs.Elu, 1: outputs.Exponential, 2: outputs.Softplus}
OUTPUTS_2025 = {
    1: outputs.Elu,
    2: outputs.Exponential,
    3: functools.partial(outputs.Softplus, learned=True),
    4: outputs.Sigmoid,
}


def core_settings(config: dict) -> dict:
    """The settings of our core for those of a file, without what it leaves out in training."""
    modes = config["modes"]
    of_2023 = "parallel_attention" in modes
    space, time = (CODES_2023 if of_2023 else CODES_2025)[modes["position_encoding"]]
    if "convolution" in (space, time) and modes["parallel_attention"]:
        space = time = "none"  # which the published parallel block ignores
    common = dict(
        features=config["embedding"],
        heads=config["heads"],
        head_width=config["head_width"],
        hidden=config["feed_forward_width"],
        activation=modes["feed_forward_activation"],
        normalize_queries=modes["normalise_query_key"],
        spatial_blocks=config["spatial_blocks"],
        temporal_blocks=config["temporal_blocks"],
        patch=config["spatial_patch"],
        stride=config["spatial_stride"],
        patch_frames=config["temporal_patch"],
        patch_norm=modes["patch_mode"] < 2,
        space_code=space,
        time_code=time,
        max_frames=config["maximum_frames"],
        patch_dropout=0.0,
        attention_dropout=0.0,
        hidden_dropout=0.0,
        drop_path=0.0,
    )
    assert config["temporal_stride"] == 1
    if of_2023:
        return common | dict(
            blocks="parallel" if modes["parallel_attention"] else "sequential",
            behavior="network" if BEHAVIORS[modes["behaviour_mode"]][1] else "planes",
        )
    return common | dict(
        norm={"layernorm": "layer", "rmsnorm": "rms"}[modes["norm"]],
        registers=modes["register_tokens"],
        padded=bool(modes["pad_frame"]),
        causal=modes["causal_attention"],
        final=modes["core_activation"],
    )


@functools.cache
def case(path: Path) -> "Case":
    return Case(Golden(path))


class Case:
    """A model with its published weights, and the programs that the tests of a file share."""

    def __init__(self, golden: Golden, **changed):
        self.golden, self.config = golden, golden.config
        self.mice = list(self.config["mice"])
        self.model = unfilled(lambda: self._made(changed))
        self.left = entries.load(names.encoder(self.model), golden.part("param"))
        self.graph, self.weights = separate(self.model)
        self.evaluate = jax.jit(self.predict, compiler_options=QUICKLY)
        self.backward = jax.jit(self._backward, compiler_options=QUICKLY)

    def _made(self, changed) -> Encoder:
        config, modes, rngs = self.config, self.config["modes"], nnx.Rngs(0)
        cores = viv1t2023 if "parallel_attention" in modes else viv1t
        self.columns, _ = BEHAVIORS[modes["behaviour_mode"]]
        settings = core_settings(config) | changed
        size = tuple(config["video_height_width"])
        core = cores.Core(1 + self.columns, **settings, frame_size=size, rngs=rngs)
        if modes["readout"] == "attention":
            shared = attention.KeysAndValues(
                core.num_features, embedding=config["readout_embedding"], rngs=rngs
            )
            new = functools.partial(attention.Readout, shared.num_features)
        else:
            shared = None
            new = functools.partial(
                gaussian2d.Readout,
                core.num_features,
                cortex_dimensions={1: 2, 2: 3}[modes["readout_grid_mode"]],
                reads_state=cores is viv1t2023,
            )
        known = OUTPUTS_2023 if cores is viv1t2023 else OUTPUTS_2025
        readouts, shifters, output = {}, {}, {}
        for mouse in self.mice:
            position = self.golden[f"input/neuron_coordinates_{mouse}"]
            readouts[mouse] = new(position, rngs=rngs)
            output[mouse] = known[modes["output_mode"]]()
            if modes["shifter_mode"]:
                shifters[mouse] = MLPShifter(reads_state=modes["shifter_mode"] == 2, rngs=rngs)
        return Encoder(core, readouts, shifters, output=output, shared=shared)

    def inputs(self, suffix: str = "") -> tuple[jax.Array, jax.Array, jax.Array]:
        """Video, behaviour and pupil centre, all with the channel or column last."""
        keys = ("video", "behaviour", "pupil_centre")
        arrays = (self.golden[f"input/{key}{suffix}"] for key in keys)
        return tuple(jnp.asarray(np.moveaxis(array, 1, -1)) for array in arrays)

    def batch(self, video, behavior, pupil_center) -> Batch:
        """What `build.prepare` makes of a clip: behaviour as planes beside the picture."""
        planes = jnp.concatenate([behavior, pupil_center], axis=-1)[..., : self.columns]
        planes = planes[:, :, None, None]
        planes = jnp.broadcast_to(planes, (*video.shape[:-1], planes.shape[-1]))
        shape = video.shape[:2]
        return Batch(
            video=jnp.concatenate([video, planes], axis=-1),
            responses=(),
            behavior=behavior,
            pupil_center=pupil_center,
            valid=jnp.ones(shape, bool),
            start=jnp.zeros(shape[0], jnp.int32),
        )

    def predict(self, weights, *inputs):
        """Tokens, features and the responses of every mouse, all of which see one clip."""
        model, batch = assemble(self.graph, weights), self.batch(*inputs)
        picture = batch.video[..., : model.core.tokenizer.kernel.shape[3]]
        tokens = model.core.places(model.core.tokenizer(picture))
        features = model.core(batch.video, train=False)
        return tokens, features, self._read(model, features, batch)

    def _read(self, model, features, batch, noise=None):
        """Responses of all mice to the same features."""
        lost = model.core.lost_frames
        known = batch.replace(video=jnp.pad(features, [(0, 0), (lost, 0), *[(0, 0)] * 3]))
        return model(dict.fromkeys(self.mice, known), noise=noise, given_features=True)

    def readouts_backward(self, features, noise):
        """Predictions and gradients of weights, where readouts draw their points."""
        batch = self.batch(*self.inputs())

        def loss(params):
            model = assemble(self.graph, self.weights.replace(params=params))
            predicted = self._read(model, features, batch, noise)
            return self.weighted(predicted), predicted

        run = jax.jit(jax.value_and_grad(loss, has_aux=True), compiler_options=QUICKLY)
        (_, predicted), gradient = run(self.weights.params)
        return predicted, gradient

    def weighted(self, predicted) -> jax.Array:
        """The sum that the file's gradients are of."""
        return sum(
            jnp.sum(predicted[mouse] * self.golden[f"input/loss_weights_{mouse}"].swapaxes(1, 2))
            for mouse in self.mice
        )

    def _backward(self, weights, *inputs):
        """Predictions, and the gradients of weights and of inputs."""

        def loss(params, *inputs):
            *_, predicted = self.predict(weights.replace(params=params), *inputs)
            return self.weighted(predicted), predicted

        (_, predicted), gradients = jax.value_and_grad(
            loss, argnums=tuple(range(1 + len(inputs))), has_aux=True
        )(weights.params, *inputs)
        return predicted, gradients

    def exported(self, weights) -> dict[str, np.ndarray]:
        return entries.export(names.encoder(assemble(self.graph, weights)))
