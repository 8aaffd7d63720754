"""Mouse visual cortex watching natural video: the factorised 3-D baseline of Sensorium 2023.

    python -m sensojax.main --config configs/dynamic.py --workdir runs/dynamic

Presets, after a colon:

simulated (default)  two simulated mice and a small core; 2 to 3 minutes on 2 CPU cores, ending near
                     0.8 of the exact ceiling on tier oracle.
sensorium            the published baseline on recorded mice:
                     --config configs/dynamic.py:sensorium --config.data.folder=STORES
                     (stores: python scripts/convert.py RECORDINGS --out STORES). The published code
                     reaches a single-trial correlation of 0.197 on tier oracle of the five newer
                     mice (normalization official, frames from 50 on, one seed).
kit                  `sensorium` with the mechanics of the published training code as well: one
                     mouse at a time in batch norm, its window rule and its short last batches.
tiny                 seconds; for tests.

Every setting that exists is on this page; any of them can be given as --config.section.name=value.
"""

from ml_collections import ConfigDict

from sensojax.errors import check_name

PRESETS = ("simulated", "sensorium", "kit", "tiny")


def get_config(preset: str = "simulated") -> ConfigDict:
    check_name(preset, PRESETS, "preset")
    config = ConfigDict()
    config.seed = 0

    config.data = dict(
        recordings="sensorium2023",  # or "simulated": made when they are not there
        folder="data/stores",
        mice=(),  # () is every store in the folder
        tiers=("train",),  # what is trained on; more than "train" is protocol "competition"
        train_share=1.0,  # how much of that; the statistics stay those of all trials
        max_neurons=0,  # of each mouse, for everything; 0 is all
        subset_seed=0,  # which trials and neurons; smaller choices lie within larger ones
        folds=0,  # cross-validation: so many folds of data.tiers, all but data.fold are trained on
        fold=-1,  # this one becomes tier "held_out", for evaluation.validation and .tiers
        fold_rule="identity",  # no film in two folds; or "hash", as the winning code does it
        normalization="official",  # or "per_neuron"; "none": all, "counts": responses as recorded;
        # or "min_max", and "viv1t2023" for released weights: see pipeline/transforms.py
        window_frames=80,
        window_rule="uniform",  # or "published", which never draws a clip's last frame
        batch_size=8,  # clips of each mouse in a step
        remainder="wrap",  # or "short": the last batch of an epoch is smaller, as published
        read_threads=4,
        prefetch_steps=2,
    )
    config.simulation = dict()
    config.inputs = dict(
        behavior=True,
        behavior_columns=(),  # () is all; (0,) is the pupil's dilation, (1,) running speed
        behavior_scale=1.0,
        pupil=False,
        rows=(),  # () is all; (16, 80) are rows 16 to 79, a film's picture between black bars
        pool=1,  # one pixel for a square of so many
        pool_rule="mean",  # or "bilinear", as images are published: the middle of the square
        canvas=(0, 0),  # frames in the middle of one of this height and width, around them 0
        frame_step=1,  # a model sees every so many frames, the last of a window among them
        clip_responses=False,  # in training, negative responses are 0
    )
    config.core = dict(
        name="factorized3d",
        channels=(32, 64, 128),
        spatial_kernels=(11, 5, 5),
        temporal_kernels=(11, 5, 5),
        strides=(1, 1, 1),
        spatial_smoothness=10.0,
        temporal_smoothness=0.01,
        weight_of_new=0.7,
    )
    config.recurrent = dict(name="")  # none, or "conv_gru" over the core's features
    config.readout = dict(
        name="gaussian2d",
        gaussian="full",
        positions="cortex",
        hidden_features=30,
        init_sigma=1.0,
        bias_start="mean",
        feature_l1=0.0,
    )
    config.shifter = dict(name="mlp", num_layers=3, hidden=5)
    config.gain = dict(name="")  # or "state": the animal's state multiplies responses
    config.output = dict(name="elu", offset=0.0)  # or "softplus", "exponential", "sigmoid"
    config.encoder = dict(
        batch_norm="joint",  # or "per_mouse", as published
        channel_dropout=0.0,  # of features of the core, each in all frames of a clip
    )
    config.transfer = dict(
        run="",  # a run folder whose core this run takes over, with its inputs; see transfer.py
        weights="best",
        core="frozen",  # or "fine_tuned"
        core_rate=1.0,  # of a fine-tuned core: its learning rate over that of the rest
        features="",  # folder for the features of a frozen core, computed once; "" is no such
    )
    config.distillation = dict(
        run="",  # a run folder, whose model answers for the mice that did not see a clip
        weights="best",  # or "newest", as published
        ratio=0.36,  # its part of the weight of all losses
    )
    config.cutmix = dict(
        probability=0.0,  # of a clip to show a box of another of the same mouse; published: 0.5
        alpha=1.0,  # of the Beta distribution of the box's size
        axes="image",  # or "published": the box's rows by the frame's width, for square frames
    )
    config.loss = dict(
        name="poisson",  # or "poisson_correlation"; losses.py has more
        weighting="files",  # of mice; or "trials", "balanced", "equal": losses.WEIGHTINGS
        epsilon=1e-8,
    )
    config.optimizer = dict(
        name="adamw",  # or "adam", "schedule_free"
        weight_decay=0.01,
        core_rate=1.0,  # of the core: its learning rate over that of the rest
        core_weight_decay=-1.0,  # of the core; -1 is that of the rest
        clip_norm=0.0,  # largest norm of a gradient, 0 is none;
        clip_percentile=0.0,  # or this percentile of the norms so far, 0 is none; published: 10
        clip_history=10_000,  # of so many
    )
    config.schedule = dict(
        name="plateau",
        initial_rate=0.005,
        patience=5,
        factor=0.3,
        minimal_rate=1e-4,
        phases=4,
        epoch_limit=200,
    )
    config.train = dict(
        evaluate_every=0,  # steps; 0 is once per epoch
        log_every=10,
        checkpoint_every=200,
        average=0.0,  # decay of a moving average of the weights, which is scored; published: 0.999
        compute="float32",  # or "bfloat16": the core, in training
        recompute=False,  # layers again in the backward pass: less memory, see recomputing.py
        mice_at_once=0,  # through the model, 0 is all; fewer need less memory, and batch norm that
        # is joint sees only these together
    )
    config.evaluation = dict(
        validation="oracle",
        criterion="correlation",  # or "poisson_loss": by what training keeps weights and stops
        tiers=("oracle",),  # "one+other" scores the trials of both together
        measures=(),  # in the report, beside single-trial correlation; ("all",) is every one
        skip_frames=50,  # at the start of each trial, not scored
        most_frames=0,  # a longer trial is cut to its first so many; 0 is none
        drop_last=0,  # at the end of what is left, not scored; the field's are in windows.py
        nan_rule="zero",
        batch_size=2,  # whole trials of each mouse in a step
        window_frames=0,  # 0: trials as they are; else in windows of so many frames, of which one
        window_step=1,  # begins every so many frames; a frame's prediction is a mean over windows:
        blending="uniform",  # or "linear", where it lies later counts more; "none": only the latest
        windows_at_once=8,  # of each trial, through the model together; on a CPU 1 is fastest
    )

    if preset == "kit":
        config.data.window_rule = "published"
        config.data.remainder = "short"
        config.encoder.batch_norm = "per_mouse"
    elif preset == "simulated":
        _simulated(config)
    elif preset == "tiny":
        _simulated(config)
        _tiny(config)
    return config


