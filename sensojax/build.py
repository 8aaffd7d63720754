"""Names in a config become objects here, and nowhere else.

In: the sections of a config (its headings are our folders) and, where needed, stores; out: stores,
batches, encoder, loss, optimizer, schedule, evaluators. `name` in a section is a file (core,
readout) or a function or class of the section's file (loss, optimizer, schedule); the other keys
are its arguments, spelled the same. `load_encoder` rebuilds a trained model from its run folder
alone.
"""

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from sensojax import conversion, losses
from sensojax import store as trial_store
from sensojax.errors import UserError, check_name, nearest
from sensojax.evaluation.evaluators import Evaluator
from sensojax.evaluation.predictions import Predictions
from sensojax.evaluation.results import Fields
from sensojax.models import behavior, cores, encoder, readouts
from sensojax.pipeline import batches as batching
from sensojax.pipeline import transforms
from sensojax.recordings import sensorium2023, simulated
from sensojax.training import checkpoints, optimizers, schedules, step
from sensojax.training.mesh import Placement, lead_first
from sensojax.types import Neurons

# The smallest value of each setting that counts something.
LEAST = {
    "data": dict(window_frames=1, batch_size=1, read_threads=0, prefetch_steps=0),
    "inputs": dict(pool=1),
    "train": dict(evaluate_every=0, log_every=1, checkpoint_every=1),
    "evaluation": dict(skip_frames=0, batch_size=1),
}


def settings(section: Mapping) -> tuple[str, dict]:
    """A section as its name and the other settings."""
    plain = dict(section)
    return plain.pop("name"), plain


def call(known: Mapping[str, Callable], what: str, section: Mapping, **more):
    """Calls what a section names with the section's settings; UserError for what nobody knows."""
    return chosen(known, what, section, more)(**more)


def chosen(
    known: Mapping[str, Callable], what: str, section: Mapping, more: Iterable[str] = ()
) -> Callable:
    """What a section names, holding the section's settings; `more` are arguments yet to come."""
    name, given = settings(section)
    check_name(name, sorted(known), f"{what}.name")
    # Of a Flax module, `inspect.signature(module)` sees only the metaclass.
    made_by = known[name].__init__ if inspect.isclass(known[name]) else known[name]
    accepted = [p for p in inspect.signature(made_by).parameters if p not in ("self", *more)]
    for key in given:
        if key not in accepted:
            raise UserError(
                f"found {what}.{key}, which {name!r} does not have; it has {', '.join(accepted)}"
                f"{nearest(key, accepted) or '.'}"
            )
    return functools.partial(known[name], **given)


def components(package, role: str) -> dict[str, Callable]:
    """Every file of a package that holds the class `role`, by the name of the file."""
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    modules = {name: importlib.import_module(f"{package.__name__}.{name}") for name in names}
    return {name: getattr(module, role) for name, module in modules.items()}


def functions(module) -> dict[str, Callable]:
    """The public functions and classes that a module itself defines, by name."""
    members = inspect.getmembers(module, callable)
    return {
        name.lower(): member
        for name, member in members
        if member.__module__ == module.__name__ and not name.startswith("_")
    }


def check(config: Mapping) -> None:
    """UserError for numbers that no run can have; names are checked where they become objects."""
    for section, least in LEAST.items():
        for name, smallest in least.items():
            found = config[section][name]
            if found < smallest:
                raise UserError(
                    f"found {section}.{name} {found}, expected {smallest} or more; correct it."
                )
    if not config["evaluation"]["tiers"]:
        raise UserError("found no evaluation.tiers, expected at least one; name what to score.")


# --- data -----------------------------------------------------------------------------------------


def stores(data: Mapping, simulation: Mapping) -> dict[str, trial_store.TrialStore]:
    """The stores of the mice that a config asks for; makes simulated ones when it asks for those.

    Raises UserError when the folder holds no store, or not that of a wanted mouse.
    """
    folder = Path(data["folder"])
    if data["recordings"] == "simulated":
        folder = lead_first(functools.partial(_simulated_stores, folder, simulation))
    present = trial_store.stores_in(folder)
    wanted = list(data["mice"]) or present
    if not present:
        raise UserError(
            f"found no stores in {folder}, expected one folder for each mouse; convert recordings "
            f"first: python scripts/convert.py RECORDINGS --out {folder}"
        )
    for mouse in wanted:
        if mouse not in present:
            raise UserError(
                f"found no store of mouse {mouse!r} in {folder}; there are {', '.join(present)}"
                f"{nearest(mouse, present)}."
            )
    return {mouse: trial_store.TrialStore.open(folder / mouse) for mouse in wanted}


