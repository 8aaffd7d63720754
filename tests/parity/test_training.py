"""Ways of training against the published ones: averages, rates, clipping, CutMix, criteria.

Goldens of DwiseNeuro and of both generations of ViV1T; the recursions are run on their toy
problems, given their gradients or their random numbers.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sensojax import losses
from sensojax.models.encoder import Weights
from sensojax.pipeline import cutmix
from sensojax.training import averaging, distillation, optimizers, schedules
from sensojax.types import Batch
from tests.goldens import Golden, assert_close, golden_files

DWISENEURO = pytest.mark.parametrize("path", golden_files("dwiseneuro_training"))
VIV1T = pytest.mark.parametrize("path", golden_files("viv1t_training"))
VIV1T_2023 = pytest.mark.parametrize("path", golden_files("viv1t2023_training"))
FLOAT32 = 3e-6  # ten times what float32 itself does to the published code


def after(golden: Golden, prefix: str) -> dict[str, np.ndarray]:
    return {name: x for name, x in golden.part(prefix).items() if "num_batches" not in name}


@DWISENEURO
def test_moving_averages_of_parameters_and_batch_norm_are_the_published_ones(path):
    golden = Golden(path)

    def weights(arrays):
        split = {False: {}, True: {}}
        for name, array in arrays.items():
            split["running" in name][name] = jnp.asarray(array)
        return Weights(split[False], split[True], {})

    average = averaging.begun(weights(after(golden, "param/ema_start")))
    decay, steps = golden.config["ema"]["decay"], len(golden["input/ema_x"])
    for step in range(steps):
        now = weights(after(golden, f"output/model_after_step{step}"))
        average = averaging.moved(average, now, decay)
        for name, expected in after(golden, f"output/ema_after_step{step}").items():
            found = (average["params"] | average["statistics"])[name]
            begun = golden[f"param/ema_start/{name}"]
            np.testing.assert_allclose(found, expected, rtol=2e-7, atol=1e-9, err_msg=name)
            assert np.any(found != begun)


@DWISENEURO
def test_warm_up_from_zero_and_cosine_are_the_published_rates(path):
    golden = Golden(path)
    rates = golden.config["learning_rate"]
    for length in ("short", "full"):
        warmup, cosine = (rates[f"{part}_iterations_{length}"] for part in ("warmup", "cosine"))
        schedule = schedules.Cosine(
            peak_rate=rates["base_per_4_samples"] * rates["batch"] / 4,
            warmup_steps=warmup,
            steps=warmup + cosine,
            final_rate=rates["minimum"],
            from_zero=True,
        )
        expected = golden[f"output64/learning_rate_{length}_run"]
        at = golden["input/full_run_iterations"] if length == "full" else range(len(expected))
        found = [schedule.rate_at(int(step)) for step in at]
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-18)


@DWISENEURO
@pytest.mark.parametrize("axes", cutmix.AXES)
def test_given_the_published_box_clips_and_targets_are_the_published_ones(path, axes):
    golden = Golden(path)
    columns = golden["input/cutmix_height_width_cx_cy_axis0start_axis1start_axis0stop_axis1stop"]
    for case, (height, width, *center, row, column, row_end, column_end) in enumerate(columns):
        if axes == "image" and height != width:
            continue  # where the published limits are those of the other axis
        part = jnp.asarray([golden[f"input/cutmix{case}_lambda"]] * 2)
        centers = jnp.asarray([center] * 2)
        box = cutmix.limits(part, centers, (int(height), int(width)), axes)
        np.testing.assert_array_equal(box[0], [row, row_end, column, column_end])
        mixed = cutmix.mix(pair(golden, case), jnp.array([1, 0]), box, jnp.array([True, False]))
        found = np.moveaxis(np.asarray(mixed.video[0]), -1, 0)
        np.testing.assert_array_equal(found, golden[f"output/cutmix{case}_clip"])
        expected = golden[f"output/cutmix{case}_target"]
        assert_close(np.asarray(mixed.responses[0]).T, expected, 2e-7, "target")
        area = (row_end - row) * (column_end - column) / (height * width)
        assert area == pytest.approx(float(golden[f"output/cutmix{case}_area_fraction"]))


def pair(golden: Golden, case: int) -> Batch:
    """Both clips of a case as one batch, channels last."""
    clips = [golden[f"input/cutmix{case}_clip{i}"] for i in (1, 2)]
    targets = [golden[f"input/cutmix{case}_target{i}"] for i in (1, 2)]
    video = jnp.stack([np.moveaxis(clip, 0, -1) for clip in clips])
    none = jnp.zeros((*video.shape[:2], 2))
    valid = jnp.ones(video.shape[:2], bool)
    responses = jnp.stack([target.T for target in targets])
    return Batch(video, responses, none, none, valid, jnp.zeros(2, jnp.int32))


@DWISENEURO
def test_the_weights_of_distilled_entries_are_the_published_ones(path):
    golden = Golden(path)
    weights, told = golden["input/distil_weights"], golden.config["distillation"]
    each = distillation.unlabelled_weight(weights, told["ratio"])
    found = np.where(weights == 0, each, weights)
    np.testing.assert_allclose(found, golden["output/distil_weights"], rtol=1e-6)
    if "weight_of_each_unlabelled_entry" in told:
        assert each == pytest.approx(told["weight_of_each_unlabelled_entry"])


@DWISENEURO
def test_the_distilled_objective_is_the_published_loss_of_published_targets_and_weights(path):
    """Entries are given to mice as batches; each mouse then has its own clips and the others'."""
    golden = Golden(path)
    weights = golden["input/distil_weights"]
    mice = [f"mouse{i}" for i in range(weights.shape[1])]
    owner, rng = weights.argmax(axis=1), np.random.default_rng(0)
    order = np.argsort(owner, kind="stable")  # the clips of one mouse after those of another
    told = {m: golden[f"output/distil_target_{m}"].swapaxes(1, 2) for m in mice}
    answers = {m: golden[f"input/distil_teacher_{m}"].swapaxes(1, 2)[order] for m in mice}
    predicted = {m: rng.gamma(2, 1, told[m].shape).astype(np.float32) for m in mice}
    batches, parts = {}, {}
    for i, mouse in enumerate(mice):
        own, valid = owner == i, np.ones((int(np.sum(owner == i)), told[mouse].shape[1]), bool)
        batches[mouse] = Batch((), (), (), (), valid, ())
        seen = predicted[mouse][own], told[mouse][own], valid
        parts[mouse] = losses.poisson(*seen, reduction="sum")
    ordered = {m: jnp.asarray(x[order]) for m, x in predicted.items()}
    taught = distillation.losses(losses.poisson, ordered, answers, batches)
    one = dict.fromkeys(mice, lambda clips: 1.0)
    ratio = golden.config["distillation"]["ratio"]
    found = sum(distillation.shared(parts, taught, batches, one, ratio).values())
    published, total = golden["output/distil_weights"], 0.0
    for i, mouse in enumerate(mice):
        p, o = predicted[mouse].astype(np.float64), told[mouse].astype(np.float64)
        each = (p - o * np.log(p + 1e-8)).sum(axis=(1, 2))
        total += float(each @ published[:, i])
    # Published weights are divided by their sum, ours keep that of the labelled entries.
    assert float(found) == pytest.approx(total / published.sum() * weights.sum(), rel=1e-5)


