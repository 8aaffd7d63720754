"""One training step: a state and a batch of every mouse in, the next state and measurements out.

Everything random in a step is derived from (seed, step), and everything else that a run remembers
is in `TrainState`, so a run that stopped continues bit-equal. The best weights so far travel in the
state (and so in every checkpoint): the plateau schedule goes back to them.

The objective is the published one: for every mouse sqrt(M / b) times the summed loss, M being all
files of its session and b the batch, plus the core's and the readout's penalties (baselines 6.1).
Everything beyond that is off unless asked for: other weights of mice, mixed clips, a teacher, an
average of the weights, computing in fewer bits, and doing with less memory.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import optax
from flax import nnx, struct

from sensojax.models import narrowing, recomputing
from sensojax.models.encoder import Encoder, Weights, assemble, separate
from sensojax.training import averaging, distillation, groups
from sensojax.types import Batch

OF_THE_MIXING = 0x6D6978  # beside what `Encoder` folds into a step's key


@struct.dataclass
class TrainState:
    """All that a run must remember.

    step: how many were taken. best: params and statistics of the best evaluation so far, and the
    step at which they were evaluated. average: moving average of params and statistics, or None.
    """

    step: jax.Array
    weights: Weights
    optimizer: optax.OptState
    best: dict
    average: dict | None = None


def initial_state(
    model: Encoder, optimizer: optax.GradientTransformation, *, averages: bool = False
) -> tuple[nnx.GraphDef, TrainState]:
    """The structure of a model (static) and the state of a run that has not begun."""
    graph, weights = separate(model)
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        weights=weights,
        optimizer=optimizer.init(weights.params),
        best=_kept(jnp.zeros((), jnp.int32), weights),
        average=averaging.begun(weights) if averages else None,
    )
    # Copied, since no array may stand twice in a state that is donated to the step; with its own
    # dtype, since a weakly typed array would make the second step compile again.
    return graph, jax.tree.map(lambda x: jnp.array(x, x.dtype), state)


def scored_weights(state: TrainState) -> Weights:
    """The weights to evaluate: the present ones, or their average where there is one."""
    return averaging.scored(state.weights, state.average, state.optimizer)


def keep_best(state: TrainState) -> TrainState:
    """Remembers the present weights, or their average, as the best."""
    return state.replace(best=jax.tree.map(jnp.copy, _kept(state.step, scored_weights(state))))


def reload_best(state: TrainState) -> TrainState:
    """Goes back to the best weights; the optimizer's moments stay, as in the source."""
    weights = jax.tree.map(jnp.copy, best_weights(state))
    average, memory = averaging.restarted(weights, state.average, state.optimizer)
    return state.replace(weights=weights, average=average, optimizer=memory)


def best_weights(state: TrainState) -> Weights:
    """The weights of the best evaluation so far."""
    kept = {name: state.best[name] for name in ("params", "statistics")}
    return state.weights.replace(**kept)


def _kept(step, weights):
    return {"step": step, "params": weights.params, "statistics": weights.statistics}


