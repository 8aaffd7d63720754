"""Numbers and combinations that no run can have, refused before anything is built."""

from collections.abc import Mapping

from sensojax.errors import UserError
from sensojax.evaluation import measures
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
    "inputs": dict(pool=1),
    "train": dict(evaluate_every=0, log_every=1, checkpoint_every=1),
    "evaluation": dict(skip_frames=0, most_frames=0, drop_last=0, batch_size=1),
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
    subsets.check_share(config["data"]["train_share"])
    validation, tiers = config["evaluation"]["validation"], config["data"]["tiers"]
    if config["data"]["folds"] and validation in tiers:
        raise UserError(
            f"found evaluation.validation {validation!r}, of which all folds but one are trained "
            f"on, expected {folds.HELD_OUT!r} or a tier outside data.tiers; change it."
        )