def _simulated(config: ConfigDict) -> None:
    config.data.recordings = "simulated"
    config.data.folder = "data/simulated"
    config.data.normalization = "per_neuron"
    config.data.batch_size = 2
    config.simulation = dict(
        mice=2,
        neurons=300,
        types=8,
        trials=100,
        train_share=0.6,
        frames=300,
        seed=0,
        noise=1.0,
        normalization=2.0,  # without it, models of movies do as well out of their domain
    )
    # A CPU has minutes, not days: half the pixels, a small core, and a start that wastes no steps.
    config.inputs.pool = 2
    config.inputs.behavior_scale = 0.03
    config.core.channels = (16, 32)
    config.core.spatial_kernels = (7, 3)
    config.core.temporal_kernels = (11, 9)
    config.core.strides = (1, 1)
    config.core.weight_of_new = 0.1
    config.readout.init_sigma = 0.3
    config.readout.bias_start = "matched"
    config.schedule = dict(
        name="cosine", peak_rate=0.005, warmup_steps=20, steps=500, final_rate=1e-4
    )
    config.evaluation.tiers = (
        "oracle",
        "live_test_main+final_test_main",
        "live_test_bonus+final_test_bonus",
    )
    config.train.evaluate_every = 100
    config.train.log_every = 20
    config.train.checkpoint_every = 50


def _tiny(config: ConfigDict) -> None:
    config.data.folder = "data/tiny"
    config.data.window_frames = 24
    config.inputs.pool = 1
    config.simulation = dict(
        mice=2, neurons=12, types=0, trials=24, frames=60, height=16, width=20, seed=0, noise=1.0
    )
    config.evaluation.tiers = ("oracle",)
    config.core.channels = (4, 4)
    config.core.spatial_kernels = (5, 3)
    config.core.temporal_kernels = (5, 3)
    config.core.strides = (2, 1)
    config.schedule.steps = 12
    config.schedule.warmup_steps = 2
    config.train.update(evaluate_every=6, log_every=3, checkpoint_every=3)
    config.evaluation.skip_frames = 10
