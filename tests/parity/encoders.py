"""Whole encoders as golden files describe them, with their batches and the published objective."""

import functools
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from sensojax import losses
from sensojax.interop import sensorium
from sensojax.models import behavior, composed, outputs
from sensojax.models.encoder import Encoder, assemble, separate
from sensojax.models.readouts import gaussian2d
from sensojax.models.recurrent import conv_gru
from sensojax.types import Batch
from tests.goldens import Golden, assert_close
from tests.parity.comparing import NOT_OURS, OUTPUT, channels_last
from tests.parity.cores2d import rotation_equivariant2d_from, stacked2d_from
from tests.parity.cores3d import factorized3d_from, full3d_from

CORES = {
    "3D_factorised": factorized3d_from,
    "3D": full3d_from,
    "2D": stacked2d_from,
    "2D_equivariant": rotation_equivariant2d_from,
}


def core_from(config: dict) -> nnx.Module:
    """The core that was really built, with the recurrence behind it if there is one."""
    settings = config["settings"]
    core = CORES[settings["core_type"]](config["core_resolved"], settings["core"])
    if settings["recurrent"] is None:
        return core
    gates = {part["name"]: part for part in config["recurrent_convolutions"]}
    seen, before = gates["out_gate_input"], gates["out_gate_hidden"]
    recurrence = conv_gru.Recurrence(
        core.num_features,
        channels=seen["channels_out"],
        input_kernel=seen["kernel"][0],
        recurrent_kernel=before["kernel"][0],
        groups=seen["groups"],
        padding=seen["padding"] != [0, 0],
        rngs=nnx.Rngs(0),
    )
    return composed.Core(core, recurrence)


@functools.cache
def case(path: Path) -> "Case":
    """The case of a file; the tests of a file share its programs."""
    golden = Golden(path)
    return {"09_video_encoder": Case, "10_image_encoder": ImageCase}[golden.config["case"]](golden)