@VIV1T
def test_the_path_of_schedule_free_adamw_is_the_published_one(path):
    golden = Golden(path)
    told = golden.config["schedule_free"]
    rest, core = told["default_group"], told["core_group"]
    assert rest["r"] == 0 and rest["weight_lr_power"] == 2
    recipe = optimizers.schedule_free(
        beta1=rest["betas"][0],
        beta2=rest["betas"][1],
        epsilon=rest["eps"],
        weight_decay=rest["weight_decay"],
        core_rate=core["lr"] / rest["lr"],
        core_weight_decay=core["weight_decay"],
    )
    schedule = schedules.Constant(rest["lr"], rest["warmup_steps"], steps=10**6)
    params = nested(golden.part("param/schedulefree_start"))
    state, update = recipe.init(params), jax.jit(recipe.update)
    for step in range(len(golden["input/schedulefree_x"])):
        gradient = nested(golden.part(f"grad64/schedulefree_step{step}"))
        rate = schedule.learning_rate(step)
        changes, state = update(gradient, state, params, learning_rate=rate)
        params = jax.tree.map(jnp.add, params, changes)
        scored = averaging.scored(Weights(params, {}, {}), None, state).params
        for what, found in (("training", params), ("evaluation", scored), ("z", state.z)):
            key = "z" if what == "z" else f"{what}_point"
            expected = nested(golden.part(f"output64/schedulefree_{key}_step{step}"))
            for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
                assert_close(ours, theirs, FLOAT32, f"{what} point after step {step}")


