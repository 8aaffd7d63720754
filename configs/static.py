"""Mouse visual cortex looking at images: the baselines of Sensorium 2022.

    python -m sensojax.main --config configs/static.py --workdir runs/static

An image is a video of one frame, so every setting is that of configs/dynamic.py. Presets, after a
colon:

simulated (default)  the convolutional model of two simulated mice.
ln                   the linear-nonlinear model of the same mice.
sensorium            track SENSORIUM (images alone) and its convolutional model, on the recorded
                     mouse of that track; --config.data.folder=STORES. The published model reaches
                     a single-trial correlation of 0.27 on the live test (tier test).
sensorium_ln         the same with the linear-nonlinear model (published: 0.20).
plus, plus_ln        track SENSORIUM+: behaviour as channels, and a shifter.
generalization       one core for the images of all seven mice.
tiny                 seconds; for tests.
"""

from ml_collections import ConfigDict

from configs import dynamic
from sensojax.errors import check_name
from sensojax.recordings import published

PRESETS = (
    *("simulated", "ln", "sensorium", "sensorium_ln", "plus", "plus_ln"),
    *("generalization", "tiny"),
)
SENSORIUM, PLUS = "26872-17-20", "27204-5-13"


def get_config(preset: str = "simulated") -> ConfigDict:
    check_name(preset, PRESETS, "preset")
    config = dynamic.get_config("simulated" if preset in ("simulated", "ln", "tiny") else "kit")
    _published(config, linear=preset in ("ln", "sensorium_ln", "plus_ln"))
    if preset in ("sensorium", "sensorium_ln"):
        config.data.mice = _names(SENSORIUM)
    elif preset in ("plus", "plus_ln"):
        config.data.mice = _names(PLUS)
        config.inputs.behavior = True
        config.shifter.name = "mlp"
    elif preset == "generalization":
        config.data.mice = _names()
    else:
        _simulated(config)
    if preset == "tiny":
        _tiny(config)
    return config


def _names(*keys: str) -> tuple[str, ...]:
    """The full names of published sessions, or of all seven."""
    return tuple(session.name for session in published.choose(keys, "2022"))


def _published(config: ConfigDict, *, linear: bool) -> None:
    """The models and the training of the kit of 2022."""
    config.seed = 42
    config.data.window_frames = 1
    config.data.window_rule = "uniform"
    config.data.batch_size = 128
    config.inputs.behavior = False
    config.inputs.pool = 4
    config.inputs.pool_rule = "bilinear"
    layers = 3 if linear else 4
    config.core = dict(
        name="stacked2d",
        channels=(64,) * layers,
        kernels=(9, 7, 7, 7)[:layers],
        paddings=("valid", "same", "same", "same")[:layers],
        separable=True,
        conv_bias=(False,) * layers,
        linear=linear,
        spatial_smoothness=6.3831,
        group_sparsity=0.0,
        weight_of_new=0.9,
    )
    config.readout.update(init_mu_range=0.3, init_sigma=0.1, bias_start="zero", feature_l1=0.0076)
    config.shifter.name = ""
    config.loss.epsilon = 1e-12
    config.optimizer.name = "adam"
    del config.optimizer["weight_decay"], config.optimizer["core_weight_decay"]
    if config.schedule.name == "plateau":
        config.schedule.initial_rate = 0.009
    config.evaluation.update(
        validation="validation",
        tiers=("validation", "test"),
        measures=("correlation_to_average", "feve"),
        skip_frames=0,
        batch_size=128,
    )


def _simulated(config: ConfigDict) -> None:
    """Two mice in minutes, with behaviour and pupils that move, as in track SENSORIUM+."""
    config.seed = 0
    config.data.folder = "data/simulated_static"
    config.data.batch_size = 64
    config.simulation = dict(
        kind="static",
        mice=2,
        neurons=300,
        types=8,
        trials=3000,
        train_share=0.8,
        height=36,
        width=64,
        seed=0,
        noise=1.0,
    )
    config.inputs.behavior = True
    config.inputs.pool = 1
    config.shifter.name = "mlp"
    layers = len(config.core.channels)
    config.core.channels = (32,) * layers
    config.core.weight_of_new = 0.1
    config.readout.init_sigma = 0.3
    config.readout.bias_start = "matched"
    config.readout.feature_l1 = 0.0
    config.schedule.steps = 300


def _tiny(config: ConfigDict) -> None:
    config.data.folder = "data/tiny_static"
    config.data.batch_size = 8
    config.simulation.update(neurons=12, types=0, trials=60, height=16, width=20)
    config.core.update(channels=(4, 4), kernels=(5, 3), paddings=("valid", "same"))
    config.core.conv_bias = (False, False)
    config.schedule.update(steps=12, warmup_steps=2)
    config.train.update(evaluate_every=6, log_every=3, checkpoint_every=3)