def described(opened: Mapping[str, trial_store.TrialStore]) -> dict[str, dict]:
    """What a checkpoint says of the mice it was trained on."""
    return {
        mouse: dict(neurons=len(store.neurons), fingerprint=store.fingerprint)
        for mouse, store in opened.items()
    }


def _simulated_stores(folder, simulation):
    """Writes simulated recordings and converts them; what is there already is only checked."""
    for path in simulated.write(folder / "recordings", simulated.Settings(**simulation)):
        conversion.write(folder / "stores", sensorium2023.read(path))
    return folder / "stores"


def batches(data: Mapping, opened: Mapping, seed: int) -> batching.Batches:
    """The stream of training steps."""
    return batching.Batches(
        opened,
        {mouse: store.rows(*data["tiers"]) for mouse, store in opened.items()},
        window_frames=data["window_frames"],
        batch_size=data["batch_size"],
        rule=data["window_rule"],
        normalization=data["normalization"],
        remainder=data["remainder"],
        seed=seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )


def statistics(data: Mapping, opened: Mapping) -> dict[str, transforms.Statistics]:
    """What batches are normalised with inside the step, by mouse."""
    of = functools.partial(transforms.Statistics.of, normalization=data["normalization"])
    return {mouse: of(store) for mouse, store in opened.items()}


def prepare(inputs: Mapping) -> Callable:
    """(raw batches, statistics) -> what the model sees; runs inside the jitted step."""

    def one(batch, of_mouse):
        batch = transforms.pool(transforms.normalize(batch, of_mouse), inputs["pool"])
        if inputs["behavior"]:
            scale = inputs["behavior_scale"]
            batch = transforms.behavior_as_channels(batch, inputs["pupil"], scale)
        return batch

    return lambda raw, known: {mouse: one(batch, known[mouse]) for mouse, batch in raw.items()}


def protocol(data: Mapping) -> str:
    """`strict` when only the train tier was trained on, else `competition` (DESIGN 3)."""
    return "strict" if tuple(data["tiers"]) == ("train",) else "competition"


# --- model ----------------------------------------------------------------------------------------


def new_encoder(
    config: Mapping,
    neurons: Mapping[str, Neurons],
    behavior_columns: int,
    mean_responses: Mapping[str, np.ndarray] | None = None,
) -> encoder.Encoder:
    """An untrained encoder of these mice; mean_responses start the readouts' biases."""
    rngs = nnx.Rngs(config["seed"])
    inputs = config["inputs"]
    channels = 1 + (behavior_columns + 2 * inputs["pupil"]) * bool(inputs["behavior"])
    core = call(
        components(cores, "Core"), "core", config["core"], input_channels=channels, rngs=rngs
    )
    make_readout = functools.partial(
        call, components(readouts, "Readout"), "readout", config["readout"]
    )
    of_mouse, shifters = {}, {}
    for mouse, each in neurons.items():
        of_mouse[mouse] = make_readout(
            channels=core.channels[-1],
            position_um=each.position_um,
            mean_responses=None if mean_responses is None else mean_responses[mouse],
            rngs=rngs,
        )
        if config["shifter"]["name"]:
            shifters[mouse] = call(behavior.SHIFTERS, "shifter", config["shifter"], rngs=rngs)
    return encoder.Encoder(core, of_mouse, shifters, **config["encoder"])


def mean_responses(first: Mapping, config: Mapping, of_mice: Mapping) -> dict[str, np.ndarray]:
    """Mean normalised response of every neuron in one batch, as the 2023 kit starts its biases."""
    normalized = jax.jit(prepare(config["inputs"]))(first, of_mice)
    return {mouse: np.asarray(batch.responses.mean((0, 1))) for mouse, batch in normalized.items()}


def predictor(graph: nnx.GraphDef, inputs: Mapping) -> Callable:
    """(weights, raw batches, statistics) -> ({mouse: predicted}, normalised batches)."""
    ready = prepare(inputs)

    def predict(weights, raw, known):
        normalized = ready(raw, known)
        return encoder.assemble(graph, weights)(normalized), normalized

    return predict