def nested(arrays: dict[str, np.ndarray]) -> dict:
    """Arrays named part.name as {part: {name: array}}, float32."""
    made = {}
    for name, array in arrays.items():
        part, _, rest = name.partition(".")
        made.setdefault(part, {})[rest] = jnp.asarray(array, jnp.float32)
    return made


@VIV1T
@pytest.mark.parametrize("name", ["adaptive", "fixed", "off"])
def test_gradients_are_clipped_as_published(path, name):
    golden = Golden(path)
    thresholds = golden[f"output/clip_{name}_norm_threshold"]
    percentile = 10 if name == "adaptive" else 0
    fixed = float(thresholds[0, 1]) if name == "fixed" else 0.0
    chain = optimizers._clipping(fixed, percentile, 100)
    names = [key.removeprefix("clip_grad_") for key in golden.part("input") if "clip_grad" in key]
    states = [link.init({}) for link in chain]
    for step in range(len(thresholds)):
        gradient = {each: jnp.asarray(golden[f"input/clip_grad_{each}"][step]) for each in names}
        for i, link in enumerate(chain):
            gradient, states[i] = link.update(gradient, states[i])
        for each in names:
            expected = golden[f"output/clip_{name}_grad_{each}"][step]
            assert_close(gradient[each], expected, FLOAT32, f"{each} of step {step}")


def criterion(golden: Golden, function, weight: float):
    """Value and gradient, [batch neuron time], of a loss times the weight of a mouse."""
    predicted, observed = (
        jnp.asarray(golden[f"input/{what}"].swapaxes(1, 2)) for what in ("prediction", "target")
    )
    valid = jnp.ones(predicted.shape[:2], bool)
    value, gradient = jax.value_and_grad(
        lambda p: weight * function(p, observed, valid, reduction="sum")
    )(predicted)
    return float(value), np.asarray(gradient).swapaxes(1, 2)


EPS = float(np.finfo(np.float32).eps)


def mean_of(function, **settings):
    return lambda *seen, reduction: function(*seen, reduction="mean", **settings)


CRITERIA = {
    "poisson": lambda *seen, **how: losses.poisson(*seen, epsilon=EPS, shift=EPS, **how),
    "poisson_correlation": losses.poisson_correlation,
    # Published is the sum of 1 + r; ours adds its constant to variances, not to deviations.
    "correlation": lambda p, o, *rest, **how: (
        losses.correlation(p, o, *rest, epsilon=EPS**2, **how) - p.shape[2]
    ),
    "mse": mean_of(losses.squared),
    "logMSE": mean_of(losses.squared, logarithms=True, epsilon=EPS),
}
OF_2023 = {
    **CRITERIA,
    "mean_poisson": lambda p, *rest, **how: CRITERIA["poisson"](p, *rest, **how) / len(p),
}
PER_BATCH = ("mse", "mean_poisson")  # of 2023: times the part of a batch that is computed at once
OF_2025 = {
    **CRITERIA,
    "gamma": lambda *seen, **how: losses.exponential(*seen, epsilon=EPS, shift=EPS, **how),
}


@VIV1T
@pytest.mark.parametrize("name", OF_2025)
def test_criteria_and_balanced_weights_are_those_of_the_causal_model(path, name):
    golden = Golden(path)
    trials = golden.config["criteria"]["training_trials"]
    mean = np.mean(list(trials.values()))
    for mouse, own in trials.items():
        weight = losses.WEIGHTINGS["balanced"](own, mean, 1, 1)
        value, gradient = criterion(golden, OF_2025[name], weight)
        assert value == pytest.approx(float(golden[f"output64/criterion_{name}_{mouse}"]), rel=1e-6)
        if (key := f"grad/criterion_{name}_{mouse}") in golden:
            assert_close(gradient, golden[key], 1e-5, key)


@VIV1T_2023
@pytest.mark.parametrize("name", OF_2023)
def test_criteria_and_scales_are_those_of_the_model_of_2023(path, name):
    golden = Golden(path)
    told = golden.config["criteria"]
    part = told["micro_batch"] / told["batch_size"] if name in PER_BATCH else 1.0
    for mouse, own in told["training_trials"].items():
        scale = losses.WEIGHTINGS["trials"](own, 0.0, 1, told["batch_size"])
        for scaled, weight in ((0, 1.0), (1, scale)):
            value, gradient = criterion(golden, OF_2023[name], part * weight)
            expected = golden[f"output64/{name}_scale{scaled}_{mouse}"]
            assert value == pytest.approx(float(expected), rel=1e-6)
            if (key := f"grad/{name}_scale{scaled}_{mouse}") in golden:
                assert_close(gradient, golden[key], 1e-5, key)