class Case:
    """A golden encoder: the model with its first weights, its batches and its objective."""

    def __init__(self, golden: Golden):
        self.golden = golden
        self.config = golden.config
        # Made of shapes, since every array comes from the file.
        self.graph, shapes = separate(jax.eval_shape(self._made))
        zeros = jax.tree.map(lambda x: jnp.asarray(np.zeros(x.shape, x.dtype)), shapes)
        self.model = assemble(self.graph, zeros)
        left = sensorium.load(sensorium.encoder(self.model), golden.part("param"))
        assert all(name.endswith(NOT_OURS) for name in left), left
        self.weights = separate(self.model)[1]
        self.predict = jax.jit(
            lambda weights, batches, noise: assemble(self.graph, weights)(batches, noise=noise)
        )
        self.update = jax.jit(self._update)

    def _made(self) -> Encoder:
        config = self.config
        settings = config["settings"]
        core = core_from(config)
        network = settings["readout"]["grid_mean_predictor"]
        of_network = ("hidden_features", "hidden_layers", "final_tanh") if network else ()
        readouts, shifters = {}, {}
        for mouse in config["mice_order"]:
            readouts[mouse] = gaussian2d.Readout(
                core.num_features,
                self.golden[f"input/cell_coordinates/{mouse}"],
                gaussian=settings["readout"]["gauss_type"],
                positions="cortex" if network else "learned",
                bias=settings["readout"]["bias"],
                feature_l1=config["feature_weight"],
                rngs=nnx.Rngs(0),
                **{name: network[name] for name in of_network},
            )
            if settings["shifter"]:
                shifters[mouse] = behavior.MLPShifter(
                    num_layers=settings["shifter"]["shift_layers"],
                    hidden=settings["shifter"]["hidden_channels_shifter"],
                    rngs=nnx.Rngs(0),
                )
        elu = outputs.Elu(offset=settings.get("elu_offset", 0.0))
        output = dict.fromkeys(readouts, elu)
        return Encoder(core, readouts, shifters, batch_norm="per_mouse", output=output)

    def batches(self, step: int) -> dict[str, Batch]:
        found = {}
        for mouse in self.config["mice_order"]:
            part = self.golden.part(f"input/step{step}/{mouse}")
            video, swap = channels_last(part["videos"]), lambda x: jnp.asarray(x.swapaxes(1, 2))
            found[mouse] = Batch(
                video=video,
                responses=swap(part["responses"]),
                behavior=swap(part["behavior"]),
                pupil_center=swap(part["pupil_center"]),
                valid=jnp.ones(video.shape[:2], bool),
                start=jnp.zeros(len(video), jnp.int32),
            )
        return found

    def noise(self) -> dict[str, jax.Array]:
        """What displaced the readouts' points in the published sampled outputs."""
        found = {}
        for mouse, batch in self.batches(0).items():
            drawn = self.golden[f"input/noise/{mouse}"]
            shape = (len(batch.video), -1, self.model.readouts[mouse].num_neurons, 2)
            found[mouse] = jnp.asarray(drawn).reshape(shape)
        return found

    def no_noise(self) -> dict[str, jax.Array]:
        """The same of zeros, for one program that predicts both ways."""
        return jax.tree.map(jnp.zeros_like, self.noise())

    def objective(self, model, batches, train):
        """The kit's objective of every mouse: scaled Poisson sum plus its regularisers."""
        predicted = model(batches, train=train)
        core = sum(model.core.regularizers().values())
        parts = {}
        for mouse, batch in batches.items():
            frames = predicted[mouse].shape[1]
            observed, valid = batch.responses[:, -frames:], batch.valid[:, -frames:]
            files = self.config["mice"][mouse]["number_of_files_M"]
            scale = math.sqrt(files / len(batch.video))
            poisson = losses.poisson(
                predicted[mouse],
                observed,
                valid,
                epsilon=self.config["poisson_epsilon"],
                reduction="sum",
            )
            parts[mouse] = scale * poisson + core + model.readouts[mouse].regularizer()
        return sum(parts.values()), (predicted, parts, separate(model)[1])

    def optimizer(self) -> optax.GradientTransformation:
        settings = self.config["optimizer"]
        return optax.adamw(
            settings["learning_rate"],
            settings["beta1"],
            settings["beta2"],
            settings["epsilon"],
            weight_decay=settings["weight_decay"],
        )

    def _update(self, weights, state, batches, trained):
        """One step -> weights, optimizer state, and what was found: predicted, parts, gradient.

        trained: 1 for parameters that change and 0 for the others.
        """

        def loss(params):
            return self.objective(
                assemble(self.graph, weights.replace(params=params)), batches, True
            )

        gradient, (predicted, parts, after) = jax.grad(loss, has_aux=True)(weights.params)
        changes, state = self.optimizer().update(gradient, state, weights.params)
        changes = jax.tree.map(jnp.multiply, changes, trained)
        weights = after.replace(params=optax.apply_updates(weights.params, changes))
        return weights, state, (predicted, parts, gradient)

    def trained(self, frozen: list[str]) -> dict:
        """1 for every parameter but those of these published names."""
        ones = jax.tree.map(jnp.ones_like, self.weights.params)
        model = assemble(self.graph, self.weights.replace(params=ones))
        entries = {entry.name: entry for entry in sensorium.encoder(model)}
        assert set(frozen) <= set(entries)
        sensorium.load(
            (entries[name] for name in frozen),
            {name: np.zeros(entries[name].shape, np.float32) for name in frozen},
        )
        return separate(model)[1].params

    def after_training(self) -> float:
        """Allowed of what has been trained: ten times what float32 itself does to the published
        code in the worst case, since Adam makes full steps of the smallest gradients, right or
        wrong in sign: which ones is a matter of chance (weight decay alone would make 3e-4)."""
        prefix = "frozen_" if self.config["frozen_biases"] else ""
        names = tuple(f"output/{prefix}{what}/" for what in ("param_final", "eval_after"))
        observed = json.loads(str(self.golden["observed_float32_vs_float64"]))
        seen = [each for name, each in observed.items() if name.startswith(names)]
        worst = max(each["max_abs_diff"] / each["max_abs"] for each in seen)
        return max(5e-5, 10 * worst)

    def assert_equal_per_mouse(self, name, values, tolerance=OUTPUT):
        for mouse in self.config["mice_order"]:
            expected = self.golden[f"output64/{name}/{mouse}"]
            assert_close(self.published(values[mouse]), expected, tolerance, f"{name}/{mouse}")

    def published(self, found: jax.Array) -> jax.Array:
        """A result with the axes that it has in the file."""
        return found


def words_of_videos(config: dict) -> dict:
    """The config of a model of images with its settings said as those of videos."""
    flat = config["settings"]
    shifter = {name: flat[name] for name in ("shift_layers", "hidden_channels_shifter")}
    settings = dict(
        core_type="2D",
        core={"gamma_hidden": 0.0} | flat,
        recurrent=None,
        readout=dict(
            gauss_type=flat["gauss_type"],
            grid_mean_predictor=flat["grid_mean_predictor"],
            bias=flat["readout_bias"],
        ),
        shifter=shifter if flat["shifter"] else None,
        elu_offset=flat["elu_offset"],
    )
    return {"frozen_biases": [], **config, "settings": settings}


class ImageCase(Case):
    """A golden encoder of images: videos of one frame, its settings said as those of videos."""

    def __init__(self, golden: Golden):
        golden.config = words_of_videos(golden.config)
        super().__init__(golden)

    def batches(self, step: int) -> dict[str, Batch]:
        found = {}
        for mouse in self.config["mice_order"]:
            part = self.golden.part(f"input/step{step}/{mouse}")
            video = channels_last(part["images"])[:, None]
            nothing = np.zeros((len(video), 2), np.float32)  # behaviour is in the channels
            pupil_center = part.get("pupil_center", nothing)
            found[mouse] = Batch(
                video=video,
                responses=jnp.asarray(part["responses"][:, None]),
                behavior=jnp.asarray(nothing[:, None]),
                pupil_center=jnp.asarray(pupil_center[:, None]),
                valid=jnp.ones(video.shape[:2], bool),
                start=jnp.zeros(len(video), jnp.int32),
            )
        return found

    def published(self, found: jax.Array) -> jax.Array:
        """Without the axis of time that images have here."""
        return found[:, 0] if found.ndim == 3 else found
