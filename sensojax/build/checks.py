"""Numbers and combinations that no run can have, refused before anything is built."""

from collections.abc import Mapping

from sensojax.errors import UserError, check_name
from sensojax.evaluation import measures, results, sliding
from sensojax.models import narrowing
from sensojax.pipeline import folds, subsets

# The smallest value of each setting that counts something.
LEAST = {
    "data": dict(
        max_neurons=0,
        subset_seed=0,
        window_frames=1,
        batch_size=1,
        read_threads=0,
        prefetch_steps=0,
    ),
    "inputs": dict(pool=1, frame_step=1),
    "train": dict(evaluate_every=0, log_every=1, checkpoint_every=1, mice_at_once=0),
    "evaluation": dict(
        skip_frames=0,
        most_frames=0,
        drop_last=0,
        batch_size=1,
        window_frames=0,
        window_step=1,
        windows_at_once=1,
    ),
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
    measures.wanted(config["evaluation"]["measures"])
    check_name(config["evaluation"]["blending"], sliding.BLENDINGS, "evaluation.blending")
    check_name(config["evaluation"]["criterion"], results.CRITERIA, "evaluation.criterion")
    if config["inputs"]["frame_step"] > 1 and not config["evaluation"]["window_frames"]:
        raise UserError(
            f"found inputs.frame_step {config['inputs']['frame_step']} and no "
            "evaluation.window_frames, expected windows, since a model that is shown every other "
            "frame predicts no more; set it, best to data.window_frames."
        )
    _check_training(config)
    subsets.check_share(config["data"]["train_share"])
    validation, tiers = config["evaluation"]["validation"], config["data"]["tiers"]
    if config["data"]["folds"] and validation in tiers:
        raise UserError(
            f"found evaluation.validation {validation!r}, of which all folds but one are trained "
            f"on, expected {folds.HELD_OUT!r} or a tier outside data.tiers; change it."
        )


def _check_training(config: Mapping) -> None:
    """UserError for ways of training that exclude each other."""
    average, cutmix, data = config["train"]["average"], config["cutmix"], config["data"]
    check_name(config["train"]["compute"], narrowing.PRECISIONS, "train.compute")
    if not 0.0 <= average < 1.0:
        raise UserError(
            f"found train.average {average}, expected 0 for none, or the decay of the average, "
            "below 1; correct it."
        )
    if average and config["optimizer"]["name"] == "schedule_free":
        raise UserError(
            f"found train.average {average} with the optimizer schedule_free, which keeps an "
            "average of its own, expected one of them; set train.average to 0."
        )
    if cutmix["probability"] and data["batch_size"] < 2:
        raise UserError(
            f"found cutmix.probability {cutmix['probability']} and data.batch_size "
            f"{data['batch_size']}, expected two clips of each mouse or more, which are mixed; "
            "enlarge data.batch_size."
        )
    if config["train"]["mice_at_once"] and config["distillation"]["run"]:
        raise UserError(
            f"found train.mice_at_once {config['train']['mice_at_once']} and distillation.run "
            f"{config['distillation']['run']!r}, expected one of them, since every mouse answers "
            "to the clips of all others; set train.mice_at_once to 0."
        )
    for name in ("cutmix.probability", "distillation.run"):
        section, setting = name.split(".")
        if config["transfer"]["features"] and config[section][setting]:
            raise UserError(
                f"found {name} {config[section][setting]!r} and transfer.features, expected one of "
                'them, since features show no video; set transfer.features to "".'
            )


def check_recorded(config: Mapping, opened: Mapping) -> None:
    """UserError when a model is to see what was not recorded of one of its mice."""
    uses = {
        "inputs.pupil": config["inputs"]["behavior"] and config["inputs"]["pupil"],
        "shifter.name": bool(config["shifter"]["name"]),
        "gain.name": bool(config["gain"]["name"]),
    }
    wanted = [name for name, used in uses.items() if used]
    without = [mouse for mouse, store in opened.items() if not store.has_pupil]
    if wanted and without:
        raise UserError(
            f"found {' and '.join(wanted)} set for mouse {without[0]}, of which nobody recorded "
            "where its pupil is, expected models that do not ask; set inputs.pupil to False and "
            'shifter.name and gain.name to "".'
        )