# --- training and evaluation ----------------------------------------------------------------------


def loss(section: Mapping) -> Callable:
    """(predicted, observed, valid) -> the sum over counted frames and neurons."""
    known = {
        name: each
        for name, each in functions(losses).items()
        if list(inspect.signature(each).parameters)[:3] == ["predicted", "observed", "valid"]
    }
    frame = ("predicted", "observed", "valid", "reduction")
    return functools.partial(chosen(known, "loss", section, frame), reduction="sum")


def optimizer(section: Mapping):
    return call(functions(optimizers), "optimizer", section)


def schedule(section: Mapping) -> schedules.Schedule:
    known = {
        name: each
        for name, each in functions(schedules).items()
        if issubclass(each, schedules.Schedule) and each is not schedules.Schedule
    }
    return call(known, "schedule", section)


def evaluator(
    tier: str,
    config: Mapping,
    opened: Mapping,
    known: Mapping,
    graph: nnx.GraphDef,
    lost_frames: int,
    placement: Placement,
) -> Evaluator:
    """An evaluator of one tier, counting as `config.evaluation` says."""
    how = config["evaluation"]
    placement.check(how["batch_size"], "evaluation.batch_size")
    predictions = Predictions(
        predictor(graph, config["inputs"]),
        opened,
        known,
        tier=tier,
        normalization=config["data"]["normalization"],
        skip_frames=how["skip_frames"],
        lost_frames=lost_frames,
        batch_size=how["batch_size"],
        read_threads=config["data"]["read_threads"],
        put=placement.batch,
        sharding=placement.copied,
    )
    return Evaluator(
        predictions,
        normalization=config["data"]["normalization"],
        protocol=protocol(config["data"]),
        nan_rule=how["nan_rule"],
        sharding=placement.copied,
    )


def load_encoder(
    workdir: str | Path, which: str = "best"
) -> tuple[nnx.GraphDef, encoder.Weights, dict]:
    """A trained model from its run folder alone: (structure, weights, what it says of itself).

    which: "best" (by the validation score) or "newest". The record holds config, step, seeds,
    mice with their neurons and store fingerprints. Raises UserError when there is no run or no
    readable checkpoint.
    """
    check_name(which, ("best", "newest"), "weights")
    workdir = Path(workdir)
    if not (workdir / checkpoints.FOLDER).is_dir():
        raise UserError(
            f"found no checkpoints in {workdir}, expected a run folder of sensojax.main; "
            "check --workdir."
        )
    graphs = {}

    def like(about):
        of_mice = {m: _as_neurons(each) for m, each in about["mice"].items()}
        here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

        def state():
            model = new_encoder(about["config"], of_mice, about["behavior_columns"])
            recipe = optimizer(about["config"]["optimizer"])
            graphs["made"], made = step.initial_state(model, recipe)
            return made

        # Shapes are enough, since every array comes from the checkpoint.
        shapes = jax.eval_shape(state)
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), shapes)

    with checkpoints.Checkpoints(workdir, read_only=True) as folder:
        found = folder.restore_newest(like)
    if found is None:
        raise UserError(f"found no finished checkpoint in {workdir} yet; wait for the first one.")
    state, about = found
    weights = step.best_weights(state) if which == "best" else state.weights
    return graphs["made"], weights, about


def fields(mouse: str, model: encoder.Encoder, opened, pool: int) -> Fields:
    """Where a mouse's neurons lie in cortex, where their readouts look, and where they should."""
    height, width = opened.height // pool, opened.width // pool
    points = model.core.map_to_image(model.readouts[mouse].positions(), height, width)
    # The centres of pooled border pixels lie within the image: by how much, in units of -1..1.
    size = np.array([opened.width, opened.height])
    inner = (size - pool) / (size - 1)
    true = opened.truth.get("center")
    if true is not None:
        true = 2.0 * true / (size - 1) - 1.0
    cortex_um = opened.neurons.position_um[:, :2]
    return Fields(mouse=mouse, cortex_um=cortex_um, learned=np.asarray(points) * inner, true=true)


def _as_neurons(described: Mapping) -> Neurons:
    """Stand-ins with the right count: the true positions come with the weights."""
    count = described["neurons"]
    return Neurons(ids=np.arange(count), position_um=np.eye(count, 3))
