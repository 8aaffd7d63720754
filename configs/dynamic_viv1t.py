"""ViV1T, a transformer over space and time: that of 2023, third in Sensorium, and that of 2025.

    python -m sensojax.main --config configs/dynamic_viv1t.py --workdir runs/viv1t

Presets, after a colon; every setting is explained in configs/dynamic.py:

simulated (default)  two simulated mice and a small causal core; three minutes on 2 CPU cores.
sensorium2025        the published causal model of ten recorded mice: one token per frame, rotary
                     codes, schedule-free AdamW; --config.data.folder=STORES.
sensorium2023        the published competition model: sliding patches, learned codes, behaviour also
                     as a state of the readout; trained on Poisson loss and correlation.
tiny                 seconds; for tests.

readout=dict(name="attention", embedding=128, bias_start="mean") is the other published readout of
2025; it takes no shifter. Its authors compare it with a transformer of single frames,
core=dict(name="v1t"), behind it readout=dict(name="grouped", groups=1, dropout=0.0), and with
core=dict(name="linear"), behind it readout=dict(name="dense", pool=0, bias_start="mean").
"""

from ml_collections import ConfigDict

from configs import dynamic
from sensojax.errors import check_name

PRESETS = ("simulated", "sensorium2025", "sensorium2023", "tiny")


def get_config(preset: str = "simulated") -> ConfigDict:
    check_name(preset, PRESETS, "preset")
    config = dynamic.get_config("sensorium" if preset.startswith("sensorium") else preset)
    config.inputs.pupil = True
    config.shifter.reads_state = False  # or the behaviour shifts neurons' points as well
    config.readout.update(cortex_dimensions=2, reads_state=False)
    if preset == "sensorium2023":
        _of_2023(config)
    else:
        _of_2025(config)
    if preset in ("simulated", "tiny"):
        _simulated(config)
    if preset == "tiny":
        config.core.update(features=8, heads=2, head_width=4, hidden=8, registers=2)
        config.core.update(spatial_blocks=1, temporal_blocks=1, patch_frames=3, max_frames=60)
        config.schedule.update(steps=12, warmup_steps=2)
    return config


def _of_2025(config: ConfigDict) -> None:
    config.data.update(normalization="per_neuron", window_frames=300, batch_size=1)
    config.core = dict(
        name="viv1t",
        features=112,  # of a token
        heads=2,
        head_width=80,
        hidden=224,
        activation="relu",  # or "gelu", "swiglu"
        norm="layer",  # or "rms", "dyt"
        normalize_queries=False,
        spatial_blocks=14,
        temporal_blocks=14,
        patch=7,  # pixels
        stride=2,
        patch_frames=13,
        padded=True,
        patch_norm=True,
        registers=24,
        space_code="rotary",  # or "learned", "joint", "sines", "grid", "none"
        time_code="rotary",  # or "learned", "sines", "none"
        rotary_gain="published",  # or "inverse", "none": see rotary.py
        max_frames=300,
        causal=True,
        final="none",
        patch_dropout=0.17,
        attention_dropout=0.04,
        hidden_dropout=0.21,
        drop_path=0.43,
        recompute=False,  # less memory, a third more time
    )
    config.loss.update(weighting="balanced", epsilon=1.1920929e-7, shift=1.1920929e-7)
    config.optimizer.update(
        name="schedule_free",
        weight_decay=0.6893,
        core_rate=0.0126 / 0.0073,
        core_weight_decay=0.0783,
        clip_percentile=10.0,
        clip_history=100_000,
    )
    # 400 passes of 359 steps, unless ten of them bring nothing.
    config.schedule = dict(
        name="constant", rate=0.0073, warmup_steps=400, steps=143_600, patience=10
    )
    config.train.compute = "bfloat16"
    config.evaluation.update(most_frames=300, batch_size=1)


def _of_2023(config: ConfigDict) -> None:
    # Published: with all labelled trials of the older mice; that would be protocol "competition".
    # And with data.normalization "viv1t2023", which takes a frame's mean and deviation for the
    # least and the largest of its pixels: a mistake that released weights need, new ones do not.
    config.data.update(window_frames=140, batch_size=6)
    config.core = dict(
        name="viv1t2023",
        blocks="parallel",  # or "sequential"
        features=112,  # of a token
        heads=11,
        head_width=48,
        hidden=136,
        activation="gelu",
        normalize_queries=False,
        score_scale="head",  # or "token", a published slip of sequential blocks
        spatial_blocks=3,
        temporal_blocks=5,
        patch=7,  # pixels
        stride=2,
        patch_frames=25,
        patch_norm=True,
        space_code="learned",  # or "joint", "sines", "convolution", "none"
        time_code="learned",  # or "sines", "convolution", "none"
        max_frames=300,
        behavior="planes",  # or "network" in front of each block, "networks": of each mouse
        patch_dropout=0.1338,
        attention_dropout=0.3580,
        hidden_dropout=0.0592,
        drop_path=0.0505,
        recompute=False,  # less memory, a third more time
    )
    config.readout.reads_state = True
    config.output = dict(name="exponential")
    config.loss = dict(
        name="poisson_correlation", weighting="trials", weight=1000.0, epsilon=1.1920929e-7
    )
    config.optimizer.update(
        weight_decay=0.3939, core_rate=0.0048 / 0.0036, core_weight_decay=0.1789
    )
    config.schedule = dict(
        name="reductions",
        initial_rate=0.0036,
        patience=5,
        factor=0.3,
        cuts=2,
        epoch_limit=400,
        collapse=True,
    )
    config.train.compute = "bfloat16"
    config.evaluation.update(most_frames=300, batch_size=1)


def _simulated(config: ConfigDict) -> None:
    config.data.update(window_frames=60, batch_size=2)
    config.core.update(
        features=32,
        heads=2,
        head_width=16,
        hidden=64,
        spatial_blocks=1,
        temporal_blocks=1,
        patch=5,
        patch_frames=12,
        registers=4,
        patch_dropout=0.0,
        attention_dropout=0.0,
        hidden_dropout=0.0,
        drop_path=0.0,
    )
    config.optimizer.update(
        weight_decay=0.01, core_weight_decay=0.01, core_rate=1.0, clip_history=10_000
    )
    config.schedule = dict(name="constant", rate=0.005, warmup_steps=20, steps=300)
    config.train.compute = "float32"
