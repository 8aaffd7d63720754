"""The teacher of a run that is distilled: the model of another run of the same mice.

In: a config whose section `distillation` names a run folder; out: that run's model, checked to see
and to answer what the student does. Only then do its answers fit where responses are missing.
"""

from collections.abc import Mapping

from sensojax import build
from sensojax.errors import UserError
from sensojax.training import checkpoints
from sensojax.training.distillation import Teacher
from sensojax.training.mesh import Placement
from sensojax.writing import plain

# Sections and settings of both runs that must agree: what models see, in which units they answer,
# and which trials neither may be trained on.
SHARED = (
    *("inputs", "data.normalization", "data.folds", "data.fold", "data.fold_rule"),
    "data.subset_seed",
)


def teacher(config: Mapping, mice: Mapping[str, Mapping], placement: Placement) -> Teacher | None:
    """The model that `distillation.run` names, on all devices; None when it names none.

    mice: those of the student, as `build.described` says. Raises UserError when there is no such
    run, or when its mice, inputs or folds are others.
    """
    section = config["distillation"]
    if not section["run"]:
        return None
    try:
        graph, weights, about = build.load_encoder(section["run"], section["weights"])
    except UserError as error:
        raise UserError(f"distillation.run: {error}") from error
    if len(mice) < 2:
        raise UserError(
            f"found distillation.run {section['run']!r} and one mouse, expected several, since a "
            "teacher answers for those that did not see a clip; train without it."
        )
    present = {m: each for m, each in about["mice"].items() if m in mice}
    checkpoints.check_mice(present, mice)
    for name in SHARED:
        theirs, ours = (_setting(plain(each), name) for each in (about["config"], config))
        if theirs != ours:
            raise UserError(
                f"found {name} {ours} here and {theirs} in the teacher {section['run']}, expected "
                "the same, since its answers are learned like responses; change one of them."
            )
    return Teacher(graph, placement.everywhere(weights), section["ratio"])


def _setting(config: Mapping, name: str):
    for part in name.split("."):
        config = config[part]
    return config
