"""DwiseNeuro, the winner of Sensorium 2023: blocks of depthwise convolutions, a cortex, softplus.

    python -m sensojax.main --config configs/dynamic_dwiseneuro.py --workdir runs/dwiseneuro

Presets, after a colon; every setting is explained in configs/dynamic.py:

simulated (default)  two simulated mice and a small core; two to three minutes on 2 CPU cores,
                     ending near 0.2 of the exact ceiling on tier oracle: where neurons look must be
                     learned from many more clips than these.
sensorium            the published model of ten recorded mice: 16 of 31 frames, as recorded, in the
                     middle of 64 x 64 pixels; trained on one fold of seven, long trials predicted
                     in windows; --config.data.folder=STORES, --config.data.fold=0 to 6.
distilled            the same with narrower blocks, as its students have it.
tiny                 seconds; for tests.
"""

from ml_collections import ConfigDict

from configs import dynamic
from sensojax.errors import check_name

PRESETS = ("simulated", "sensorium", "distilled", "tiny")


def get_config(preset: str = "simulated") -> ConfigDict:
    check_name(preset, PRESETS, "preset")
    config = dynamic.get_config("sensorium" if preset == "distilled" else preset)
    config.data.window_frames = 31
    config.inputs.update(pupil=True, frame_step=2, clip_responses=True)
    config.core = dict(
        name="dwiseneuro",
        features=(64, 64, 64, 64, 128, 128, 128, 256, 256),
        strides=(2, 1, 1, 1, 2, 1, 1, 2, 1),
        expansion=6 if preset == "distilled" else 7,
        spatial_kernel=3,
        temporal_kernel=5,
        squeeze=32,
        cortex=(1024, 2048, 4096),
        groups=2,
        drop_path=0.1,
        cortex_drop_path=0.1,
        weight_of_new=0.1,
    )
    config.readout = dict(name="grouped", groups=2, dropout=0.4, bias_start="zero")
    config.shifter.name = ""  # neurons look at no point that the pupil could shift
    config.output = dict(name="softplus", beta=0.07, learned=False)
    config.optimizer.weight_decay = 0.05
    config.evaluation.window_frames = config.data.window_frames
    if preset in ("simulated", "tiny"):
        _simulated(config)
    else:
        _published(config)
    if preset == "tiny":
        config.core.update(features=(4, 6), strides=(2, 1), expansion=2, squeeze=4, cortex=(8,))
        config.data.window_frames = config.evaluation.window_frames = 15
        config.evaluation.window_step = 7
        config.schedule.update(steps=12, warmup_steps=2)
    return config


def _published(config: ConfigDict) -> None:
    config.data.update(
        tiers=("train", "oracle"),
        folds=7,
        fold=0,
        fold_rule="hash",
        normalization="none",
        batch_size=3,  # of each of ten mice; published are 32 of mice at random
    )
    config.inputs.canvas = (64, 64)
    config.schedule = dict(
        name="cosine",
        peak_rate=0.0024,
        warmup_steps=6750,
        steps=47_250,
        final_rate=2.4e-5,
        from_zero=True,
    )
    config.cutmix.probability = 0.5
    config.loss.weighting = "equal"
    config.train.update(evaluate_every=2250, average=0.999)
    config.evaluation.update(
        validation="held_out", tiers=("held_out",), most_frames=300, drop_last=1, batch_size=1
    )


def _simulated(config: ConfigDict) -> None:
    config.core.update(
        features=(16, 16, 32),
        strides=(1, 2, 2),
        expansion=3,
        squeeze=8,
        cortex=(128, 256),
        drop_path=0.0,
        cortex_drop_path=0.0,
    )
    config.readout.update(dropout=0.2, bias_start="matched")
    config.output.beta = 1.0  # of responses whose spread is 1, not 16
    config.data.batch_size = 4
    config.evaluation.window_step = 8
    config.schedule.update(steps=400)