def make_train_step(
    graph: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    loss: Callable,
    prepare: Callable,
    *,
    num_files: Mapping[str, int],
    seed: int | Sequence[int],
    given_features: bool = False,
    sharding: jax.sharding.Sharding | None = None,
    mouse_weights: Mapping[str, Callable[[int], float]] | None = None,
    augment: Callable | None = None,
    teacher: distillation.Teacher | None = None,
    average: float = 0.0,
    compute: str = "float32",
    recompute: bool = False,
    mice_at_once: int = 0,
) -> Callable:
    """The jitted step(state, batches, statistics, learning_rate) -> (state, measured).

    loss: (predicted, observed, valid) -> the sum over valid frames and neurons. prepare:
    (batches, statistics) -> normalised batches with all channels. num_files: M of every mouse.
    batches: {mouse: raw Batch}; statistics: {mouse: ...} for `prepare`. measured: scalars
    `loss`, `loss_per_response` (without scale and penalties), `gradient_norm` and `parts`. The
    state is donated. given_features: batches hold core features in place of videos. sharding: of
    state and measurements, for several devices. With several seeds, that many models learn side by
    side: state, batches, learning rate and measured have a leading axis [member].

    mouse_weights: {mouse: clips in the batch -> weight of its summed loss} in place of sqrt(M / b).
    augment: (key, prepared batches) -> batches. teacher: has its part in the loss of every clip.
    average: of the weights, see `averaging.moved`, if the state has one. compute: see `narrowing`.
    recompute: see `recomputing`. mice_at_once: through the model together, 0 for all of them; see
    `groups`. A teacher needs all.
    """
    weight_of = mouse_weights or {
        mouse: lambda batch, files=files: math.sqrt(files / batch)
        for mouse, files in num_files.items()
    }

    def objective(params, weights, mice, everything, key, answers):
        model = assemble(graph, weights.replace(params=params))
        batches = _chosen(everything, mice)
        working, shown = narrowing.narrowed(model, batches, compute)
        if recompute:
            recomputing.turn_on(working.core)
        everyone = answers is not None
        predicted = working(
            shown,
            train=True,
            # Drawn for all mice, each by its place among them; what no group asks for is not made.
            noise=_chosen(model.draw_noise(key, everything, everyone=everyone), mice),
            core_noise=_chosen(model.draw_core_noise(key, everything), mice),
            channels=_chosen(model.draw_channels(key, everything, everyone=everyone), mice),
            given_features=given_features,
            everyone=everyone,
        )
        own = predicted
        if everyone:
            own = {m: predicted[m][each] for m, each in distillation.own_clips(batches).items()}
        parts, plain, responses = {}, 0.0, 0.0
        for mouse, batch in batches.items():
            total, counted = last_frames_loss(loss, own[mouse], batch)
            parts[mouse] = weight_of[mouse](len(batch.video)) * total
            plain, responses = plain + total, responses + counted
        if everyone:
            taught = distillation.losses(loss, predicted, answers, batches)
            parts = distillation.shared(parts, taught, batches, weight_of, teacher.ratio)
        parts |= model.regularizers(tuple(batches))
        total = sum(parts.values())
        sums = {"parts": parts, "loss": total, "plain": plain, "responses": responses}
        return total, (sums, separate(working)[1].statistics)

    def take(state, batches, statistics, learning_rate, seed, taught_by):
        batches = prepare(batches, statistics)
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        if augment is not None:
            batches = augment(jax.random.fold_in(key, OF_THE_MIXING), batches)
        answers = None if teacher is None else teacher.answers(taught_by, batches)
        find_gradient = jax.grad(objective, has_aux=True)

        def of_group(mice, given, statistics):
            weights = state.weights.replace(statistics=statistics)
            gradient, (sums, after) = find_gradient(weights.params, weights, mice, *given)
            return sums | {"gradient": gradient}, after

        together = groups.of(tuple(batches), mice_at_once)
        given = (batches, key, answers)
        sums, after = groups.summed(of_group, together, given, state.weights.statistics)
        gradient = sums["gradient"]
        changes, memory = optimizer.update(
            gradient, state.optimizer, state.weights.params, learning_rate=learning_rate
        )
        params = jax.tree.map(lambda p, c: p + c, state.weights.params, changes)
        model = assemble(graph, state.weights.replace(params=params, statistics=after))
        model.constrain()
        measured = {
            "loss": sums["loss"],
            "parts": sums["parts"],
            "loss_per_response": sums["plain"] / jnp.maximum(sums["responses"], 1.0),
            "gradient_norm": optax.tree.norm(gradient),
        }
        weights = separate(model)[1]
        moved = averaging.moved(state.average, weights, average)
        state = state.replace(step=state.step + 1, weights=weights, optimizer=memory, average=moved)
        return state, measured

    axes = (0, 0, None, 0, 0, None)
    one_or_all = take if isinstance(seed, int) else jax.vmap(take, in_axes=axes)

    def step(state, batches, statistics, learning_rate, taught_by=None):
        seeds = jnp.asarray(seed, jnp.uint32)
        return one_or_all(state, batches, statistics, learning_rate, seeds, taught_by)

    jitted = jax.jit(
        step, donate_argnums=0, out_shardings=sharding, compiler_options=_compiler_options()
    )
    if teacher is None:
        return jitted
    # An argument, since its arrays would else be constants of the program.
    return functools.partial(jitted, taught_by=teacher.weights)


def _chosen(of_mice, mice):
    """{mouse: ...} of some mice; None stays None."""
    return of_mice if of_mice is None else {mouse: of_mice[mouse] for mouse in mice}


def _compiler_options() -> dict[str, str]:
    """On a CPU, XLA orders work to overlap rather than to save memory; the order that saves memory
    is as fast here and needs a fifth less (3.7 -> 2.9 GB for the published baseline, 8 clips)."""
    if jax.default_backend() != "cpu":
        return {}
    options = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except jax.errors.JaxRuntimeError:  # a version of XLA that calls it something else
        return {}
    return options


def last_frames_loss(
    loss: Callable, predicted: jax.Array, batch: Batch
) -> tuple[jax.Array, jax.Array]:
    """The summed loss of a mouse and how many responses it counts.

    predicted: [batch time' neuron], which belong to the last time' frames of the batch.
    """
    frames = predicted.shape[1]
    valid = batch.valid[:, -frames:]
    total = loss(predicted, batch.responses[:, -frames:], valid)
    return total, jnp.sum(valid) * jnp.float32(predicted.shape[2])
